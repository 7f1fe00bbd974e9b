package tracing

import (
	"context"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
)

// Wait is a request's wait for a token. A nil one is none.
type Wait struct {
	tracer *Tracer
	parent context.Context
	route  string
	began  time.Time
	start  func() context.Context // begins the span, once; the token request may do so on its own goroutine
}

type waitKey struct{}

// Wait is called when a request asks for its route's token. Only one that has to wait gets a span: [Wait.Done] says so, or a token
// request that begins for it, under which it is then.
func (t *Tracer) Wait(ctx context.Context, route string) (context.Context, *Wait) {
	if t == nil || !trace.SpanContextFromContext(ctx).IsValid() {
		return ctx, nil
	}
	w := &Wait{tracer: t, parent: ctx, route: route, began: time.Now()}
	w.start = sync.OnceValue(func() context.Context {
		ctx, _ := t.tracer.Start(w.parent, "token "+w.route, trace.WithTimestamp(w.began), trace.WithAttributes(attribute.String(string(Outbound), w.route)))
		return ctx
	})
	return context.WithValue(ctx, waitKey{}, w), w
}

// Done ends it. lookup is the metric's word for how the token was come by; failed is "" or why there is none.
func (w *Wait) Done(waited bool, lookup, failed string) {
	if w == nil || !waited {
		return
	}
	span := trace.SpanFromContext(w.start())
	span.SetAttributes(attribute.String("sidepass.lookup", lookup))
	if failed != "" {
		fail(span, failed)
	}
	span.End()
}

// Requesting begins the span of one request to a token endpoint: under the wait that it ends, or as a trace of its own where nobody
// waits. route is the first that uses the token.
func (t *Tracer) Requesting(ctx context.Context, issuer, grant, route string) context.Context {
	if t == nil {
		return ctx
	}
	parent := ctx
	if w, ok := ctx.Value(waitKey{}).(*Wait); ok {
		parent = w.start()
	}
	ctx, _ = t.tracer.Start(parent, "token request", trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		attribute.String("http.request.method", "POST"), attribute.String("sidepass.issuer", issuer), attribute.String("sidepass.grant", grant),
		attribute.String(string(Outbound), route)))
	return ctx
}

// Requested ends it, and returns the id of its trace, where it is recorded. ctx is what Requesting returned; result is "ok" or what went wrong.
func (t *Tracer) Requested(ctx context.Context, result string) (id string) {
	if t == nil {
		return ""
	}
	span := trace.SpanFromContext(ctx)
	span.SetAttributes(attribute.String("sidepass.result", result))
	if result != "ok" {
		fail(span, result)
	}
	span.End()
	return recorded(ctx)
}
