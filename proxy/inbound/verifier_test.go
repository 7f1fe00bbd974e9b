package inbound

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sidepass/sidepass/proxy"
	"github.com/sidepass/sidepass/proxy/jwks"
	"github.com/sidepass/sidepass/proxy/verify"
)

var _ Verifier = (*verify.Verifier)(nil)

// issuer signs tokens with one key.
type issuer struct {
	key ed25519.PrivateKey
	set *jwks.Set
}

func (i *issuer) Snapshot() *jwks.Set                        { return i.set }
func (i *issuer) Refetch(context.Context) (*jwks.Set, error) { return i.set, nil }

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	key := ed25519.NewKeyFromSeed([]byte("a seed for tests, of 32 bytes..."))
	x := base64.RawURLEncoding.EncodeToString(key.Public().(ed25519.PublicKey))
	set, err := jwks.Parse([]byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k1","x":"` + x + `"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	return &issuer{key, set}
}

func (i *issuer) mint(t *testing.T, change claims) string {
	t.Helper()
	c := claims{"iss": "https://idp.example.com/", "aud": "https://service-b", "sub": "alice", "azp": "svc-a", "exp": time.Now().Unix() + 300, "scope": "read:orders"}
	for name, v := range change {
		if v == nil {
			delete(c, name)
		} else {
			c[name] = v
		}
	}
	payload, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	signed := b64([]byte(`{"alg":"EdDSA","kid":"k1"}`)) + "." + b64(payload)
	return signed + "." + b64(ed25519.Sign(i.key, []byte(signed)))
}

// The gate with the verifier that it has in earnest, cache included.
func TestWithVerifier(t *testing.T) {
	idp := newIssuer(t)
	cache, err := verify.NewCache(0)
	if err != nil {
		t.Fatal(err)
	}
	v, err := verify.New(verify.Options{Cache: cache, Leeway: 30 * time.Second, Trusts: []verify.Trust{{
		Name: "idp", Issuer: "https://idp.example.com/", Keys: idp, Audiences: []string{"https://service-b"}, Algorithms: []string{"EdDSA"}, ScopeClaims: []string{"scope"},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	g := gate(t, Options{
		Verifier:     v,
		ClaimHeaders: []ClaimHeader{{"sub", "X-Token-Subject"}, {"exp", "X-Expires"}, {"groups", "X-Groups"}},
		Rules: []Rule{
			{Name: "read", Match: []string{"GET /orders/{id}"}, Scopes: []string{"read:orders"}, Issuers: []string{"idp"}, Clients: []string{"svc-a"}},
			{Name: "finance", Match: []string{"GET /ledger"}, Claims: []verify.ClaimValue{claim("department", "finance"), claim("level", "3")}},
		},
	})
	good := idp.mint(t, claims{"exp": 4102444800, "groups": []string{"dev", "ops"}})
	for range 2 { // the second time from the cache
		v := admit(t, g, "GET", "/orders/1", bearer(good))
		forwarded(t, v)
		if want := []proxy.Field{{Name: "X-Token-Subject", Value: "alice"}, {Name: "X-Expires", Value: "4102444800"}, {Name: "X-Groups", Value: "dev,ops"}}; !slices.Equal(v.Set, want) {
			t.Errorf("sets %v, want %v", v.Set, want)
		}
		if v.Note.Issuer != "idp" || v.Note.Client != "svc-a" {
			t.Errorf("note %+v", v.Note)
		}
		refused(t, admit(t, g, "GET", "/ledger", bearer(good)), proxy.ClaimMismatch)
		refused(t, admit(t, g, "GET", "/none", bearer(good)), proxy.NoRule)
	}
	forwarded(t, admit(t, g, "GET", "/ledger", bearer(idp.mint(t, claims{"department": []string{"x", "finance"}, "level": 3}))))
	signature := strings.LastIndexByte(good, '.') + 1
	for _, c := range []struct {
		token  string
		reason proxy.Reason
		issuer string
	}{
		{idp.mint(t, claims{"exp": 1}), proxy.Expired, "idp"},
		{idp.mint(t, claims{"aud": "https://other"}), proxy.WrongAudience, "idp"},
		{idp.mint(t, claims{"iss": "https://evil.example"}), proxy.UntrustedIssuer, ""},
		{idp.mint(t, claims{"cnf": claims{"jkt": "x"}}), proxy.BindingFailed, "idp"},
		{idp.mint(t, claims{"scope": "x"}), proxy.InsufficientScope, "idp"},
		{idp.mint(t, claims{"azp": "svc-b"}), proxy.ClientNotAllowed, "idp"},
		{good[:signature] + "AAAA" + good[signature+4:], proxy.BadSignature, "idp"},
		{"opaque", proxy.MalformedToken, ""},
		{`{"payload":"a","signatures":[]}`, proxy.MalformedToken, ""},
		{good + ",", proxy.MalformedToken, ""},
	} {
		v := admit(t, g, "GET", "/orders/1", bearer(c.token))
		refused(t, v, c.reason)
		if v.Note.Issuer != c.issuer {
			t.Errorf("%s: note %+v, want issuer %q", c.reason, v.Note, c.issuer)
		}
	}
}
