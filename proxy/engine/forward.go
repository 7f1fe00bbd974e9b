package engine

import (
	"cmp"
	"context"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/sidepass/sidepass/proxy"
)

// destination is where and under what name a request is sent.
type destination struct {
	up                      *Upstream
	scheme, authority, host string
	url                     url.URL
}

// endToEnd are fields that a client cannot have removed by naming them in Connection: they are for the upstream.
var endToEnd = [...]string{"Authorization", "Via"}

// forward sends the request on and the answer back.
func (x *exchange) forward() {
	if x.in.Method == http.MethodConnect {
		x.refuse(&proxy.Verdict{Reason: proxy.MethodNotAllowed})
		return
	}
	if err := x.aim(&x.verdict); err != nil {
		x.refuse(x.because(explain(err)))
		return
	}
	in := x.in
	if x.req.Upgrade != "" {
		if x.upgrade = mayUpgrade(&x.req, in); !x.upgrade {
			delete(in.Header, "Upgrade") // the request goes on as an ordinary one (RFC 9110, section 7.8)
		}
	}
	if x.verdict.Timeout > 0 || x.verdict.Tenure != nil {
		ctx, cancel := context.WithCancelCause(in.Context())
		x.giveUp, x.limited = cancel, ctx
		if x.verdict.Timeout > 0 {
			x.timer = time.AfterFunc(x.verdict.Timeout, func() { cancel(errTimeout) })
		}
		if x.verdict.Tenure != nil {
			x.tenure = &tenure{of: x.verdict.Tenure, giveUp: cancel}
		}
		in = in.WithContext(ctx)
	}
	x.rp.ServeHTTP(x, in)
}

// destinationOf is the destination that a verdict names. Its url is not set.
func destinationOf(v *proxy.Verdict) (destination, error) {
	up, ok := v.Upstream.(*Upstream)
	if !ok || up == nil {
		return destination{}, errNoUpstream
	}
	d := destination{up: up, scheme: cmp.Or(v.Scheme, up.scheme), authority: cmp.Or(v.Authority, up.authority)}
	if d.scheme != "http" && d.scheme != "https" || d.authority == "" {
		return destination{}, errNoUpstream
	}
	d.host = cmp.Or(v.Host, d.authority)
	return d, nil
}

// label is the destination as logs name it.
func (d *destination) label() string {
	if d.scheme == d.up.scheme && d.authority == d.up.authority {
		return d.up.label
	}
	return d.scheme + "://" + d.authority
}

// aim works out the destination that a verdict names, and the URL that is requested there.
func (x *exchange) aim(v *proxy.Verdict) error {
	d, err := destinationOf(v)
	if err != nil {
		return err
	}
	path, query := cmp.Or(v.Path, x.req.Target.Path), x.req.Target.Query
	d.url = url.URL{Scheme: d.scheme, Host: d.authority}
	if query != "" {
		d.url.RawQuery = query[1:]
		d.url.ForceQuery = query == "?"
	}
	switch {
	case d.up.proxied(d.scheme):
		if path == "*" {
			path = "" // RFC 9112, section 3.2.4
		}
		d.url.Opaque = "//" + d.authority + path // net/http puts the scheme before it
	case !strings.HasPrefix(path, "//"):
		d.url.Opaque = path
	default:
		// In Opaque two slashes would begin an authority. A path that RFC 3986 allows goes unchanged this way too.
		plain, err := url.PathUnescape(path)
		d.url.Path, d.url.RawPath = plain, path
		if err != nil || d.url.EscapedPath() != path {
			return errTarget
		}
	}
	x.destination = d
	return nil
}

// rewrite is called by ReverseProxy with the hop-by-hop fields already gone from Out.
func (x *exchange) rewrite(pr *httputil.ProxyRequest) {
	in, out := pr.In, pr.Out
	h := out.Header
	restore(h, in.Header, endToEnd[:])
	if f := x.s.options.Forwarded; f != nil {
		f.set(h, in)
	} else {
		restore(h, in.Header, clientFields[:])
	}
	if via := x.s.viaOf(in.ProtoMajor, in.ProtoMinor); via != "" {
		h["Via"] = append(h["Via"], via)
	}
	if out.Body != nil {
		limit := int64(0)
		if x.verdict.Follow != nil {
			limit = x.verdict.ReplayLimit
		}
		x.body = newBody(in, out.Body, limit)
		out.Body = x.body
		if in.ContentLength < 0 {
			x.tenure.sending(x.body)
		}
	}
	out.Trailer = nil
	if x.body != nil && len(in.Trailer) > 0 && (x.req.HTTP2 || x.req.GRPC) {
		out.Trailer = trailers(in.Trailer, &x.verdict)
		x.body.out = out.Trailer
	}
	x.taken = apply(h, &x.verdict, x.taken)
	x.address(out)
}

func (x *exchange) address(out *http.Request) {
	*out.URL = x.url
	out.Host = x.host
}

// RoundTrip sends the request, once or, when the verdict's Follow wants it, twice.
func (x *exchange) RoundTrip(out *http.Request) (*http.Response, error) {
	res, err := x.send(out)
	if err != nil || x.verdict.Follow == nil {
		return res, err
	}
	follow := x.verdict.Follow
	x.head = headOf(res)
	replayable := x.replayable(&x.head)
	next, again := follow.Answered(out.Context(), &x.head, replayable)
	if !again || !replayable || next.Action != proxy.Forward {
		return res, nil
	}
	second := out.WithContext(out.Context())
	second.URL = new(url.URL)
	second.Header = out.Header.Clone()
	second.Trailer = out.Trailer.Clone()
	undo(second.Header, &x.verdict, x.taken)
	if x.body != nil {
		content := x.body
		second.Body = content.again()
		second.GetBody = func() (io.ReadCloser, error) { return content.again(), nil }
	}
	if err := x.aim(&next); err != nil {
		_ = res.Body.Close()
		return nil, err
	}
	forget(res)
	x.again = true
	x.taken = apply(second.Header, &next, x.taken[:0])
	x.address(second)
	if next.Note == (proxy.Note{}) {
		next.Note = x.verdict.Note
	}
	x.verdict = next
	if res, err = x.send(second); err != nil {
		return nil, err
	}
	x.head = headOf(res)
	x.head.Again = true
	follow.Answered(out.Context(), &x.head, false)
	return res, nil
}

// send sends a request once.
func (x *exchange) send(out *http.Request) (*http.Response, error) {
	res, err := x.up.transport(x.scheme, x.req.HTTP2, x.upgrade).RoundTrip(out)
	if err != nil {
		return nil, err
	}
	if res.StatusCode >= 200 || x.upgrade && switchesToWebSocket(res) {
		return res, nil
	}
	_ = res.Body.Close()
	if res.StatusCode == http.StatusSwitchingProtocols {
		return nil, errSwitched // ReverseProxy would join the connections, or leave the upstream's open
	}
	return nil, errStatus
}

func switchesToWebSocket(res *http.Response) bool {
	return res.StatusCode == http.StatusSwitchingProtocols && strings.EqualFold(res.Header.Get("Upgrade"), "websocket")
}

// How long to wait for the rest of a request's content when the upstream has refused the token before it was read.
const (
	restOfKnown   = time.Second           // the client has said how much it will send
	restOfUnknown = 50 * time.Millisecond // it may have sent all, as in a gRPC call, or never come to an end
)

// replayable says whether the request can be sent again. When the answer refuses the token, and what was not read yet
// of the content may be short, it is read first.
func (x *exchange) replayable(head *proxy.Head) bool {
	b := x.body
	switch {
	case b == nil:
		return true
	case b.ended.Load() || !head.Unauthorized() || b.limit <= 0 || x.in.ContentLength > b.limit:
		return b.ended.Load() && b.whole()
	case x.in.ContentLength < 0:
		return b.finish(restOfUnknown)
	}
	return b.finish(restOfKnown)
}

func headOf(res *http.Response) proxy.Head {
	head := proxy.Head{Status: res.StatusCode, Header: fields(res.Header)}
	if isGRPC(res.Header["Content-Type"]) {
		head.GRPCStatus = res.Header.Get("Grpc-Status")
	}
	return head
}

// forget ends an answer that nobody will see; a short one is read, so that its connection can be used again.
func forget(res *http.Response) {
	if n := res.ContentLength; n >= 0 && n <= 16<<10 {
		_, _ = io.CopyN(io.Discard, res.Body, n+1)
	}
	_ = res.Body.Close()
}

// modify is called by ReverseProxy with the hop-by-hop fields already gone from the answer.
func (x *exchange) modify(res *http.Response) error {
	dropOwn(res.Header)
	if res.ContentLength < 0 {
		delete(res.Header, "Content-Length") // HTTP/2 leaves one there that it could not read
	}
	if x.s.options.ViaOnAnswers {
		if via := x.s.viaOf(res.ProtoMajor, res.ProtoMinor); via != "" {
			res.Header["Via"] = append(res.Header["Via"], via)
		}
	}
	if res.StatusCode == http.StatusSwitchingProtocols {
		x.status = res.StatusCode
		if x.timer != nil {
			x.timer.Stop() // a timeout is for answers; a WebSocket has had its own
		}
		return nil
	}
	if len(res.Trailer) > 0 && x.in.ProtoMajor == 1 {
		res.Header.Del("Content-Length") // HTTP/1.1 has trailers in chunked content only
	}
	switch {
	case res.ContentLength == 0 || x.in.Method == "HEAD":
		// The head must go together with the end of the stream: a gRPC client takes it for Trailers-Only only then.
		x.rp.FlushInterval = 0
	case res.ContentLength > 0:
		// Long enough for a short answer to go in one piece, short enough to hold nothing back.
		x.rp.FlushInterval = time.Millisecond
	default:
		x.rp.FlushInterval = -1
	}
	if !x.tenure.answering(cutWrites(x.rw), res.ContentLength < 0) {
		return errOutlived
	}
	x.answer = answer{ReadCloser: res.Body, res: res, request: x.body}
	res.Body = &x.answer
	return nil
}

// failed is called by ReverseProxy when there is no answer to pass on.
func (x *exchange) failed(_ http.ResponseWriter, _ *http.Request, err error) {
	switch {
	case x.hijacked:
		x.err = explain(err)
	case x.timedOut():
		x.refuse(x.because(fail(proxy.UpstreamTimeout, "The upstream did not answer within the route's `timeout`.", errTimeout)))
	case x.outlived() != "":
		x.refuse(x.because(fail(x.outlived(), "The token's time was over while the request's content was still coming.", errOutlived)))
	case x.in.Context().Err() != nil:
		x.gone, x.err = true, errClientGone
	case x.body != nil && x.body.broken.Load():
		x.refuse(x.because(fail(proxy.MalformedRequest, "The request's content is not framed as HTTP has it.", err)))
	default:
		x.refuse(x.because(explain(err)))
	}
}

// timedOut says whether the verdict's time is over.
func (x *exchange) timedOut() bool { return x.limited != nil && context.Cause(x.limited) == errTimeout }

// because turns a failure into a verdict that refuses.
func (x *exchange) because(f *failure) *proxy.Verdict {
	x.err = f
	x.verdict.Action, x.verdict.Reason, x.verdict.Detail = proxy.Refuse, f.reason, f.detail
	return &x.verdict
}

// answer is the body of an upstream's answer.
type answer struct {
	io.ReadCloser
	res *http.Response
	err error // why it broke off

	request *body // the request's content; nil when it has none
}

func (a *answer) Read(p []byte) (int, error) {
	n, err := a.ReadCloser.Read(p)
	switch {
	case err == io.EOF:
		if len(a.res.Trailer) > 0 {
			dropOwn(a.res.Trailer)
			for name := range a.res.Trailer {
				if !httpguts.ValidTrailerHeader(name) {
					delete(a.res.Trailer, name)
				}
			}
		}
	case err != nil:
		a.err = err
	}
	return n, err
}

// Close does not wait for a request's content that is still coming, as net/http's HTTP/2 transport would (RoundTrip's
// goroutine that reads it has to end first): the client may be waiting for the end of the answer before it ends its
// request. What is left to close ends with the request, when reads of its content fail.
func (a *answer) Close() error {
	if a.request == nil || a.request.ended.Load() {
		return a.ReadCloser.Close()
	}
	go func(c io.Closer) { _ = c.Close() }(a.ReadCloser)
	return nil
}

// bufferPool holds the buffers that answers are copied through.
type bufferPool struct{ pool sync.Pool }

const bufferSize = 32 << 10

func (p *bufferPool) Get() []byte {
	if b, ok := p.pool.Get().(*[bufferSize]byte); ok {
		return b[:]
	}
	return make([]byte, bufferSize)
}

func (p *bufferPool) Put(b []byte) { p.pool.Put((*[bufferSize]byte)(b)) }
