package e2e

import (
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/sidepass/sidepass/test/localaddr"
	"github.com/sidepass/sidepass/test/upstream"
)

// An upstream that cannot be spoken to: the answer says what to change. Nothing of a token reaches it.
func TestProtocolUpstreamFailures(t *testing.T) {
	t.Parallel()
	iss, plain := startIssuer(t), startUpstream(t)
	secure, ca := tlsUpstream(t, false)
	_, otherCA := tlsUpstream(t, false)
	demanding, demandingCA := demandingUpstream(t)
	onlyHTTP1 := httpUpstream(t, func(p *http.Protocols) { p.SetHTTP1(true) })
	onlyHTTP2 := httpUpstream(t, func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) })
	file := func(ca string) string { return fmt.Sprintf(", ca_file: %q", ca) }
	for _, c := range []struct {
		name, upstream, keys string
		status               int
		reason, detail       string
		passes               string // keys with which the same upstream answers 200; "" where there are none
	}{
		{"unknown authority", secure.URL(), "", 502, "upstream_tls", "ca_file", file(ca)},
		{"another authority", secure.URL(), file(otherCA), 502, "upstream_tls", "ca_file", file(ca)},
		{"another name", secure.URL(), file(ca) + ", server_name: other.example", 502, "upstream_tls", "server_name", file(ca) + ", server_name: api.example"},
		{"wants a client certificate", demanding.URL, file(demandingCA), 502, "upstream_tls", "client certificate", ""},
		{"plain HTTP behind https", "https://" + plain.Addr(), "", 502, "upstream_tls", "upstream: http://", ""},
		{"not HTTP", rawUpstream(t, "SSH-2.0-OpenSSH_9.9\r\n").URL(), "", 502, "upstream_protocol", "not valid HTTP", ""},
		{"not HTTP behind https", "https://" + banner(t, "SSH-2.0-OpenSSH_9.9\r\n"), "", 502, "upstream_tls", "upstream: http://", ""},
		{"switches protocols unasked", rawUpstream(t, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").URL(), "", 502, "upstream_protocol", "switched protocols", ""},
		{"HTTP/1.1 only, asked for HTTP/2", onlyHTTP1.URL(), ", protocol: http2", 502, "upstream_protocol", "protocol: http1", ", protocol: http1"},
		{"HTTP/2 only, asked for HTTP/1.1", onlyHTTP2.URL(), ", protocol: http1", 502, "upstream_unreachable", "closed the connection", ", protocol: http2"},
		{"nobody listens", "http://" + localaddr.Dead, "", 502, "upstream_unreachable", "refused the connection", ""},
		{"says nothing", rawUpstream(t, "").URL(), ", timeout: 300ms", 504, "upstream_timeout", "timeout", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			routes := []string{reaching("fails", c.upstream, c.keys)}
			if c.passes != "" {
				routes = append(routes, reaching("passes", c.upstream, c.passes))
			}
			s := startBeside(t, outboundYAML(iss, "", routes...))
			a := get(t, s.proxied(), "http://fails.internal/x")
			want(t, a, c.status, c.reason)
			p := problemOf(a)
			same(t, "code", p.Code, c.reason)
			if !strings.Contains(p.Detail, c.detail) {
				t.Errorf("the detail is %q; it should have %q", p.Detail, c.detail)
			}
			if c.passes != "" {
				want(t, get(t, s.proxied(), "http://passes.internal/x"), 200, "")
			}
		})
	}
	t.Cleanup(func() {
		for _, call := range iss.TokenCalls() {
			if call.Form.Get("audience") != "https://orders" {
				t.Error("a token for another audience")
			}
		}
		if n := plain.Count(); n != 0 {
			t.Errorf("the plain upstream behind an https route saw %d requests", n)
		}
	})
}

// demandingUpstream refuses clients without a certificate, which TLS 1.3 lets it say only after the handshake.
func demandingUpstream(t testing.TB) (*httptest.Server, string) {
	t.Helper()
	u := httptest.NewUnstartedServer(http.NotFoundHandler())
	u.Config.ErrorLog = log.New(io.Discard, "", 0)
	u.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	u.StartTLS()
	t.Cleanup(u.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: u.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return u, ca
}

// httpUpstream speaks only the given protocols, without TLS.
func httpUpstream(t testing.TB, speak func(*http.Protocols)) *upstream.Server {
	t.Helper()
	p := new(http.Protocols)
	speak(p)
	u, err := upstream.Start(upstream.Options{Protocols: p})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.Close)
	return u
}

// The app behind an inbound sidecar fails. Its answer passes the outbound one, which does not claim it as its own.
func TestProtocolAppFailures(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		app    string
		status int
		code   string
	}{
		"not HTTP": {rawUpstream(t, "SSH-2.0-OpenSSH_9.9\r\n").URL(), 502, "upstream_protocol"},
		"down":     {"http://" + localaddr.Dead, 502, "upstream_unreachable"},
	} {
		t.Run(name, func(t *testing.T) {
			p := startPair(t, c.app, pairKeys{})
			want(t, p.call(t, "/x"), c.status, c.code)
			a := get(t, p.out.proxied(), "http://orders.internal/x")
			want(t, a, c.status, "") // no Proxy-Status: the answer is not the outbound sidecar's own
			same(t, "code", problemOf(a).Code, c.code)
		})
	}
}

// banner is the address of a server that speaks first, as SSH's and mail servers do.
func banner(t testing.TB, text string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	t.Cleanup(func() { _ = l.Close(); running.Wait() })
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer c.Close()
				_, _ = io.WriteString(c, text)
				_, _ = io.Copy(io.Discard, c)
			})
		}
	})
	return l.Addr().String()
}
