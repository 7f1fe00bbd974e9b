package engine

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/sidepass/sidepass/proxy"
	"github.com/sidepass/sidepass/proxy/engine/h1"
)

// leanExchange is one request on a lean connection, and its answer.
type leanExchange struct {
	lease   Lease
	req     proxy.Request
	verdict proxy.Verdict
	destination
	path string // as it is sent

	inline   []byte // the content, where all of it came with the head
	unread   bool   // content is still on its way
	expects  bool   // the client waits for 100 (Continue) before it sends it
	pump     *pump  // sends it on; nil before
	seen     proxy.Head
	limit    *timeLimit // of the verdict's timeout; nil without one
	tenure   *tenure    // of an answer without an end of its own; nil for others
	ended    proxy.Reason
	bridging bool // net/http carries it to the upstream, and reports it

	observed bool         // the request has been reported
	refused  proxy.Reason // of our own answer; "" when it is the upstream's
	again    bool
	wrote    bool // something of a final answer has been written
	last     bool // the connection ends after this exchange
	status   int
	sent     int64
	received int64
	instance string
	err      error
	start    time.Time
}

// exchange serves the request whose head are the next n bytes of buf. It says whether another may follow.
func (l *lean) exchange(n int) bool {
	if err := l.head.ReadRequest(unsafeString(l.buf[l.r : l.r+n])); err != nil {
		problem, _ := errors.AsType[h1.Problem](err)
		l.malformed(problem)
		return false
	}
	*l.leanExchange = leanExchange{last: !l.head.Persists()}
	if l.needsMore() {
		l.handOver(&l.s.once)
		return false
	}
	l.text = l.buf[l.r : l.r+n]
	l.r += n
	if l.s.options.Observer.Done != nil {
		l.start = time.Now()
	}
	l.content()
	l.unhurried()
	l.run()
	if l.refused == proxy.MalformedRequest {
		l.linger() // what comes behind it is nobody's
	}
	return !l.last
}

// needsMore says whether a request needs what only net/http has here: another protocol on the connection, or gRPC's trailers.
func (l *lean) needsMore() bool {
	h := &l.head
	if h.Method == http.MethodConnect {
		return true
	}
	upgrades := 0
	for i := range h.Fields {
		switch f := &h.Fields[i]; f.Kind {
		case h1.Upgrade:
			if upgrades++; !h1.Same(f.Value, "websocket") {
				upgrades = 2 // the request goes on as an ordinary one (RFC 9110, section 7.8)
			}
		case h1.Expect:
			if !h1.Same(f.Value, "100-continue") {
				return true
			}
			l.expects = h.Minor == 1
		case h1.ContentType:
			if isGRPC([]string{f.Value}) {
				return true
			}
		}
	}
	return upgrades == 1 && h.UpgradeOption && h.Method == http.MethodGet && h.Minor == 1 && h.Length <= 0 && !h.Chunked
}

// content takes the request's content where all of it is there already.
func (l *lean) content() {
	h := &l.head
	switch have := int64(l.w - l.r); {
	case h.Chunked, h.Length > have:
		l.unread = true
		l.enter(sending)
		return
	case h.Length > 0:
		l.inline = l.buf[l.r : l.r+int(h.Length)]
		l.r += int(h.Length)
		l.received = h.Length
	}
	l.enter(judging)
}

// run is a request's way, top to bottom.
func (l *lean) run() {
	defer l.settle()
	reason, detail := l.view()
	if reason != "" {
		l.refuse(&proxy.Verdict{Reason: reason, Detail: detail})
		return
	}
	gate, lease := l.s.options.Generations.Acquire()
	l.lease = lease
	if gate == nil {
		l.refuse(&proxy.Verdict{Reason: proxy.InternalError})
		return
	}
	l.verdict = gate.Admit(l.ctx, &l.req)
	switch l.verdict.Action {
	case proxy.Forward:
		l.forward()
	case proxy.Answer:
		l.document()
	case proxy.Tunnel: // CONNECT was handed over
		l.refuse(&proxy.Verdict{Reason: proxy.MethodNotAllowed})
	default:
		l.refuse(&l.verdict)
	}
}

// view fills req with what a gate may know of the request.
func (l *lean) view() (proxy.Reason, string) {
	h := &l.head
	l.req = proxy.Request{Method: h.Method, Host: h.Host, Header: h, Listener: l.s.options.Name, Remote: l.remote, TLS: l.tls}
	target, err := proxy.ParseTarget(h.Method, h.Target)
	if err != nil {
		return proxy.MalformedRequest, badTarget
	}
	l.req.Target = target
	if target.Form == proxy.AbsoluteForm {
		l.req.Host = target.Authority // RFC 9112, section 3.2.2
	}
	if h.Hosts > 0 && h.Host == "" && target.Form != proxy.AbsoluteForm && h.Minor == 1 {
		return proxy.MalformedRequest, noHost
	}
	for _, authority := range [...]string{h.Host, target.Authority} {
		if authority == "" {
			continue
		}
		if _, _, ok := proxy.SplitAuthority(authority); !ok {
			return proxy.MalformedRequest, badHost
		}
	}
	return "", ""
}

// malformed refuses what is not a message, or too large for one, after which nothing can be told apart on the connection.
func (l *lean) malformed(problem h1.Problem) {
	*l.leanExchange = leanExchange{last: true, start: time.Now()}
	v := proxy.Verdict{Reason: proxy.MalformedRequest, Detail: string(problem)}
	if problem == h1.ErrTooMany {
		v = proxy.Verdict{Reason: proxy.HeadersTooLarge}
	}
	l.refuse(&v)
	l.observe()
	l.linger()
}

// refuse answers with a reason from the table.
func (l *lean) refuse(v *proxy.Verdict) {
	l.verdict.Reason, l.verdict.Detail = v.Reason, v.Detail
	if l.wrote {
		l.last = true
		return
	}
	l.instance = proxy.NewInstance()
	reply := proxy.Refusal(v, false, l.instance)
	if l.refused = v.Reason; l.refused == proxy.MalformedRequest {
		l.last = true
	}
	l.reply(reply.Status, reply.Header, reply.Body)
}

// document answers with a document of the gate's.
func (l *lean) document() {
	doc := l.verdict.Document
	if doc == nil {
		l.refuse(&proxy.Verdict{Reason: proxy.InternalError})
		return
	}
	l.reply(http.StatusOK, []proxy.Field{{Name: "Content-Type", Value: doc.ContentType}}, doc.Body)
}

// reply writes a whole answer of our own.
func (l *lean) reply(status int, header []proxy.Field, body []byte) {
	if l.pump != nil {
		l.pump.forgo()
	}
	if l.pending() {
		l.last = true
	}
	l.status, l.wrote = status, true
	l.out = l.appendReply(l.out[:0], status, header, body)
	l.sent += int64(len(body))
	l.observe()
	l.write(l.out)
}

// appendReply appends a whole answer of our own.
func (l *lean) appendReply(b []byte, status int, header []proxy.Field, body []byte) []byte {
	b = appendStatus(b, status, http.StatusText(status))
	for _, f := range header {
		b = appendField(b, f.Name, f.Value)
	}
	b = appendField(b, "Date", l.s.lean.now())
	b = appendLength(b, int64(len(body)))
	b = l.appendConnection(b)
	b = append(b, "\r\n"...)
	if l.head.Method == http.MethodHead {
		return b
	}
	return append(b, body...)
}

// appendConnection says whether the connection goes on, where HTTP's default is another.
func (l *lean) appendConnection(b []byte) []byte {
	l.last = l.last || l.s.lean.draining.Load()
	switch {
	case l.last:
		return append(b, "Connection: close\r\n"...)
	case l.head.Minor == 0:
		return append(b, "Connection: keep-alive\r\n"...)
	}
	return b
}

// goOn tells the client that its content is wanted, if it waits for that.
func (l *lean) goOn() {
	if l.expects {
		_, _ = io.WriteString(l.conn, "HTTP/1.1 100 Continue\r\n\r\n") // that it failed is seen when the content is read
	}
}

// write writes to the client.
func (l *lean) write(b []byte) bool {
	_, err := l.conn.Write(b)
	if err != nil {
		l.last = true
		if l.err == nil {
			l.err = errClientGone
		}
	}
	return err == nil
}

// settle is deferred: whatever happened, the request is accounted for, its generation let go, and the connection ready for the next or
// about to end.
func (l *lean) settle() {
	switch thrown := recover(); {
	case thrown == http.ErrAbortHandler:
		l.last = true
	case thrown != nil:
		l.err = fmt.Errorf("panic: %s\n%s", describePanic(thrown), debug.Stack())
		l.last = true
		if !l.wrote {
			l.refuse(&proxy.Verdict{Reason: proxy.InternalError, Note: l.verdict.Note})
		}
	}
	l.cutUpstream() // in use only where something was thrown
	l.limit.stop()
	l.tenure.stop()
	if l.ended = l.tenure.ended(); l.ended != "" {
		l.last, l.err = true, nil
	}
	if l.unread {
		l.leaveContent()
	}
	l.lease.Release()
	l.observe()
	l.endWatch()
	if l.gone.Load() {
		l.last = true
	}
	// From here on nothing refers to the request any more.
	l.verdict, l.req = proxy.Verdict{}, proxy.Request{}
	if l.pump != nil && !l.last {
		l.r, l.w = 0, 0
		l.refill(l.pump.rest)
	}
	if l.r == l.w && len(l.buf) > 4*readBuffer {
		l.buf, l.r, l.w = make([]byte, readBuffer), 0, 0
	}
	if cap(l.out) > 64<<10 {
		l.out = make([]byte, 0, writeBuffer)
	}
}

// refill puts what was read beyond a request into buf.
func (l *lean) refill(rest []byte) {
	for len(l.buf)-l.w < len(rest) {
		l.buf = append(l.buf, make([]byte, len(l.buf))...)
	}
	l.w += copy(l.buf[l.w:], rest)
}

// describePanic shows what was thrown only where it cannot hold a secret.
func describePanic(thrown any) string {
	var known runtime.Error
	if err, ok := thrown.(error); ok && errors.As(err, &known) {
		return known.Error()
	}
	return fmt.Sprintf("%T", thrown)
}

// observe reports the request, once. An answer that is written in one piece is reported before that: who has it finds it counted.
func (l *lean) observe() {
	done := l.s.options.Observer.Done
	if done == nil || l.bridging || l.observed {
		return
	}
	l.observed = true
	r := Record{
		Listener: l.s.options.Name,
		Engine:   Lean,
		Remote:   l.remote,
		Method:   l.head.Method,
		Host:     l.req.Host,
		Path:     l.req.Target.Path,
		Note:     l.verdict.Note,
		Reason:   l.verdict.Reason,
		Detail:   l.verdict.Detail,
		Status:   l.status,
		Again:    l.again,
		Instance: l.instance,
		Ended:    l.ended,
		Received: l.received,
		Sent:     l.sent,
		Duration: time.Since(l.start),
		Err:      l.err,
	}
	if r.Reason == "" {
		r.Reason = proxy.OK
	}
	if l.up != nil {
		r.Upstream = l.destination.label()
	}
	if l.pump != nil {
		r.Received = l.pump.received.Load()
	}
	done(r)
}

// now is the time for a Date field.
func (ls *leanServer) now() string { return *ls.date.Load() }

func appendStatus(b []byte, status int, phrase string) []byte {
	b = append(b, "HTTP/1.1 "...)
	b = append(strconv.AppendInt(b, int64(status), 10), ' ')
	b = append(b, phrase...)
	return append(b, "\r\n"...)
}

// appendLength appends Content-Length.
func appendLength(b []byte, n int64) []byte {
	b = append(b, "Content-Length: "...)
	return append(strconv.AppendInt(b, n, 10), "\r\n"...)
}

// appendChunk appends content, which is not empty, as one chunk.
func appendChunk(b, content []byte) []byte {
	return append(append(h1.AppendChunk(b, len(content)), content...), "\r\n"...)
}

// hasNoContent says whether an answer ends with its head, whatever that announces (RFC 9112, section 6.3).
func (l *lean) hasNoContent(status int) bool {
	return l.head.Method == http.MethodHead || status == http.StatusNoContent || status == http.StatusNotModified
}

func appendField(b []byte, name, value string) []byte {
	b = append(b, name...)
	b = append(b, ": "...)
	b = append(b, value...)
	return append(b, "\r\n"...)
}
