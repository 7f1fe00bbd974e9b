package e2e

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/sidepass/sidepass/test/upstream"
)

// refusing makes the app answer 401 to the token that the pair sends now, before it reads a body, and returns the app.
func refusing(t *testing.T) (*upstream.Server, *pair) {
	t.Helper()
	app := startUpstream(t)
	p := startPair(t, app.URL(), pairKeys{more: "tokens: {replay_limit: 1KiB}\n"})
	want(t, get(t, p.out.proxied(), "http://orders.internal/"), 200, "")
	first, _ := app.Last()
	revoked := first.Header.Get("Authorization")
	app.HandleEarly(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Authorization") != revoked {
			return false
		}
		if r.ProtoMajor == 1 {
			w.Header().Set("Connection", "close") // or net/http would read the body before it answers
		}
		w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
		w.WriteHeader(401)
		return true
	})
	app.Reset()
	return app, p
}

// A body that is larger than what may be kept cannot be sent again: the 401 passes, once, and the next request has a new token.
func TestProtocolReplayLimit(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		bytes int
		known bool
		tries int
	}{
		{"at the limit", 1 << 10, true, 2},
		{"over the limit", 1<<10 + 1, true, 1},
		{"over the limit, of unknown length", 1<<10 + 1, false, 1},
		{"no body", 0, true, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			app, p := refusing(t)
			body := strings.Repeat("x", c.bytes)
			var r io.Reader = strings.NewReader(body)
			if !c.known {
				r = io.MultiReader(r)
			}
			a := do(t, p.out.proxied(), "PUT", "http://orders.internal/x", r)
			want(t, a, map[int]int{1: 401, 2: 200}[c.tries], "")
			same(t, "tries", app.Count(), c.tries)
			if c.tries == 1 {
				same(t, "challenge", a.header.Get("Www-Authenticate"), `Bearer error="invalid_token"`)
				want(t, do(t, p.out.proxied(), "PUT", "http://orders.internal/x", strings.NewReader(body)), 200, "")
			}
			last, _ := app.Last()
			same(t, "body", string(last.Body), body)
			same(t, "token requests", len(p.iss.TokenCalls()), 2)
		})
	}
}

// A 401 that comes while the body is still being sent reaches the client before it has sent the rest.
func TestProtocolEarly401(t *testing.T) {
	t.Parallel()
	t.Run("HTTP/1.1", func(t *testing.T) {
		app, p := refusing(t)
		w := dialWire(t, p.out.address["out"])
		w.say("PUT /x HTTP/1.1", "Host: orders.internal", "Content-Length: 100000000", "")
		w.write(strings.Repeat("x", 4<<10))
		want(t, w.hear("PUT"), 401, "")
		same(t, "tries", app.Count(), 1)
	})
	t.Run("HTTP/1.1, chunked", func(t *testing.T) {
		app, p := refusing(t)
		w := dialWire(t, p.out.address["out"])
		w.say("PUT /x HTTP/1.1", "Host: orders.internal", "Transfer-Encoding: chunked", "", "4", "part")
		want(t, w.hear("PUT"), 401, "")
		same(t, "tries", app.Count(), 1)
	})
	t.Run("HTTP/2", func(t *testing.T) {
		app, p := refusing(t)
		body, say := io.Pipe()
		defer say.Close()
		go func() { _, _ = say.Write([]byte("part")) }()
		want(t, do(t, clientOf(t, p.out.address["out"], true), "PUT", "http://orders.internal/x", body), 401, "")
		same(t, "tries", app.Count(), 1)
	})
	// The rest of a short body is on its way anyway: with it the request can be sent again.
	t.Run("a short body is waited for", func(t *testing.T) {
		app, p := refusing(t)
		w := dialWire(t, p.out.address["out"])
		w.say("PUT /x HTTP/1.1", "Host: orders.internal", "Content-Length: 8", "")
		w.write("the ")
		eventually(t, patience, "the app has refused", func() bool { return app.Count() == 1 })
		w.write("body")
		want(t, w.hear("PUT"), 200, "")
		last, _ := app.Last()
		same(t, "body", string(last.Body), "the body")
		same(t, "tries", app.Count(), 2)
	})
}
