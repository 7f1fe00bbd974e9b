package admin

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestPage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // so that ages are exact
		w := ask(t, Handler(testOptions()), http.MethodGet, "/", "", nil)
		if ct := w.Header().Get("Content-Type"); ct != "text/html; charset=utf-8" {
			t.Errorf("Content-Type is %q", ct)
		}
		page := w.Body.String()
		for _, part := range []string{
			"<!doctype html>", "1.2.3", "Not ready", "keys of issuer partner", "up 1h0m0s", "outbound.listen, engine",
			"<td>outbound</td><td>127.0.0.1:8401</td>",
			"https://orders", "in 5m0s", "2m0s ago", "no token", "invalid_target: the server does not know the audience", "expired 1999-12-31 23:59:00Z",
			"<td>https://idp.test</td><td>4</td>", "30s ago", "no route to host",
			"GET /orders/{id}", "scopes: read:orders", "enforce",
			"prefers-color-scheme: dark",
		} {
			if !strings.Contains(page, part) {
				t.Errorf("the page lacks %q", part)
			}
		}
		if strings.Contains(page, "ZgotmplZ") {
			t.Error("the template refused a value")
		}
	})
}

func TestPageOfAReadySidecar(t *testing.T) {
	o := testOptions()
	o.Status = func() Status { return Status{Version: "1.2.3", Ready: true} }
	page := ask(t, Handler(o), http.MethodGet, "/", "", nil).Body.String()
	if !strings.Contains(page, "Ready") || strings.Contains(page, "Not ready") || strings.Contains(page, "Waits for a restart") || strings.Contains(page, "Routes") {
		t.Error(page)
	}
}

// The page asks for nothing else, runs nothing, and its style is let through by the policy that comes with it.
func TestPageStandsAlone(t *testing.T) {
	h := Handler(testOptions())
	w := ask(t, h, http.MethodGet, "/", "", nil)
	page := w.Body.String()
	for _, no := range []string{"<script", "<link", "<img", "<iframe", "<form", "src=", "url(", "@import", " style=", " onload", "http-equiv"} {
		if strings.Contains(page, no) {
			t.Errorf("the page has %q", no)
		}
	}
	nonce := regexp.MustCompile(`<style nonce="([A-Z2-7]{26})">`).FindStringSubmatch(page)
	if nonce == nil {
		t.Fatal("the style has no nonce")
	}
	if csp := w.Header().Get("Content-Security-Policy"); !strings.Contains(csp, "style-src 'nonce-"+nonce[1]+"'") {
		t.Errorf("Content-Security-Policy is %q, and the nonce %q", csp, nonce[1])
	}
	if strings.Contains(ask(t, h, http.MethodGet, "/", "", nil).Body.String(), nonce[1]) {
		t.Error("the nonce is not new for each page")
	}
}

// Whatever a configuration or an authorization server has put into a name, it is text.
func TestPageEscapes(t *testing.T) {
	hostile := `</style></td><script>alert("x")</script><img src=x onerror='y'>{{.Version}}`
	o := testOptions()
	o.Status = func() Status {
		l := []string{hostile}
		return Status{
			Version: hostile, Commit: hostile, Missing: l, RestartRequired: l, Listeners: map[string]string{hostile: hostile},
			Routes:  []RouteStatus{{Name: hostile, Issuer: hostile, Grant: hostile, Audience: l, Scopes: l, LastError: hostile}},
			Issuers: []IssuerStatus{{Name: hostile, URL: "javascript:alert(1)", LastRefresh: time.Now(), LastError: hostile}},
			Rules:   []RuleStatus{{Name: hostile, Match: l, Needs: l, Mode: hostile}},
		}
	}
	page := ask(t, Handler(o), http.MethodGet, "/", "", nil).Body.String()
	for _, no := range []string{"<script", "<img", hostile, `href="javascript`} {
		if strings.Contains(page, no) {
			t.Errorf("the page has %q", no)
		}
	}
	if n := strings.Count(page, "&lt;script&gt;alert(&#34;x&#34;)&lt;/script&gt;"); n != 16 {
		t.Errorf("the name is on the page %d times as text, want 16", n)
	}
}
