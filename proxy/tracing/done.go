package tracing

import (
	"context"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/sidepass/sidepass/proxy/engine"
)

// Done ends the spans of a request. One that was refused before a gate saw it gets a span now, in a trace of its own.
func (t *Tracer) Done(d Direction, r engine.Record) {
	if t == nil {
		return
	}
	q, ok := r.Note.Trace.(*request)
	if !ok {
		q = &request{tracer: t, direction: d, method: method(r.Method)}
		q.ctx, q.server = t.tracer.Start(context.Background(), q.method, trace.WithSpanKind(trace.SpanKindServer), trace.WithTimestamp(time.Now().Add(-r.Duration)),
			trace.WithAttributes(attribute.String("http.request.method", q.method), attribute.String("url.path", clip(r.Path)), attribute.String("sidepass.listener", r.Listener)))
	}
	if !q.server.IsRecording() {
		return
	}
	if q.client != nil {
		q.endClient(&r)
	}
	q.endServer(&r)
}

func (q *request) endClient(r *engine.Record) {
	if r.Instance != "" { // there was no answer that could be passed on
		fail(q.client, string(r.Reason))
	} else {
		answered(q.client, r.Status)
	}
	brokeOff(q.client, r)
	q.client.End()
}

func (q *request) endServer(r *engine.Record) {
	rule := r.Note.Rule
	if rule == "" {
		rule = "unmatched"
	}
	q.server.SetName(name(q.method, rule))
	q.server.SetAttributes(attribute.String(string(q.direction), rule), attribute.String("sidepass.reason", string(r.Reason)))
	if r.Note.Decision != "" {
		q.server.SetAttributes(attribute.String("sidepass.decision", string(r.Note.Decision)))
	}
	if r.Note.Issuer != "" {
		q.server.SetAttributes(attribute.String("sidepass.issuer", r.Note.Issuer))
	}
	if r.Status > 0 {
		q.server.SetAttributes(attribute.Int("http.response.status_code", r.Status))
	}
	switch {
	case r.Instance != "":
		q.server.SetAttributes(attribute.String("error.type", string(r.Reason)))
		if r.Reason.Status() >= 500 { // gRPC has 200 for all of them
			q.server.SetStatus(codes.Error, "")
		}
	case r.Status >= 500:
		fail(q.server, strconv.Itoa(r.Status))
	}
	brokeOff(q.server, r)
	q.server.End()
}

// answered notes the status of an upstream's answer.
func answered(client trace.Span, status int) {
	if status == 0 {
		return
	}
	client.SetAttributes(attribute.Int("http.response.status_code", status))
	if status >= 400 {
		fail(client, strconv.Itoa(status))
	}
}

// brokeOff notes that the answer ended before its end, if it did.
func brokeOff(s trace.Span, r *engine.Record) {
	switch {
	case r.Ended != "":
		fail(s, string(r.Ended))
	case r.Err != nil && r.Instance == "":
		fail(s, "_OTHER") // the client went away, or the upstream
	}
}

func fail(s trace.Span, why string) {
	s.SetAttributes(attribute.String("error.type", why))
	s.SetStatus(codes.Error, "")
}

// name is a span's name: the method and the rule, whose own name often begins with it.
func name(method, rule string) string {
	if strings.HasPrefix(rule, method+" ") {
		return rule
	}
	return method + " " + rule
}
