package issuer_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/sidepass/sidepass/test/issuer"
)

func TestMetadata(t *testing.T) {
	for _, c := range []struct{ name, issuer, oidc, oauth, endpoints string }{
		{"the listener's URL", "", "/.well-known/openid-configuration", "/.well-known/oauth-authorization-server", ""},
		{"a name", "https://issuer.example", "/.well-known/openid-configuration", "/.well-known/oauth-authorization-server", "https://issuer.example"},
		{"a trailing slash", "https://issuer.example/", "/.well-known/openid-configuration", "/.well-known/oauth-authorization-server", "https://issuer.example"},
		{"a path", "https://issuer.example/tenant/1", "/tenant/1/.well-known/openid-configuration", "/.well-known/oauth-authorization-server/tenant/1", "https://issuer.example/tenant/1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := start(t, issuer.Options{Issuer: c.issuer})
			if c.issuer == "" {
				c.issuer, c.endpoints = s.URL(), s.URL()
			}
			equal(t, "Issuer", s.Issuer(), c.issuer)
			for _, path := range []string{c.oidc, c.oauth} {
				got := get(t, s.URL()+path)
				equal(t, "status", got.status, 200)
				equal(t, "Content-Type", got.header.Get("Content-Type"), "application/json")
				for name, want := range map[string]any{
					"issuer":                                c.issuer,
					"token_endpoint":                        c.endpoints + "/token",
					"jwks_uri":                              c.endpoints + "/jwks",
					"introspection_endpoint":                c.endpoints + "/introspect",
					"revocation_endpoint":                   c.endpoints + "/revoke",
					"grant_types_supported":                 []any{"client_credentials"},
					"token_endpoint_auth_methods_supported": []any{"client_secret_basic", "client_secret_post"},
					"id_token_signing_alg_values_supported": []any{"ES256"},
				} {
					equal(t, name, got.json[name], want)
				}
			}
			equal(t, "calls", s.Calls(issuer.Discovery), 2)
			path := strings.TrimPrefix(strings.TrimPrefix(c.endpoints, "https://issuer.example"), s.URL())
			equal(t, "jwks", get(t, s.URL()+path+"/jwks").status, 200)
			equal(t, "iss", part(t, s.Mint(nil), 1)["iss"], c.issuer)
		})
	}
}

func TestOptionsAreChecked(t *testing.T) {
	key := []*issuer.Key{oneKey()}
	client := issuer.Client{ID: "a", Secret: "canary"}
	good := issuer.Options{Issuer: "https://issuer.example", Keys: key, Clients: []issuer.Client{client}, Lifetime: time.Second}
	if _, err := issuer.New(good); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, reason string
		broken       func(*issuer.Options)
	}{
		{"relative issuer", "not an http or https URL", func(o *issuer.Options) { o.Issuer = "issuer.example" }},
		{"another scheme", "not an http or https URL", func(o *issuer.Options) { o.Issuer = "ftp://issuer.example" }},
		{"user in the issuer", "no user", func(o *issuer.Options) { o.Issuer = "https://a:canary@issuer.example" }},
		{"not a URL", "not a URL", func(o *issuer.Options) { o.Issuer = "https://a b" }},
		{"query", "no query", func(o *issuer.Options) { o.Issuer += "?a" }},
		{"empty query", "no query", func(o *issuer.Options) { o.Issuer += "?" }},
		{"fragment", "no fragment", func(o *issuer.Options) { o.Issuer += "#" }},
		{"client without ID", "client 1 needs an ID", func(o *issuer.Options) { o.Clients = []issuer.Client{client, {Secret: "canary"}} }},
		{"client without secret", "and a secret", func(o *issuer.Options) { o.Clients = []issuer.Client{{ID: "b"}} }},
		{"client twice", `client "a" is there twice`, func(o *issuer.Options) { o.Clients = []issuer.Client{client, client} }},
		{"short lifetime", "shorter than a second", func(o *issuer.Options) { o.Lifetime = time.Millisecond }},
		{"negative lifetime", "shorter than a second", func(o *issuer.Options) { o.Lifetime = -time.Hour }},
		{"unknown algorithm", `no key for algorithm "HS256"`, func(o *issuer.Options) { o.Keys, o.Algorithms = nil, []string{"HS256"} }},
		{"keys and algorithms", "both set", func(o *issuer.Options) { o.Algorithms = []string{"ES256"} }},
		{"nil key", "is nil", func(o *issuer.Options) { o.Keys = []*issuer.Key{nil} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := good
			c.broken(&o)
			_, err := issuer.New(o)
			if err == nil || !strings.Contains(err.Error(), c.reason) {
				t.Fatalf("got %v, want a reason with %q", err, c.reason)
			}
			if strings.Contains(err.Error(), "canary") {
				t.Error("the error repeats a secret")
			}
		})
	}
}

func TestAHandlerAloneNeedsAnIssuer(t *testing.T) {
	s, err := issuer.New(issuer.Options{Keys: []*issuer.Key{oneKey()}})
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest("GET", "/jwks", nil))
	equal(t, "status", w.Code, 500)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestServeDrains(t *testing.T) {
	s, err := issuer.New(issuer.Options{Keys: []*issuer.Key{oneKey()}})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	unused, err := net.Dial("tcp", l.Addr().String()) // in reserve, as clients do; it must not hold the server up
	if err != nil {
		t.Fatal(err)
	}
	defer unused.Close()
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, l) }()

	entered := make(chan struct{})
	s.SetResponse(issuer.JWKS, func(_ http.ResponseWriter, r *http.Request) bool {
		close(entered)
		<-r.Context().Done()
		return false
	})
	answered := make(chan int, 1)
	go func() {
		res, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(httptest.NewRequest("GET", "http://"+l.Addr().String()+"/jwks", nil))
		if err != nil {
			answered <- 0
			return
		}
		_, _ = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
		answered <- res.StatusCode
	}()
	<-entered
	stop()
	equal(t, "the request in flight", <-answered, 200)
	if err := <-served; err != nil {
		t.Error(err)
	}
	if c, err := net.Dial("tcp", l.Addr().String()); err == nil {
		_ = c.Close()
		t.Error("it still listens")
	}
	if _, err := unused.Read(make([]byte, 1)); err == nil {
		t.Error("the unused connection is still open")
	}
}

func TestServeReportsItsListener(t *testing.T) {
	s, err := issuer.New(issuer.Options{Keys: []*issuer.Key{oneKey()}})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	if err := s.Serve(t.Context(), l); err == nil {
		t.Error("served on a closed listener")
	}
}

func TestAWildcardAddressReadsAsLoopback(t *testing.T) {
	s, err := issuer.New(issuer.Options{Keys: []*issuer.Key{oneKey()}})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	stop()
	go func() { served <- s.Serve(ctx, l) }()
	if err := <-served; err != nil {
		t.Error(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	equal(t, "URL", s.URL(), "http://127.0.0.1:"+port)
}

func TestCloseTwice(t *testing.T) {
	s := start(t, issuer.Options{})
	for range 2 {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
