package admin

import (
	"encoding/json"
	"html"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode"
)

// read is the page as a reader sees it, on one line.
func read(page string) string {
	_, body, _ := strings.Cut(page, "<body>")
	body, _, _ = strings.Cut(body, "<script")
	body = strings.ReplaceAll(strings.ReplaceAll(body, "<b>", ""), "</b>", "")
	text := html.UnescapeString(regexp.MustCompile(`<[^>]*>`).ReplaceAllString(body, " "))
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == '\n' }), " ")
}

func TestPage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // so that ages are exact
		o := testOptions()
		o.Config = func() json.RawMessage {
			return json.RawMessage(`[{"path":"issuers[0].url","value":"https://idp.test","origin":"file sidepass.yaml:2"},{"path":"inbound.mode","value":"enforce","origin":"default"},{"path":"x","value":["a","b"],"origin":"SIDEPASS_X"}]`)
		}
		o.Status = func() Status {
			s := testStatus()
			s.Traffic.Inbound = []InboundTraffic{
				{"read", "allow", "ok", minutes(7, 1200)}, {"read", "deny", "expired", minutes(0, 3)}, {"read", "would_deny", "wrong_audience", minutes(3, 1)}, {"unmatched", "deny", "no_rule", minutes(0, 2)},
			}
			s.Traffic.Outbound = []OutboundTraffic{{"orders", "ok", "2xx", minutes(0, 9)}, {"orders", "ok", "5xx", minutes(0, 1)}, {"orders", "token_refused", "5xx", minutes(0, 4)}, {"connect", "connect_denied", "4xx", minutes(0, 5)}}
			s.Refusals = []Refusal{{
				Time: time.Now(), Instance: "urn:uuid:1", Direction: "inbound", Decision: "deny", Reason: "wrong_audience", Detail: "The token is for another audience.", Status: 401,
				Rule: "read", Issuer: "idp", Client: "shop", Method: "GET", Host: "app", Path: "/orders/1", Remote: "10.0.0.9:1",
				Steps: []RefusalStep{{Name: "rule", Required: "rule read"}, {Name: "audience", Said: "https://billing", Required: "https://orders", Problem: "No."}},
			}}
			return s
		}
		w := ask(t, Handler(o), http.MethodGet, "/", "", nil)
		if ct := w.Header().Get("Content-Type"); ct != "text/html; charset=utf-8" {
			t.Errorf("Content-Type is %q", ct)
		}
		page, text := w.Body.String(), read(w.Body.String())
		for _, part := range []string{
			"sidepass 1.2.3", "Not ready – keys of issuer partner", "up 1 h", "Waits for a restart: outbound.listen, engine",
			"outbound 127.0.0.1:8401",
			"Outbound last hour Requests 19 Passed 9 Warnings 1 Refused 9", "Inbound last hour Requests 1\u202f216 Passed 1\u202f207 Warnings 4 Refused 5",
			"Token is 2 min old, refreshes in 3 min, expires in 5 min", "Obtained 3 From the cache 12\u202f345 Requests saved 12\u202f342", "Scopes read:orders",
			"No token yet Last error: invalid_target: the server does not know the audience", "Token expired 1 min ago",
			"answered 2xx ok 9", "answered 5xx ok 1", "refused token_refused 4", "connect requests without a route's token", "refused connect_denied 5",
			"GET /orders/{id}", "scopes: read:orders", "allowed ok 1\u202f207", "refused expired 3", "let through wrong_audience 4", "unmatched requests that no rule matches",
			"Usable keys 4 Loaded 30 s ago Next refresh in 15 min Keys: k1 RS256", "Last error: no route to host Usable keys 0 Loaded never",
			"00:00:00 inbound wrong_audience GET /orders/1", "Instance urn:uuid:1", "audience failed https://billing https://orders", "Caller 10.0.0.9:1",
			"issuers[0].url https://idp.test file sidepass.yaml:2", "x a, b SIDEPASS_X", "inbound.mode enforce",
		} {
			if !strings.Contains(text, part) {
				t.Errorf("the page lacks %q", part)
			}
		}
		for _, part := range []string{
			"prefers-color-scheme: dark", "prefers-reduced-motion", `aria-label="Requests a minute over the last hour: 1207 passed, 4 with a warning, 3 refused; at most 1204 in a minute."`,
			`<rect class="left" width="71.4"`, `<rect class="mark" x="28.6"`, `role="status"`, `<main id="main"`, `<th scope="col">Key</th>`,
		} {
			if !strings.Contains(page, part) {
				t.Errorf("the page lacks %q", part)
			}
		}
		if strings.Contains(page, "ZgotmplZ") {
			t.Error("the template refused a value")
		}
		if t.Failed() {
			t.Log(text)
		}
	})
}

// minutes is a series with so many requests an hour ago and now.
func minutes(then, now uint64) Series {
	s := Series{Hour: then + now, Minutes: make([]uint64, Minutes)}
	s.Minutes[0], s.Minutes[Minutes-1] = then, now
	return s
}

func TestPageOfAReadySidecar(t *testing.T) {
	o := testOptions()
	o.Status = func() Status { return Status{Version: "1.2.3", Ready: true} }
	text := read(ask(t, Handler(o), http.MethodGet, "/", "", nil).Body.String())
	if !strings.Contains(text, "Ready") || strings.Contains(text, "Not ready") || strings.Contains(text, "Waits for a restart") || strings.Contains(text, "Routes") || !strings.Contains(text, "None since the start.") {
		t.Error(text)
	}
}

// An outage of an issuer does not make the sidecar less ready, and the page says it all the same.
func TestProblems(t *testing.T) {
	later, ago := time.Now().Add(time.Minute), time.Now().Add(-time.Minute)
	ok := RouteStatus{Name: "ok", Grant: "client_credentials", ExpiresAt: later}
	for name, c := range map[string]struct {
		status Status
		want   string
	}{
		"none":              {Status{Ready: true, Routes: []RouteStatus{ok, {Name: "idle", ExpiresAt: ago}}, Issuers: []IssuerStatus{{Name: "idp"}, {Name: "keys", Trusted: true, Keys: 1}}}, "Ready up"},
		"no token":          {Status{Ready: true, Routes: []RouteStatus{ok, {Name: "x", Grant: "client_credentials", LastError: "e"}}}, "Ready, with problems – no token for route x up"},
		"expired":           {Status{Ready: true, Routes: []RouteStatus{{Name: "x", Grant: "client_credentials", LastError: "e", ExpiresAt: ago}}}, "Ready, with problems – no token for route x up"},
		"not refreshed":     {Status{Ready: true, Routes: []RouteStatus{{Name: "x", LastError: "e", ExpiresAt: later}}}, "Ready, with problems – the token of route x could not be refreshed up"},
		"exchange":          {Status{Ready: true, Routes: []RouteStatus{{Name: "x", Grant: "token_exchange", LastError: "e"}}}, "Ready, with problems – the last token for route x was not to be had up"},
		"no keys":           {Status{Ready: true, Issuers: []IssuerStatus{{Name: "x", Trusted: true, LastError: "e"}}}, "Ready, with problems – no usable keys of issuer x up"},
		"no keys to have":   {Status{Ready: true, Issuers: []IssuerStatus{{Name: "x", Trusted: true, Introspected: true}}}, "Ready up"},
		"old keys":          {Status{Ready: true, Issuers: []IssuerStatus{{Name: "x", Trusted: true, Keys: 1, LastError: "e"}}}, "Ready, with problems – the keys of issuer x could not be refreshed up"},
		"many":              {Status{Ready: true, Issuers: slices.Repeat([]IssuerStatus{{Name: "x", Trusted: true}}, 9)}, "issuer x; 4 more up"},
		"not ready is more": {Status{Missing: []string{"this"}, Issuers: []IssuerStatus{{Name: "x", Trusted: true}}}, "Not ready – this up"},
	} {
		o := testOptions()
		c.status.Started, c.status.Outbound = ago, true
		o.Status = func() Status { return c.status }
		if text := read(ask(t, Handler(o), http.MethodGet, "/", "", nil).Body.String()); !strings.Contains(text, c.want) {
			t.Errorf("%s: the page lacks %q: %s", name, c.want, text)
		}
	}
}

func TestSharedCacheOnThePage(t *testing.T) {
	for _, c := range []struct {
		shared *SharedStatus
		want   string
	}{
		{&SharedStatus{Up: true}, "Tokens are shared with other replicas"},
		{&SharedStatus{LastError: "it refuses the password"}, "Tokens are not shared with other replicas: it refuses the password"},
		{nil, ""},
	} {
		o := testOptions()
		o.Status = func() Status { return Status{Shared: c.shared} }
		text := read(ask(t, Handler(o), http.MethodGet, "/", "", nil).Body.String())
		if !strings.Contains(text, c.want) || c.shared == nil && strings.Contains(text, "replicas") {
			t.Errorf("%+v: %q", c.shared, text)
		}
	}
}

func TestLife(t *testing.T) {
	now := time.Now()
	in := func(d time.Duration) time.Time { return now.Add(d) }
	for name, c := range map[string]struct {
		route RouteStatus
		want  life
	}{
		"no token":       {RouteStatus{}, life{State: "none"}},
		"half-way":       {RouteStatus{ObtainedAt: in(-time.Minute), RefreshAt: in(36 * time.Second), ExpiresAt: in(time.Minute)}, life{"fresh", "50.0", "20.0", true}},
		"due":            {RouteStatus{ObtainedAt: in(-time.Minute), RefreshAt: in(-time.Second), ExpiresAt: in(time.Minute)}, life{"due", "50.0", "50.8", true}},
		"expired":        {RouteStatus{ObtainedAt: in(-time.Minute), RefreshAt: in(-2 * time.Second), ExpiresAt: in(-time.Second)}, life{"expired", "0.0", "1.7", true}},
		"without origin": {RouteStatus{ExpiresAt: in(time.Minute)}, life{"fresh", "100.0", "", true}},
	} {
		if got := lifeOf(c.route, now); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

func TestSpan(t *testing.T) {
	now := time.Now()
	for d, want := range map[time.Duration]string{
		0: "0 s", 400 * time.Millisecond: "0 s", 59 * time.Second: "59 s", time.Minute: "1 min", 61 * time.Second: "1 min 1 s", -61 * time.Second: "1 min 1 s",
		time.Hour: "1 h", 90 * time.Minute: "1 h 30 min", 49 * time.Hour: "2 d 1 h", 48*time.Hour + time.Minute: "2 d",
	} {
		if got := span(now, now.Add(d)); got != want {
			t.Errorf("%s is %q, want %q", d, got, want)
		}
	}
}

// The page asks for nothing else but its events, and what it runs is let through by the policy that comes with it, by a nonce.
func TestPageStandsAlone(t *testing.T) {
	o := testOptions()
	o.Events = NewEvents()
	h := Handler(o)
	w := ask(t, h, http.MethodGet, "/", "", nil)
	page := w.Body.String()
	for _, no := range []string{"<link", "<img", "<iframe", "<form", "src=", "url(", "@import", " style=", " on", "http-equiv", "innerHTML"} {
		if _, body, _ := strings.Cut(page, "<body>"); strings.Contains(strings.Split(body, "<script")[0], no) && no != " on" || no == " on" && regexp.MustCompile(`<[^>]* on[a-z]+=`).MatchString(page) {
			t.Errorf("the page has %q", no)
		}
	}
	nonces := regexp.MustCompile(`<(?:style|script) nonce="([A-Z2-7]{26})">`).FindAllStringSubmatch(page, -1)
	if len(nonces) != 2 || nonces[0][1] != nonces[1][1] || strings.Count(page, "<script") != 1 || strings.Count(page, "<style") != 1 {
		t.Fatalf("style and script have the nonces %q", nonces)
	}
	want := "default-src 'none'; style-src 'nonce-N'; script-src 'nonce-N'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	if csp := w.Header().Get("Content-Security-Policy"); csp != strings.ReplaceAll(want, "N'", nonces[0][1]+"'") {
		t.Errorf("Content-Security-Policy is %q, and the nonce %q", csp, nonces[0][1])
	}
	if strings.Contains(ask(t, h, http.MethodGet, "/", "", nil).Body.String(), nonces[0][1]) {
		t.Error("the nonce is not new for each page")
	}
	o.Events = nil
	if strings.Contains(ask(t, Handler(o), http.MethodGet, "/", "", nil).Body.String(), "<script") {
		t.Error("a page without events has a script")
	}
}

// Whatever a configuration, a caller or an authorization server has put into a text, it is shown as text, bounded and in its own order.
func TestPageEscapes(t *testing.T) {
	hostile := "</style></td><script>alert(\"x\")</script><img src=x onerror='y'>{{.Version}}\u202eevil\u2066\x1b[31m\x00\xff\r\ndata: forged" + strings.Repeat("A", 10<<10)
	o := testOptions()
	o.Events = NewEvents()
	o.Config = func() json.RawMessage {
		b, _ := json.Marshal([]Setting{{hostile, hostile, hostile}, {hostile, []string{hostile}, "default"}})
		return b
	}
	o.Status = func() Status {
		l := []string{hostile}
		var refused Refusals
		refused.Add(Refusal{
			Direction: "inbound", Reason: hostile, Detail: hostile, Rule: hostile, Issuer: hostile, Client: hostile, Method: hostile, Host: hostile, Path: hostile, Remote: hostile,
			Upstream: hostile, Instance: hostile, Steps: []RefusalStep{{hostile, hostile, hostile, hostile}},
		})
		return Status{
			Version: hostile, Commit: hostile, Missing: l, RestartRequired: l, Listeners: map[string]string{hostile: hostile}, Outbound: true, Inbound: true,
			Shared:   &SharedStatus{LastError: hostile},
			Routes:   []RouteStatus{{Name: hostile, Issuer: hostile, Grant: hostile, Audience: l, Scopes: l, Granted: l, LastError: hostile}},
			Issuers:  []IssuerStatus{{Name: hostile, URL: "javascript:alert(1)", Keys: 1, KeyNames: l, LastRefresh: time.Now(), LastError: hostile}},
			Rules:    []RuleStatus{{Name: hostile, Match: l, Needs: l, Mode: hostile}},
			Traffic:  Traffic{Inbound: []InboundTraffic{{hostile, hostile, hostile, minutes(1, 1)}}, Outbound: []OutboundTraffic{{hostile, hostile, hostile, minutes(1, 1)}}},
			Refusals: refused.List(),
		}
	}
	page := ask(t, Handler(o), http.MethodGet, "/", "", nil).Body.String()
	if n := strings.Count(page, "<script"); n != 1 {
		t.Errorf("the page has %d scripts, want its own", n)
	}
	for _, no := range []string{"<img", `href="javascript`, "\ndata: forged", "ZgotmplZ", strings.Repeat("A", longText)} {
		if strings.Contains(page, no) {
			t.Errorf("the page has %q", no)
		}
	}
	for _, r := range page {
		if r != '\n' && !unicode.IsPrint(r) {
			t.Fatalf("the page has the character %U", r)
		}
	}
	if n := strings.Count(page, "&lt;script&gt;alert(&#34;x&#34;)&lt;/script&gt;"); n < 40 {
		t.Errorf("the name is on the page %d times as text", n)
	}
	if len(page) > 100<<10 {
		t.Errorf("the page has %d bytes", len(page))
	}
}
