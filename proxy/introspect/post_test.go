package introspect

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/sidepass/sidepass/proxy"
	"github.com/sidepass/sidepass/proxy/issuerhttp"
	"github.com/sidepass/sidepass/proxy/verify"
	authz "github.com/sidepass/sidepass/test/issuer"
)

func TestTheQuestion(t *testing.T) {
	const odd = `p%ss:w+rd &="é`
	basic := func(pair string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(pair)) }
	plain := url.Values{"token": {opaque}, "token_type_hint": {"access_token"}}
	with := func(pairs ...string) url.Values {
		form := url.Values{"token": {opaque}, "token_type_hint": {"access_token"}}
		for i := 0; i < len(pairs); i += 2 {
			form.Set(pairs[i], pairs[i+1])
		}
		return form
	}
	for _, c := range []struct {
		method, authorization string
		form                  url.Values
	}{
		{"", basic("svc%3Aa:p%25ss%3Aw%2Brd+%26%3D%22%C3%A9"), plain},
		{Basic, basic("svc%3Aa:p%25ss%3Aw%2Brd+%26%3D%22%C3%A9"), plain},
		{BasicRaw, basic("svc:a:" + odd), plain},
		{Post, "", with("client_id", "svc:a", "client_secret", odd)},
		{Assertion, "", with("client_id", "svc:a", "client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer", "client_assertion", "signed for "+endpoint)},
		{Certificate, "", with("client_id", "svc:a")},
	} {
		t.Run(c.method, func(t *testing.T) {
			w := newWorld(t, func(_ *world, o *Options) {
				o.Client = Client{ID: "svc:a", Method: c.method, Secret: func() string { return odd },
					Assertion: func(_ context.Context, endpoint string) (string, error) { return "signed for " + endpoint, nil }}
			})
			w.refuse(opaque, proxy.Inactive)
			form, header := w.idp.calls[0], w.idp.headers[0]
			if form.Encode() != c.form.Encode() {
				t.Errorf("asked with %v, want %v", form, c.form)
			}
			if header.Get("Authorization") != c.authorization || header.Get("Accept") != "application/json" || header.Get("Content-Type") != "application/x-www-form-urlencoded" {
				t.Errorf("header fields %v, want Authorization %q", header, c.authorization)
			}
		})
	}
}

// What goes wrong is said to the log, so that it can be put right, and not to the caller.
func TestWhatIsSaidOfAFailure(t *testing.T) {
	for name, c := range map[string]struct {
		answer any
		change func(*Options)
		say    []string
	}{
		"401":                       {answer: status(401), say: []string{"idp.example.com", "401", "client", "secret"}},
		"403":                       {answer: status(403), say: []string{"403", "may introspect"}},
		"500":                       {answer: status(500), say: []string{"answered 500"}},
		"502":                       {answer: status(502), say: []string{"answered 502"}},
		"204":                       {answer: status(204), say: []string{"answered 204"}},
		"429":                       {answer: &http.Response{StatusCode: 429}, say: []string{"answered 429"}},
		"garbage":                   {answer: "{", say: []string{"answer about a token is not JSON"}},
		"a claim of the wrong kind": {answer: good(m{"jti": 5}), say: []string{"jti"}},
		"too long":                  {answer: strings.Repeat(" ", maxAnswer+1), say: []string{"longer than 65536 bytes"}},
		"no connection":             {answer: errDown, say: []string{"no answer from the issuer"}},
		"no metadata": {change: func(o *Options) {
			o.Endpoint = fails(&issuerhttp.Error{Kind: issuerhttp.Unusable, Detail: "no metadata"})
		}, say: []string{"no metadata"}},
		"no endpoint":                {change: func(o *Options) { o.Endpoint = fails(errors.New("set introspection_endpoint")) }, say: []string{"idp", "set introspection_endpoint"}},
		"an endpoint that is no URL": {change: func(o *Options) { o.Endpoint = func(context.Context) (string, error) { return "http://%", nil } }, say: []string{"not a URL"}},
		"an assertion that is not made": {change: func(o *Options) {
			o.Client.Method, o.Client.Assertion = Assertion, func(context.Context, string) (string, error) { return "", errors.New("no key") }
		}, say: []string{"no key"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(_ *world, o *Options) {
				if c.change != nil {
					c.change(o)
				}
			})
			w.idp.sayAll(c.answer)
			if e := w.refuse(opaque, proxy.IntrospectionUnavailable); e.Detail != "" {
				t.Errorf("the caller is told %q", e.Detail)
			}
			said := w.failed()
			for _, s := range c.say {
				if !strings.Contains(said, s) {
					t.Errorf("%q does not say %q", said, s)
				}
			}
			w.mute(said)
			if steps, token := w.Explain(t.Context(), opaque, verify.Possession{}); len(steps) != 1 || steps[0].Name != "introspection" || steps[0].Err == nil || steps[0].Err.Reason != proxy.IntrospectionUnavailable || steps[0].Err.Detail != said || token != nil {
				t.Errorf("Explain says %v, want %q", steps, said)
			}
		})
	}
}

func fails(err error) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return "", err }
}

func TestNewRefuses(t *testing.T) {
	w := newWorld(t, nil)
	for name, f := range map[string]func(*Options){
		"no verifier":         func(o *Options) { o.Verifier = nil },
		"no endpoint":         func(o *Options) { o.Endpoint = nil },
		"no HTTP":             func(o *Options) { o.HTTP = nil },
		"no cache":            func(o *Options) { o.Cache = nil },
		"no issuer":           func(o *Options) { o.Issuer = "" },
		"no client":           func(o *Options) { o.Client.ID = "" },
		"no secret":           func(o *Options) { o.Client.Secret = nil },
		"no assertion":        func(o *Options) { o.Client.Method = Assertion },
		"an unknown method":   func(o *Options) { o.Client.Method = "client_secret_json" },
		"a negative age":      func(o *Options) { o.MaxAge = -1 },
		"a negative duration": func(o *Options) { o.Timeout = -1 },
	} {
		o := w.o
		f(&o)
		if _, err := New(o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if shown := fmt.Sprintf("%v %+v %#v", w.o, w.o, w.o); strings.Contains(shown, secret) {
		t.Error("the options print the secret")
	}
}

// With a real authorization server and the client that it is called with in earnest.
func TestWithAnAuthorizationServer(t *testing.T) {
	server, err := authz.Start(authz.Options{Clients: []authz.Client{{ID: "svc:a", Secret: secret + "%:é"}}, Algorithms: []string{"ES256"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	client, err := issuerhttp.New(issuerhttp.Options{Timeout: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.CloseIdle)
	for _, method := range []string{Basic, Post} {
		t.Run(method, func(t *testing.T) {
			w := newWorld(t, func(w *world, o *Options) {
				w.verify.Trusts[0].Issuer = server.Issuer()
				o.HTTP, o.Endpoint = client, func(context.Context) (string, error) { return server.URL() + "/introspect", nil }
				o.Client = Client{ID: "svc:a", Method: method, Secret: func() string { return secret + "%:é" }}
			})
			token := server.MintOpaque(m{"aud": audience, "scope": "read:orders", "sub": "alice"})
			if got := w.accept(token); got.Subject != "alice" || !got.HasScope("read:orders") || got.Issuer != server.Issuer() {
				t.Errorf("token %+v", got)
			}
			w.refuse(server.MintOpaque(m{"aud": "x"}), proxy.WrongAudience)
			w.refuse("unknown", proxy.Inactive)
			revoked := server.MintOpaque(m{"aud": audience})
			server.Revoke(revoked)
			w.refuse(revoked, proxy.Inactive)
			server.Down(true)
			w.refuse("down", proxy.IntrospectionUnavailable)
			server.Down(false)
			if said := w.failed(); said == "" {
				t.Error("the failure was not reported")
			}
			wrong := w.reloaded(func(_ *verify.Options, o *Options) { o.Client.Secret = func() string { return "wrong" } })
			wrong.refuse("new", proxy.IntrospectionUnavailable)
			if got := wrong.accept(token); got.Subject != "alice" {
				t.Error("what was known is not used")
			}
			if said := w.failed(); !strings.Contains(said, "401") { // both report to the same observer
				t.Errorf("%q", said)
			}
			w.reloaded(func(_ *verify.Options, o *Options) {}).refuse("down", proxy.Inactive)
		})
	}
}
