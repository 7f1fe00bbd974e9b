package engine

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sidepass/sidepass/proxy"
)

func quiet() *log.Logger { return log.New(io.Discard, "", 0) }

func TestPathAndQueryGoOnByteForByte(t *testing.T) {
	o := newOrigin(t, nil)
	s := serve(t, to(upstream(t, o.URL)))
	for _, target := range []string{
		"/", "/a/b", "/a%2Fb//c%20d/", "/a?", "/a?x=1&x=2;y=%zz", "/?a=%", "/a%41", "/%61", "/a;b=c/d", "/a/../b/./c", "/a//b",
		"//", "//a/b", "///a", "//a?b=//c", "/a\"b<c>d^e`f{g|h}i", "/\xc3\xbc", "/a:b@c", "/a[b]", "/*", "/?q=" + strings.Repeat("&a", 11000),
		`/a\b`, "//a%2Fb", "/http://x/y", "/a+b", "/a%0a", "/?\"<>",
	} {
		for _, form := range []string{"", "http://app.internal:8080"} {
			got, c, _ := raw(t, s, "GET "+form+target+" HTTP/1.1\r\nHost: app.internal\r\n\r\n")
			_ = c.Close()
			if saw := o.last(t).RequestURI; got.StatusCode != 200 || saw != target {
				t.Errorf("%.80q%s: status %d, the upstream saw %.80q", target, form, got.StatusCode, saw)
			}
		}
	}
	t.Run("options asterisk", func(t *testing.T) {
		got, _, _ := raw(t, s, "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n")
		if saw := o.last(t); got.StatusCode != 200 || saw.RequestURI != "*" || saw.Method != "OPTIONS" {
			t.Errorf("status %d, the upstream saw %s %s", got.StatusCode, saw.Method, saw.RequestURI)
		}
	})
	t.Run("absolute form without a path", func(t *testing.T) {
		raw(t, s, "GET http://app.internal?q HTTP/1.1\r\nHost: a\r\n\r\n")
		if saw := o.last(t); saw.RequestURI != "/?q" {
			t.Errorf("the upstream saw %s", saw.RequestURI)
		}
	})
	t.Run("what cannot be sent unchanged is refused", func(t *testing.T) {
		if !std {
			t.Skip("the lean engine can send it")
		}
		n := o.count()
		got, _, _ := raw(t, s, "GET //a\"b HTTP/1.1\r\nHost: a\r\n\r\n")
		wantRefusal(t, got, 400, proxy.MalformedRequest)
		if o.count() != n {
			t.Error("it reached the upstream")
		}
	})
	for _, http2 := range []bool{false, true} {
		for _, protocol := range []Protocol{HTTP1, HTTP2} {
			t.Run(fmt.Sprintf("http2 %v to %s", http2, protocol), func(t *testing.T) {
				s := serve(t, to(upstream(t, o.URL, func(u *UpstreamOptions) { u.Protocol = protocol })))
				for _, target := range []string{"/a%2Fb?x;y", "//a/b", "/a?"} {
					r, _ := http.NewRequest("GET", "http://"+s.addr, nil)
					r.URL.Opaque = target
					if strings.HasPrefix(target, "//") {
						r.URL.Opaque, r.URL.Path = "", target
					}
					res, err := client(t, http2).Do(r)
					if err != nil {
						t.Fatal(err)
					}
					_ = res.Body.Close()
					saw := o.last(t)
					if saw.RequestURI != target || (saw.ProtoMajor == 2) != (protocol == HTTP2) {
						t.Errorf("%s: the upstream saw %s over %s", target, saw.RequestURI, saw.Proto)
					}
				}
			})
		}
	}
}

func TestVerdictChoosesPathHostAndAuthority(t *testing.T) {
	o := newOrigin(t, nil)
	up := upstream(t, o.URL)
	authority := strings.TrimPrefix(o.URL, "http://")
	s := serve(t, with(proxy.Verdict{Upstream: up, Path: "/a%2Fb", Host: "client.example"}))
	get(t, s, "/prefix/a%2Fb?q=%41")
	if saw := o.last(t); saw.RequestURI != "/a%2Fb?q=%41" || saw.Host != "client.example" {
		t.Errorf("the upstream saw %s of %s", saw.RequestURI, saw.Host)
	}
	s.gens.Swap(to(up), nil)
	get(t, s, "/x")
	if saw := o.last(t); saw.Host != authority {
		t.Errorf("without Verdict.Host the upstream must see its own authority, it saw %s", saw.Host)
	}
	anywhere, _ := NewUpstream(UpstreamOptions{})
	defer anywhere.CloseIdle()
	s.gens.Swap(with(proxy.Verdict{Upstream: anywhere, Scheme: "http", Authority: authority}), nil)
	if got := get(t, s, "/y"); got.StatusCode != 200 || o.last(t).RequestURI != "/y" {
		t.Errorf("got %d", got.StatusCode)
	}
	s.gens.Swap(with(proxy.Verdict{Upstream: anywhere}), nil)
	wantRefusal(t, get(t, s, "/z"), 500, proxy.InternalError)
	s.gens.Swap(with(proxy.Verdict{}), nil)
	wantRefusal(t, get(t, s, "/z"), 500, proxy.InternalError)
}

func TestRequestFields(t *testing.T) {
	o := newOrigin(t, nil)
	up := upstream(t, o.URL)
	set := []proxy.Field{{Name: "authorization", Value: "Bearer ours"}, {Name: "X-User", Value: "alice"}, {Name: "X-Multi", Value: "1"}, {Name: "X-Multi", Value: "2"}}
	v := proxy.Verdict{Upstream: up, Set: set, Remove: []string{"X-Org-Name", "cookie"}}
	for name, c := range map[string]struct {
		verdict  proxy.Verdict
		send     string
		want     http.Header // the fields that must be there, exactly
		mustLack []string
	}{
		"ordinary fields pass, several lines and odd cases included": {
			send: "X-A: 1\r\nx-a: 2\r\nCookie: c\r\nX-Empty:\r\nContent-Type: t\r\nAuthorization: Bearer theirs\r\nAccept-Encoding: br\r\n",
			want: http.Header{"X-A": {"1", "2"}, "Cookie": {"c"}, "X-Empty": {""}, "Authorization": {"Bearer theirs"}, "Accept-Encoding": {"br"}},
		},
		"nothing is made up": {mustLack: []string{"User-Agent", "Accept-Encoding", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded", "Te", "Connection", "Via"}},
		"forwarding fields pass as they came": {
			send: "X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Host: h\r\nX-Forwarded-Proto: p\r\nForwarded: for=x\r\nX-Real-IP: 9\r\n",
			want: http.Header{"X-Forwarded-For": {"1.2.3.4"}, "X-Forwarded-Host": {"h"}, "X-Forwarded-Proto": {"p"}, "Forwarded": {"for=x"}, "X-Real-Ip": {"9"}},
		},
		"even when Connection names them": {
			send: "X-Forwarded-For: 1.2.3.4\r\nVia: 1.1 a\r\nAuthorization: Bearer theirs\r\nX-Hop: 1\r\nConnection: x-forwarded-for, via, authorization, x-hop\r\n",
			want: http.Header{"X-Forwarded-For": {"1.2.3.4"}, "Via": {"1.1 a"}, "Authorization": {"Bearer theirs"}}, mustLack: []string{"X-Hop", "Connection"},
		},
		"hop-by-hop fields end here": {
			send:     "Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nTE: gzip\r\nProxy-Authorization: Basic x\r\nProxy-Connection: close\r\nProxy_Authorization: y\r\nTrailer: A\r\nProxy-Authenticate: z\r\n",
			mustLack: []string{"Connection", "X-Hop", "Keep-Alive", "Te", "Proxy-Authorization", "Proxy-Connection", "Proxy_authorization", "Trailer", "Proxy-Authenticate"},
		},
		"of TE only trailers passes": {send: "TE: gzip, trailers\r\nConnection: TE\r\n", want: http.Header{"Te": {"trailers"}}},
		"what the verdict sets replaces what came, in every spelling": {
			verdict: v, send: "Authorization: Bearer theirs\r\nX-User: mallory\r\nx_user: mallory\r\nX_USER: mallory\r\n",
			want: http.Header{"Authorization": {"Bearer ours"}, "X-User": {"alice"}, "X-Multi": {"1", "2"}}, mustLack: []string{"X_user", "X_USER"},
		},
		"and what it removes": {
			verdict: v, send: "X-Org-Name: a\r\nX_Org-Name: b\r\nx-org_name: c\r\nCookie: d\r\nX-Org-Names: stays\r\n",
			want: http.Header{"X-Org-Names": {"stays"}}, mustLack: []string{"X-Org-Name", "X_org-Name", "X-Org_name", "Cookie"},
		},
		"Connection strips nothing that the verdict set": {
			verdict: v, send: "Connection: authorization, x-user, close\r\nAuthorization: Bearer theirs\r\n",
			want: http.Header{"Authorization": {"Bearer ours"}, "X-User": {"alice"}}, mustLack: []string{"Connection"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if c.verdict.Upstream == nil {
				c.verdict.Upstream = up
			}
			s := serve(t, with(c.verdict))
			got, _, _ := raw(t, s, "GET / HTTP/1.1\r\nHost: a\r\n"+c.send+"\r\n")
			if got.StatusCode != 200 {
				t.Fatalf("got %d %s", got.StatusCode, got.body)
			}
			h := o.last(t).Header
			for n, want := range c.want {
				if !reflect.DeepEqual(h[n], want) {
					t.Errorf("%s: the upstream saw %q, want %q", n, h[n], want)
				}
			}
			for _, n := range c.mustLack {
				if values, ok := h[n]; ok {
					t.Errorf("the upstream saw %s: %q", n, values)
				}
			}
		})
	}
}

func TestVia(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Via", "1.1 origin") })
	s := serve(t, to(upstream(t, o.URL, func(u *UpstreamOptions) { u.Protocol = HTTP1 })), func(o *Options) { o.Via = "sidepass-1"; o.ViaOnAnswers = true })
	got, _, _ := raw(t, s, "GET / HTTP/1.1\r\nHost: a\r\nVia: 1.1 before\r\nConnection: via\r\n\r\n")
	if saw := o.last(t).Header["Via"]; !reflect.DeepEqual(saw, []string{"1.1 before", "1.1 sidepass-1"}) {
		t.Errorf("the upstream saw Via %q", saw)
	}
	if !reflect.DeepEqual(got.Header["Via"], []string{"1.1 origin", "1.1 sidepass-1"}) {
		t.Errorf("the client saw Via %q", got.Header["Via"])
	}
	raw(t, s, "GET / HTTP/1.0\r\nHost: a\r\n\r\n")
	if saw := o.last(t).Header.Get("Via"); saw != "1.0 sidepass-1" {
		t.Errorf("from HTTP/1.0 the upstream saw Via %q", saw)
	}
	do(t, client(t, true), "GET", "http://"+s.addr, nil)
	if saw := o.last(t).Header.Get("Via"); saw != "2 sidepass-1" {
		t.Errorf("from HTTP/2 the upstream saw Via %q", saw)
	}
	s = serve(t, to(upstream(t, o.URL)), func(o *Options) { o.Via = "sidepass-1" })
	if got := get(t, s, "/"); !reflect.DeepEqual(got.Header["Via"], []string{"1.1 origin"}) {
		t.Errorf("without ViaOnAnswers the client saw Via %q", got.Header["Via"])
	}
}

func TestForwarded(t *testing.T) {
	o := newOrigin(t, nil)
	theirs := "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Proto: https\r\nForwarded: for=6.6.6.6\r\n" +
		"X-Forwarded-Prefix: /p\r\nX_Forwarded_For: 6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nX-Original-URL: /admin\r\n"
	send := func(f *Forwarded, fields string) http.Header {
		s := serve(t, to(upstream(t, o.URL)), func(o *Options) { o.Forwarded = f })
		raw(t, s, "GET / HTTP/1.1\r\nHost: app.example\r\n"+fields+"\r\n")
		return o.last(t).Header
	}
	check := func(t *testing.T, h http.Header, want map[string]string) {
		t.Helper()
		for n, v := range want {
			if got := strings.Join(h[n], "|"); got != v {
				t.Errorf("%s: the upstream saw %q, want %q", n, got, v)
			}
		}
	}
	untrusted := map[string]string{"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": "app.example", "X-Forwarded-Proto": "http",
		"Forwarded": "", "X-Forwarded-Prefix": "", "X_forwarded_for": "", "X-Real-Ip": "", "X-Original-Url": ""}
	t.Run("nobody trusted", func(t *testing.T) { check(t, send(&Forwarded{}, theirs), untrusted) })
	t.Run("nothing sent", func(t *testing.T) { check(t, send(&Forwarded{}, ""), untrusted) })
	t.Run("another network trusted", func(t *testing.T) {
		check(t, send(&Forwarded{Trusted: prefixes("10.0.0.0/8")}, theirs), untrusted)
	})
	t.Run("trusted", func(t *testing.T) {
		check(t, send(&Forwarded{Trusted: prefixes("10.0.0.0/8", "127.0.0.0/8")}, theirs), map[string]string{
			"X-Forwarded-For": "6.6.6.6, 127.0.0.1", "X-Forwarded-Host": "evil", "X-Forwarded-Proto": "https",
			"Forwarded": "for=6.6.6.6, for=127.0.0.1", "X-Forwarded-Prefix": "/p", "X-Real-Ip": "6.6.6.6"})
	})
	t.Run("trusted, nothing sent", func(t *testing.T) {
		check(t, send(&Forwarded{Trusted: prefixes("127.0.0.0/8")}, ""), map[string]string{
			"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": "app.example", "X-Forwarded-Proto": "http", "Forwarded": ""})
	})
}

func TestAnswersPassUnchanged(t *testing.T) {
	for name, c := range map[string]struct {
		answer   string
		status   int
		want     http.Header
		mustLack []string
		body     string
	}{
		"redirects are not followed": {answer: "HTTP/1.1 302 Found\r\nLocation: http://elsewhere/\r\nContent-Length: 0\r\n\r\n", status: 302, want: http.Header{"Location": {"http://elsewhere/"}}},
		"challenges":                 {answer: "HTTP/1.1 401 X\r\nWWW-Authenticate: Bearer realm=\"theirs\"\r\nContent-Length: 2\r\n\r\nno", status: 401, want: http.Header{"Www-Authenticate": {`Bearer realm="theirs"`}}, body: "no"},
		"no content type is made up": {answer: "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>", status: 200, mustLack: []string{"Content-Type"}, body: "<html>"},
		"hop-by-hop fields end here": {answer: "HTTP/1.1 200 OK\r\nConnection: x-hop\r\nX-Hop: 1\r\nKeep-Alive: 3\r\nUpgrade: h2c\r\nContent-Length: 0\r\n\r\n", status: 200, mustLack: []string{"X-Hop", "Keep-Alive", "Upgrade"}},
		"Proxy-Status of others stays": {answer: "HTTP/1.1 200 OK\r\nProxy-Status: a; details=\"x, sidepass\", sidepass; error=e, \"sidepass\"\r\nProxy-Status: sidepass\r\nContent-Length: 0\r\n\r\n",
			status: 200, want: http.Header{"Proxy-Status": {`a; details="x, sidepass"`}}},
		"Proxy-Status of ours, hidden behind a line's open string": {answer: "HTTP/1.1 200 OK\r\nProxy-Status: foo; details=\"\r\nProxy-Status: \", sidepass; error=e; details=\"no_token\"\r\nContent-Length: 0\r\n\r\n",
			status: 200, want: http.Header{"Proxy-Status": {`foo; details=", "`}}},
		"an instance of ours":            {answer: "HTTP/1.1 200 OK\r\nSidepass-Instance: urn:uuid:0\r\nContent-Length: 0\r\n\r\n", status: 200, mustLack: []string{"Sidepass-Instance"}},
		"Proxy-Status that does not end": {answer: "HTTP/1.1 200 OK\r\nProxy-Status: foo; details=\"x, sidepass; error=e\r\nContent-Length: 0\r\n\r\n", status: 200, mustLack: []string{"Proxy-Status"}},
		"Proxy-Status of ours does not":  {answer: "HTTP/1.1 500 X\r\nProxy-Status: sidepass; details=\"no_token\"\r\nContent-Length: 0\r\n\r\n", status: 500, mustLack: []string{"Proxy-Status"}},
		"until the connection closes":    {answer: "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nrest", status: 200, body: "rest"},
		"204":                            {answer: "HTTP/1.1 204 No Content\r\n\r\n", status: 204},
		"304 keeps its length":           {answer: "HTTP/1.1 304 Not Modified\r\nEtag: \"x\"\r\n\r\n", status: 304, want: http.Header{"Etag": {`"x"`}}},
		"encoded content":                {answer: "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\n\x1f\x8b\x08", status: 200, want: http.Header{"Content-Encoding": {"gzip"}}, body: "\x1f\x8b\x08"},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, to(upstream(t, "http://"+rawOrigin(t, c.answer))))
			got := get(t, s, "/")
			if got.StatusCode != c.status || got.body != c.body || got.err != nil {
				t.Errorf("got %d %q %v", got.StatusCode, got.body, got.err)
			}
			for n, want := range c.want {
				if !reflect.DeepEqual(got.Header[n], want) {
					t.Errorf("%s: got %q, want %q", n, got.Header[n], want)
				}
			}
			for _, n := range c.mustLack {
				if v, ok := got.Header[n]; ok {
					t.Errorf("got %s: %q", n, v)
				}
			}
			if r := s.record(t, 0); r.Reason != proxy.OK || r.Status != c.status || r.Sent != int64(len(c.body)) || r.Err != nil || r.Instance != "" {
				t.Errorf("the observer heard %+v", r)
			}
		})
	}
}

func TestHEADKeepsTheLength(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Length", "1234") })
	s := serve(t, to(upstream(t, o.URL)))
	for _, http2 := range []bool{false, true} {
		if got := do(t, client(t, http2), "HEAD", "http://"+s.addr, nil); got.StatusCode != 200 || got.ContentLength != 1234 {
			t.Errorf("http2 %v: got %d, length %d", http2, got.StatusCode, got.ContentLength)
		}
	}
}

func TestHTTP10(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusEarlyHints)
		_, _ = io.WriteString(w, "a")
		_ = http.NewResponseController(w).Flush() // of unknown length
		_, _ = io.WriteString(w, "b")
	})
	s := serve(t, to(upstream(t, o.URL)))
	got, c, br := raw(t, s, "GET / HTTP/1.0\r\n\r\n")
	if got.StatusCode != 200 || got.body != "ab" || len(got.TransferEncoding) > 0 {
		t.Errorf("got %d %q %v", got.StatusCode, got.body, got.TransferEncoding)
	}
	wantClosed(t, c, br)
	if host := o.last(t).Host; host != strings.TrimPrefix(o.URL, "http://") {
		t.Errorf("the upstream saw Host %q", host)
	}
}

func TestUnixSockets(t *testing.T) {
	dir := t.TempDir()
	up, err := Listen("unix", dir+"/app.sock", 0)
	if err != nil {
		t.Fatal(err)
	}
	o := newOrigin(t, nil, replaceListener(up))
	in, err := Listen("unix", dir+"/in.sock", 0)
	if err != nil {
		t.Fatal(err)
	}
	var remote string
	u := upstream(t, "http://", func(u *UpstreamOptions) { u.UnixSocket = dir + "/app.sock" })
	s := serveOn(t, in, judged(with(proxy.Verdict{Upstream: u}), func(r *proxy.Request) { remote = r.Remote }), func(o *Options) { o.Forwarded = &Forwarded{} })
	got, _, _ := raw(t, s, "GET /x HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n")
	saw := o.last(t)
	if got.StatusCode != 200 || saw.RequestURI != "/x" || saw.Host != "localhost" || saw.Header.Get("X-Forwarded-For") != "" {
		t.Errorf("got %d, the upstream saw %s of %s, %v", got.StatusCode, saw.RequestURI, saw.Host, saw.Header)
	}
	if remote != "@" && remote != "" {
		t.Errorf("the gate saw the peer as %q", remote)
	}
	if want, rec := "unix:"+dir+"/app.sock", s.record(t, 0); u.String() != want || rec.Upstream != want {
		t.Errorf("String is %q, the observer heard %q, want %q", u, rec.Upstream, want)
	}
}

func TestTLSListener(t *testing.T) {
	o := newOrigin(t, nil)
	certificate := newOrigin(t, nil, overTLS) // for its certificate
	var saw *tls.ConnectionState
	s := serve(t, judged(to(upstream(t, o.URL)), func(r *proxy.Request) { saw = r.TLS }), func(op *Options) {
		op.TLSConfig = &tls.Config{Certificates: certificate.TLS.Certificates}
		op.Forwarded = &Forwarded{}
	})
	for _, http2 := range []bool{false, true} {
		p := new(http.Protocols)
		p.SetHTTP1(!http2)
		p.SetHTTP2(http2)
		tr := &http.Transport{Protocols: p, TLSClientConfig: &tls.Config{RootCAs: poolOf(certificate)}}
		got := do(t, &http.Client{Transport: tr}, "GET", "https://"+s.addr, nil)
		tr.CloseIdleConnections()
		up := o.last(t)
		if got.StatusCode != 200 || (got.ProtoMajor == 2) != http2 || (up.ProtoMajor == 2) != http2 || up.Header.Get("X-Forwarded-Proto") != "https" {
			t.Errorf("http2 %v: got %d over %s, the upstream saw %s %v", http2, got.StatusCode, got.Proto, up.Proto, up.Header)
		}
		if saw == nil || !saw.HandshakeComplete {
			t.Errorf("the gate saw TLS state %v", saw)
		}
	}
}

func TestSlowHandshakeIsCutOff(t *testing.T) {
	certificate := newOrigin(t, nil, overTLS).TLS.Certificates
	s := serve(t, to(nil), func(o *Options) {
		o.TLSConfig = &tls.Config{Certificates: certificate}
		o.ReadHeaderTimeout = 20 * time.Millisecond
	})
	c, br := dial(t, s)
	_, _ = io.WriteString(c, "\x16\x03\x01") // the beginning of a ClientHello
	wantClosed(t, c, br)
}

func TestSlowHeadIsCutOff(t *testing.T) {
	s := serve(t, to(nil), func(o *Options) { o.ReadHeaderTimeout = 20 * time.Millisecond })
	c, br := dial(t, s)
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n")
	wantClosed(t, c, br)
}

func TestIdleConnectionEnds(t *testing.T) {
	s := serve(t, refusing(proxy.NoRoute), func(o *Options) { o.IdleTimeout = 20 * time.Millisecond })
	_, c, br := raw(t, s, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	wantClosed(t, c, br)
}
