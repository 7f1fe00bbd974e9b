package admin

import (
	"net/http"
	"strings"
	"testing"
)

func all() []string { return nil }

func TestProbes(t *testing.T) {
	lacks := func(what ...string) Check { return func() []string { return what } }
	drained := &Health{Ready: all, Inbound: all, Outbound: all}
	drained.Drain()
	for name, c := range map[string]struct {
		health *Health
		path   string
		status int
		body   string
	}{
		"alive":                   {&Health{}, "/livez", 200, "ok\n"},
		"ready":                   {&Health{Ready: all}, "/readyz", 200, "ok\n"},
		"not started":             {&Health{}, "/readyz", 503, "the sidecar has not started\n"},
		"not ready":               {&Health{Ready: lacks("keys of issuer idp", "token of\nroute orders")}, "/readyz", 503, "keys of issuer idp\ntoken of route orders\n"},
		"inbound":                 {&Health{Inbound: all}, "/readyz/inbound", 200, "ok\n"},
		"inbound, not ready":      {&Health{Ready: all, Inbound: lacks("keys"), Outbound: all}, "/readyz/inbound", 503, "keys\n"},
		"inbound is not run":      {&Health{Ready: all, Outbound: all}, "/readyz/inbound", 404, "not found\n"},
		"outbound":                {&Health{Outbound: all}, "/readyz/outbound", 200, "ok\n"},
		"outbound, not ready":     {&Health{Ready: all, Inbound: all, Outbound: lacks("token")}, "/readyz/outbound", 503, "token\n"},
		"outbound is not run":     {&Health{Ready: all, Inbound: all}, "/readyz/outbound", 404, "not found\n"},
		"draining":                {drained, "/readyz", 503, "the sidecar is shutting down\n"},
		"draining, inbound":       {drained, "/readyz/inbound", 503, "the sidecar is shutting down\n"},
		"draining, outbound":      {drained, "/readyz/outbound", 503, "the sidecar is shutting down\n"},
		"draining, but it serves": {drained, "/livez", 200, "ok\n"},
	} {
		t.Run(name, func(t *testing.T) {
			h := MetricsHandler(NewMetrics(testBuild), c.health, nil)
			w := ask(t, h, http.MethodGet, c.path, "", nil)
			if w.Code != c.status || w.Body.String() != c.body {
				t.Errorf("%s: %d %q, want %d %q", c.path, w.Code, w.Body, c.status, c.body)
			}
			if ct := w.Header().Get("Content-Type"); !strings.HasPrefix(ct, "text/plain") {
				t.Errorf("Content-Type is %q", ct)
			}
		})
	}
	if drained.Draining() == new(Health).Draining() {
		t.Error("Draining does not tell")
	}
}

// The metrics listener has five answers, and nothing else.
func TestMetricsListener(t *testing.T) {
	m := described()
	refused := 0
	h := MetricsHandler(m, &Health{Ready: all, Inbound: all, Outbound: all}, &Observer{Refused: func(Refused) { refused++ }})
	answers := []string{"/metrics", "/livez", "/readyz", "/readyz/inbound", "/readyz/outbound"}
	for _, path := range answers {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			if w := ask(t, h, method, path, "", nil); w.Code != 200 || code(w) != "" {
				t.Errorf("%s %s: %d %s", method, path, w.Code, code(w))
			}
		}
		for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "QUERY"} {
			w := ask(t, h, method, path, "", nil)
			if w.Code != 405 || code(w) != "method_not_allowed" || w.Header().Get("Allow") != "GET, HEAD" {
				t.Errorf("%s %s: %d %q, Allow %q", method, path, w.Code, code(w), w.Header().Get("Allow"))
			}
		}
	}
	if want := 8 * len(answers); refused != want {
		t.Errorf("the observer saw %d refusals, want %d", refused, want)
	}
	for _, path := range []string{
		"/", "/metrics/", "//metrics", "/./metrics", "/x/../metrics", "/METRICS", "/livez/", "/readyz/", "/readyz/other", "/healthz",
		"/api/status", "/api/config", "/log/level", "/token?route=orders", "/debug/pprof/", "/debug/pprof/heap", "/debug/vars", "/favicon.ico",
	} {
		w := ask(t, h, http.MethodGet, path, "", fields("Sidepass-Token-API", "1"))
		if w.Code != 404 || w.Body.String() != "not found\n" || w.Header().Get("Location") != "" {
			t.Errorf("%s: %d %q", path, w.Code, w.Body)
		}
	}
	// The kubelet and Prometheus use the pod's address.
	if w := ask(t, h, http.MethodGet, "/readyz", "", fields("Host", "10.1.2.3:8403")); w.Code != 200 {
		t.Errorf("by the pod's address: %d", w.Code)
	}
}

func TestScrape(t *testing.T) {
	m := described()
	everything(m)
	w := ask(t, MetricsHandler(m, &Health{}, nil), http.MethodGet, "/metrics", "", nil)
	for _, line := range []string{
		`sidepass_outbound_requests_total{code="200",reason="ok",route="orders"} 1`,
		`# TYPE sidepass_outbound_request_duration_seconds histogram`,
		`go_goroutines `,
		`process_resident_memory_bytes `,
	} {
		if !strings.Contains(w.Body.String(), "\n"+line) {
			t.Errorf("the page lacks %s", line)
		}
	}
	if w.Header().Get("X-Content-Type-Options") != "nosniff" {
		t.Error("nosniff is missing")
	}
}
