package issuer_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/sidepass/sidepass/test/issuer"
)

func TestGrant(t *testing.T) {
	s := start(t, issuer.Options{})
	for _, c := range []struct {
		name, form string
		change     func(*http.Request)
		sub        string
		aud, scope any
	}{
		{name: "the least", form: "grant_type=client_credentials", sub: "svc a"},
		{name: "secret in the form", form: "grant_type=client_credentials&client_id=svc+a&client_secret=" + url.QueryEscape(secret),
			change: header("Authorization"), sub: "svc a"},
		{name: "basic, and the same client_id", form: "grant_type=client_credentials&client_id=svc+a", sub: "svc a"},
		{name: "one audience is a string", form: "grant_type=client_credentials&audience=https://orders", sub: "svc a", aud: "https://orders"},
		{name: "audiences and resources are a list, each once", sub: "svc a",
			form: "grant_type=client_credentials&resource=urn:r&audience=a&audience=b&audience=a&resource=https://r/",
			aud:  []any{"a", "b", "urn:r", "https://r/"}},
		{name: "empty parameters count as absent", form: "grant_type=client_credentials&scope=&audience=&resource=", sub: "svc a"},
		{name: "unknown parameters are ignored", form: "grant_type=client_credentials&organization=o", sub: "svc a"},
		{name: "scopes, each once", form: "grant_type=client_credentials&scope=read+write+read", sub: "svc a", scope: "read write"},
		{name: "what the client may have", form: "grant_type=client_credentials&scope=write&audience=https://orders&resource=https://stock",
			change: basic("narrow", "canary-narrow"), sub: "narrow", aud: []any{"https://orders", "https://stock"}, scope: "write"},
		{name: "content type with a charset", form: "grant_type=client_credentials",
			change: header("Content-Type", "application/x-www-form-urlencoded; charset=UTF-8"), sub: "svc a"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.change == nil {
				c.change = func(*http.Request) {}
			}
			got := post(t, s.URL()+"/token", c.form, c.change)
			if got.status != 200 {
				t.Fatalf("%d %s", got.status, got.body)
			}
			equal(t, "Cache-Control", got.header.Get("Cache-Control"), "no-store")
			equal(t, "Content-Type", got.header.Get("Content-Type"), "application/json")
			equal(t, "token_type", got.json["token_type"], "Bearer")
			equal(t, "expires_in", got.json["expires_in"], 300.0)
			equal(t, "scope", got.json["scope"], c.scope)
			noSecret(t, got)

			typ, claims := verify(t, s, got.json["access_token"].(string))
			equal(t, "typ", typ, "at+jwt")
			equal(t, "iss", claims["iss"], s.URL())
			equal(t, "sub", claims["sub"], c.sub)
			equal(t, "client_id", claims["client_id"], c.sub)
			equal(t, "aud", claims["aud"], c.aud)
			equal(t, "scope claim", claims["scope"], c.scope)
			equal(t, "exp - iat", claims["exp"].(float64)-claims["iat"].(float64), 300.0)
		})
	}
}

func TestRefusal(t *testing.T) {
	s := start(t, issuer.Options{})
	const ok = "grant_type=client_credentials"
	for _, c := range []struct {
		name, query, form string
		change            func(*http.Request)
		status            int
		code              string
	}{
		{name: "unknown client", form: ok, change: basic("nobody", "canary"), status: 401, code: "invalid_client"},
		{name: "wrong secret", form: ok, change: basic("svc a", "canary"), status: 401, code: "invalid_client"},
		{name: "another client's secret", form: ok, change: basic("narrow", secret), status: 401, code: "invalid_client"},
		{name: "no credentials", form: ok, change: header("Authorization"), status: 401, code: "invalid_client"},
		{name: "only a client_id", form: ok + "&client_id=narrow", change: header("Authorization"), status: 401, code: "invalid_client"},
		{name: "basic that is not form-encoded", form: ok, change: func(r *http.Request) { r.SetBasicAuth("svc a", secret) }, status: 401, code: "invalid_client"},
		{name: "another scheme", form: ok, change: header("Authorization", "Bearer canary"), status: 401, code: "invalid_client"},
		{name: "an assertion", form: ok + "&client_id=narrow&client_assertion=a.b.c", change: header("Authorization"), status: 401, code: "invalid_client"},

		{name: "basic and post", form: ok + "&client_id=svc+a&client_secret=" + url.QueryEscape(secret), status: 400, code: "invalid_request"},
		{name: "basic and an assertion", form: ok + "&client_assertion=a.b.c", status: 400, code: "invalid_request"},
		{name: "post and an assertion", form: ok + "&client_id=narrow&client_secret=canary-narrow&client_assertion=a.b.c",
			change: header("Authorization"), status: 400, code: "invalid_request"},
		{name: "basic for one client, client_id of another", form: ok + "&client_id=narrow", status: 400, code: "invalid_request"},
		{name: "two Authorization headers", form: ok, change: func(r *http.Request) {
			r.Header["Authorization"] = append(r.Header["Authorization"], r.Header["Authorization"]...)
		}, status: 400, code: "invalid_request"},
		{name: "credentials in the URI", query: "?client_id=narrow&client_secret=canary-narrow", form: ok, status: 400, code: "invalid_request"},

		{name: "no grant_type", form: "scope=read", status: 400, code: "invalid_request"},
		{name: "grant_type in the URI alone", query: "?" + ok, form: "", status: 400, code: "invalid_request"},
		{name: "another grant", form: "grant_type=password", status: 400, code: "unsupported_grant_type"},
		{name: "grant_type twice", form: ok + "&" + ok, status: 400, code: "invalid_request"},
		{name: "scope twice", form: ok + "&scope=a&scope=b", status: 400, code: "invalid_request"},
		{name: "an unknown parameter twice", form: ok + "&x=1&x=2", status: 400, code: "invalid_request"},
		{name: "not a form by its type", form: ok, change: header("Content-Type", "application/json"), status: 400, code: "invalid_request"},
		{name: "no type", form: ok, change: header("Content-Type"), status: 400, code: "invalid_request"},
		{name: "not a form by its content", form: ok + "&a=%zz", status: 400, code: "invalid_request"},
		{name: "too large", form: ok + "&a=" + strings.Repeat("a", 64<<10), status: 413, code: "invalid_request"},

		{name: "a scope the client may not have", form: ok + "&scope=read+admin", change: basic("narrow", "canary-narrow"), status: 400, code: "invalid_scope"},
		{name: "scopes two spaces apart", form: ok + "&scope=read++write", status: 400, code: "invalid_scope"},
		{name: "a scope with a quotation mark", form: ok + "&scope=%22", status: 400, code: "invalid_scope"},
		{name: "a scope with a backslash", form: ok + "&scope=%5c", status: 400, code: "invalid_scope"},
		{name: "an audience the client may not have", form: ok + "&audience=https://orders&audience=https://bank", change: basic("narrow", "canary-narrow"), status: 400, code: "invalid_target"},
		{name: "a resource the client may not have", form: ok + "&resource=https://bank", change: basic("narrow", "canary-narrow"), status: 400, code: "invalid_target"},
		{name: "a relative resource", form: ok + "&resource=orders", status: 400, code: "invalid_target"},
		{name: "a resource with a fragment", form: ok + "&resource=https://orders%23a", status: 400, code: "invalid_target"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.change == nil {
				c.change = func(*http.Request) {}
			}
			got := post(t, s.URL()+"/token"+c.query, c.form, c.change)
			equal(t, "status", got.status, c.status)
			equal(t, "error", got.json["error"], c.code)
			equal(t, "access_token", got.json["access_token"], nil)
			equal(t, "Cache-Control", got.header.Get("Cache-Control"), "no-store")
			challenge := ""
			if c.status == 401 {
				challenge = `Basic realm="issuer"`
			}
			equal(t, "WWW-Authenticate", got.header.Get("WWW-Authenticate"), challenge)
			noSecret(t, got)
		})
	}
}

func TestMethodsAndPaths(t *testing.T) {
	s := start(t, issuer.Options{})
	for _, c := range []struct {
		method, path string
		status       int
		allow        string
	}{
		{"GET", "/token", 405, "POST"},
		{"PUT", "/token", 405, "POST"},
		{"GET", "/introspect", 405, "POST"},
		{"GET", "/revoke", 405, "POST"},
		{"POST", "/jwks", 405, "GET, HEAD"},
		{"POST", "/.well-known/openid-configuration", 405, "GET, HEAD"},
		{"HEAD", "/jwks", 200, ""},
		{"HEAD", "/.well-known/oauth-authorization-server", 200, ""},
		{"GET", "/", 404, ""},
		{"GET", "/jwks/", 404, ""},
		{"GET", "//jwks", 404, ""},
		{"POST", "/token/x", 404, ""},
	} {
		t.Run(c.method+" "+c.path, func(t *testing.T) {
			got := do(t, request(t, c.method, s.URL()+c.path, ""))
			equal(t, "status", got.status, c.status)
			equal(t, "Allow", strings.Join(got.header["Allow"], ", "), c.allow)
		})
	}
}
