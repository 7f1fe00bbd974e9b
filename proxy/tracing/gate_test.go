package tracing

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/sidepass/sidepass/proxy"
	"github.com/sidepass/sidepass/proxy/engine"
)

// gateFunc is a gate.
type gateFunc func(context.Context, *proxy.Request) proxy.Verdict

func (f gateFunc) Admit(ctx context.Context, r *proxy.Request) proxy.Verdict { return f(ctx, r) }

type lines map[string][]string

func (l lines) First(name string) (string, int) { return l.At(name, 0), len(l[name]) }
func (l lines) At(name string, i int) string {
	if i >= len(l[name]) {
		return ""
	}
	return l[name][i]
}

type place string

func (p place) String() string { return string(p) }

func newTracer(t *testing.T) *Tracer {
	t.Helper()
	tracer, err := New(Options{Endpoint: &url.URL{Scheme: "http", Host: "127.0.0.1:1"}})
	if err != nil {
		t.Fatal(err)
	}
	return tracer
}

const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

// A nil tracer changes nothing.
func TestNilTracer(t *testing.T) {
	var tracer *Tracer
	inner := gateFunc(func(context.Context, *proxy.Request) proxy.Verdict { return proxy.Verdict{} })
	if _, same := tracer.Gate(Inbound, inner).(gateFunc); !same {
		t.Error("the gate is another")
	}
	ctx := tracer.Requesting(t.Context(), "idp", "g", "r")
	if ctx != t.Context() || tracer.Requested(ctx, "ok") != "" {
		t.Error("there is a token request")
	}
	if _, w := tracer.Wait(ctx, "r"); w != nil {
		t.Error("there is a wait")
	}
	tracer.Done(Inbound, engine.Record{})
	tracer.Flush(t.Context())
	if err := tracer.Run(t.Context()); err != nil {
		t.Error(err)
	}
}

// What a verdict shares with others is not written to.
func TestVerdictsAreShared(t *testing.T) {
	set, remove := make([]proxy.Field, 1, 4), make([]string, 1, 4)
	g := newTracer(t).Gate(Outbound, gateFunc(func(context.Context, *proxy.Request) proxy.Verdict {
		return proxy.Verdict{Action: proxy.Forward, Upstream: place("https://a"), Set: set, Remove: remove}
	}))
	v := g.Admit(t.Context(), &proxy.Request{Method: "GET", Header: lines{}})
	if len(v.Set) != 2 || v.Set[1].Name != "Traceparent" || len(v.Remove) != 2 || v.Remove[1] != "Tracestate" {
		t.Errorf("%+v", v)
	}
	if set[:4][1] != (proxy.Field{}) || remove[:4][1] != "" {
		t.Error("the gate's own slices were written to")
	}
	v = g.Admit(t.Context(), &proxy.Request{Method: "GET", Header: lines{"Traceparent": {parent}}})
	if !strings.HasPrefix(v.Set[1].Value, parent[:36]) || v.Set[1].Value == parent || len(v.Remove) != 1 {
		t.Errorf("%+v", v)
	}
	if v.Note.Trace.ID() != parent[3:35] {
		t.Errorf("trace %s", v.Note.Trace.ID())
	}
}

// What is refused goes nowhere.
func TestRefusalsAreNotSent(t *testing.T) {
	g := newTracer(t).Gate(Inbound, gateFunc(func(context.Context, *proxy.Request) proxy.Verdict { return proxy.Verdict{Reason: proxy.NoToken} }))
	v := g.Admit(t.Context(), &proxy.Request{Method: "GET", Header: lines{"Traceparent": {parent}}})
	if len(v.Set) != 0 || v.Action != proxy.Refuse || v.Reason != proxy.NoToken || v.Note.Trace == nil {
		t.Errorf("%+v", v)
	}
}

func TestDestination(t *testing.T) {
	for _, c := range []struct {
		v    proxy.Verdict
		want string
	}{
		{proxy.Verdict{Upstream: place("https://orders.example.com")}, "server.address=orders.example.com server.port=443 url.scheme=https"},
		{proxy.Verdict{Upstream: place("http://[::1]:8080")}, "server.address=::1 server.port=8080 url.scheme=http"},
		{proxy.Verdict{Upstream: place("direct"), Scheme: "http", Authority: "a.example"}, "server.address=a.example server.port=80 url.scheme=http"},
		{proxy.Verdict{Upstream: place("unix:/run/app.sock")}, "server.address=/run/app.sock"},
		{proxy.Verdict{Upstream: place("direct"), Authority: "a.example:443"}, "server.address=a.example server.port=443"},
		{proxy.Verdict{}, "server.address="},
	} {
		var got []string
		for _, kv := range destination(&c.v) {
			got = append(got, fmt.Sprintf("%s=%s", kv.Key, kv.Value.String()))
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%+v: got %s, want %s", c.v, s, c.want)
		}
	}
}

// What comes from a request is of a closed set, or cut.
func TestWhatSpansHold(t *testing.T) {
	for in, want := range map[string]string{"GET": "GET", "QUERY": "QUERY", "get": "_OTHER", "": "_OTHER", "CANARY": "_OTHER"} {
		if got := method(in); got != want {
			t.Errorf("%q: %s", in, got)
		}
	}
	if got := clip(strings.Repeat("ä", maxAttribute)); len(got) != maxAttribute {
		t.Errorf("%d bytes", len(got))
	}
	if got := clip("/" + strings.Repeat("ä", maxAttribute)); len(got) != maxAttribute-1 {
		t.Errorf("%d bytes: half a character is left out", len(got))
	}
	for rule, want := range map[string]string{"orders": "GET orders", "GET /orders/{id}": "GET /orders/{id}", "GETTERS": "GET GETTERS"} {
		if got := name("GET", rule); got != want {
			t.Errorf("%q: %s", rule, got)
		}
	}
}

// A tracestate may have several lines; one that is too long is not kept.
func TestTracestate(t *testing.T) {
	long := "a=" + strings.Repeat("x", maxState)
	for want, l := range map[string][]string{"": nil, "a=1": {"a=1"}, "a=1,b=2,c=3": {"a=1", "b=2,c=3"}} {
		if got := (&carrier{header: lines{"Tracestate": l}}).Get("tracestate"); got != want {
			t.Errorf("%q: %q", l, got)
		}
	}
	for _, l := range [][]string{{long}, {"a=1", long}, {long, "a=1"}} {
		if got := (&carrier{header: lines{"Tracestate": l}}).Get("tracestate"); got != "" {
			t.Errorf("%d bytes were kept", len(got))
		}
	}
}
