package issuerhttp

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const canary = "canary-secret"

func client(t *testing.T, o Options) *Client {
	t.Helper()
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdle)
	return c
}

func serve(t *testing.T, h http.HandlerFunc) *httptest.Server {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

func serveTLS(t *testing.T, h http.HandlerFunc, change ...func(*httptest.Server)) *httptest.Server {
	s := httptest.NewUnstartedServer(h)
	s.EnableHTTP2 = true
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	for _, f := range change {
		f(s)
	}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func rootsOf(s *httptest.Server) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
}

// call posts a secret and returns the answer's body and protocol.
func call(t *testing.T, c *Client, target string) (body, proto string, err error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "POST", target, strings.NewReader("client_secret="+canary))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Basic "+canary)
	res, err := c.Do(r)
	if err != nil {
		return "", "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return string(b), res.Proto, err
}

func echoHead(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, "%s %s", r.UserAgent(), r.Header.Get("Accept-Encoding"))
}

func TestCalls(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	plain, secure := serve(t, echoHead), serveTLS(t, echoHead)
	for name, tc := range map[string]struct {
		target, want, proto string
		o                   Options
	}{
		"plain http to loopback":   {plain.URL, "sidepass identity", "HTTP/1.1", Options{}},
		"TLS with an extra root":   {secure.URL, "sidepass identity", "HTTP/2.0", Options{RootsPEM: rootsOf(secure)}},
		"our own User-Agent":       {plain.URL, "sidepass/1.2 identity", "HTTP/1.1", Options{UserAgent: "sidepass/1.2"}},
		"a body of just the limit": {plain.URL, "sidepass identity", "HTTP/1.1", Options{MaxBody: int64(len("sidepass identity"))}},
	} {
		t.Run(name, func(t *testing.T) {
			body, proto, err := call(t, client(t, tc.o), tc.target)
			if err != nil || body != tc.want || proto != tc.proto {
				t.Errorf("want %q over %s, got %q over %s (%v)", tc.want, tc.proto, body, proto, err)
			}
		})
	}
}

func TestFailures(t *testing.T) {
	elsewhere := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("a redirect was followed: %s %s", r.Method, r.URL)
	})
	redirect := func(status int) *httptest.Server {
		return serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", elsewhere.URL+"/there?code="+canary)
			w.WriteHeader(status)
		})
	}
	closed := httptest.NewServer(nil)
	closed.Close()
	hangs := make(chan struct{})
	defer close(hangs)
	raw := func(text string) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = c.Read(make([]byte, 4096))
				_, _ = io.WriteString(c, text)
				c.Close()
			}
		}()
		return "http://" + l.Addr().String()
	}
	old := serveTLS(t, echoHead, func(s *httptest.Server) {
		s.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	})
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, _ = z.Write(make([]byte, 1<<20))
	z.Close()

	for name, tc := range map[string]struct {
		target string
		o      Options
		kind   Kind
		status int
		say    string
	}{
		"301":                 {redirect(301).URL, Options{}, Unusable, 301, "redirects are not followed"},
		"302":                 {redirect(302).URL, Options{}, Unusable, 302, elsewhere.URL + "/there;"},
		"307":                 {redirect(307).URL, Options{}, Unusable, 307, "redirects are not followed"},
		"308":                 {redirect(308).URL, Options{}, Unusable, 308, "redirects are not followed"},
		"304 without a place": {serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(304) }).URL, Options{}, Unusable, 304, "nowhere"},
		"compressed": {serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(zipped.Bytes())
		}).URL, Options{}, Unusable, 200, "gzip"},
		"a body over the limit":    {serve(t, echoHead).URL, Options{MaxBody: 16}, Unusable, 0, "longer than 16 bytes"},
		"http to another machine":  {"http://idp.example.com/token?x=" + canary, Options{}, Unreachable, 0, "allow_http"},
		"http to a look-alike":     {"http://localhost.example.com/token", Options{}, Unreachable, 0, "allow_http"},
		"neither http nor https":   {"ftp://127.0.0.1/token", Options{}, Unreachable, 0, "neither"},
		"connection refused":       {closed.URL, Options{}, Broken, 0, closed.Listener.Addr().String()},
		"closed without an answer": {raw(""), Options{}, Broken, 0, "no answer"},
		"closed within the answer": {raw("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{"), Options{}, Broken, 0, "no answer"},
		"not HTTP":                 {raw("SSH-2.0-" + canary + "\r\n\r\n"), Options{}, Unusable, 0, "not HTTP"},
		"a field that is not one":  {raw("HTTP/1.1 200 OK\r\n" + canary + "\r\n\r\n"), Options{}, Unusable, 0, "not HTTP"},
		"hangs before the answer":  {serve(t, func(http.ResponseWriter, *http.Request) { <-hangs }).URL, Options{Timeout: 50 * time.Millisecond}, Timeout, 0, "within 50ms"},
		"hangs within the answer": {serve(t, func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "{")
			w.(http.Flusher).Flush()
			<-hangs
		}).URL, Options{Timeout: 50 * time.Millisecond}, Timeout, 0, "within 50ms"},
		"a root nobody trusts":       {serveTLS(t, echoHead).URL, Options{}, Unreachable, 0, "ca_file"},
		"TLS where there is none":    {strings.Replace(serve(t, echoHead).URL, "http:", "https:", 1), Options{}, Unreachable, 0, "does it speak TLS"},
		"TLS 1.1":                    {old.URL, Options{RootsPEM: rootsOf(old)}, Unreachable, 0, "tls"},
		"a proxy that is not there":  {"https://idp.example.com/", Options{ProxyURL: mustParse("http://user:" + canary + "@" + closed.Listener.Addr().String())}, Broken, 0, "proxyconnect"},
		"a proxy that wants a login": {"https://idp.example.com/", Options{ProxyURL: mustParse(serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(407) }).URL)}, Unreachable, 407, "proxy_url"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := call(t, client(t, tc.o), tc.target)
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("want an *Error, got %T %v", err, err)
			}
			if e.Kind != tc.kind || e.Status != tc.status || !strings.Contains(e.Detail, tc.say) {
				t.Errorf("want kind %d, status %d and %q, got %d, %d, %q", tc.kind, tc.status, tc.say, e.Kind, e.Status, e.Detail)
			}
			if s := fmt.Sprintf("%v %+v %#v", err, err, err); strings.Contains(s, canary) {
				t.Errorf("the error shows a secret: %s", s)
			}
		})
	}
}

func TestNameThatDoesNotResolve(t *testing.T) {
	r := httptest.NewRequest("GET", "https://idp.invalid/token?x="+canary, nil)
	err := client(t, Options{}).trouble(r, &net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: "idp.invalid", IsNotFound: true}})
	var e *Error
	if !errors.As(err, &e) || e.Kind != Unreachable || !strings.Contains(e.Detail, "cannot be resolved") || strings.Contains(e.Detail, canary) {
		t.Errorf("got %v", err)
	}
}

func mustParse(s string) *url.URL {
	u, err := url.Parse(s)
	if err != nil {
		panic(err)
	}
	return u
}

func TestThroughAProxy(t *testing.T) {
	var through string
	proxy := serve(t, func(w http.ResponseWriter, r *http.Request) {
		through = r.URL.String()
		_, _ = io.WriteString(w, "proxied")
	})
	body, _, err := call(t, client(t, Options{ProxyURL: mustParse(proxy.URL), AllowHTTP: true}), "http://idp.example.com/token")
	if err != nil || body != "proxied" || through != "http://idp.example.com/token" {
		t.Errorf("want the call through the proxy, got %q %q %v", body, through, err)
	}
}

func TestClientCertificateIsAskedForAtEachHandshake(t *testing.T) {
	s := serveTLS(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, len(r.TLS.PeerCertificates)) },
		func(s *httptest.Server) { s.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert} })
	asked := 0
	c := client(t, Options{RootsPEM: rootsOf(s), ClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		asked++
		return &s.TLS.Certificates[0], nil
	}})
	for n := 1; n <= 2; n++ {
		body, _, err := call(t, c, s.URL)
		if err != nil || body != "1" || asked != n {
			t.Errorf("call %d: want one certificate, asked for %d times, got %q, %d (%v)", n, n, body, asked, err)
		}
		c.CloseIdle()
	}
	if _, _, err := call(t, client(t, Options{RootsPEM: rootsOf(s)}), s.URL); err == nil {
		t.Error("without a certificate: want an error")
	}
}

func TestCancelledCallIsTheCallersError(t *testing.T) {
	hangs := make(chan struct{})
	s := serve(t, func(http.ResponseWriter, *http.Request) { <-hangs })
	defer close(hangs)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	r, _ := http.NewRequestWithContext(ctx, "GET", s.URL, nil)
	if _, err := client(t, Options{}).Do(r); !errors.Is(err, context.Canceled) {
		t.Errorf("want context.Canceled, got %v", err)
	}
}

func TestAnsweredIsToldOfEveryAnswer(t *testing.T) {
	secure := serveTLS(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/moved" {
			w.Header().Set("Location", "/")
			w.WriteHeader(http.StatusFound)
		}
		_, _ = io.WriteString(w, "whole")
	})
	var told []string
	c := client(t, Options{RootsPEM: rootsOf(secure), Answered: func(res *http.Response) {
		told = append(told, fmt.Sprintf("%d %s %v", res.StatusCode, res.Request.URL.Path, res.TLS != nil))
	}})
	for _, path := range []string{"/good", "/moved"} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, secure.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := c.Do(r)
		if (err == nil) != (path == "/good") {
			t.Fatalf("%s: %v", path, err)
		}
		if err == nil {
			if text, err := io.ReadAll(res.Body); err != nil || string(text) != "whole" {
				t.Errorf("the body is %q, %v", text, err)
			}
			_ = res.Body.Close()
		}
	}
	if got := strings.Join(told, ", "); got != "200 /good true, 302 /moved true" {
		t.Errorf("told of %s", got)
	}
}

func TestClosingTheBodyEndsTheCall(t *testing.T) {
	r, _ := http.NewRequestWithContext(t.Context(), "GET", serve(t, echoHead).URL, nil)
	res, err := client(t, Options{Timeout: time.Hour}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	call := res.Request.Context()
	if call.Err() != nil {
		t.Fatal("the call ended before its body was read")
	}
	res.Body.Close()
	if call.Err() == nil {
		t.Error("the call's timer runs on after its body was closed")
	}
}

func TestCheck(t *testing.T) {
	strict, lax := client(t, Options{}), client(t, Options{AllowHTTP: true})
	for target, want := range map[string][2]bool{ // allowed by the strict one, by the lax one
		"https://idp.example.com/token": {true, true},
		"http://idp.example.com/token":  {false, true},
		"http://localhost:8080/token":   {true, true},
		"http://127.0.0.1/token":        {true, true},
		"http://127.9.9.9:1/token":      {true, true},
		"http://[::1]:1/token":          {true, true},
		"http://127.0.0.1.nip.io/":      {false, true},
		"http://169.254.169.254/":       {false, true},
		"file:///etc/passwd":            {false, false},
		"ldap://idp.example.com/":       {false, false},
		"/token":                        {false, false},
		"https://":                      {false, false},
		"":                              {false, false},
		"https://a b/":                  {false, false},
	} {
		if got := [2]bool{strict.Check(target) == nil, lax.Check(target) == nil}; got != want {
			t.Errorf("%q: want allowed %v (strict, with allow_http), got %v", target, want, got)
		}
	}
}

func TestRootsThatAreNone(t *testing.T) {
	if _, err := New(Options{RootsPEM: []byte("-----BEGIN NOTHING-----")}); err == nil {
		t.Error("want an error for PEM without a certificate")
	}
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{"plain": "plain", "a\r\nb\x1b[31m": "a??b?[31m", "grüße": "gr??e", "0123456789x": "0123456789..."} {
		if got := Printable(in, 10); got != want {
			t.Errorf("%q: want %q, got %q", in, want, got)
		}
	}
}
