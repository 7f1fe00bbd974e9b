package e2e

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/sidepass/sidepass/test/upstream"
)

// Of all upgrades only WebSocket's passes. Another one is left out and the request goes on without it (RFC 9110,
// section 7.8); whatever follows on the connection is judged anew.
func TestProtocolUpgrade(t *testing.T) {
	t.Parallel()
	app := startUpstream(t)
	p := startPair(t, app.URL(), pairKeys{})
	authorization := "Authorization: Bearer " + mint(p.iss, nil)
	for _, c := range []struct{ name, request string }{
		{"h2c", "GET / HTTP/1.1|Connection: Upgrade, HTTP2-Settings|Upgrade: h2c|HTTP2-Settings: AAMAAABkAAQAAP__"},
		{"h2c, spelled otherwise", "GET / HTTP/1.1|connection: uPGRADE|upgrade: H2C"},
		{"another protocol", "GET / HTTP/1.1|Connection: Upgrade|Upgrade: TLS/1.2"},
		{"WebSocket or h2c", "GET / HTTP/1.1|Connection: Upgrade|Upgrade: websocket, h2c"},
		{"WebSocket and h2c", "GET / HTTP/1.1|Connection: Upgrade|Upgrade: websocket|Upgrade: h2c"},
		{"WebSocket by POST", "POST / HTTP/1.1|Connection: Upgrade|Upgrade: websocket|Content-Length: 0"},
		{"Upgrade that Connection does not name", "GET / HTTP/1.1|Upgrade: websocket"},
	} {
		for listener, lines := range map[string][]string{
			"in":  {"Host: orders.internal", authorization},
			"out": {"Host: orders.internal"},
		} {
			t.Run(c.name+" "+listener+"bound", func(t *testing.T) {
				w := dialWire(t, map[string]*sidecar{"in": p.in, "out": p.out}[listener].address[listener])
				w.say(append(append(strings.Split(c.request, "|"), lines...), "")...)
				same(t, "status", w.hear("GET").status, 200)
				seen, _ := app.Last()
				for _, name := range []string{"Upgrade", "Http2-Settings", "Connection"} {
					if v, there := seen.Header[name]; there {
						t.Errorf("the app saw %s: %s", name, v)
					}
				}
				before := app.Count()
				w.say("GET /smuggled HTTP/1.1", "Host: elsewhere.example", "")
				if s := w.hear("GET").status; s != 401 && s != 403 && s != 421 {
					t.Errorf("what came after it got %d", s)
				}
				same(t, "requests that came after it", app.Count()-before, 0)
			})
		}
	}
}

// An app that refuses the handshake has not switched, whatever the client makes of it.
func TestProtocolUpgradeRefusedByTheApp(t *testing.T) {
	t.Parallel()
	app := startUpstream(t)
	app.Handle(func(w http.ResponseWriter, _ *http.Request, s upstream.Seen) bool {
		if s.Header.Get("Upgrade") == "" {
			return false
		}
		w.Header().Set("Sec-Websocket-Version", "13")
		w.WriteHeader(426)
		return true
	})
	p := startPair(t, app.URL(), pairKeys{})
	w := dialWire(t, p.in.address["in"])
	w.say("GET / HTTP/1.1", "Host: a", "Authorization: Bearer "+mint(p.iss, nil), "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 1337", "")
	res := w.head("GET")
	_, _ = io.Copy(io.Discard, res.Body)
	same(t, "status", res.StatusCode, 426)
	same(t, "version", res.Header.Get("Sec-Websocket-Version"), "13")
	before := app.Count()
	if !res.Close {
		w.say("GET /smuggled HTTP/1.1", "Host: a", "")
		want(t, w.hear("GET"), 401, "no_token")
	}
	same(t, "requests that came after it", app.Count()-before, 0)
}
