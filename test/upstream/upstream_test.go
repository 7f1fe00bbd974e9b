package upstream_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/sidepass/sidepass/test/upstream"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T, o upstream.Options) *upstream.Server {
	t.Helper()
	s, err := upstream.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// client speaks the given protocols, no others, and trusts the server's CA alone.
func client(t *testing.T, s *upstream.Server, set ...func(*http.Protocols, bool)) *http.Client {
	t.Helper()
	tr := &http.Transport{Protocols: new(http.Protocols), DisableCompression: true}
	for _, f := range set {
		f(tr.Protocols, true)
	}
	if len(set) == 0 {
		tr.Protocols.SetHTTP1(true)
	}
	if s.CAPEM() != nil {
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(s.CAPEM()) {
			t.Fatal("CAPEM is not a certificate")
		}
		tr.TLSClientConfig = &tls.Config{RootCAs: roots}
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func transport(c *http.Client) *http.Transport { return c.Transport.(*http.Transport) }

func request(t *testing.T, method, target string, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, target, body)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// send returns the status and the body.
func send(t *testing.T, c *http.Client, r *http.Request) (int, string) {
	t.Helper()
	res, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

// echo is what the server says that it saw, which must be what it recorded.
func echo(t *testing.T, s *upstream.Server, c *http.Client, r *http.Request) upstream.Seen {
	t.Helper()
	status, body := send(t, c, r)
	equal(t, "status", status, 200)
	var got upstream.Seen
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatalf("%v in %q", err, body)
	}
	last, ok := s.Last()
	equal(t, "recorded", ok, true)
	equal(t, "echo", got, last)
	return got
}

func equal(t *testing.T, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func post(t *testing.T, s *upstream.Server, body string) *http.Request {
	t.Helper()
	return request(t, "POST", s.URL()+"/a%2Fb/../c;d//e?q=%zz&&", strings.NewReader(body))
}
