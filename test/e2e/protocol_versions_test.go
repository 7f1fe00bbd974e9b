package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// Each hop speaks what its `protocol` says, or what it was spoken to in; Via says so, both ways.
func TestProtocolVersions(t *testing.T) {
	t.Parallel()
	iss, app := startIssuer(t), startUpstream(t)
	protocols := []string{"same", "http1", "http2"}
	var routes []string
	for _, in := range protocols {
		s := startBeside(t, inboundYAML(iss, app.URL(), "  protocol: "+in+"\n"))
		for _, out := range protocols {
			routes = append(routes, fmt.Sprintf(`host: %s.%s.internal, protocol: %s, upstream: "http://%s", audience: ["https://orders"]`, out, in, out, s.address["in"]))
		}
	}
	s := startBeside(t, outboundYAML(iss, "", routes...))
	// next is the version that a hop speaks when it was spoken to in the given one.
	next := func(protocol, version string) string {
		return map[string]string{"same": version, "http1": "1.1", "http2": "2"}[protocol]
	}
	for _, c := range []struct {
		name, version string
		client        *http.Client
	}{
		{"forward proxy", "1.1", s.proxied()},
		{"HTTP/1.1", "1.1", clientOf(t, s.address["out"], false)},
		{"HTTP/2", "2", clientOf(t, s.address["out"], true)},
	} {
		for _, out := range protocols {
			for _, in := range protocols {
				t.Run(c.name+" to "+out+" to "+in, func(t *testing.T) {
					first := next(out, c.version)
					second := next(in, first)
					req, err := http.NewRequest("POST", fmt.Sprintf("http://%s.%s.internal/p%%2dq?r=%%41", out, in), strings.NewReader("the body"))
					if err != nil {
						t.Fatal(err)
					}
					res, err := c.client.Do(req)
					if err != nil {
						t.Fatal(err)
					}
					defer res.Body.Close()
					seen, _ := app.Last()
					same(t, "status", res.StatusCode, 200)
					same(t, "the client's version", strings.TrimSuffix(strings.TrimPrefix(res.Proto, "HTTP/"), ".0"), c.version)
					same(t, "the app's version", strings.TrimSuffix(strings.TrimPrefix(seen.Proto, "HTTP/"), ".0"), second)
					same(t, "target and body", seen.Target+" "+string(seen.Body), "/p%2dq?r=%41 the body")
					same(t, "Via of the request", versions(seen.Header), []string{c.version, first})
					same(t, "Via of the answer", versions(res.Header), []string{first})
					if a := seen.Header["Authorization"]; len(a) != 1 || !strings.HasPrefix(a[0], "Bearer ") {
						t.Errorf("%d Authorization fields, want one with a bearer token", len(a))
					}
				})
			}
		}
	}
}

// versions are those of the sidecars in Via, in order.
func versions(h http.Header) (out []string) {
	for entry := range strings.SplitSeq(strings.Join(h.Values("Via"), ","), ",") {
		version, by, _ := strings.Cut(strings.TrimSpace(entry), " ")
		if strings.HasPrefix(by, "sidepass-") {
			out = append(out, version)
		}
	}
	return out
}
