package e2e

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/sidepass/sidepass/test/upstream"
)

// Trailers pass both ways, and none of them becomes a header.
func TestProtocolTrailers(t *testing.T) {
	t.Parallel()
	app := startUpstream(t)
	app.Handle(func(w http.ResponseWriter, _ *http.Request, _ upstream.Seen) bool {
		w.Header().Set("Trailer", "X-Sum")
		_, _ = io.WriteString(w, "the answer")
		w.Header().Set("X-Sum", "42")
		w.Header().Set(http.TrailerPrefix+"X-Unannounced", "43")
		w.Header().Set(http.TrailerPrefix+"Proxy-Status", `sidepass; error=http_request_denied; details="no_token", elsewhere`)
		return true
	})
	p := startPair(t, app.URL(), pairKeys{inbound: "  claim_headers: [client_id=X-Client]\n"})
	p.eachClient(t, func(t *testing.T, c *http.Client) {
		sent := http.Header{"X-Checksum": {"17"}, "X-Client": {"forged"}, "X_client": {"forged"}, "X-Late": {"a", "b"}}
		req, err := http.NewRequest("POST", "http://orders.internal/x", io.MultiReader(strings.NewReader("the "), strings.NewReader("body")))
		if err != nil {
			t.Fatal(err)
		}
		req.Trailer = sent
		res, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if b, err := io.ReadAll(res.Body); string(b) != "the answer" || err != nil {
			t.Errorf("got %q %v", b, err)
		}
		same(t, "announced trailer of the answer", res.Trailer["X-Sum"], []string{"42"})
		same(t, "unannounced trailer of the answer", res.Trailer["X-Unannounced"], []string{"43"})
		same(t, "Proxy-Status as a trailer", res.Trailer["Proxy-Status"], []string{"elsewhere"})
		if res.Header.Get("X-Sum") != "" {
			t.Error("a trailer of the answer has become a header")
		}
		seen, _ := app.Last()
		same(t, "body", string(seen.Body), "the body")
		for name := range sent {
			if v := seen.Header[name]; len(v) > 0 && name != "X-Client" {
				t.Errorf("the trailer %s has become a header of the request", name)
			}
		}
		same(t, "the claim", seen.Header["X-Client"], []string{"svc"})
		for _, name := range []string{"X-Client", "X_client"} {
			if v, there := seen.Trailer[name]; there {
				t.Errorf("the app saw a forged trailer %s: %s", name, v)
			}
		}
		if res.ProtoMajor == 2 {
			same(t, "trailer of the request", seen.Trailer["X-Checksum"], []string{"17"})
			same(t, "trailer of the request", seen.Trailer["X-Late"], []string{"a", "b"})
		}
	})
	t.Run("Authorization is never one", func(t *testing.T) {
		for listener, lines := range map[*sidecar][]string{p.out: nil, p.in: {"Authorization: Bearer " + mint(p.iss, nil)}} {
			name := map[bool]string{true: "out", false: "in"}[listener == p.out]
			w := dialWire(t, listener.address[name])
			w.say(append(append([]string{"POST /x HTTP/1.1", "Host: orders.internal"}, lines...), "Transfer-Encoding: chunked", "Trailer: Authorization, X-Client", "",
				"4", "body", "0", "Authorization: Bearer forged", "X-Client: forged", "")...)
			same(t, "status", w.hear("POST").status, 200)
			seen, _ := app.Last()
			if a := seen.Header["Authorization"]; len(a) != 1 || strings.Contains(a[0], "forged") {
				t.Errorf("%sbound: the app saw %d Authorization fields", name, len(a))
			}
			for _, name := range []string{"Authorization", "X-Client"} {
				if _, there := seen.Trailer[name]; there {
					t.Errorf("the app saw the trailer %s", name)
				}
			}
		}
		w := dialWire(t, p.in.address["in"])
		w.say("POST /x HTTP/1.1", "Host: a", "Transfer-Encoding: chunked", "Trailer: Authorization", "", "0", "Authorization: Bearer "+mint(p.iss, nil), "")
		want(t, w.hear("POST"), 401, "no_token")
	})
}
