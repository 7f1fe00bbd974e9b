package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
)

// tour makes the calls, prints each with its answer and reason, and fails if one did not end as it should.
func (w *demoWorld) tour(ctx context.Context) error {
	good := w.issuer.Mint(map[string]any{"aud": demoAudience, "client_id": demoClient, "scope": "read:orders"})
	elsewhere := w.issuer.Mint(map[string]any{"aud": "https://billing", "scope": "read:orders"})
	through, own, service := "http://"+w.outbound, "http://"+w.own, "http://"+w.inbound

	t := tour{world: w, ctx: ctx}
	t.part("The app calls plain HTTP; its outbound sidecar adds the token, the service's inbound one verifies it.")
	t.call("as a forward proxy, http_proxy="+through, w.proxied, "GET", "http://orders.internal/orders/1", "", 200, "ok")
	t.call("by a path prefix on the sidecar", w.app, "GET", through+"/orders/orders/2", "", 200, "ok")
	t.call("by the route's own listener", w.app, "GET", own+"/orders/3", "", 200, "ok")

	t.part("What must not pass is refused, and the service sees nothing of it.")
	seen := w.service.count()
	t.call("no token, straight to the service's sidecar", w.app, "GET", service+"/orders/4", "", 401, "no_token")
	t.call("a token for another audience", w.app, "GET", service+"/orders/5", elsewhere, 401, "wrong_audience")
	t.call("a scope that the route's token lacks", w.proxied, "POST", "http://orders.internal/orders", "", 403, "insufficient_scope")
	t.call("a token that somebody changed", w.app, "GET", service+"/orders/6", tamper(good), 401, "bad_signature")
	t.call("a destination that no route names", w.proxied, "GET", "http://elsewhere.internal/", "", 403, "no_route")
	if w.service.count() != seen {
		t.problem("a refused call reached the service")
	}

	t.part("The service revokes the token. The upstream's 401 costs one new token, and the app never notices.")
	w.service.revokeLast()
	t.call("the same call again", w.proxied, "GET", "http://orders.internal/orders/7", "", 200, "ok")

	n := len(w.issuer.TokenCalls())
	fmt.Fprintf(w.out, "\n%d calls, %d token requests: three routes that ask for the same share one token; the revoked one was replaced once.\n", t.calls, n)
	if n != 2 {
		t.problem(fmt.Sprintf("%d token requests, want 2", n))
	}
	return errors.Join(t.problems...)
}

func (w *demoWorld) leaveUp() {
	fmt.Fprintf(w.out, "\nThis is what it runs with:\n\n%s\n", indent(w.yaml))
	fmt.Fprintf(w.out, `Try it (Ctrl-C ends the demo):

  curl -i -x http://%[1]s http://orders.internal/orders/1
  curl -i http://%[1]s/orders/orders/1
  curl -i http://%[2]s/orders/1

Status page beside the app:     http://%[3]s/
Status page beside the service: http://%[4]s/
`, w.outbound, w.inbound, w.admin, w.inboundAdmin)
}

func indent(s string) string {
	return "  " + strings.ReplaceAll(strings.TrimRight(s, "\n"), "\n", "\n  ") + "\n"
}

// tour collects what went wrong.
type tour struct {
	world    *demoWorld
	ctx      context.Context
	calls    int
	problems []error
}

func (t *tour) part(title string) { fmt.Fprintf(t.world.out, "\n%s\n\n", title) }

func (t *tour) problem(what string) {
	t.problems = append(t.problems, errors.New("demo: "+what))
	fmt.Fprintln(t.world.out, "  ✗ "+what)
}

// call makes one call and holds its answer against what it should be.
func (t *tour) call(what string, client *http.Client, method, url, token string, status int, reason string) {
	t.calls++
	req, err := http.NewRequestWithContext(t.ctx, method, url, nil)
	if err != nil {
		t.problem(err.Error())
		return
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.problem(what + ": " + err.Error())
		return
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	code, why := "ok", strings.TrimSpace(string(body))
	if resp.Header.Get("Content-Type") == "application/problem+json" {
		var problem struct{ Code, Detail string }
		_ = json.Unmarshal(body, &problem)
		code, why = problem.Code, problem.Detail
	}
	mark := "✓"
	if resp.StatusCode != status || code != reason {
		mark = "✗"
		t.problems = append(t.problems, fmt.Errorf("demo: %s: got %d %s, want %d %s", what, resp.StatusCode, code, status, reason))
	}
	fmt.Fprintf(t.world.out, "  %s %d %-18s %-4s %s\n      %s\n      %s\n", mark, resp.StatusCode, code, method, url, what, why)
}

// tamper changes one character of a token's signature.
func tamper(token string) string {
	i := strings.LastIndexByte(token, '.') + 10
	c := byte('A')
	if token[i] == c {
		c = 'B'
	}
	return token[:i] + string(c) + token[i+1:]
}

// demoService is the service: it knows nothing of tokens but a list of those it revoked.
type demoService struct {
	mu      sync.Mutex
	last    string
	revoked string
	calls   int
}

func (s *demoService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.calls++
	s.last = r.Header.Get("Authorization")
	refused := s.last == s.revoked && s.last != ""
	s.mu.Unlock()
	if refused {
		w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token", error_description="revoked"`)
		http.Error(w, "this token was revoked", http.StatusUnauthorized)
		return
	}
	fmt.Fprintf(w, "%s %s for the verified client %q\n", r.Method, r.URL.Path, r.Header.Get("X-Client"))
}

func (s *demoService) revokeLast() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revoked = s.last
}

func (s *demoService) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls
}
