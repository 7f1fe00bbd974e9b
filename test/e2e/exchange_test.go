package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/sidepass/sidepass/test/issuer"
)

// exchanging makes an issuer exchange subject tokens (RFC 8693) or assertions (RFC 7523): the new token is for
// "exchanged:" and the subject. A subject named mallory is refused, one named challenged with a claims challenge.
func exchanging(iss *issuer.Server) {
	iss.SetResponse(issuer.Token, func(w http.ResponseWriter, r *http.Request) bool {
		subject := r.PostForm.Get("subject_token") + r.PostForm.Get("assertion")
		if subject == "" {
			return false
		}
		w.Header().Set("Content-Type", "application/json")
		switch who := claimOf(subject, "sub"); who {
		case "mallory":
			w.WriteHeader(400)
			_, _ = w.Write([]byte(`{"error":"invalid_grant","error_description":"this user is gone"}`))
		case "challenged":
			w.WriteHeader(400)
			_, _ = w.Write([]byte(`{"error":"interaction_required","claims":"{\"access_token\":{\"acrs\":{\"essential\":true,\"value\":\"c1\"}}}"}`))
		default:
			_ = json.NewEncoder(w).Encode(map[string]any{"access_token": mint(iss, map[string]any{"sub": "exchanged:" + who}), "token_type": "Bearer",
				"expires_in": 300, "issued_token_type": "urn:ietf:params:oauth:token-type:access_token"})
		}
		return true
	})
}

// claimOf reads a claim of a JWT without verifying anything.
func claimOf(token, name string) string {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return ""
	}
	text, _ := base64.RawURLEncoding.DecodeString(parts[1])
	var claims map[string]any
	_ = json.Unmarshal(text, &claims)
	s, _ := claims[name].(string)
	return s
}

func TestTokenExchange(t *testing.T) {
	iss, up := startIssuer(t), startUpstream(t)
	exchanging(iss)
	route := func(name, grant, more string) string {
		return fmt.Sprintf(`name: %[1]s, host: %[1]s.internal, upstream: %[2]q, audience: ["https://orders"], grant: %[3]s%[4]s`, name, up.URL(), grant, more)
	}
	s := start(t, outboundYAML(iss, "", route("exchange", "token_exchange", ""), route("behalf", "on_behalf_of", ""), route("fallback", "token_exchange", ", fallback: client_credentials")))
	client := s.proxied()
	as := func(who string) []string {
		return []string{"Authorization", "Bearer " + mint(iss, map[string]any{"sub": who})}
	}
	sent := func() string {
		seen, _ := up.Last()
		return claimOf(strings.TrimPrefix(seen.Header.Get("Authorization"), "Bearer "), "sub")
	}
	before := len(iss.TokenCalls()) // the fallback's own token was prefetched, an exchange has nothing to prefetch

	t.Run("each caller's token becomes one of its own, once", func(t *testing.T) {
		alice := as("alice")
		for range 5 {
			want(t, get(t, client, "http://exchange.internal/", alice...), 200, "")
			if who := sent(); who != "exchanged:alice" {
				t.Fatalf("the upstream saw %s", who)
			}
		}
		calls := iss.TokenCalls()[before:]
		if len(calls) != 1 || calls[0].Form.Get("grant_type") != "urn:ietf:params:oauth:grant-type:token-exchange" || calls[0].Form.Get("audience") != "https://orders" {
			t.Errorf("%d token requests: %v", len(calls), calls)
		}
		want(t, get(t, client, "http://behalf.internal/", as("bob")...), 200, "")
		if who := sent(); who != "exchanged:bob" {
			t.Errorf("the upstream saw %s", who)
		}
		if call := iss.TokenCalls(); call[len(call)-1].Form.Get("requested_token_use") != "on_behalf_of" {
			t.Errorf("the form was %v", call[len(call)-1].Form)
		}
	})
	t.Run("no caller's token", func(t *testing.T) {
		seen := up.Count()
		want(t, get(t, client, "http://exchange.internal/"), 401, "no_subject_token")
		if up.Count() != seen {
			t.Error("the upstream saw the request")
		}
		want(t, get(t, client, "http://fallback.internal/"), 200, "")
		if who := sent(); who != "svc" {
			t.Errorf("the fallback is our own token, not %s", who)
		}
	})
	t.Run("a refused caller never falls back", func(t *testing.T) {
		seen := up.Count()
		want(t, get(t, client, "http://fallback.internal/", as("mallory")...), 401, "subject_refused")
		a := get(t, client, "http://behalf.internal/", as("challenged")...)
		want(t, a, 401, "subject_refused")
		if !strings.Contains(a.body, "acrs") {
			t.Errorf("the challenge is not in the body: %s", a.body)
		}
		if up.Count() != seen {
			t.Error("the upstream saw the request")
		}
		want(t, get(t, client, "http://fallback.internal/", as("carol")...), 200, "") // and nobody else is held up
	})
	t.Run("callers never see each other's token", func(t *testing.T) {
		var wg sync.WaitGroup
		up.Handle(nil)
		for n := range 8 {
			wg.Go(func() {
				who := fmt.Sprint("user-", n)
				header := as(who)
				for range 20 {
					a, err := try(client, "GET", "http://exchange.internal/", nil, header...)
					if err != nil || a.status != 200 {
						t.Errorf("%d %v", a.status, err)
						return
					}
					var echo struct{ Header http.Header }
					_ = json.Unmarshal([]byte(a.body), &echo)
					if got := claimOf(strings.TrimPrefix(echo.Header.Get("Authorization"), "Bearer "), "sub"); got != "exchanged:"+who {
						t.Errorf("%s's request went out as %s", who, got)
					}
				}
			})
		}
		wg.Wait()
	})
	for _, call := range iss.TokenCalls() {
		if subject := call.Form.Get("subject_token"); len(subject) > 40 && strings.Contains(s.log.String(), subject[len(subject)-40:]) {
			t.Fatal("a subject token is in the log")
		}
	}
}

// The hourly cap slows refreshes and then refuses, and says which setting it is.
func TestHourlyCap(t *testing.T) {
	iss, up := startIssuer(t), startUpstream(t)
	s := start(t, outboundYAML(iss, "", ordersRoute(up.URL()), fmt.Sprintf(`name: two, host: two.internal, upstream: %q, audience: ["https://two"]`, up.URL()),
		fmt.Sprintf(`name: three, host: three.internal, upstream: %q, audience: ["https://three"]`, up.URL()))+"tokens: {prefetch: false, max_requests_per_hour: 2}\n")
	client := s.proxied()
	want(t, get(t, client, "http://orders.internal/"), 200, "")
	want(t, get(t, client, "http://two.internal/"), 200, "")
	a := get(t, client, "http://three.internal/")
	want(t, a, 503, "token_unavailable")
	if !strings.Contains(a.body, "max_requests_per_hour") {
		t.Errorf("the answer does not name the cap: %s", a.body)
	}
	want(t, get(t, client, "http://orders.internal/"), 200, "") // what is cached goes on
	if n := len(iss.TokenCalls()); n != 2 {
		t.Errorf("%d token requests, want 2", n)
	}
}
