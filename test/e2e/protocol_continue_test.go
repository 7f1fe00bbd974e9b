package e2e

import (
	"net/http"
	"strings"
	"testing"
)

// A client that waits for 100 Continue gets it when the app wants the body, and not when anyone has refused the request.
func TestProtocolContinue(t *testing.T) {
	t.Parallel()
	app := startUpstream(t)
	p := startPair(t, app.URL(), pairKeys{})
	out, in := p.out.address["out"], p.in.address["in"]
	ask := func(t *testing.T, address, target string, header ...string) *wire {
		w := dialWire(t, address)
		w.say(append(append([]string{"PUT " + target + " HTTP/1.1", "Host: orders.internal", "Expect: 100-continue", "Content-Length: 8"}, header...), "")...)
		return w
	}
	t.Run("wanted", func(t *testing.T) {
		w := ask(t, out, "http://orders.internal/x")
		same(t, "first answer", w.head("PUT").StatusCode, 100)
		w.write("the body")
		want(t, w.hear("PUT"), 200, "")
		seen, _ := app.Last()
		same(t, "body", string(seen.Body), "the body")
		w.say("GET /next HTTP/1.1", "Host: orders.internal", "")
		want(t, w.hear("GET"), 200, "")
	})
	before := app.Count()
	for _, c := range []struct {
		name, address, target string
		status                int
		reason                string
	}{
		{"no token", in, "/x", 401, "no_token"},
		{"no route", out, "http://elsewhere.example/x", 403, "no_route"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := ask(t, c.address, c.target)
			res := w.head("PUT") // the first and the last
			same(t, "first answer", res.StatusCode, c.status)
			same(t, "reason", answer{header: res.Header}.reason(), c.reason)
		})
	}
	same(t, "refused requests at the app", app.Count()-before, 0)
	t.Run("the app refuses", func(t *testing.T) {
		app.HandleEarly(func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(403); return true })
		w := ask(t, out, "http://orders.internal/x")
		res := w.head("PUT")
		if res.StatusCode == 100 { // after a second the sidecars ask for the body anyway, as RFC 9110, section 10.1.1, lets them
			w.write("the body")
			res = w.head("PUT")
		}
		same(t, "status", res.StatusCode, 403)
	})
	t.Run("an expectation that is none", func(t *testing.T) {
		w := dialWire(t, out)
		w.say("PUT http://orders.internal/x HTTP/1.1", "Host: orders.internal", "Expect: 200-maybe", "Content-Length: 0", "")
		if s := w.head("PUT").StatusCode; s != 417 && s != 403 {
			t.Errorf("got %d, want 417 or the app's answer", s)
		}
	})
	if strings.Contains(p.out.log.String(), "panic") || strings.Contains(p.in.log.String(), "panic") {
		t.Error("a handler panicked")
	}
}
