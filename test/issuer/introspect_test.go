package issuer_test

import (
	"net/url"
	"testing"
	"time"

	"github.com/sidepass/sidepass/test/issuer"
)

func introspect(t *testing.T, s *issuer.Server, token string) map[string]any {
	t.Helper()
	got := post(t, s.URL()+"/introspect", url.Values{"token": {token}, "token_type_hint": {"access_token"}}.Encode())
	equal(t, "status", got.status, 200)
	equal(t, "Cache-Control", got.header.Get("Cache-Control"), "no-store")
	return got.json
}

func TestIntrospection(t *testing.T) {
	s := start(t, issuer.Options{})
	inactive := map[string]any{"active": false}

	t.Run("a signed token", func(t *testing.T) {
		got := introspect(t, s, s.Mint(map[string]any{"aud": "a", "scope": "read"}))
		for name, want := range map[string]any{"active": true, "token_type": "Bearer", "iss": s.URL(), "sub": "svc a", "client_id": "svc a", "aud": "a", "scope": "read"} {
			equal(t, name, got[name], want)
		}
	})
	t.Run("an opaque token", func(t *testing.T) {
		token := s.MintOpaque(map[string]any{"scope": "read", "active": "no"})
		got := introspect(t, s, token)
		equal(t, "active", got["active"], true)
		equal(t, "scope", got["scope"], "read")
		equal(t, "iss", got["iss"], s.URL())
		s.Revoke(token)
		equal(t, "revoked", introspect(t, s, token), inactive)
	})
	t.Run("signed tokens across a rotation", func(t *testing.T) {
		old := s.Mint(nil)
		s.Rotate()
		equal(t, "old key", introspect(t, s, old)["active"], true)
		equal(t, "new key", introspect(t, s, s.Mint(nil))["active"], true)
		if err := s.Withdraw(oneKey().ID()); err != nil {
			t.Fatal(err)
		}
		equal(t, "key withdrawn", introspect(t, s, old), inactive)
	})
	t.Run("an opaque token for ever", func(t *testing.T) {
		equal(t, "active", introspect(t, s, s.MintOpaque(map[string]any{"exp": nil}))["active"], true)
	})

	ago := time.Now().Add(-time.Minute).Unix()
	stranger, err := issuer.NewKey("ES256")
	if err != nil {
		t.Fatal(err)
	}
	revoked := s.Mint(nil)
	s.Revoke(revoked)
	for name, token := range map[string]string{
		"revoked":          revoked,
		"expired":          s.Mint(map[string]any{"exp": ago}),
		"opaque, expired":  s.MintOpaque(map[string]any{"exp": ago}),
		"without exp":      s.Mint(map[string]any{"exp": nil}),
		"another issuer's": s.Mint(map[string]any{"iss": "https://other"}),
		"unpublished key":  s.MintWith(nil, issuer.MintOptions{Key: stranger}),
		"our kid, not our key": s.MintWith(nil, issuer.MintOptions{Key: stranger,
			Header: map[string]any{"kid": s.Key("ES256").ID()}}),
		"unsigned": s.MintWith(nil, issuer.MintOptions{Header: map[string]any{"alg": "none"}, Sign: func([]byte) []byte { return nil }}),
		"garbage":  "a.b.c",
	} {
		t.Run(name, func(t *testing.T) { equal(t, "answer", introspect(t, s, token), inactive) })
	}
}

func TestRevocation(t *testing.T) {
	s := start(t, issuer.Options{})
	token := grant(t, s)
	form := url.Values{"token": {token}}.Encode()

	got := post(t, s.URL()+"/revoke", form, basic("narrow", "canary-narrow"))
	equal(t, "another client's", got.status, 400)
	equal(t, "another client's", got.json["error"], "unauthorized_client")
	equal(t, "still active", introspect(t, s, token)["active"], true)

	for range 2 { // the second time it is unknown, which is fine too
		got = post(t, s.URL()+"/revoke", form)
		equal(t, "status", got.status, 200)
		equal(t, "body", got.body, "")
		equal(t, "active", introspect(t, s, token)["active"], false)
	}
	equal(t, "an unknown token", post(t, s.URL()+"/revoke", "token=x").status, 200)
}

func TestIntrospectionAndRevocationNeedAClient(t *testing.T) {
	s := start(t, issuer.Options{})
	token := grant(t, s)
	form := url.Values{"token": {token}}.Encode()
	for _, path := range []string{"/introspect", "/revoke"} {
		got := post(t, s.URL()+path, form, basic("svc a", "wrong"))
		equal(t, path, got.status, 401)
		equal(t, path, got.json["error"], "invalid_client")
		equal(t, path, got.header.Get("WWW-Authenticate"), `Basic realm="issuer"`)
		for _, bad := range []string{"", "token=", form + "&" + form} {
			got = post(t, s.URL()+path, bad)
			equal(t, path+" "+bad, got.status, 400)
			equal(t, path+" "+bad, got.json["error"], "invalid_request")
		}
	}
	equal(t, "active", introspect(t, s, token)["active"], true)
}
