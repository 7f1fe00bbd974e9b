package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sidepass/sidepass/test/upstream"
)

// tlsUpstream speaks TLS for api.example too, and returns the file that its root is in. http1 leaves HTTP/2 out.
func tlsUpstream(t testing.TB, http1 bool) (*upstream.Server, string) {
	t.Helper()
	o := upstream.Options{TLS: true, Names: []string{"api.example"}}
	if http1 {
		o.Protocols = new(http.Protocols)
		o.Protocols.SetHTTP1(true)
	}
	u, err := upstream.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, u.CAPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	return u, ca
}

func rawUpstream(t testing.TB, reply string) *upstream.Raw {
	t.Helper()
	r, err := upstream.StartRaw(reply)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// reaching is a route for NAME.internal.
func reaching(name, upstream, more string) string {
	return fmt.Sprintf(`host: %s.internal, upstream: %q, audience: ["https://orders"]%s`, name, upstream, more)
}

// To https ALPN chooses: what `protocol` leaves open, the upstream decides.
func TestProtocolTLS(t *testing.T) {
	t.Parallel()
	iss := startIssuer(t)
	both, ca := tlsUpstream(t, false)
	old, oldCA := tlsUpstream(t, true)
	key := func(ca, more string) string { return fmt.Sprintf(", ca_file: %q%s", ca, more) }
	s := startBeside(t, outboundYAML(iss, "",
		reaching("same", both.URL(), key(ca, "")),
		reaching("http1", both.URL(), key(ca, ", protocol: http1")),
		reaching("http2", both.URL(), key(ca, ", protocol: http2")),
		reaching("old-same", old.URL(), key(oldCA, "")),
		reaching("named", both.URL(), key(ca, ", server_name: api.example")),
	))
	for _, c := range []struct {
		route string
		http2 bool
		alpn  string
	}{
		{"same", false, "http/1.1"}, {"same", true, "h2"},
		{"http1", false, "http/1.1"}, {"http1", true, "http/1.1"},
		{"http2", false, "h2"}, {"http2", true, "h2"},
		{"old-same", false, "http/1.1"}, {"old-same", true, "http/1.1"},
		{"named", false, "http/1.1"},
	} {
		t.Run(fmt.Sprintf("%s, HTTP/2 %v", c.route, c.http2), func(t *testing.T) {
			up := both
			if strings.HasPrefix(c.route, "old") {
				up = old
			}
			want(t, do(t, clientOf(t, s.address["out"], c.http2), "PUT", "http://"+c.route+".internal/x", strings.NewReader("body")), 200, "")
			seen, _ := up.Last()
			if seen.TLS == nil {
				t.Fatal("the upstream was not called over TLS")
			}
			same(t, "ALPN", seen.TLS.Protocol, c.alpn)
			same(t, "Host", seen.Host, up.Addr())
			same(t, "body", string(seen.Body), "body")
			if c.route == "named" {
				same(t, "server name", seen.TLS.ServerName, "api.example")
			}
			if seen.Header.Get("Authorization") == "" {
				t.Error("no token")
			}
		})
	}
}
