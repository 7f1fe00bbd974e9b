package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sidepass/sidepass/proxy"
)

const canary = "canary-token-7f3a"

// tokens has a token for the route orders, and a failure of each kind for other names.
func tokens(calls *int) func(context.Context, string) (TokenAnswer, error) {
	return func(ctx context.Context, route string) (TokenAnswer, error) {
		*calls++
		switch route {
		case "orders":
			return TokenAnswer{AccessToken: func() string { return canary }, Type: "Bearer", ExpiresAt: time.Now().Add(90*time.Second + 999*time.Millisecond), Scope: "read:orders"}, ctx.Err()
		case "bare":
			return TokenAnswer{AccessToken: func() string { return canary }, Type: "DPoP"}, nil
		case "late":
			return TokenAnswer{AccessToken: func() string { return canary }, Type: "Bearer", ExpiresAt: time.Now().Add(-time.Second)}, nil
		case "refused":
			return TokenAnswer{}, fmt.Errorf("route refused: %w", &TokenError{Reason: proxy.TokenRefused, Detail: `The server said "invalid_target" \ no.` + "\n"})
		case "down":
			return TokenAnswer{}, &TokenError{Reason: proxy.TokenUnavailable, RetryAfter: 2500 * time.Millisecond}
		case "exchange":
			return TokenAnswer{}, &TokenError{Reason: proxy.NoSubjectToken}
		case "broken":
			return TokenAnswer{}, errors.New(canary)
		}
		return TokenAnswer{}, &TokenError{Reason: proxy.NoRoute}
	}
}

var (
	asked  = fields("Sidepass-Token-API", "1")
	posted = fields("Content-Type", "application/x-www-form-urlencoded")
)

const form = "grant_type=client_credentials"

// with is a header with more fields.
func with(h http.Header, pairs ...string) http.Header {
	out := maps.Clone(h)
	maps.Copy(out, fields(pairs...))
	return out
}

func TestTokenAPIAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		method, target, body string
		header               http.Header
		want                 string
	}{
		"GET":                     {"GET", "/token?route=orders", "", asked, `{"access_token":"canary-token-7f3a","token_type":"Bearer","expires_in":90,"scope":"read:orders"}`},
		"POST":                    {"POST", "/token?route=orders", form, posted, `{"access_token":"canary-token-7f3a","token_type":"Bearer","expires_in":90,"scope":"read:orders"}`},
		"POST, as libraries do":   {"POST", "/token?route=orders", form + "&client_id=x&client_secret=y&scope=write&audience=z", with(posted, "Authorization", "Basic eDp5"), `{"access_token":"canary-token-7f3a","token_type":"Bearer","expires_in":90,"scope":"read:orders"}`},
		"POST, with a charset":    {"POST", "/token?route=orders", form, fields("Content-Type", "application/x-www-form-urlencoded;charset=UTF-8"), `{"access_token":"canary-token-7f3a","token_type":"Bearer","expires_in":90,"scope":"read:orders"}`},
		"no expiry, no scope":     {"GET", "/token?route=bare", "", asked, `{"access_token":"canary-token-7f3a","token_type":"DPoP"}`},
		"expired in this second":  {"GET", "/token?route=late", "", asked, `{"access_token":"canary-token-7f3a","token_type":"Bearer","expires_in":0}`},
		"Host: localhost":         {"GET", "/token?route=orders", "", with(asked, "Host", "localhost"), `{"access_token":"canary-token-7f3a","token_type":"Bearer","expires_in":90,"scope":"read:orders"}`},
		"Host: [::1]:8404":        {"GET", "/token?route=orders", "", with(asked, "Host", "[::1]:8404"), `{"access_token":"canary-token-7f3a","token_type":"Bearer","expires_in":90,"scope":"read:orders"}`},
		"another query parameter": {"GET", "/token?x=y&route=orders", "", asked, `{"access_token":"canary-token-7f3a","token_type":"Bearer","expires_in":90,"scope":"read:orders"}`},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o, calls := testOptions(), 0
				o.Token = tokens(&calls)
				o.Observer = &Observer{Refused: func(r Refused) { t.Errorf("refused: %+v", r) }}
				w := ask(t, Handler(o), c.method, c.target, c.body, c.header)
				if got := strings.Join(strings.Fields(w.Body.String()), ""); w.Code != 200 || got != c.want || calls != 1 {
					t.Errorf("%d %s after %d calls, want %s", w.Code, got, calls, c.want)
				}
				for field, want := range map[string]string{"Content-Type": "application/json", "Cache-Control": "no-store", "Pragma": "no-cache", "Proxy-Status": ""} {
					if got := w.Header().Get(field); got != want {
						t.Errorf("%s is %q, want %q", field, got, want)
					}
				}
			})
		})
	}
}

func TestTokenAPIRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		method, target, body string
		header               http.Header
		status               int
		code, oauth          string // oauth: the error member, of POST only
		calls                int
	}{
		"GET without the header":       {"GET", "/token?route=orders", "", nil, 403, "cross_site", "", 0},
		"GET, header 0":                {"GET", "/token?route=orders", "", fields("Sidepass-Token-API", "0"), 403, "cross_site", "", 0},
		"GET, header empty":            {"GET", "/token?route=orders", "", fields("Sidepass-Token-API", ""), 403, "cross_site", "", 0},
		"GET, header twice":            {"GET", "/token?route=orders", "", fields("Sidepass-Token-API", "1", "Sidepass-Token-API", "1"), 403, "cross_site", "", 0},
		"GET, header in the query":     {"GET", "/token?route=orders&Sidepass-Token-API=1", "", nil, 403, "cross_site", "", 0},
		"GET, Origin of our own":       {"GET", "/token?route=orders", "", with(asked, "Origin", "http://localhost:8404"), 403, "cross_site", "", 0},
		"GET, Origin null":             {"GET", "/token?route=orders", "", with(asked, "Origin", "null"), 403, "cross_site", "", 0},
		"GET, Sec-Fetch-Site none":     {"GET", "/token?route=orders", "", with(asked, "Sec-Fetch-Site", "none"), 403, "cross_site", "", 0},
		"GET, Sec-Fetch-Site ours":     {"GET", "/token?route=orders", "", with(asked, "Sec-Fetch-Site", "same-origin"), 403, "cross_site", "", 0},
		"GET, another Host":            {"GET", "/token?route=orders", "", with(asked, "Host", "evil.test"), 421, "wrong_host", "", 0},
		"GET, a lookalike Host":        {"GET", "/token?route=orders", "", with(asked, "Host", "127.0.0.1.evil.test"), 421, "wrong_host", "", 0},
		"GET, no route":                {"GET", "/token", "", asked, 400, "malformed_request", "", 0},
		"GET, an empty route":          {"GET", "/token?route=", "", asked, 400, "malformed_request", "", 0},
		"GET, two routes":              {"GET", "/token?route=orders&route=bare", "", asked, 400, "malformed_request", "", 0},
		"GET, a bad query":             {"GET", "/token?route=orders;x", "", asked, 400, "malformed_request", "", 0},
		"GET, unknown route":           {"GET", "/token?route=nope", "", asked, 403, "no_route", "", 1},
		"GET, refused":                 {"GET", "/token?route=refused", "", asked, 502, "token_refused", "", 1},
		"GET, unavailable":             {"GET", "/token?route=down", "", asked, 503, "token_unavailable", "", 1},
		"GET, an exchange":             {"GET", "/token?route=exchange", "", asked, 401, "no_subject_token", "", 1},
		"GET, another error":           {"GET", "/token?route=broken", "", asked, 500, "internal_error", "", 1},
		"HEAD":                         {"HEAD", "/token?route=orders", "", asked, 405, "method_not_allowed", "", 0},
		"POST, Origin of our own":      {"POST", "/token?route=orders", form, with(posted, "Origin", "http://localhost:8404"), 403, "cross_site", "", 0},
		"POST, Origin null":            {"POST", "/token?route=orders", form, with(posted, "Origin", "null"), 403, "cross_site", "", 0},
		"POST, Sec-Fetch-Site none":    {"POST", "/token?route=orders", form, with(posted, "Sec-Fetch-Site", "none"), 403, "cross_site", "", 0},
		"POST, another Host":           {"POST", "/token?route=orders", form, with(posted, "Host", "evil.test:8404"), 421, "wrong_host", "", 0},
		"POST, JSON":                   {"POST", "/token?route=orders", `{"grant_type":"client_credentials"}`, fields("Content-Type", "application/json"), 400, "malformed_request", "invalid_request", 0},
		"POST, no type":                {"POST", "/token?route=orders", form, nil, 400, "malformed_request", "invalid_request", 0},
		"POST, no grant":               {"POST", "/token?route=orders", "client_id=x", posted, 400, "malformed_request", "invalid_request", 0},
		"POST, grant in the query":     {"POST", "/token?route=orders&" + form, "", posted, 400, "malformed_request", "invalid_request", 0},
		"POST, another grant":          {"POST", "/token?route=orders", "grant_type=password", posted, 400, "malformed_request", "unsupported_grant_type", 0},
		"POST, two grants":             {"POST", "/token?route=orders", form + "&" + form, posted, 400, "malformed_request", "invalid_request", 0},
		"POST, a parameter twice":      {"POST", "/token?route=orders", form + "&scope=a&scope=b", posted, 400, "malformed_request", "invalid_request", 0},
		"POST, a bad form":             {"POST", "/token?route=orders", form + "&%zz=1", posted, 400, "malformed_request", "invalid_request", 0},
		"POST, too much":               {"POST", "/token?route=orders", form + "&x=" + strings.Repeat("y", 64<<10), posted, 400, "malformed_request", "invalid_request", 0},
		"POST, no route":               {"POST", "/token", form, posted, 400, "malformed_request", "invalid_request", 0},
		"POST, route in the body":      {"POST", "/token", form + "&route=orders", posted, 400, "malformed_request", "invalid_request", 0},
		"POST, unknown route":          {"POST", "/token?route=nope", form, posted, 400, "no_route", "invalid_request", 1},
		"POST, refused":                {"POST", "/token?route=refused", form, posted, 502, "token_refused", "server_error", 1},
		"POST, unavailable":            {"POST", "/token?route=down", form, posted, 503, "token_unavailable", "temporarily_unavailable", 1},
		"POST, an exchange":            {"POST", "/token?route=exchange", form, posted, 400, "no_subject_token", "invalid_request", 1},
		"POST, another error":          {"POST", "/token?route=broken", form, posted, 500, "internal_error", "server_error", 1},
		"PUT":                          {"PUT", "/token?route=orders", form, posted, 405, "method_not_allowed", "", 0},
		"OPTIONS, a browser's enquiry": {"OPTIONS", "/token?route=orders", "", fields("Origin", "https://evil.test"), 403, "cross_site", "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			o, calls := testOptions(), 0
			o.Token = tokens(&calls)
			var seen []Refused
			o.Observer = &Observer{Refused: func(r Refused) { seen = append(seen, r) }}
			w := ask(t, Handler(o), c.method, c.target, c.body, c.header)
			if w.Code != c.status || code(w) != c.code || calls != c.calls {
				t.Errorf("%d %q after %d calls, want %d %q after %d", w.Code, code(w), calls, c.status, c.code, c.calls)
			}
			var body map[string]any
			if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
				t.Fatal(err)
			}
			media, oauth := "application/problem+json", any(nil)
			if c.oauth != "" {
				media, oauth = "application/json", c.oauth
				if d, _ := body["error_description"].(string); d == "" || strings.ContainsAny(d, "\"\\\n") {
					t.Errorf("error_description is %q", d)
				}
				if w.Header().Get("Www-Authenticate") != "" {
					t.Error("a 400 has a challenge")
				}
			}
			if body["error"] != oauth || body["code"] != c.code || body["status"] != float64(c.status) || w.Header().Get("Content-Type") != media {
				t.Errorf("%s: %v", w.Header().Get("Content-Type"), body)
			}
			if len(seen) != 1 || seen[0].Instance != body["instance"] || string(seen[0].Reason) != c.code {
				t.Errorf("the observer saw %+v", seen)
			}
			if all := w.Body.String() + fmt.Sprint(w.Header(), seen); strings.Contains(all, canary) || strings.Contains(all, "access_token") {
				t.Error("the token, or an error's text, is in the answer")
			}
			if w.Code == 503 && w.Header().Get("Retry-After") != "3" {
				t.Errorf("Retry-After is %q, want 3", w.Header().Get("Retry-After"))
			}
			if w.Header().Get("Cache-Control") != "no-store" {
				t.Errorf("Cache-Control is %q", w.Header().Get("Cache-Control"))
			}
		})
	}
}

// A token that somebody prints by mistake stays unknown.
func TestTokenAnswerPrintsNoToken(t *testing.T) {
	calls := 0
	a, _ := tokens(&calls)(t.Context(), "orders")
	if s := fmt.Sprintf("%v %+v %#v", a, a, a); strings.Contains(s, canary) {
		t.Error(s)
	}
	if a.AccessToken() != canary {
		t.Error("the token cannot be had at all")
	}
}

func TestTokenErrorNamesItsReason(t *testing.T) {
	if s := (&TokenError{Reason: proxy.TokenRefused, Detail: "why"}).Error(); s != "token_refused: why" {
		t.Error(s)
	}
	if s := (&TokenError{Reason: proxy.TokenUnavailable}).Error(); s != "token_unavailable" {
		t.Error(s)
	}
}
