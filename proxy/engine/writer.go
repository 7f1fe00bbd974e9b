package engine

import (
	"bufio"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/sidepass/sidepass/proxy"
)

const (
	// leftover is how much of a request's content net/http reads and forgets when the answer came first, so that the
	// connection can go on, or can be closed without a reset that overtakes the answer.
	leftover = 256 << 10
	// linger is how long that may take.
	linger = 500 * time.Millisecond
)

// Header, WriteHeader, Write, FlushError and Hijack make an exchange the ResponseWriter of its ReverseProxy.

// Header is the header of the answer.
func (x *exchange) Header() http.Header { return x.rw.Header() }

// WriteHeader writes an interim or the final head. Interim ones come on the transport's goroutine.
func (x *exchange) WriteHeader(status int) {
	h := x.rw.Header()
	if status < 200 && status != http.StatusSwitchingProtocols {
		// HTTP/1.0 has none (RFC 9110, section 15.2). 100 is net/http's to send, when the content is first read.
		if x.in.ProtoAtLeast(1, 1) && status != http.StatusContinue {
			dropOwn(h)
			delete(h, "Connection")
			x.rw.WriteHeader(status)
		}
		return
	}
	x.wrote, x.status = true, status
	if _, ok := h["Content-Type"]; !ok {
		h["Content-Type"] = nil // net/http is not to guess one
	}
	if x.unread() && !x.brief() {
		// Where one message ends and the next begins is no longer sure (RFC 9112, section 9.3). It also keeps net/http
		// from reading the rest of the content before it lets the answer begin.
		h["Connection"] = []string{"close"}
	}
	x.rw.WriteHeader(status)
}

// Write writes content.
func (x *exchange) Write(p []byte) (int, error) {
	n, err := x.rw.Write(p)
	x.sent += int64(n)
	if err != nil && x.err == nil {
		x.err = errClientGone
	}
	return n, err
}

// FlushError sends what was written so far.
func (x *exchange) FlushError() error { return http.NewResponseController(x.rw).Flush() }

// Hijack takes over the client's connection for an upgrade. What it returns reads first what the client has sent
// already, and counts.
func (x *exchange) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	x.s.streamBegins()
	conn, brw, err := http.NewResponseController(x.rw).Hijack()
	if err != nil {
		x.s.streamEnded()
		return nil, nil, err
	}
	x.hijacked = true
	x.stream = &stream{Conn: conn, early: brw.Reader}
	x.tenure.upgraded(conn)
	return x.stream, brw, nil
}

// unread says whether bytes of this request may still be on an HTTP/1 connection.
func (x *exchange) unread() bool {
	if x.in.ProtoMajor != 1 || x.in.ContentLength == 0 {
		return false
	}
	return x.body == nil || !x.body.ended.Load()
}

// brief says whether the content is untouched and so short that net/http reads it before the answer.
func (x *exchange) brief() bool {
	return x.body == nil && x.in.ContentLength > 0 && x.in.ContentLength <= leftover
}

// settle leaves an HTTP/1 connection so that net/http can end or reuse it without waiting for the client: net/http reads
// the rest of the content itself, but knows no limit on how long that may take.
func (x *exchange) settle() {
	if !x.unread() {
		return
	}
	rc := http.NewResponseController(x.rw)
	until := time.Unix(1, 0)
	if !x.gone {
		until = time.Now().Add(linger)
	}
	_ = rc.SetReadDeadline(until)
	if !x.gone {
		_ = rc.Flush() // the client need not wait as well
	}
	if x.body != nil {
		x.body.quiet() // net/http would lift the deadline to break off a read
	}
}

// refuse answers with a reason from the table.
func (x *exchange) refuse(v *proxy.Verdict) {
	x.verdict.Reason, x.verdict.Detail = v.Reason, v.Detail
	if x.wrote {
		x.gone = true
		return
	}
	x.instance = proxy.NewInstance()
	reply := proxy.Refusal(v, x.req.GRPC, x.instance)
	h := x.rw.Header()
	clear(h) // of an answer that was given up
	for _, f := range reply.Header {
		h[f.Name] = append(h[f.Name], f.Value) // WWW-Authenticate may have a line for each scheme
	}
	if v.Reason == proxy.MalformedRequest && x.in.ProtoMajor == 1 {
		h["Connection"] = []string{"close"}
	}
	x.reply(reply.Status, reply.Body)
}

// document answers with a document of the gate's.
func (x *exchange) document() {
	doc := x.verdict.Document
	if doc == nil {
		x.refuse(&proxy.Verdict{Reason: proxy.InternalError})
		return
	}
	x.rw.Header()["Content-Type"] = []string{doc.ContentType}
	x.reply(http.StatusOK, doc.Body)
}

// reply writes a whole answer; net/http leaves the body out for HEAD.
func (x *exchange) reply(status int, body []byte) {
	if len(body) > 0 {
		x.rw.Header()["Content-Length"] = []string{strconv.Itoa(len(body))}
	}
	x.WriteHeader(status)
	if len(body) > 0 {
		_, _ = x.Write(body)
	}
}
