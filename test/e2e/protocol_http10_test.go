package e2e

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// HTTP/1.0 knows neither chunks nor interim answers, and keeps a connection only when asked to.
func TestProtocolHTTP10(t *testing.T) {
	t.Parallel()
	app := startUpstream(t)
	p := startPair(t, app.URL(), pairKeys{})
	token := "Authorization: Bearer " + mint(p.iss, nil)
	for _, c := range []struct{ name, address, target, header, proto string }{
		{"forward proxy", p.out.address["out"], "http://orders.internal/x", "User-Agent: old", "1.0 sidepass-"},
		{"a host of its own", p.out.address["out"], "/x", "Host: orders.internal", "1.0 sidepass-"},
		{"inbound without Host", p.in.address["in"], "/x", token, "1.0 sidepass-"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := dialWire(t, c.address)
			w.say("GET "+c.target+" HTTP/1.0", c.header, "")
			res := w.head("GET")
			b, err := io.ReadAll(res.Body)
			if err != nil || res.StatusCode != 200 || len(res.TransferEncoding) > 0 || !strings.Contains(string(b), `"target":"/x"`) {
				t.Fatalf("got %d %v %v %q", res.StatusCode, err, res.TransferEncoding, b)
			}
			if _, err := w.ReadByte(); err != io.EOF {
				t.Errorf("the connection stays, though nobody asked for it: %v", err)
			}
			seen, _ := app.Last()
			same(t, "the app's version", seen.Proto, "HTTP/1.1")
			if via := seen.Header.Get("Via"); !strings.HasPrefix(via, c.proto) {
				t.Errorf("Via is %q", via)
			}
		})
		t.Run(c.name+", keep-alive", func(t *testing.T) {
			w := dialWire(t, c.address)
			for range 3 {
				w.say("POST "+c.target+" HTTP/1.0", c.header, "Connection: keep-alive", "Content-Length: 6", "", "body")
				a := w.hear("POST")
				want(t, a, 200, "")
				same(t, "Connection", a.header.Get("Connection"), "keep-alive")
			}
		})
	}
	t.Run("an answer of unknown length ends with the connection", func(t *testing.T) {
		app.HandleEarly(func(w http.ResponseWriter, _ *http.Request) bool {
			for range 3 {
				_, _ = io.WriteString(w, "part ")
				_ = http.NewResponseController(w).Flush()
			}
			return true
		})
		defer app.HandleEarly(nil)
		w := dialWire(t, p.out.address["out"])
		w.say("GET /x HTTP/1.0", "Host: orders.internal", "Connection: keep-alive", "")
		res := w.head("GET")
		b, err := io.ReadAll(res.Body)
		if err != nil || string(b) != "part part part " || len(res.TransferEncoding) > 0 {
			t.Errorf("got %q %v %v", b, res.TransferEncoding, err)
		}
	})
	t.Run("a refusal", func(t *testing.T) {
		reply := raw(t, p.in.address["in"], "GET /x HTTP/1.0\r\n\r\n")
		if !strings.HasPrefix(reply, "HTTP/1.") || !strings.Contains(reply, " 401 ") || !strings.Contains(reply, "no_token") {
			t.Error(reply)
		}
	})
}
