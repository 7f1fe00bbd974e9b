package tracing

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/sidepass/sidepass/proxy"
)

// Direction is which way requests go.
type Direction string

// The directions; the word is the key of the attribute that holds [proxy.Note.Rule].
const (
	Outbound Direction = "sidepass.route"
	Inbound  Direction = "sidepass.rule"
)

// Gate returns a gate that judges as g does, and begins a request's spans: one for the request as it came, and one for what is sent on.
func (t *Tracer) Gate(d Direction, g proxy.Gate) proxy.Gate {
	if t == nil || g == nil {
		return g
	}
	return &gate{Gate: g, tracer: t, direction: d}
}

type gate struct {
	proxy.Gate
	tracer    *Tracer
	direction Direction
}

// request is the spans of one request, which is handled by one goroutine. It is a [proxy.Trace].
type request struct {
	tracer    *Tracer
	direction Direction
	method    string
	path      string
	orphan    bool            // it came without a parent
	ctx       context.Context // with server in it; for its values only
	server    trace.Span      // from the gate to the end
	client    trace.Span      // from the verdict to the end, or to the answer after which the request is sent again; nil without one
}

// ID is the trace's id, where the request is recorded.
func (q *request) ID() string { return recorded(q.ctx) }

func recorded(ctx context.Context) string {
	if c := trace.SpanContextFromContext(ctx); c.IsSampled() {
		return c.TraceID().String()
	}
	return ""
}

// Admit judges a request within its server span.
func (g *gate) Admit(ctx context.Context, r *proxy.Request) proxy.Verdict {
	in := propagation.TraceContext{}.Extract(ctx, &carrier{header: r.Header})
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	q := &request{tracer: g.tracer, direction: g.direction, method: method(r.Method), path: clip(r.Target.Path), orphan: !trace.SpanContextFromContext(in).IsValid()}
	q.ctx, q.server = g.tracer.tracer.Start(in, q.method, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
		attribute.String("http.request.method", q.method), attribute.String("url.path", q.path), attribute.String("url.scheme", scheme),
		attribute.String("sidepass.listener", r.Listener)))
	v := g.Gate.Admit(q.ctx, r)
	v.Note.Trace = q
	switch v.Action {
	case proxy.Forward:
		q.send(&v, 0)
		if v.Follow != nil {
			v.Follow = &follow{v.Follow, q}
		}
	case proxy.Tunnel:
		q.begin(&v, 0)
	}
	return v
}

// send begins the client span of a request that is sent on, and tells the upstream of it.
func (q *request) send(v *proxy.Verdict, resends int) {
	c := &carrier{}
	propagation.TraceContext{}.Inject(q.begin(v, resends), c)
	v.Set = append(slices.Clip(v.Set), proxy.Field{Name: "Traceparent", Value: c.parent}) // others share the slice
	if q.orphan {
		v.Remove = append(slices.Clip(v.Remove), "Tracestate") // it belongs to a parent (W3C Trace Context, section 3.3)
	}
}

// begin begins the client span.
func (q *request) begin(v *proxy.Verdict, resends int) (ctx context.Context) {
	attributes := []attribute.KeyValue{attribute.String("http.request.method", q.method), attribute.String("url.path", cmp.Or(clip(v.Path), q.path))}
	if resends > 0 {
		attributes = append(attributes, attribute.Int("http.request.resend_count", resends))
	}
	ctx, q.client = q.tracer.tracer.Start(q.ctx, q.method, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(append(attributes, destination(v)...)...))
	return ctx
}

// follow ends a client span and begins another where a request is sent again.
type follow struct {
	proxy.Follow
	request *request
}

func (f *follow) Answered(ctx context.Context, a *proxy.Head, replayable bool) (proxy.Verdict, bool) {
	q := f.request
	v, again := f.Follow.Answered(trace.ContextWithSpan(ctx, q.server), a, replayable)
	if again && replayable && v.Action == proxy.Forward {
		answered(q.client, a.Status)
		q.client.End()
		q.send(&v, 1)
		if v.Note != (proxy.Note{}) {
			v.Note.Trace = q
		}
	}
	return v, again
}

// destination says where a verdict sends a request.
func destination(v *proxy.Verdict) []attribute.KeyValue {
	where := ""
	switch {
	case v.Authority != "":
		where = v.Scheme + "://" + v.Authority
	case v.Upstream != nil:
		where = v.Upstream.String()
	}
	scheme, authority, ok := strings.Cut(where, "://")
	if !ok { // unix:/path/to.sock
		return []attribute.KeyValue{attribute.String("server.address", clip(strings.TrimPrefix(where, "unix:")))}
	}
	host, port, _ := proxy.SplitAuthority(authority)
	attributes := []attribute.KeyValue{attribute.String("server.address", clip(host))}
	switch {
	case port != "":
	case scheme == "https":
		port = "443"
	case scheme == "http":
		port = "80"
	}
	if n, err := strconv.Atoi(port); err == nil {
		attributes = append(attributes, attribute.Int("server.port", n))
	}
	if scheme != "" {
		attributes = append(attributes, attribute.String("url.scheme", scheme))
	}
	return attributes
}

// clip returns a copy, since what comes from a request may alias a read buffer.
func clip(s string) string {
	return strings.Clone(strings.ToValidUTF8(s[:min(len(s), maxAttribute)], ""))
}

// method is a method by a name of a closed set, as the semantic conventions want it.
func method(m string) string {
	for _, known := range [...]string{"GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS", "CONNECT", "TRACE", "QUERY"} {
		if m == known {
			return known
		}
	}
	return "_OTHER"
}

// maxState is how long a tracestate is kept with a span, in bytes: W3C Trace Context, section 3.3.1.5, has vendors pass on as much. A
// longer one goes on to the upstream all the same.
const maxState = 512

// carrier reads the parent from a request's fields, and takes our own.
type carrier struct {
	header proxy.Fields
	parent string
}

// Get returns the value of a field that is there once, or a list of several lines for tracestate.
func (c *carrier) Get(key string) string {
	name := "Traceparent"
	if key == "tracestate" {
		name = "Tracestate"
	}
	value, lines := c.header.First(name)
	if name == "Traceparent" {
		if lines > 1 {
			return "" // which of them it is, nobody knows
		}
		return value
	}
	for i := 1; i < lines && len(value) <= maxState; i++ {
		value += "," + c.header.At(name, i)
	}
	if len(value) > maxState {
		return ""
	}
	return strings.Clone(value)
}

// Set takes the traceparent. The tracestate goes on as it came.
func (c *carrier) Set(key, value string) {
	if key == "traceparent" {
		c.parent = value
	}
}

// Keys is for the interface; nothing calls it.
func (c *carrier) Keys() []string { return nil }
