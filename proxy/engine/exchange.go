package engine

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httputil"
	"runtime/debug"
	"time"

	"github.com/sidepass/sidepass/proxy"
)

// exchange is one request and its answer. It is pooled with a ReverseProxy of its own, whose functions are bound to it
// once, so that a request needs no closures. It is also that proxy's ResponseWriter and RoundTripper.
//
// Nothing that may outlive the handler refers to it: a transport can go on reading a request's body for a moment.
type exchange struct {
	s  *Server
	rp httputil.ReverseProxy

	rw      http.ResponseWriter
	in      *http.Request
	lease   Lease
	req     proxy.Request
	verdict proxy.Verdict

	destination
	upgrade bool       // a WebSocket handshake that may pass
	body    *body      // of the request, once it is being sent on; nil when there is none
	head    proxy.Head // of the upstream's answer, for the verdict's Follow
	answer  answer     // body of the upstream's answer
	taken   []line     // header fields that the first verdict took away
	stream  *stream
	tenure  *tenure // nil without one in the verdict

	timer    *time.Timer
	giveUp   context.CancelCauseFunc
	limited  context.Context // ends when the verdict's timeout or tenure is over; nil without both
	again    bool
	wrote    bool // a final head has been written
	hijacked bool
	gone     bool // there is nobody to answer, or the answer broke off
	status   int
	sent     int64
	instance string
	ended    proxy.Reason // why the stream was ended before its end
	err      error
	start    time.Time
}

func newExchange(s *Server) *exchange {
	x := &exchange{s: s}
	x.rp = httputil.ReverseProxy{
		Rewrite:        x.rewrite,
		Transport:      x,
		BufferPool:     &s.buffers,
		ModifyResponse: x.modify,
		ErrorHandler:   x.failed,
		ErrorLog:       s.silent, // everything it would log reaches the Observer
	}
	return x
}

func (x *exchange) begin(rw http.ResponseWriter, r *http.Request) {
	x.rw, x.in = rw, r
	if r.ProtoMajor == 1 && r.ProtoMinor == 0 && len(r.Header["Content-Length"]) == 0 {
		// net/http ignores Transfer-Encoding in HTTP/1.0, so that what follows may be content and no request (RFC 9112, section 6.1).
		rw.Header().Set("Connection", "close")
	}
	if x.s.options.Observer.Done != nil {
		x.start = time.Now()
	}
}

// run is a request's way, top to bottom.
func (x *exchange) run() {
	reason, detail := view(&x.req, x.in, x.s.options.Name, x.s.options.MaxHeaderBytes)
	if reason != "" {
		x.refuse(&proxy.Verdict{Reason: reason, Detail: detail})
		return
	}
	gate, lease := x.s.options.Generations.Acquire()
	x.lease = lease
	if gate == nil {
		x.refuse(&proxy.Verdict{Reason: proxy.InternalError})
		return
	}
	x.verdict = gate.Admit(x.in.Context(), &x.req)
	switch x.verdict.Action {
	case proxy.Forward:
		x.forward()
	case proxy.Tunnel:
		x.tunnel()
	case proxy.Answer:
		x.document()
	default:
		x.refuse(&x.verdict)
	}
}

// end is deferred: whatever happened, the request is accounted for and its generation let go.
func (x *exchange) end() {
	panicked := recover()
	x.tenure.stop()
	switch over := x.outlived(); {
	case panicked != nil && panicked != http.ErrAbortHandler:
		x.panicked(panicked)
	case over != "" && x.instance == "":
		x.gone, x.ended, x.err = true, over, nil
	case panicked != nil:
		x.brokeOff()
	}
	if x.timer != nil {
		x.timer.Stop()
	}
	if x.giveUp != nil {
		x.giveUp(nil)
	}
	if !x.hijacked {
		x.settle()
	}
	x.lease.Release()
	x.observe()
	if x.hijacked {
		x.s.streamEnded()
	}
	abort := x.gone && !x.hijacked
	if panicked == nil {
		*x = exchange{s: x.s, rp: x.rp, taken: x.taken[:0]}
		clear(x.taken[:cap(x.taken)])
		x.s.pool.Put(x)
	}
	if abort {
		panic(http.ErrAbortHandler)
	}
}

// brokeOff notes why an answer ended before its end. The client's connection is then cut, so that it never looks whole.
func (x *exchange) brokeOff() {
	x.gone = true
	switch {
	case x.err != nil: // writing to the client failed
	case x.timedOut():
		x.err = fail(proxy.UpstreamTimeout, "The answer was not complete when the route's `timeout` was over.", errTimeout)
	case x.in.Context().Err() != nil:
		x.err = errClientGone
	case x.answer.err != nil:
		x.err = fail(proxy.UpstreamUnreachable, "The upstream's answer broke off.", x.answer.err)
	}
}

// panicked answers a request whose handling panicked. What was thrown is shown only where it cannot hold a secret.
func (x *exchange) panicked(thrown any) {
	x.err = fmt.Errorf("panic: %s\n%s", describePanic(thrown), debug.Stack())
	if x.wrote || x.hijacked {
		x.gone = true
		return
	}
	x.refuse(&proxy.Verdict{Reason: proxy.InternalError, Note: x.verdict.Note})
}

// observe reports the request.
func (x *exchange) observe() {
	done := x.s.options.Observer.Done
	if done == nil {
		return
	}
	r := Record{
		Listener: x.s.options.Name,
		Engine:   Std,
		Remote:   x.in.RemoteAddr,
		Method:   x.in.Method,
		Host:     x.in.Host,
		Path:     x.req.Target.Path,
		Note:     x.verdict.Note,
		Reason:   x.verdict.Reason,
		Detail:   x.verdict.Detail,
		Status:   x.status,
		Again:    x.again,
		Instance: x.instance,
		Ended:    x.ended,
		Sent:     x.sent,
		Duration: time.Since(x.start),
		Err:      x.err,
	}
	if r.Reason == "" {
		r.Reason = proxy.OK
	}
	if x.up != nil {
		r.Upstream = x.label()
	}
	if x.body != nil {
		r.Received = x.body.received.Load()
	}
	if x.stream != nil {
		r.Received += x.stream.read.Load()
		r.Sent += x.stream.written.Load()
	}
	done(r)
}
