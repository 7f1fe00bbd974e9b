package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/sidepass/sidepass/proxy"
)

// testOptions is everything switched on.
func testOptions() Options {
	level := zap.NewAtomicLevel()
	return Options{
		Listen: "127.0.0.1:8404",
		Status: testStatus,
		Config: func() json.RawMessage { return json.RawMessage(`{"issuers":[{"url":"https://idp.test/?a=1&b=<2>"}]}`) },
		Level:  &level,
		Pprof:  true, TokenAPI: true,
		Token: func(context.Context, string) (TokenAnswer, error) {
			return TokenAnswer{}, &TokenError{Reason: proxy.NoRoute}
		},
	}
}

func testStatus() Status {
	now := time.Now()
	return Status{
		Version: "1.2.3", Commit: "abc", Started: now.Add(-time.Hour),
		Missing:         []string{"keys of issuer partner"},
		Listeners:       map[string]string{"outbound": "127.0.0.1:8401", "admin": "127.0.0.1:8404"},
		RestartRequired: []string{"outbound.listen", "engine"},
		Outbound:        true, Inbound: true,
		Routes: []RouteStatus{
			{Name: "orders", Issuer: "idp", Grant: "client_credentials", Audience: []string{"https://orders"}, Scopes: []string{"read:orders"},
				Obtained: 3, Cached: 12345, Saved: 12342,
				ObtainedAt: now.Add(-2 * time.Minute), RefreshAt: now.Add(3 * time.Minute), ExpiresAt: now.Add(5 * time.Minute), LastSuccess: now.Add(-2 * time.Minute)},
			{Name: "mail", Issuer: "idp", LastError: "invalid_target: the server does not know the audience"},
			{Name: "old", Issuer: "idp", ExpiresAt: now.Add(-time.Minute)},
		},
		Issuers: []IssuerStatus{
			{Name: "idp", URL: "https://idp.test", Trusted: true, Keys: 4, KeyNames: []string{"k1 RS256"}, LastRefresh: now.Add(-30 * time.Second), NextRefresh: now.Add(15 * time.Minute)},
			{Name: "partner", URL: "https://partner.test", Trusted: true, LastError: "no route to host"},
		},
		Rules: []RuleStatus{{Name: "read", Match: []string{"GET /orders/{id}"}, Needs: []string{"scopes: read:orders"}, Mode: "enforce"}},
	}
}

func TestAdminListener(t *testing.T) {
	on, off := Handler(testOptions()), Handler(Options{Listen: "127.0.0.1:8404", Status: testStatus, Config: testOptions().Config})
	for _, c := range []struct {
		method, path string
		status, off  int // with everything on; with everything off
	}{
		{"GET", "/", 200, 200},
		{"HEAD", "/", 200, 200},
		{"POST", "/", 405, 405},
		{"GET", "/api/status", 200, 200},
		{"HEAD", "/api/status", 200, 200},
		{"DELETE", "/api/status", 405, 405},
		{"GET", "/api/config", 200, 200},
		{"PUT", "/api/config", 405, 405},
		{"GET", "/log/level", 200, 404},
		{"POST", "/log/level", 405, 404},
		{"DELETE", "/token?route=orders", 405, 404},
		{"HEAD", "/token?route=orders", 405, 404},
		{"GET", "/token?route=orders", 403, 404},
		{"POST", "/token?route=orders", 400, 404},
		{"GET", "/debug/pprof/", 200, 404},
		{"GET", "/debug/pprof/goroutine", 200, 404},
		{"GET", "/debug/pprof/symbol", 200, 404},
		{"GET", "/debug/pprof/trace?seconds=0.001", 200, 404},
		{"POST", "/debug/pprof/symbol", 200, 404},
		{"POST", "/debug/pprof/heap", 405, 404},
		{"POST", "/debug/pprof/profile", 405, 404},
		{"POST", "/debug/pprof/trace", 405, 404},
		{"GET", "/debug/pprof/cmdline", 404, 404},
		{"GET", "/debug/pprof", 404, 404},
		{"GET", "/debug/vars", 404, 404},
		{"GET", "//", 404, 404},
		{"GET", "/api/", 404, 404},
		{"GET", "/api/status/", 404, 404},
		{"GET", "/metrics", 404, 404},
		{"GET", "/favicon.ico", 404, 404},
		{"TRACE", "/", 405, 405},
		{"TRACE", "/token", 405, 405},
		{"CONNECT", "/", 405, 405},
	} {
		for h, want := range map[http.Handler]int{on: c.status, off: c.off} {
			w := ask(t, h, c.method, c.path, "", nil)
			if w.Code != want {
				t.Errorf("%s %s: %d, want %d", c.method, c.path, w.Code, want)
			}
			if want == 405 && (code(w) != "method_not_allowed" || w.Header().Get("Allow") == "" || strings.Contains(w.Header().Get("Allow"), c.method)) {
				t.Errorf("%s %s: %q, Allow %q", c.method, c.path, code(w), w.Header().Get("Allow"))
			}
			if want == 200 && code(w) != "" {
				t.Errorf("%s %s: an answer that is no refusal says %s", c.method, c.path, code(w))
			}
		}
	}
}

// A profile that its client has stopped waiting for ends.
func TestProfileEndsWithItsClient(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/debug/pprof/profile?seconds=3600", nil)
	r.Host = "localhost"
	w := httptest.NewRecorder()
	Handler(testOptions()).ServeHTTP(w, r)
	if w.Code != 200 || w.Header().Get("Content-Type") != "application/octet-stream" {
		t.Errorf("%d %q", w.Code, w.Header().Get("Content-Type"))
	}
}

// No answer can be stored, sniffed, framed or read by another site, whatever it is.
func TestSecurityHeaders(t *testing.T) {
	h := Handler(testOptions())
	for _, target := range []string{"/", "/api/status", "/api/config", "/log/level", "/token", "/debug/pprof/", "/nowhere"} {
		w := ask(t, h, http.MethodGet, target, "", nil)
		for name, want := range map[string]string{
			"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff",
			"Cross-Origin-Resource-Policy": "same-origin", "Referrer-Policy": "no-referrer",
		} {
			if got := w.Header().Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", target, name, got, want)
			}
		}
		csp := w.Header().Get("Content-Security-Policy")
		if !strings.Contains(csp, "default-src 'none'") || !strings.Contains(csp, "frame-ancestors 'none'") || strings.Contains(csp, "unsafe") {
			t.Errorf("%s: Content-Security-Policy is %q", target, csp)
		}
		if w.Header().Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: another site may read it", target)
		}
	}
}

// The guard stands before everything: each path, with its twin that passes.
func TestGuardCoversEveryPath(t *testing.T) {
	var seen []Refused
	o := testOptions()
	o.Observer = &Observer{Refused: func(r Refused) { seen = append(seen, r) }}
	h := Handler(o)
	for _, target := range []string{"/", "/api/status", "/api/config", "/log/level", "/token?route=orders", "/debug/pprof/heap", "/nowhere"} {
		for _, c := range []struct {
			header http.Header
			status int
			code   string
		}{
			{fields("Host", "evil.test:8404"), 421, "wrong_host"},
			{fields("Sec-Fetch-Site", "cross-site"), 403, "cross_site"},
			{fields("Origin", "https://evil.test"), 403, "cross_site"},
			{fields("Host", "evil.test", "Origin", "http://evil.test"), 421, "wrong_host"},
		} {
			seen = nil
			w := ask(t, h, http.MethodGet, target, "", c.header)
			if w.Code != c.status || code(w) != c.code {
				t.Errorf("%s with %v: %d %s, want %d %s", target, c.header, w.Code, code(w), c.status, c.code)
			}
			var problem struct {
				Title, Detail, Code, Instance string
				Status                        int
			}
			if err := json.Unmarshal(w.Body.Bytes(), &problem); err != nil || w.Header().Get("Content-Type") != "application/problem+json" {
				t.Errorf("%s with %v: no problem document: %v %q", target, c.header, err, w.Header().Get("Content-Type"))
			}
			path, _, _ := strings.Cut(target, "?")
			if problem.Code != c.code || problem.Status != c.status || problem.Detail == "" || len(seen) != 1 ||
				seen[0].Instance != problem.Instance || seen[0].Path != path || seen[0].Reason != proxy.Reason(c.code) || seen[0].Method != "GET" {
				t.Errorf("%s with %v: the answer says %+v and the log %+v", target, c.header, problem, seen)
			}
			if !regexp.MustCompile(`^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(problem.Instance) {
				t.Errorf("instance is %q", problem.Instance)
			}
		}
		if w := ask(t, h, http.MethodGet, target, "", fields("Sec-Fetch-Site", "same-origin")); code(w) == "wrong_host" || code(w) == "cross_site" && target != "/token?route=orders" {
			t.Errorf("%s from our own page: %d %s", target, w.Code, code(w))
		}
	}
}

func TestStatusDocument(t *testing.T) {
	w := ask(t, Handler(testOptions()), http.MethodGet, "/api/status", "", nil)
	if ct := w.Header().Get("Content-Type"); ct != "application/json" {
		t.Errorf("Content-Type is %q", ct)
	}
	var got map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	route, _ := got["routes"].([]any)[0].(map[string]any)
	issuer, _ := got["issuers"].([]any)[0].(map[string]any)
	rule, _ := got["rules"].([]any)[0].(map[string]any)
	for what, ok := range map[string]bool{
		"version":              got["version"] == "1.2.3",
		"ready":                got["ready"] == false,
		"missing":              len(got["missing"].([]any)) == 1,
		"listeners":            got["listeners"].(map[string]any)["outbound"] == "127.0.0.1:8401",
		"restart_required":     got["restart_required"].([]any)[0] == "outbound.listen",
		"routes.name":          route["name"] == "orders",
		"routes.issuer":        route["issuer"] == "idp",
		"routes.audience":      route["audience"].([]any)[0] == "https://orders",
		"routes.expires_at":    route["expires_at"] != nil,
		"routes.last_success":  route["last_success"] != nil,
		"routes.last_error":    got["routes"].([]any)[1].(map[string]any)["last_error"] == "invalid_target: the server does not know the audience",
		"routes without token": got["routes"].([]any)[1].(map[string]any)["expires_at"] == nil,
		"issuers.url":          issuer["url"] == "https://idp.test",
		"issuers.keys":         issuer["keys"] == 4.0,
		"issuers.last_refresh": issuer["last_refresh"] != nil,
		"rules.match":          rule["match"].([]any)[0] == "GET /orders/{id}",
		"traffic":              len(got["traffic"].(map[string]any)["inbound"].([]any)) == 0,
		"refusals":             len(got["refusals"].([]any)) == 0,
	} {
		if !ok {
			t.Errorf("%s is wrong in %s", what, w.Body)
		}
	}
	// A sidecar that has nothing says so with empty lists.
	o := testOptions()
	o.Status = func() Status { return Status{Rules: []RuleStatus{{Name: "x"}}} }
	if body := ask(t, Handler(o), http.MethodGet, "/api/status", "", nil).Body.String(); strings.Contains(body, "null") || !strings.Contains(body, `"restart_required": []`) {
		t.Errorf("an empty status is %s", body)
	}
}

func TestConfigDocument(t *testing.T) {
	w := ask(t, Handler(testOptions()), http.MethodGet, "/api/config", "", nil)
	if w.Code != 200 || w.Header().Get("Content-Type") != "application/json" || !strings.Contains(w.Body.String(), `"url": "https://idp.test/?a=1&b=<2>"`) {
		t.Errorf("%d %q %s", w.Code, w.Header().Get("Content-Type"), w.Body)
	}
	o := testOptions()
	o.Config = func() json.RawMessage { return json.RawMessage(`{"half":`) }
	if w := ask(t, Handler(o), http.MethodGet, "/api/config", "", nil); w.Code != 500 || strings.Contains(w.Body.String(), "half") {
		t.Errorf("a document that is none: %d %s", w.Code, w.Body)
	}
}

func TestLogLevel(t *testing.T) {
	asJSON := fields("Content-Type", "application/json")
	for name, c := range map[string]struct {
		method, target, body string
		header               http.Header
		status               int
		level                string
	}{
		"shown":             {"GET", "/log/level", "", nil, 200, "info"},
		"debug":             {"PUT", "/log/level", `{"level":"debug"}`, asJSON, 200, "debug"},
		"error":             {"PUT", "/log/level", `{"level":"error"}`, fields("Content-Type", "application/json; charset=utf-8"), 200, "error"},
		"from our own page": {"PUT", "/log/level", `{"level":"warn"}`, fields("Content-Type", "application/json", "Origin", "http://localhost:8404"), 200, "warn"},
		"from another page": {"PUT", "/log/level", `{"level":"warn"}`, fields("Content-Type", "application/json", "Origin", "https://evil.test"), 403, "info"},
		"a form":            {"PUT", "/log/level", "level=debug", fields("Content-Type", "application/x-www-form-urlencoded"), 400, "info"},
		"as curl sends it":  {"PUT", "/log/level", `{"level":"debug"}`, fields("Content-Type", "application/x-www-form-urlencoded"), 200, "debug"},
		"no type":           {"PUT", "/log/level", `{"level":"debug"}`, nil, 200, "debug"},
		"upper case":        {"PUT", "/log/level", `{"level":"WARN"}`, asJSON, 200, "warn"},
		"in the query":      {"PUT", "/log/level?level=debug", "", asJSON, 400, "info"},
		"posted":            {"POST", "/log/level", `{"level":"debug"}`, asJSON, 405, "info"},
		"no such level":     {"PUT", "/log/level", `{"level":"loud"}`, asJSON, 400, "info"},
		"silence":           {"PUT", "/log/level", `{"level":"fatal"}`, asJSON, 400, "info"},
		"no level":          {"PUT", "/log/level", `{}`, asJSON, 400, "info"},
		"not JSON":          {"PUT", "/log/level", `debug`, asJSON, 400, "info"},
		"two documents":     {"PUT", "/log/level", `{"level":"debug"}{"level":"debug"}`, asJSON, 400, "info"},
		"too much":          {"PUT", "/log/level", `{"level":"debug"}` + strings.Repeat(" ", 2000), asJSON, 400, "info"},
	} {
		t.Run(name, func(t *testing.T) {
			o := testOptions()
			w := ask(t, Handler(o), c.method, c.target, c.body, c.header)
			if w.Code != c.status || o.Level.String() != c.level {
				t.Errorf("%d, level %s; want %d, level %s", w.Code, o.Level, c.status, c.level)
			}
			if c.status == 200 && strings.Join(strings.Fields(w.Body.String()), "") != `{"level":"`+c.level+`"}` {
				t.Errorf("the answer is %s", w.Body)
			}
			if c.status == 400 && code(w) != "malformed_request" {
				t.Errorf("code is %q", code(w))
			}
		})
	}
}
