package verify

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sidepass/sidepass/proxy"
	"github.com/sidepass/sidepass/proxy/jwks"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type m = map[string]any

const (
	goodIssuer = "https://tenant.example/"
	goodAud    = "https://service-b"
	canary     = "canary-7f3a" // in every token; in no error
)

// t0 is what the clock says unless a test moves it.
var t0 = time.Unix(1_800_000_000, 0).UTC()

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// signer is a key pair that signs without the help of the code under test.
type signer struct {
	kid, alg string
	rsa      *rsa.PrivateKey
	ec       *ecdsa.PrivateKey
	ed       ed25519.PrivateKey
	salt     int // of PS*; 0 is as long as the hash
}

var pool sync.Map // RSA keys are slow to make

func rsaPair(name string, bits int) *rsa.PrivateKey {
	f, _ := pool.LoadOrStore(fmt.Sprint(name, bits), sync.OnceValue(func() *rsa.PrivateKey {
		k, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			panic(err)
		}
		return k
	}))
	return f.(func() *rsa.PrivateKey)()
}

// pair makes a key for an algorithm; the same name and family give the same key.
func pair(alg, kid, name string) signer {
	s := signer{kid: kid, alg: alg}
	curve := map[string]elliptic.Curve{"ES256": elliptic.P256(), "ES384": elliptic.P384(), "ES512": elliptic.P521()}[alg]
	switch {
	case strings.HasPrefix(alg, "RS"), strings.HasPrefix(alg, "PS"):
		s.rsa = rsaPair(name, 2048)
	case curve != nil:
		f, _ := pool.LoadOrStore(alg+name, sync.OnceValue(func() *ecdsa.PrivateKey {
			k, err := ecdsa.GenerateKey(curve, rand.Reader)
			if err != nil {
				panic(err)
			}
			return k
		}))
		s.ec = f.(func() *ecdsa.PrivateKey)()
	default:
		seed := make([]byte, ed25519.SeedSize)
		copy(seed, name)
		s.ed = ed25519.NewKeyFromSeed(seed)
	}
	return s
}

func (s signer) jwk(change m) m {
	out := m{"kid": s.kid, "alg": s.alg, "use": "sig"}
	switch {
	case s.rsa != nil:
		out["kty"], out["n"], out["e"] = "RSA", b64(s.rsa.N.Bytes()), b64(big.NewInt(int64(s.rsa.E)).Bytes())
	case s.ec != nil:
		raw, err := s.ec.PublicKey.Bytes()
		if err != nil {
			panic(err)
		}
		n := len(raw) / 2
		out["kty"], out["crv"], out["x"], out["y"] = "EC", s.ec.Curve.Params().Name, b64(raw[1:1+n]), b64(raw[1+n:])
	default:
		out["kty"], out["crv"], out["x"] = "OKP", "Ed25519", b64(s.ed.Public().(ed25519.PublicKey))
	}
	return merge(out, change)
}

func (s signer) public() crypto.PublicKey {
	switch {
	case s.rsa != nil:
		return s.rsa.Public()
	case s.ec != nil:
		return s.ec.Public()
	}
	return s.ed.Public()
}

func hashOf(alg string) crypto.Hash {
	return map[string]crypto.Hash{"256": crypto.SHA256, "384": crypto.SHA384, "512": crypto.SHA512}[alg[2:]]
}

// sign signs with any algorithm that fits the key's type, whatever the key is labelled with.
func (s signer) sign(alg, input string) []byte {
	if s.ed != nil {
		return ed25519.Sign(s.ed, []byte(input))
	}
	h := hashOf(alg)
	d := h.New()
	d.Write([]byte(input))
	var sig []byte
	var err error
	switch {
	case s.ec != nil:
		var r, t *big.Int
		r, t, err = ecdsa.Sign(rand.Reader, s.ec, d.Sum(nil))
		if err == nil {
			n := (s.ec.Params().BitSize + 7) / 8
			sig = append(r.FillBytes(make([]byte, n)), t.FillBytes(make([]byte, n))...)
		}
	case strings.HasPrefix(alg, "PS"):
		salt := s.salt
		if salt == 0 {
			salt = rsa.PSSSaltLengthEqualsHash
		}
		sig, err = rsa.SignPSS(rand.Reader, s.rsa, h, d.Sum(nil), &rsa.PSSOptions{SaltLength: salt})
	default:
		sig, err = rsa.SignPKCS1v15(rand.Reader, s.rsa, h, d.Sum(nil))
	}
	if err != nil {
		panic(err)
	}
	return sig
}

// jwt signs a header and a payload given as text, with the key's own algorithm.
func (s signer) jwt(header, payload string) string { return s.jwtAs(s.alg, header, payload) }

func (s signer) jwtAs(alg, header, payload string) string {
	input := b64([]byte(header)) + "." + b64([]byte(payload))
	return input + "." + b64(s.sign(alg, input))
}

func (s signer) header(change m) string {
	return asJSON(merge(m{"alg": s.alg, "typ": "JWT", "kid": s.kid}, change))
}

func hs(hash crypto.Hash, header, payload string, secret []byte) string {
	input := b64([]byte(header)) + "." + b64([]byte(payload))
	mac := hmac.New(hash.New, secret)
	mac.Write([]byte(input))
	return input + "." + b64(mac.Sum(nil))
}

// merge changes members; nil removes one, and null{} sets it to null.
func merge(base, change m) m {
	out := maps.Clone(base)
	for k, v := range change {
		switch v.(type) {
		case nil:
			delete(out, k)
		case explicitNull:
			out[k] = nil
		default:
			out[k] = v
		}
	}
	return out
}

type explicitNull struct{}

func asJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// claims is a good payload, changed.
func claims(change m) string {
	now := t0.Unix()
	return asJSON(merge(m{"iss": goodIssuer, "aud": goodAud, "sub": "svc-a", "azp": "svc-a", "iat": now - 10, "nbf": now - 10, "exp": now + 300,
		"jti": canary, "scope": "read:orders write:orders"}, change))
}

// claimsWith is a good payload without some members and with raw text instead.
func claimsWith(raw string, without ...string) string {
	change := m{}
	for _, n := range without {
		change[n] = nil
	}
	p := claims(change)
	return p[:len(p)-1] + "," + raw + "}"
}

func keySet(jwk ...m) *jwks.Set {
	set, err := jwks.Parse([]byte(asJSON(m{"keys": jwk})))
	if err != nil {
		panic(err)
	}
	return set
}

var _ Keys = (*jwks.Keys)(nil)

// keys are one issuer's; next is what a Refetch finds.
type keys struct {
	mu        sync.Mutex
	set, next *jwks.Set
	refetches int
	err       error
}

func (k *keys) Snapshot() *jwks.Set { k.mu.Lock(); defer k.mu.Unlock(); return k.set }

func (k *keys) Refetch(context.Context) (*jwks.Set, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.refetches++
	if k.next != nil {
		k.set = k.next
	}
	if k.set == nil {
		return nil, k.err
	}
	return k.set, nil
}

func (k *keys) replace(s *jwks.Set) { k.mu.Lock(); defer k.mu.Unlock(); k.set, k.next = s, nil }

// world is a Verifier with the issuer of the usual keys.
type world struct {
	*Verifier
	rs, es, ps, ed signer
	keys           *keys
	clock          time.Time
	o              Options
	lookups        []string
}

func newWorld(t testing.TB, change func(*Options)) *world {
	t.Helper()
	w := &world{
		rs: pair("RS256", "rs", "good"), es: pair("ES256", "es", "good"), ps: pair("PS256", "ps", "good2"), ed: pair("EdDSA", "ed", "good"),
		clock: t0,
	}
	w.keys = &keys{set: keySet(w.rs.jwk(nil), w.es.jwk(nil), w.ps.jwk(nil), w.ed.jwk(nil))}
	w.o = Options{
		Trusts: []Trust{{
			Name: "idp", Issuer: goodIssuer, Keys: w.keys, Audiences: []string{goodAud, "https://service-b/v2"},
			Algorithms: []string{"RS256", "PS256", "ES256", "EdDSA"}, ScopeClaims: []string{"scope", "scp"},
		}},
		Leeway:   30 * time.Second,
		Now:      func() time.Time { return w.clock },
		Observer: Observer{CacheLookup: func(r string) { w.lookups = append(w.lookups, r) }},
	}
	if change != nil {
		change(&w.o)
	}
	var err error
	if w.Verifier, err = New(w.o); err != nil {
		t.Fatal(err)
	}
	return w
}

// trust1 changes the one trust.
func trust1(f func(*Trust)) func(*Options) { return func(o *Options) { f(&o.Trusts[0]) } }

func (w *world) mint(change m) string { return w.rs.jwt(w.rs.header(nil), claims(change)) }

func (w *world) accept(t testing.TB, token string) *Token {
	t.Helper()
	got, err := w.Verify(t.Context(), token, Possession{})
	if err != nil {
		t.Fatalf("refused with %v; it must be accepted", err)
	}
	if steps, same := w.Explain(t.Context(), token, Possession{}); same == nil || len(steps) != len(checks) {
		t.Errorf("Explain says otherwise: %v", steps)
	}
	if steps := w.Account(token, Possession{}, proxy.OK); len(steps) != len(checks) || steps[len(steps)-1].Problem != "" {
		t.Errorf("Account says otherwise: %v", steps)
	}
	return got
}

func (w *world) refuse(t testing.TB, token string, want proxy.Reason) *Error {
	t.Helper()
	got, err := w.Verify(t.Context(), token, Possession{})
	var e *Error
	if !errors.As(err, &e) || got != nil {
		t.Fatalf("accepted, or %v; it must be refused with %s", err, want)
	}
	if e.Reason != want {
		t.Fatalf("refused with %v, want %s", e, want)
	}
	for _, part := range strings.Split(token, ".") {
		if len(part) > 20 && strings.Contains(e.Error(), part) || strings.Contains(e.Error(), canary) {
			t.Errorf("the error %q holds a part of the token", e)
		}
	}
	steps, none := w.Explain(t.Context(), token, Possession{})
	if none != nil || steps[len(steps)-1].Err.Reason != want {
		t.Errorf("Explain says otherwise: %v", steps)
	}
	account := w.Account(token, Possession{}, want)
	if last := account[len(account)-1]; last.Name != steps[len(steps)-1].Name || last.Problem == "" {
		t.Errorf("Account ends with %v, and Explain with %v", last, steps[len(steps)-1])
	}
	return e
}
