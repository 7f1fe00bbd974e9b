package issuer_test

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/sidepass/sidepass/test/issuer"
)

func TestTokenVerifiesWithThePublishedKey(t *testing.T) {
	s := start(t, issuer.Options{Algorithms: []string{"RS256", "PS256", "ES256", "EdDSA", "ES384", "ES512"}})
	for _, alg := range []string{"RS256", "PS256", "ES256", "EdDSA", "ES384", "ES512"} {
		t.Run(alg, func(t *testing.T) {
			token := s.MintWith(map[string]any{"aud": "https://orders"}, issuer.MintOptions{Key: s.Key(alg)})
			_, claims := verify(t, s, token)
			equal(t, "aud", claims["aud"], "https://orders")

			head := part(t, token, 0)
			equal(t, "alg", head["alg"], alg)
			equal(t, "kid", head["kid"], s.Key(alg).ID())
		})
	}
	t.Run("the first signs", func(t *testing.T) {
		equal(t, "alg", part(t, s.Mint(nil), 0)["alg"], "RS256")
	})
	t.Run("the PSS salt is as long as the hash", func(t *testing.T) { // RFC 7518 section 3.5
		token := s.MintWith(nil, issuer.MintOptions{Key: s.Key("PS256")})
		input, sig, _ := cutLast(token)
		sum := sha256.Sum256([]byte(input))
		if err := rsa.VerifyPSS(s.Key("PS256").Public().(*rsa.PublicKey), crypto.SHA256, sum[:], sig, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}); err != nil {
			t.Error(err)
		}
	})
	t.Run("a kid is the thumbprint", func(t *testing.T) {
		set := published(t, s)
		equal(t, "keys", len(set.Keys), 6)
		for _, k := range set.Keys {
			sum, err := k.Thumbprint(crypto.SHA256)
			if err != nil {
				t.Fatal(err)
			}
			equal(t, k.Algorithm, k.KeyID, base64.RawURLEncoding.EncodeToString(sum))
			if !k.IsPublic() {
				t.Errorf("%s: a private key is published", k.Algorithm)
			}
		}
	})
}

func TestDefaultAlgorithms(t *testing.T) {
	s, err := issuer.New(issuer.Options{Issuer: "https://issuer.example"})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, k := range s.Keys() {
		got = append(got, k.Algorithm())
	}
	equal(t, "algorithms", got, []string{"RS256", "PS256", "ES256", "EdDSA"})
}

func TestRotation(t *testing.T) {
	s := start(t, issuer.Options{})
	old := oneKey()
	before := s.Mint(nil)
	equal(t, "published", kids(published(t, s)), []string{old.ID()})
	if err := s.Withdraw(old.ID()); err == nil {
		t.Error("the key that signs was withdrawn")
	}

	fresh := s.Rotate()
	equal(t, "published after Rotate", kids(published(t, s)), []string{old.ID(), fresh.ID()})
	equal(t, "the algorithm stays", fresh.Algorithm(), "ES256")
	equal(t, "the newest of its algorithm", s.Key("ES256"), fresh)
	after := s.Mint(nil)
	equal(t, "kid after Rotate", part(t, after, 0)["kid"], fresh.ID())
	equal(t, "kid from the token endpoint", part(t, grant(t, s), 0)["kid"], fresh.ID())
	verify(t, s, before)
	verify(t, s, after)

	if err := s.Withdraw(old.ID()); err != nil {
		t.Error(err)
	}
	equal(t, "published after Withdraw", kids(published(t, s)), []string{fresh.ID()})
	verify(t, s, after)
	if err := s.Withdraw(old.ID()); err == nil {
		t.Error("a key was withdrawn twice")
	}
	equal(t, "no key for an algorithm", s.Key("RS256"), (*issuer.Key)(nil))
}

func TestKeysOutliveTheServer(t *testing.T) {
	first := start(t, issuer.Options{Issuer: "https://issuer.example"})
	token := first.Mint(nil)
	second := start(t, issuer.Options{Issuer: "https://issuer.example", Keys: first.Keys()})
	verify(t, second, token)
}

func TestAKeyDoesNotPrintItself(t *testing.T) {
	k := oneKey()
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		equal(t, format, fmt.Sprintf(format, k), "ES256 "+k.ID())
	}
}

func kids(set jose.JSONWebKeySet) (ids []string) {
	for _, k := range set.Keys {
		ids = append(ids, k.KeyID)
	}
	return ids
}

// part decodes a segment of a token without judging it.
func part(t *testing.T, token string, n int) map[string]any {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[n])
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func cutLast(token string) (input string, sig []byte, err error) {
	i := strings.LastIndexByte(token, '.')
	sig, err = base64.RawURLEncoding.DecodeString(token[i+1:])
	return token[:i], sig, err
}

// grant is a token from the token endpoint.
func grant(t *testing.T, s *issuer.Server) string {
	t.Helper()
	got := post(t, s.URL()+"/token", "grant_type=client_credentials")
	if got.status != 200 {
		t.Fatalf("%d %s", got.status, got.body)
	}
	return got.json["access_token"].(string)
}

func TestMint(t *testing.T) {
	s := start(t, issuer.Options{})
	t.Run("claims over the usual ones", func(t *testing.T) {
		claims := part(t, s.Mint(map[string]any{"exp": nil, "aud": []string{"a", "b"}, "sub": "someone", "deep": map[string]any{"x": nil}}), 1)
		names := make([]string, 0, len(claims))
		for name := range claims {
			names = append(names, name)
		}
		slices.Sort(names)
		equal(t, "claims", names, []string{"aud", "client_id", "deep", "iat", "iss", "jti", "sub"})
		equal(t, "sub", claims["sub"], "someone")
		equal(t, "client_id", claims["client_id"], "svc a")
		equal(t, "aud", claims["aud"], []any{"a", "b"})
	})
	t.Run("each has its own jti", func(t *testing.T) {
		if part(t, s.Mint(nil), 1)["jti"] == part(t, s.Mint(nil), 1)["jti"] {
			t.Error("two tokens share a jti")
		}
	})
	t.Run("header over the usual one", func(t *testing.T) {
		token := s.MintWith(nil, issuer.MintOptions{Header: map[string]any{"alg": "none", "typ": nil, "kid": "k", "crit": []string{"b64"}}})
		equal(t, "header", part(t, token, 0), map[string]any{"alg": "none", "kid": "k", "crit": []any{"b64"}})
		input, sig, err := cutLast(token)
		if err != nil || !strings.Contains(input, ".") || len(sig) != 64 {
			t.Errorf("not signed as before: %d bytes, %v", len(sig), err)
		}
	})
	t.Run("a key that is not published", func(t *testing.T) {
		stranger, err := issuer.NewKey("ES256")
		if err != nil {
			t.Fatal(err)
		}
		token := s.MintWith(nil, issuer.MintOptions{Key: stranger})
		equal(t, "kid", part(t, token, 0)["kid"], stranger.ID())
		if slices.Contains(kids(published(t, s)), stranger.ID()) {
			t.Error("minting published the key")
		}
	})
	t.Run("a signature of one's own", func(t *testing.T) {
		var seen string
		token := s.MintWith(nil, issuer.MintOptions{Sign: func(input []byte) []byte { seen = string(input); return []byte("forged") }})
		input, sig, err := cutLast(token)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "signing input", seen, input)
		equal(t, "signature", string(sig), "forged")
	})
}

func TestNewKeyRefuses(t *testing.T) {
	for _, alg := range []string{"none", "HS256", "ES257", "", "es256"} {
		if _, err := issuer.NewKey(alg); err == nil {
			t.Errorf("made a key for %q", alg)
		}
	}
}
