//go:build linux

package bench

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sidepass/sidepass/test/issuer"
)

// others is what the same kind of work cost others at the token endpoint, measured in November 2026 beside a toy
// authorization server, with the numbers given there; "-" was not measured.
var others = map[string][3]string{ // AuthBridge, Dapr, Couper
	"100 concurrent cold requests":          {"100", "100", "1"},
	"10,000 warm requests":                  {"1 a request", "-", "-"},
	"20 requests on a lasting 401":          {"-", "-", "40"},
	"40 waiters in an outage":               {"1 a request", "1 a request", "40, in series"},
	"20 requests, answer has no expires_in": {"1 a request", "1, kept for ever", "2 a request"},
}

// TestTokenCalls counts the requests that the authorization server gets: go test ./test/bench -run TestTokenCalls -v
func TestTokenCalls(t *testing.T) {
	binary := buildSidepass(t)
	iss, err := issuer.Start(issuer.Options{Clients: []issuer.Client{{ID: "svc", Secret: "s"}}, Algorithms: []string{"ES256"}})
	if err != nil {
		t.Fatal(err)
	}
	defer iss.Close()
	var refuse atomic.Bool
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if refuse.Load() {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	defer up.Close()
	var table strings.Builder
	fmt.Fprintf(&table, "\n%-40s %9s   %-12s %-18s %s\n", "token requests for", "sidepass", "AuthBridge", "Dapr", "Couper")
	// each case is a process of its own, so that none has what another left.
	measure := func(what string, want, requests, status int, before func(client *http.Client)) {
		t.Helper()
		s := startSidepass(t, anyCore, binary, what, fmt.Sprintf("issuers: [{url: %q, client: {id: svc, secret: s}}]\noutbound:\n  listen: \"ADDR\"\n  routes: [{name: orders, host: orders.internal, upstream: %q, audience: [\"https://orders\"]}]\ntokens: {prefetch: false}\n", iss.Issuer(), up.URL), nil)
		client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 100, Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: s.address})}}
		defer client.CloseIdleConnections()
		before(client)
		calls := len(iss.TokenCalls())
		var wg sync.WaitGroup
		turn := make(chan struct{}, 100)
		for range requests {
			turn <- struct{}{}
			wg.Go(func() {
				defer func() { <-turn }()
				if got := call(client); got != status {
					t.Errorf("%s: got %d, want %d", what, got, status)
				}
			})
		}
		wg.Wait()
		n := len(iss.TokenCalls()) - calls
		if n != want {
			t.Errorf("%s: %d token requests, want %d", what, n, want)
		}
		p := others[what]
		fmt.Fprintf(&table, "%-40s %9d   %-12s %-18s %s\n", what, n, p[0], p[1], p[2])
	}
	warm := func(client *http.Client) { call(client) }
	iss.SetLatency(issuer.Token, 100*time.Millisecond)
	measure("100 concurrent cold requests", 1, 100, 200, func(*http.Client) {})
	iss.SetLatency(issuer.Token, 0)
	measure("10,000 warm requests", 0, 10_000, 200, warm)
	measure("20 requests on a lasting 401", 1, 20, 401, func(client *http.Client) { warm(client); refuse.Store(true) })
	refuse.Store(false)
	iss.SetLatency(issuer.Token, 100*time.Millisecond)
	iss.SetResponse(issuer.Token, issuer.Respond(http.StatusServiceUnavailable, `{}`))
	measure("40 waiters in an outage", 1, 40, 503, func(*http.Client) {})
	iss.SetLatency(issuer.Token, 0)
	token := iss.Mint(map[string]any{"aud": "https://orders"})
	iss.SetResponse(issuer.Token, issuer.Respond(http.StatusOK, fmt.Sprintf(`{"access_token":%q,"token_type":"Bearer"}`, token), "Content-Type", "application/json"))
	measure("20 requests, answer has no expires_in", 1, 20, 200, func(*http.Client) {})
	t.Log(table.String())
}

func call(client *http.Client) int {
	resp, err := client.Get("http://orders.internal/")
	if err != nil {
		return 0
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}
