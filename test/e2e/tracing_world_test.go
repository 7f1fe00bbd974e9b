package e2e

import (
	"bytes"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// collector is an OTLP receiver that keeps what it is sent.
type collector struct {
	*httptest.Server
	t      testing.TB
	mu     sync.Mutex
	raw    bytes.Buffer // every export, as it came
	header http.Header  // of the last one
	spans  []span
}

// span is a span as it was exported.
type span struct {
	resource         map[string]string
	kind             string // server, client, internal
	name             string
	trace, id        string
	parent           string // "" for none
	attributes       map[string]string
	failed           bool
	begun, ended     uint64
	state            string
	listener, reason string // of attributes
}

func startCollector(t testing.TB) *collector {
	t.Helper()
	c := &collector{t: t}
	c.Server = httptest.NewServer(http.HandlerFunc(c.take))
	t.Cleanup(c.Close)
	return c
}

func (c *collector) take(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var export collectorpb.ExportTraceServiceRequest
	if err == nil {
		err = proto.Unmarshal(body, &export)
	}
	if err != nil || r.Method != "POST" || r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/x-protobuf" {
		c.t.Errorf("an export that is none: %s %s %v %v", r.Method, r.URL, r.Header, err)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.header = r.Header
	c.raw.Write(body)
	for _, rs := range export.ResourceSpans {
		resource := texts(rs.Resource.GetAttributes())
		for _, ss := range rs.ScopeSpans {
			for _, s := range ss.Spans {
				a := texts(s.Attributes)
				c.spans = append(c.spans, span{
					resource: resource, name: s.Name, trace: hex.EncodeToString(s.TraceId), id: hex.EncodeToString(s.SpanId), parent: hex.EncodeToString(s.ParentSpanId),
					kind:       map[tracepb.Span_SpanKind]string{tracepb.Span_SPAN_KIND_SERVER: "server", tracepb.Span_SPAN_KIND_CLIENT: "client", tracepb.Span_SPAN_KIND_INTERNAL: "internal"}[s.Kind],
					attributes: a, failed: s.Status.GetCode() == tracepb.Status_STATUS_CODE_ERROR, begun: s.StartTimeUnixNano, ended: s.EndTimeUnixNano,
					state: s.TraceState, listener: a["sidepass.listener"], reason: a["sidepass.reason"],
				})
			}
		}
	}
}

func texts(in []*commonpb.KeyValue) map[string]string {
	out := map[string]string{}
	for _, kv := range in {
		out[kv.Key] = kv.Value.GetStringValue()
		if n, ok := kv.Value.GetValue().(*commonpb.AnyValue_IntValue); ok {
			out[kv.Key] = itoa(n.IntValue)
		}
	}
	return out
}

func (c *collector) all() []span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.spans)
}

// find is the span that is so, once it is there. It must be the only one.
func (c *collector) find(t testing.TB, what string, is func(span) bool) span {
	t.Helper()
	var found []span
	eventually(t, patience, "there is the span "+what, func() bool {
		found = slices.DeleteFunc(c.all(), func(s span) bool { return !is(s) })
		return len(found) > 0
	})
	if len(found) != 1 {
		t.Fatalf("%d spans are %s: %+v", len(found), what, found)
	}
	return found[0]
}
