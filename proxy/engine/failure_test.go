package engine

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/sidepass/sidepass/proxy"
	"github.com/sidepass/sidepass/test/localaddr"
)

const canary = "canary-5d41402abc4b"

func TestUpstreamFailures(t *testing.T) {
	secure := newOrigin(t, nil, overTLS)
	plain := newOrigin(t, nil)
	mutual := newOrigin(t, nil, overTLS, func(s *hs) { s.TLS.ClientAuth = tls.RequireAnyClientCert })
	silent := connOrigin(t, func(_ net.Conn, br *bufio.Reader) { _, _ = io.Copy(io.Discard, br) })
	trusted := func(u *UpstreamOptions) { u.RootCAs = poolOf(secure) }
	speak2 := func(u *UpstreamOptions) { u.Protocol = HTTP2 }
	for name, c := range map[string]struct {
		url     string
		options []func(*UpstreamOptions)
		timeout time.Duration
		status  int
		reason  proxy.Reason
		detail  string // a part of it
	}{
		"nobody listens":            {url: "http://" + localaddr.Dead, status: 502, reason: proxy.UpstreamUnreachable, detail: "nothing listens"},
		"no such name":              {url: "http://no-such-host.invalid", status: 502, reason: proxy.UpstreamUnreachable, detail: "resolved"},
		"no such socket":            {url: "http://", options: []func(*UpstreamOptions){func(u *UpstreamOptions) { u.UnixSocket = t.TempDir() + "/x" }}, status: 502, reason: proxy.UpstreamUnreachable},
		"closes at once":            {url: "http://" + rawOrigin(t, ""), status: 502, reason: proxy.UpstreamUnreachable, detail: "closed the connection"},
		"closes within the head":    {url: "http://" + rawOrigin(t, "HTTP/1.1 200 OK\r\nContent-Length: 5"), status: 502, reason: proxy.UpstreamUnreachable, detail: "closed the connection"},
		"resets":                    {url: "http://" + connOrigin(t, reset), status: 502, reason: proxy.UpstreamUnreachable, detail: "closed the connection"},
		"closes an HTTP/2 client":   {url: "http://" + connOrigin(t, h2Closer), options: []func(*UpstreamOptions){speak2}, status: 502, reason: proxy.UpstreamUnreachable, detail: "closed the connection"},
		"does not answer":           {url: "http://" + silent, timeout: 20 * time.Millisecond, status: 504, reason: proxy.UpstreamTimeout, detail: "`timeout`"},
		"does not shake hands":      {url: "https://" + silent, timeout: 20 * time.Millisecond, status: 504, reason: proxy.UpstreamTimeout, detail: "`timeout`"},
		"unknown authority":         {url: secure.URL, status: 502, reason: proxy.UpstreamTLS, detail: "`ca_file`"},
		"another name":              {url: secure.URL, options: []func(*UpstreamOptions){trusted, func(u *UpstreamOptions) { u.ServerName = "other.test" }}, status: 502, reason: proxy.UpstreamTLS, detail: "`server_name`"},
		"no TLS there":              {url: strings.Replace(plain.URL, "http", "https", 1), status: 502, reason: proxy.UpstreamTLS, detail: "`upstream: http://…`"},
		"closes instead of TLS":     {url: "https://" + connOrigin(t, func(net.Conn, *bufio.Reader) {}), status: 502, reason: proxy.UpstreamTLS},
		"wants a certificate":       {url: mutual.URL, options: []func(*UpstreamOptions){trusted}, status: 502, reason: proxy.UpstreamTLS, detail: "client certificate"},
		"TLS there":                 {url: strings.Replace(secure.URL, "https", "http", 1), status: 400}, // Go's server says so itself, over HTTP
		"not HTTP":                  {url: "http://" + rawOrigin(t, "SSH-2.0-"+canary+"\r\n"), status: 502, reason: proxy.UpstreamProtocol, detail: "not valid HTTP"},
		"bad status":                {url: "http://" + rawOrigin(t, "HTTP/1.1 abc "+canary+"\r\n\r\n"), status: 502, reason: proxy.UpstreamProtocol},
		"status 099":                {url: "http://" + rawOrigin(t, "HTTP/1.1 099 X\r\n\r\n"), status: 502, reason: proxy.UpstreamProtocol},
		"two lengths":               {url: "http://" + rawOrigin(t, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"), status: 502, reason: proxy.UpstreamProtocol},
		"switches unasked":          {url: "http://" + rawOrigin(t, "HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"), status: 502, reason: proxy.UpstreamProtocol},
		"switches to nothing":       {url: "http://" + rawOrigin(t, "HTTP/1.1 101 X\r\n\r\n"), status: 502, reason: proxy.UpstreamProtocol},
		"HTTP/1.1 for HTTP/2":       {url: "http://" + rawAfter(t, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n400 Bad Request"), options: []func(*UpstreamOptions){speak2}, status: 502, reason: proxy.UpstreamProtocol, detail: "`protocol: http1`"},
		"no HTTP/2 over TLS":        {url: onlyHTTP1(t, secure), options: []func(*UpstreamOptions){trusted, speak2}, status: 502, reason: proxy.UpstreamProtocol, detail: "`protocol: http1`"},
		"a proxy that is not there": {url: secure.URL, options: []func(*UpstreamOptions){trusted, func(u *UpstreamOptions) { u.ProxyURL = mustURL(t, "http://"+localaddr.Dead) }}, status: 502, reason: proxy.UpstreamUnreachable, detail: "`proxy_url`"},
		"a proxy that refuses":      {url: secure.URL, options: []func(*UpstreamOptions){trusted, func(u *UpstreamOptions) { u.ProxyURL = mustURL(t, "http://"+rawOrigin(t, "HTTP/1.1 407 X\r\n\r\n")) }}, status: 502, reason: proxy.UpstreamUnreachable, detail: "`proxy_url`"},
	} {
		t.Run(name, func(t *testing.T) {
			up := upstream(t, c.url, c.options...)
			s := serve(t, with(proxy.Verdict{Upstream: up, Timeout: c.timeout, Reason: proxy.OK, Set: []proxy.Field{{Name: "Authorization", Value: "Bearer " + canary}}}))
			got := get(t, s, "/?access_token="+canary)
			if c.reason == "" {
				if got.StatusCode != c.status || got.Header.Get("Proxy-Status") != "" {
					t.Errorf("got %d %s", got.StatusCode, got.body)
				}
				return
			}
			wantRefusal(t, got, c.status, c.reason)
			if !strings.Contains(got.body, c.detail) {
				t.Errorf("the detail lacks %q: %s", c.detail, got.body)
			}
			rec := s.record(t, 0)
			if rec.Reason != c.reason || rec.Status != c.status || rec.Err == nil || !strings.Contains(got.body, rec.Instance) || rec.Instance == "" || rec.Path != "/" {
				t.Errorf("the observer heard %+v", rec)
			}
			if c.timeout > 0 && rec.Duration > connectTimeout/2 {
				t.Errorf("the timeout of %v did not end it, another did after %v", c.timeout, rec.Duration)
			}
			if all := fmt.Sprintf("%s %+v %v", got.body, rec, rec.Err); strings.Contains(all, canary) {
				t.Errorf("a secret is told: %s", all)
			}
		})
	}
}

// What a gate sets is one field, or nothing is sent.
func TestFieldsThatCannotBeSet(t *testing.T) {
	for _, f := range []proxy.Field{{Name: "X-A", Value: "a\r\nX-B: b"}, {Name: "X-A", Value: "a\nb"}, {Name: "X-A", Value: "a\rb"}, {Name: "X-A", Value: "a\x00"}, {Name: "X-A\r\nX-B", Value: "b"}, {Name: "X A", Value: "b"}, {Value: "b"}} {
		o := newOrigin(t, nil)
		up := upstream(t, o.URL)
		s := serve(t, with(proxy.Verdict{Upstream: up, Reason: proxy.OK, Set: []proxy.Field{{Name: "X-First", Value: "1"}, f}}))
		wantRefusal(t, get(t, s, "/"), 500, proxy.InternalError)
		if o.count() != 0 {
			t.Errorf("%q: the upstream got it", f)
		}
		s.gens.Swap(with(proxy.Verdict{Upstream: up, Reason: proxy.OK, Set: []proxy.Field{{Name: "X-A", Value: " a\tb\xff"}}}), nil)
		if got := get(t, s, "/"); got.StatusCode != 200 || strings.TrimSpace(o.last(t).Header.Get("X-A")) != "a\tb\xff" {
			t.Errorf("the twin: %d %q", got.StatusCode, o.last(t).Header)
		}
	}
}

func TestConnectingTakesAtMostTenSeconds(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	up := upstream(t, "https://"+connOrigin(t, func(_ net.Conn, br *bufio.Reader) { _, _ = io.Copy(io.Discard, br) }))
	_, err := up.dialTLS(ctx, up.authority, []string{"h2"})
	if f := explain(err); f.reason != proxy.UpstreamTimeout {
		t.Errorf("an attempt that took too long is %v", f)
	}
	if connectTimeout != 10*time.Second {
		t.Errorf("the limit is %v", connectTimeout)
	}
}

// The twin of the failures: the same upstreams, set up right.
func TestTLSUpstreams(t *testing.T) {
	o := newOrigin(t, nil, overTLS, func(s *hs) { s.TLS.ClientAuth = tls.RequestClientCert })
	named := func(u *UpstreamOptions) { u.RootCAs, u.ServerName = poolOf(o), "example.com" }
	t.Run("roots and name", func(t *testing.T) {
		s := serve(t, to(upstream(t, o.URL, named)))
		if got := get(t, s, "/"); got.StatusCode != 200 || o.last(t).TLS.ServerName != "example.com" || len(o.last(t).TLS.PeerCertificates) != 0 {
			t.Errorf("got %d %s", got.StatusCode, got.body)
		}
	})
	t.Run("our certificate", func(t *testing.T) {
		asked := 0
		s := serve(t, to(upstream(t, o.URL, named, func(u *UpstreamOptions) {
			u.Certificate = func() (*tls.Certificate, error) { asked++; return &o.TLS.Certificates[0], nil }
		})))
		get(t, s, "/")
		if n := len(o.last(t).TLS.PeerCertificates); n != 1 || asked != 1 {
			t.Errorf("the upstream saw %d certificates, the getter was asked %d times", n, asked)
		}
	})
}

func TestProxyOnTheWay(t *testing.T) {
	plain, secure := newOrigin(t, nil), newOrigin(t, nil, overTLS)
	// Our own server is the proxy, which tests its CONNECT too.
	anywhere := upstream(t, "://")
	var auth []string
	hop := serve(t, gateFunc(func(_ context.Context, r *proxy.Request) proxy.Verdict {
		a, _ := r.Header.First("Proxy-Authorization")
		auth = append(auth, r.Method+" "+a)
		if r.Method == "CONNECT" {
			return proxy.Verdict{Action: proxy.Tunnel, Upstream: anywhere, Authority: r.Target.Authority}
		}
		return proxy.Verdict{Action: proxy.Forward, Upstream: anywhere, Scheme: "http", Authority: r.Target.Authority}
	}))
	through := func(u *UpstreamOptions) {
		u.ProxyURL = mustURL(t, "http://user:pass@"+hop.addr)
		u.RootCAs = poolOf(secure)
	}
	for _, c := range []struct {
		o     *origin
		http2 bool
		want  string
		proto int
	}{
		{plain, false, "GET Basic dXNlcjpwYXNz", 1}, {plain, true, "GET Basic dXNlcjpwYXNz", 1},
		{secure, false, "CONNECT Basic dXNlcjpwYXNz", 1}, {secure, true, "CONNECT Basic dXNlcjpwYXNz", 2},
	} {
		auth = nil
		s := serve(t, to(upstream(t, c.o.URL, through)))
		got := do(t, client(t, c.http2), "GET", "http://"+s.addr+"/p%2F?q", nil, "Proxy-Authorization", "Basic theirs")
		saw := c.o.last(t)
		if got.StatusCode != 200 || saw.RequestURI != "/p%2F?q" || saw.ProtoMajor != c.proto || saw.Header.Get("Proxy-Authorization") != "" {
			t.Errorf("%s: got %d %s, the upstream saw %s %s %v", c.o.URL, got.StatusCode, got.body, saw.Proto, saw.RequestURI, saw.Header)
		}
		if len(auth) != 1 || auth[0] != c.want {
			t.Errorf("the proxy was asked %q", auth)
		}
	}
}

// An https upstream at the proxy's own address is reached by CONNECT and TLS like any other: its token never goes out in the clear.
func TestUpstreamAtTheProxysAddress(t *testing.T) {
	asked := make(chan string, 1)
	hop := connOrigin(t, func(c net.Conn, br *bufio.Reader) {
		line, _ := br.ReadString('\n')
		asked <- line
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		_ = c.Close()
	})
	set := proxy.Verdict{Action: proxy.Forward, Set: []proxy.Field{{Name: "Authorization", Value: "Bearer canary"}}}
	set.Upstream = upstream(t, "https://"+hop, func(u *UpstreamOptions) { u.ProxyURL = mustURL(t, "http://"+hop) })
	s := serve(t, with(set))
	if got := get(t, s, "/x"); got.StatusCode != 502 {
		t.Errorf("got %d", got.StatusCode)
	}
	if line := <-asked; line != "CONNECT "+hop+" HTTP/1.1\r\n" {
		t.Errorf("the proxy was asked %q", line)
	}
}

func TestAsteriskThroughAProxy(t *testing.T) {
	hop := newOrigin(t, nil)
	s := serve(t, to(upstream(t, "http://app.internal", func(u *UpstreamOptions) { u.ProxyURL = mustURL(t, hop.URL) })))
	raw(t, s, "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n")
	raw(t, s, "GET //a\"b HTTP/1.1\r\nHost: a\r\n\r\n")
	if a, b := hop.seen[0].RequestURI, hop.seen[1].RequestURI; a != "http://app.internal" || b != "http://app.internal//a\"b" {
		t.Errorf("the proxy was asked for %s and %s", a, b)
	}
}

func TestForbiddenAddresses(t *testing.T) {
	o := newOrigin(t, nil)
	own := addrPort(t, o.Listener.Addr().String())
	port := fmt.Sprint(own.Port())
	var asked []netip.AddrPort
	up := upstream(t, "://", func(u *UpstreamOptions) {
		u.Forbid = func(a netip.AddrPort) bool { asked = append(asked, a); return a == own }
	})
	s := serve(t, gateFunc(func(_ context.Context, r *proxy.Request) proxy.Verdict {
		action := proxy.Forward
		if r.Method == "CONNECT" {
			action = proxy.Tunnel
		}
		return proxy.Verdict{Action: action, Upstream: up, Scheme: "http", Authority: r.Target.Authority}
	}))
	for _, host := range []string{"127.0.0.1", "localhost", "0.0.0.0", "[::ffff:127.0.0.1]", "[::ffff:0.0.0.0]"} {
		authority := host + ":" + port
		got, _, _ := raw(t, s, "GET http://"+authority+"/ HTTP/1.1\r\nHost: a\r\n\r\n")
		wantRefusal(t, got, 403, proxy.NoRoute)
		got, _, _ = raw(t, s, "CONNECT "+authority+" HTTP/1.1\r\nHost: a\r\n\r\n")
		wantRefusal(t, got, 403, proxy.ConnectDenied)
	}
	if o.count() != 0 {
		t.Error("a request reached the forbidden address")
	}
	other := newOrigin(t, nil)
	if got, _, _ := raw(t, s, "GET "+other.URL+"/ HTTP/1.1\r\nHost: a\r\n\r\n"); got.StatusCode != 200 {
		t.Errorf("an address that is not forbidden: got %d", got.StatusCode)
	}
	if len(asked) == 0 || asked[len(asked)-1] != addrPort(t, other.Listener.Addr().String()) {
		t.Errorf("Forbid was asked %v", asked)
	}
}

func TestNewUpstreamRefuses(t *testing.T) {
	for name, o := range map[string]UpstreamOptions{
		"scheme":   {Scheme: "ftp"},
		"protocol": {Protocol: "http3"},
		"proxy":    {ProxyURL: mustURL(t, "socks5://x:1")},
	} {
		if _, err := NewUpstream(o); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if u, err := NewUpstream(UpstreamOptions{}); err != nil || u.String() != "as requested" {
		t.Errorf("%v %v", u, err)
	}
}

// What cannot be provoked with a real connection.
func TestExplain(t *testing.T) {
	for _, c := range []struct {
		err    error
		reason proxy.Reason
	}{
		{&connectError{stageDial, context.DeadlineExceeded}, proxy.UpstreamTimeout},
		{&connectError{stageTLS, context.DeadlineExceeded}, proxy.UpstreamTimeout},
		{&connectError{stageTLS, x509.CertificateInvalidError{Reason: x509.Expired}}, proxy.UpstreamTLS},
		{&net.OpError{Op: "remote error", Err: errors.New("tls: bad certificate")}, proxy.UpstreamTLS},
		{errors.New("http: server closed idle connection"), proxy.UpstreamUnreachable},
		{errors.New("http2: server sent GOAWAY and closed the connection; LastStreamID=1"), proxy.UpstreamUnreachable},
		{errors.New("stream error: stream ID 1; INTERNAL_ERROR; received from peer"), proxy.UpstreamUnreachable},
		{errors.New("stream error: stream ID 1; PROTOCOL_ERROR; invalid header"), proxy.UpstreamProtocol},
		{errors.New(`net/http: invalid header field value for "X"`), proxy.InternalError},
	} {
		if f := explain(c.err); f.reason != c.reason || !errors.Is(f, c.err) && !errors.As(f, new(*connectError)) {
			t.Errorf("%v: %v, want %s", c.err, f, c.reason)
		}
	}
}

func reset(c net.Conn, br *bufio.Reader) {
	_, _ = http.ReadRequest(br)
	_ = c.(*net.TCPConn).SetLinger(0)
}

// h2Closer speaks HTTP/2 until the first request.
func h2Closer(c net.Conn, br *bufio.Reader) {
	_, _ = br.Discard(len(http2.ClientPreface))
	fr := http2.NewFramer(c, br)
	_ = fr.WriteSettings()
	for {
		f, err := fr.ReadFrame()
		if _, ok := f.(*http2.HeadersFrame); ok || err != nil {
			return
		}
		if s, ok := f.(*http2.SettingsFrame); ok && !s.IsAck() {
			_ = fr.WriteSettingsAck()
		}
	}
}

// rawAfter answers as soon as anything comes.
func rawAfter(t testing.TB, answer string) string {
	return connOrigin(t, func(c net.Conn, br *bufio.Reader) {
		_, _ = br.ReadByte()
		_, _ = io.WriteString(c, answer)
		_, _ = io.Copy(io.Discard, br)
	})
}

// onlyHTTP1 is a TLS upstream with the same certificate that knows no ALPN.
func onlyHTTP1(t testing.TB, o *origin) string {
	certificates := o.TLS.Certificates
	return "https://" + connOrigin(t, func(c net.Conn, _ *bufio.Reader) {
		_ = tls.Server(c, &tls.Config{Certificates: certificates}).Handshake()
	})
}
