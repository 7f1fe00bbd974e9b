package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sidepass/sidepass/test/localaddr"
)

// tunnel asks for a CONNECT tunnel and returns its status and reason.
func tunnel(t testing.TB, proxy, authority string) (*wire, int, string) {
	t.Helper()
	w := dialWire(t, proxy)
	w.say("CONNECT "+authority+" HTTP/1.1", "Host: "+authority, "Authorization: Bearer of-the-app", "Proxy-Authorization: Basic Y2FuYXJ5", "")
	res := w.head("CONNECT")
	return w, res.StatusCode, answer{header: res.Header}.reason()
}

// A tunnel carries whatever it is given, both ways, and never a token.
func TestProtocolConnect(t *testing.T) {
	t.Parallel()
	iss := startIssuer(t)
	secure, _ := tlsUpstream(t, false)
	_, port, _ := net.SplitHostPort(secure.Addr())
	s := startBeside(t, outboundYAML(iss, "  connect: tunnel\n",
		`name: allowed, host: "localhost:`+port+`", connect: tunnel, upstream: "https://nowhere.invalid", audience: ["https://orders"]`,
		`name: denied, host: denied.internal, upstream: "https://nowhere.invalid", audience: ["https://orders"]`))
	deny := startBeside(t, outboundYAML(iss, "", ordersRoute(secure.URL())))

	tokens := len(iss.TokenCalls())

	for _, host := range []string{"127.0.0.1", "localhost"} {
		t.Run("TLS through it to "+host, func(t *testing.T) {
			pool := x509.NewCertPool()
			pool.AppendCertsFromPEM(secure.CAPEM())
			c := &http.Client{Timeout: 2 * patience, Transport: &http.Transport{
				Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: s.address["out"]}), TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}}
			defer c.CloseIdleConnections()
			a := get(t, c, "https://"+host+":"+port+"/x")
			want(t, a, 200, "")
			seen, _ := secure.Last()
			same(t, "ALPN", seen.TLS.Protocol, "h2")
			for _, name := range []string{"Authorization", "Via", "Proxy-Authorization"} {
				same(t, name, len(seen.Header[name]), 0)
			}
		})
	}
	t.Run("each end is passed on, and leaves the other way open", func(t *testing.T) {
		far, accepted := listenOnce(t)
		w, status, _ := tunnel(t, s.address["out"], far)
		same(t, "status", status, 200)
		there := recv(t, accepted, "the connection")
		defer there.Close()
		w.write("to")
		if err := w.Conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(there); string(b) != "to" || err != nil {
			t.Fatalf("it got %q %v", b, err)
		}
		_, _ = io.WriteString(there, "fro")
		_ = there.Close()
		if b, err := io.ReadAll(w); string(b) != "fro" || err != nil {
			t.Fatalf("we got %q %v", b, err)
		}
	})
	t.Run("bytes sent along with CONNECT are not lost", func(t *testing.T) {
		far, accepted := listenOnce(t)
		w := dialWire(t, s.address["out"])
		w.write("CONNECT " + far + " HTTP/1.1\r\nHost: " + far + "\r\n\r\nearly")
		there := recv(t, accepted, "the connection")
		defer there.Close()
		b := make([]byte, 5)
		if _, err := io.ReadFull(there, b); err != nil || string(b) != "early" {
			t.Fatalf("it got %q %v", b, err)
		}
	})
	for _, c := range []struct {
		name      string
		s         *sidecar
		authority string
		status    int
		reason    string
	}{
		{"a route that does not allow it", s, "denied.internal:443", 403, "connect_denied"},
		{"another port of it", s, "DENIED.internal.:8443", 403, "connect_denied"},
		{"unmatched, connect: deny", deny, secure.Addr(), 403, "connect_denied"},
		{"a route, connect: deny", deny, "orders.internal:443", 403, "connect_denied"},
		{"nobody listens", s, localaddr.Dead, 502, "upstream_unreachable"},
		{"no port", s, "127.0.0.1", 400, "malformed_request"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, status, reason := tunnel(t, c.s.address["out"], c.authority)
			if status != c.status || reason != c.reason {
				t.Errorf("got %d %q, want %d %q", status, reason, c.status, c.reason)
			}
		})
	}
	t.Run("HTTP/2", func(t *testing.T) {
		req := &http.Request{Method: "CONNECT", URL: &url.URL{Scheme: "http", Host: secure.Addr()}, Host: secure.Addr(), Header: http.Header{}}
		res, err := clientOf(t, s.address["out"], true).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		want(t, answer{status: res.StatusCode, header: res.Header}, 405, "method_not_allowed")
	})
	t.Run("it is counted", func(t *testing.T) {
		for _, c := range []struct {
			reason string
			min    float64
		}{{"ok", 3}, {"connect_denied", 2}, {"upstream_unreachable", 1}} {
			eventually(t, patience, c.reason, func() bool {
				return s.metric("sidepass_outbound_requests_total", `route="connect"`, `reason="`+c.reason+`"`) >= c.min
			})
		}
	})
	same(t, "token requests for tunnels", len(iss.TokenCalls())-tokens, 0)
}

// listenOnce is the address of a listener for one connection.
func listenOnce(t testing.TB) (string, <-chan net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	accepted := make(chan net.Conn, 1)
	go func() {
		if c, err := l.Accept(); err == nil {
			_ = c.SetDeadline(time.Now().Add(patience))
			accepted <- c
		}
	}()
	return l.Addr().String(), accepted
}

// Whatever it is called, our own listeners and the app behind inbound are no destination of a tunnel or of a request
// that no route matches: they trust who reaches them on this machine.
func TestProtocolNeverToOurselves(t *testing.T) {
	t.Parallel()
	iss, app, other := startIssuer(t), startUpstream(t), startUpstream(t)
	address := localaddr.Free(t)
	_, inPort, _ := net.SplitHostPort(address)
	_, in, _ := strings.Cut(inboundYAML(iss, app.URL(), ""), "\n")
	in = strings.Replace(in, `"{in}"`, `":`+inPort+`"`, 1) // on every address of this machine
	s := startBeside(t, outboundYAML(iss, "  connect: tunnel\n  unmatched: passthrough\n",
		`name: own, listen: "{own}", upstream: "`+other.URL()+`", audience: ["https://orders"]`)+in)
	ports := map[string]string{"inbound": inPort}
	for name, listener := range map[string]string{"outbound": "out", "metrics": "metrics", "admin": "admin", "a route's own": "own"} {
		_, ports[name], _ = net.SplitHostPort(s.address[listener])
	}
	_, ports["the app"], _ = net.SplitHostPort(app.Addr())
	hosts := []string{"127.0.0.1", "localhost", "LocalHost.", "0.0.0.0", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[0:0:0:0:0:0:0:1]", "127.0.0.2", "127.1", "2130706433", "0x7f000001"}
	hosts = append(hosts, ownNames(t)...)
	client := s.proxied()
	for name, port := range ports {
		for _, host := range hosts {
			target := host + ":" + port
			t.Run(name+" as "+host, func(t *testing.T) {
				_, status, reason := tunnel(t, s.address["out"], target)
				a := get(t, client, "http://"+target+"/api/status", "Authorization", "Bearer "+mint(iss, nil))
				// A spelling that leads nowhere is as good as one that is refused.
				if reason != "connect_denied" && reason != "upstream_unreachable" || status < 400 {
					t.Errorf("CONNECT got %d %q", status, reason)
				}
				if reason := a.reason(); reason != "no_route" && reason != "upstream_unreachable" || a.status < 400 {
					t.Errorf("GET got %d %q", a.status, reason)
				}
			})
		}
		// Those that cannot lead elsewhere must be refused for what they are.
		_, _, reason := tunnel(t, s.address["out"], "127.0.0.1:"+port)
		same(t, name+": CONNECT", reason, "connect_denied")
		want(t, get(t, client, "http://localhost:"+port+"/"), 403, "no_route")
	}
	for _, local := range ownAddresses(t) {
		_, _, reason := tunnel(t, s.address["out"], net.JoinHostPort(local, inPort))
		same(t, "inbound as "+local, reason, "connect_denied")
		want(t, get(t, client, "http://"+net.JoinHostPort(local, inPort)+"/"), 403, "no_route")
	}
	same(t, "requests at the app", app.Count(), 0)

	// The twin: another service on this machine is none of ours, and gets no token of ours.
	_, status, _ := tunnel(t, s.address["out"], other.Addr())
	same(t, "CONNECT elsewhere", status, 200)
	_, port, _ := net.SplitHostPort(other.Addr())
	for _, host := range append([]string{"127.0.0.1", "localhost"}, ownNames(t)...) {
		want(t, get(t, client, "http://"+host+":"+port+"/x"), 200, "")
		seen, _ := other.Last()
		same(t, "Authorization", len(seen.Header["Authorization"]), 0)
		same(t, "Host", seen.Host, host+":"+port)
	}
	want(t, get(t, client, "http://"+other.Addr()+"/x", "Authorization", "Bearer of-the-app"), 200, "")
	last, _ := other.Last()
	same(t, "the app's own Authorization", last.Header["Authorization"], []string{"Bearer of-the-app"})
}

// ownNames are names other than localhost that stand for the loopback address here.
func ownNames(t testing.TB) (out []string) {
	hosts, _ := os.ReadFile("/etc/hosts")
	for line := range strings.Lines(string(hosts)) {
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != "127.0.0.1" {
			continue
		}
		for _, name := range fields[1:] {
			if !strings.HasPrefix(name, "localhost") {
				out = append(out, name)
			}
		}
	}
	t.Logf("names of the loopback address: %q", out)
	return out
}

// ownAddresses are this machine's that are not loopback.
func ownAddresses(t testing.TB) (out []string) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok && !n.IP.IsLoopback() && !n.IP.IsLinkLocalUnicast() {
			out = append(out, n.IP.String())
		}
	}
	t.Logf("addresses of this machine: %q", out)
	return out
}
