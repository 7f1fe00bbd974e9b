package e2e

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/sidepass/sidepass/test/upstream"
)

// Answers that have no content keep the fields that speak of it, and the connection goes on after them.
func TestProtocolWithoutContent(t *testing.T) {
	t.Parallel()
	app := startUpstream(t)
	app.Handle(func(w http.ResponseWriter, _ *http.Request, s upstream.Seen) bool {
		switch s.Target {
		case "/empty":
			w.WriteHeader(204)
		case "/unchanged":
			w.Header().Set("Etag", `"v1"`)
			w.WriteHeader(304)
		case "/reset":
			w.Header().Set("Content-Length", "0")
			w.WriteHeader(205)
		case "/length":
			w.Header().Set("Content-Length", "12345")
			if s.Method != "HEAD" {
				_, _ = io.WriteString(w, strings.Repeat("x", 12345))
			}
		default:
			return false
		}
		return true
	})
	p := startPair(t, app.URL(), pairKeys{})
	for _, c := range []struct {
		method, path string
		status       int
		field, value string
	}{
		{"HEAD", "/length", 200, "Content-Length", "12345"},
		{"GET", "/length", 200, "Content-Length", "12345"},
		{"GET", "/empty", 204, "Content-Length", ""},
		{"DELETE", "/empty", 204, "Content-Length", ""},
		{"GET", "/unchanged", 304, "Etag", `"v1"`},
		{"HEAD", "/unchanged", 304, "Etag", `"v1"`},
		{"POST", "/reset", 205, "Content-Length", "0"},
	} {
		t.Run(c.method+" "+c.path, func(t *testing.T) {
			w := dialWire(t, p.out.address["out"])
			for range 2 { // the second shows that the first left nothing behind
				w.say(c.method+" "+c.path+" HTTP/1.1", "Host: orders.internal", "Content-Length: 0", "")
				res := w.head(c.method)
				b, err := io.ReadAll(res.Body)
				same(t, "status", res.StatusCode, c.status)
				same(t, c.field, res.Header.Get(c.field), c.value)
				same(t, "transfer coding", len(res.TransferEncoding), 0)
				if err != nil || c.path != "/length" && len(b) > 0 || c.path == "/length" && c.method == "GET" && len(b) != 12345 {
					t.Fatalf("%d bytes of content, %v", len(b), err)
				}
			}
			a := do(t, clientOf(t, p.out.address["out"], true), c.method, "http://orders.internal"+c.path, nil)
			want(t, a, c.status, "")
			if c.value != "0" { // of an empty answer HTTP/2 may leave it out
				same(t, c.field+" in HTTP/2", a.header.Get(c.field), c.value)
			}
		})
	}
	t.Run("a refused HEAD", func(t *testing.T) {
		w := dialWire(t, p.in.address["in"])
		for range 2 {
			w.say("HEAD / HTTP/1.1", "Host: a", "")
			a := w.hear("HEAD")
			want(t, a, 401, "no_token")
			same(t, "content", a.body, "")
		}
	})
}

// Methods are not ours to judge, but for TRACE and CONNECT; OPTIONS * is about the server as a whole.
func TestProtocolMethods(t *testing.T) {
	t.Parallel()
	app := startUpstream(t)
	p := startPair(t, app.URL(), pairKeys{})
	token := "Authorization: Bearer " + mint(p.iss, nil)
	for _, c := range []struct{ name, listener, request, method, target string }{
		{"OPTIONS *", "out", "OPTIONS * HTTP/1.1|Host: orders.internal", "OPTIONS", "*"},
		{"OPTIONS * inbound", "in", "OPTIONS * HTTP/1.1|Host: a|" + token, "OPTIONS", "*"},
		{"OPTIONS of a resource", "out", "OPTIONS http://orders.internal/x HTTP/1.1|Host: orders.internal", "OPTIONS", "/x"},
		{"a method of its own", "out", "PROPFIND http://orders.internal/x HTTP/1.1|Host: orders.internal", "PROPFIND", "/x"},
		{"lower case", "out", "get http://orders.internal/x HTTP/1.1|Host: orders.internal", "get", "/x"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := dialWire(t, map[string]*sidecar{"in": p.in, "out": p.out}[c.listener].address[c.listener])
			w.say(append(strings.Split(c.request, "|"), "")...)
			want(t, w.hear(c.method), 200, "")
			seen, _ := app.Last()
			same(t, "the app saw", seen.Method+" "+seen.Target, c.method+" "+c.target)
		})
	}
	before := app.Count()
	for listener, s := range map[string]*sidecar{"in": p.in, "out": p.out} {
		for _, request := range []string{"TRACE http://orders.internal/x HTTP/1.1", "TRACE /x HTTP/1.1", "GET * HTTP/1.1"} {
			w := dialWire(t, s.address[listener])
			w.say(request, "Host: orders.internal", token, "")
			status, reason := 405, "method_not_allowed"
			if strings.HasPrefix(request, "GET") {
				status, reason = 400, "malformed_request"
			}
			want(t, w.hear("TRACE"), status, reason)
		}
	}
	w := dialWire(t, p.in.address["in"])
	w.say("CONNECT orders.internal:443 HTTP/1.1", "Host: orders.internal:443", token, "")
	want(t, w.hear("POST"), 405, "method_not_allowed")
	same(t, "refused requests at the app", app.Count()-before, 0)
}
