package engine

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sidepass/sidepass/proxy/engine/h1"
)

// bridge carries a request that has been judged to an upstream that only net/http can reach: by HTTP/2, or through a proxy.
func (l *lean) bridge() {
	h := new(h1.Head) // a transport may go on with the request for a moment after the answer: it gets strings of its own
	if err := h.ReadRequest(strings.Clone(unsafeString(l.text))); err != nil {
		panic(err) // it was read before
	}
	w := &bridged{l: l, header: http.Header{}, left: -1}
	w.body = bridgedBody{l: l, w: w, left: h.Length, chunked: h.Chunked, early: l.inline}
	r := &http.Request{
		Method: h.Method, URL: &url.URL{}, Proto: "HTTP/1." + strconv.Itoa(h.Minor), ProtoMajor: 1, ProtoMinor: h.Minor,
		Header: make(http.Header, len(h.Fields)), Host: strings.Clone(l.req.Host), RequestURI: h.Target, RemoteAddr: l.remote, TLS: l.tls,
		Body: http.NoBody, ContentLength: max(h.Length, 0),
	}
	for _, f := range h.Fields {
		if f.Kind != h1.Host {
			name := textproto.CanonicalMIMEHeaderKey(f.Name)
			r.Header[name] = append(r.Header[name], f.Value)
		}
	}
	if l.unread {
		w.body.early = l.buf[l.r:l.w]
	}
	if h.Chunked {
		r.ContentLength, r.TransferEncoding = -1, []string{"chunked"}
	}
	if h.Chunked || h.Length > 0 {
		r.Body = &w.body
	}
	x := l.s.pool.Get().(*exchange)
	// ReverseProxy aborts an answer that broke off only where it finds a server.
	x.rw, x.in = w, r.WithContext(context.WithValue(l.ctx, http.ServerContextKey, &l.s.once.server))
	x.start, x.lease, x.verdict, x.req = l.start, l.lease, l.verdict, l.req
	x.req.Method, x.req.Host, x.req.Header = h.Method, r.Host, fields(r.Header)
	x.req.Target.Path, x.req.Target.Query = strings.Clone(l.req.Target.Path), strings.Clone(l.req.Target.Query)
	l.lease, l.bridging = Lease{}, true
	defer w.body.leave() // also where the answer breaks off, which is thrown
	x.carry()
	w.finish()
	l.wrote, l.status = true, w.status
}

// carry is run for a request that has been judged already.
func (x *exchange) carry() {
	defer x.end()
	x.forward()
}

// bridged is the ResponseWriter of a request that net/http knows only on its way to the upstream.
type bridged struct {
	l       *lean
	header  http.Header
	body    bridgedBody
	chunked bool
	none    bool  // the answer has no content
	left    int64 // content that is still to come, where its length is known; -1 otherwise
	trailer []string

	mu     sync.Mutex // a final head comes after 100 (Continue), or there is none
	status int        // of the final answer; 0 before
	told   bool       // the client has been told to go on
}

// Header is the header of the answer.
func (w *bridged) Header() http.Header { return w.header }

// WriteHeader writes the head of an interim or the final answer.
func (w *bridged) WriteHeader(status int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	l := w.l
	if w.status != 0 {
		return
	}
	b := appendStatus(l.out[:0], status, http.StatusText(status))
	if status < 200 {
		l.write(append(appendHeader(b, w.header, nil), "\r\n"...))
		return
	}
	w.status = status
	h := w.header
	if h.Get("Connection") == "close" {
		l.last = true
	}
	w.none = l.hasNoContent(status)
	w.left = contentLength(h)
	w.chunked = !w.none && w.left < 0 && l.head.Minor == 1
	if !w.none && !w.chunked && w.left < 0 {
		l.last = true
	}
	for _, names := range h["Trailer"] {
		for name := range strings.SplitSeq(names, ",") {
			w.trailer = append(w.trailer, textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(name)))
		}
	}
	b = appendHeader(b, h, w.trailer)
	if h.Get("Date") == "" {
		b = appendField(b, "Date", l.s.lean.now())
	}
	switch {
	case w.chunked:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	case w.left >= 0 && status != http.StatusNoContent:
		b = appendLength(b, w.left)
	}
	b = l.appendConnection(b)
	l.out = append(b, "\r\n"...)
}

// contentLength is the length that a header states in one plain number, or -1. HTTP/2 leaves others in it.
func contentLength(h http.Header) int64 {
	lines := h["Content-Length"]
	if len(lines) != 1 {
		return -1
	}
	n, err := strconv.ParseUint(lines[0], 10, 63)
	if err != nil {
		return -1
	}
	return int64(n)
}

// goOn tells the client that its content is wanted, if it waits for that and there is no answer yet.
func (w *bridged) goOn() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.told && w.status == 0 {
		w.told = true
		w.l.goOn()
	}
}

// appendHeader appends fields, but for those that frame the message and those that are to follow it.
func appendHeader(b []byte, h http.Header, trailer []string) []byte {
	for name, values := range h {
		if name == "Connection" || name == "Transfer-Encoding" || name == "Content-Length" || strings.HasPrefix(name, http.TrailerPrefix) || slices.Contains(trailer, name) {
			continue
		}
		for _, v := range values {
			b = appendField(b, name, v)
		}
	}
	return b
}

// Write writes content; what has been written waits for a flush or for more.
func (w *bridged) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if w.none || len(p) == 0 {
		return len(p), nil
	}
	b := w.l.out
	if w.left >= 0 {
		if int64(len(p)) > w.left {
			return 0, http.ErrContentLength
		}
		w.left -= int64(len(p))
	}
	if w.chunked {
		b = appendChunk(b, p)
	} else {
		b = append(b, p...)
	}
	w.l.out = b
	if len(b) >= bufferSize {
		if err := w.FlushError(); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// FlushError sends what was written so far.
func (w *bridged) FlushError() error {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	b := w.l.out
	w.l.out = b[:0]
	if len(b) > 0 && !w.l.write(b) {
		return errClientGone
	}
	return nil
}

// SetReadDeadline bounds reading the request's content.
func (w *bridged) SetReadDeadline(t time.Time) error { return w.l.conn.SetReadDeadline(t) }

// SetWriteDeadline bounds writing the answer.
func (w *bridged) SetWriteDeadline(t time.Time) error { return w.l.conn.SetWriteDeadline(t) }

// finish ends the answer.
func (w *bridged) finish() {
	if w.status == 0 {
		w.l.last = true // it was given up
		return
	}
	if w.chunked {
		b := append(w.l.out, "0\r\n"...)
		for name, values := range w.header {
			bare := strings.TrimPrefix(name, http.TrailerPrefix)
			if bare == name && !slices.Contains(w.trailer, name) {
				continue
			}
			for _, v := range values {
				b = appendField(b, bare, v)
			}
		}
		w.l.out = append(b, "\r\n"...)
	}
	_ = w.FlushError()
	if w.left > 0 && !w.none {
		w.l.last = true // it never looks whole
	}
}

// bridgedBody is the request's content as a transport reads it.
type bridgedBody struct {
	l       *lean
	w       *bridged
	chunked bool

	mu     sync.Mutex
	early  []byte // read already
	left   int64
	chunks h1.Chunks
	buf    []byte // of chunks: buf[at:to]
	at, to int
	part   []byte // content in buf that was not given yet
	err    error
	closed bool
}

var errHandled = errors.New("the request has been handled")

// Read reads content. Once the request has been handled it fails.
func (b *bridgedBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed:
		return 0, errHandled
	case b.err != nil:
		return 0, b.err
	case b.chunked:
		return b.chunk(p)
	}
	n, err := b.next(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	switch {
	case b.left == 0:
		b.end()
	case err != nil:
		b.err = io.ErrUnexpectedEOF
	}
	return n, b.err
}

// end is the end of the content; from here on it is looked whether the client goes away.
func (b *bridgedBody) end() {
	b.err = io.EOF
	b.l.state.CompareAndSwap(sending, judging)
}

func (b *bridgedBody) next(p []byte) (int, error) {
	if len(b.early) > 0 {
		n := copy(p, b.early)
		b.early = b.early[n:]
		return n, nil
	}
	b.w.goOn()
	return b.l.conn.Read(p)
}

func (b *bridgedBody) chunk(p []byte) (int, error) {
	if b.buf == nil {
		b.buf = make([]byte, h1.Enough)
	}
	for len(b.part) == 0 {
		n, part, err := b.chunks.Next(b.buf[b.at:b.to])
		b.at += n
		b.part = part
		switch {
		case err != nil:
			b.err = err
			return 0, err
		case b.chunks.Done():
			b.end()
			return 0, b.err
		case n > 0:
			continue
		}
		b.to = copy(b.buf, b.buf[b.at:b.to])
		b.at = 0
		m, err := b.next(b.buf[b.to:])
		b.to += m
		if m == 0 && err != nil {
			b.err = io.ErrUnexpectedEOF
			return 0, b.err
		}
	}
	n := copy(p, b.part)
	b.part = b.part[n:]
	return n, nil
}

// Close does nothing: reading ends with the request.
func (b *bridgedBody) Close() error { return nil }

// leave ends the reading, and keeps what belongs to the next request.
func (b *bridgedBody) leave() {
	l := b.l
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	_ = l.conn.SetReadDeadline(time.Time{})
	if !l.unread {
		return
	}
	l.unread = false
	if b.err != io.EOF {
		l.last = true
		l.linger()
		return
	}
	rest := append(append([]byte(nil), b.buf[b.at:b.to]...), b.early...)
	l.r, l.w = 0, 0
	l.refill(rest)
}
