package dpop

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func newKey(t testing.TB) *Key {
	t.Helper()
	k, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

type jwk struct{ Kty, Crv, X, Y, D string }

// verify checks a proof as a server does that has never seen the key: by the standard library alone. It returns what is signed.
func verify(t testing.TB, proof string) (key jwk, header, payload map[string]any) {
	t.Helper()
	parts := strings.Split(proof, ".")
	if len(parts) != 3 {
		t.Fatalf("want three parts, got %d", len(parts))
	}
	var raw [3][]byte
	for i, p := range parts {
		var err error
		if raw[i], err = base64.RawURLEncoding.Strict().DecodeString(p); err != nil {
			t.Fatalf("part %d is not base64url: %v", i, err)
		}
	}
	var head struct{ JWK jwk }
	if err := json.Unmarshal(raw[0], &head); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw[0], &header); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw[1], &payload); err != nil {
		t.Fatal(err)
	}
	coordinate := func(s string) []byte {
		b, err := base64.RawURLEncoding.DecodeString(s)
		if err != nil || len(b) != 32 {
			t.Fatalf("a coordinate of %d bytes (%v)", len(b), err)
		}
		return b
	}
	digest := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), slices.Concat([]byte{4}, coordinate(head.JWK.X), coordinate(head.JWK.Y)))
	if err != nil {
		t.Fatal(err)
	}
	if len(raw[2]) != 64 || !ecdsa.Verify(public, digest[:], new(big.Int).SetBytes(raw[2][:32]), new(big.Int).SetBytes(raw[2][32:])) {
		t.Fatal("the signature does not verify")
	}
	return head.JWK, header, payload
}

func TestProof(t *testing.T) {
	k := newKey(t)
	now := time.Unix(1_800_000_000, 999_000_000)
	for name, tc := range map[string]struct {
		method, uri, hash, nonce string
		want                     map[string]any
	}{
		"a token request":            {"POST", "https://idp.example.com/token", "", "", map[string]any{"htm": "POST", "htu": "https://idp.example.com/token"}},
		"with a nonce":               {"POST", "https://idp.example.com/token", "", "n-1", map[string]any{"htm": "POST", "htu": "https://idp.example.com/token", "nonce": "n-1"}},
		"a request with a token":     {"GET", "https://api.example.com/orders/1", TokenHash("t"), "n-2", map[string]any{"htm": "GET", "htu": "https://api.example.com/orders/1", "nonce": "n-2", "ath": "47mKTaMaEn1L3m5DAz9muidMqw636xxw7EFAK_YnPdg"}},
		"no query":                   {"GET", "https://api.example.com/orders?a=b#c", "", "", map[string]any{"htm": "GET", "htu": "https://api.example.com/orders"}},
		"no fragment":                {"GET", "https://api.example.com/orders#c?d", "", "", map[string]any{"htm": "GET", "htu": "https://api.example.com/orders"}},
		"an escaped path stays":      {"GET", "https://api.example.com/a%2Fb/%3F", "", "", map[string]any{"htm": "GET", "htu": "https://api.example.com/a%2Fb/%3F"}},
		"what JSON would escape too": {"GET", "https://api.example.com/a&b", "", `a'<b>`, map[string]any{"htm": "GET", "htu": "https://api.example.com/a&b", "nonce": "a'<b>"}},
	} {
		t.Run(name, func(t *testing.T) {
			proof, err := k.Proof(tc.method, tc.uri, tc.hash, tc.nonce, now)
			if err != nil {
				t.Fatal(err)
			}
			key, header, payload := verify(t, proof)
			if len(header) != 3 || header["typ"] != "dpop+jwt" || header["alg"] != "ES256" || key.Kty != "EC" || key.Crv != "P-256" || key.D != "" || len(header["jwk"].(map[string]any)) != 4 {
				t.Errorf("want typ, alg and a public jwk alone, got %v", header)
			}
			if id, _ := payload["jti"].(string); len(id) < 22 {
				t.Errorf("want a jti of 128 bits or more (RFC 9449, section 4.2), got %q", id)
			}
			delete(payload, "jti")
			tc.want["iat"] = float64(now.Unix())
			if fmt.Sprint(payload) != fmt.Sprint(tc.want) {
				t.Errorf("want %v, got %v", tc.want, payload)
			}
		})
	}
}

// The example of RFC 9449, section 7.1: the ath of its token.
func TestTokenHash(t *testing.T) {
	if got := TokenHash("Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU"); got != "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo" {
		t.Errorf("got %s", got)
	}
}

func TestThumbprint(t *testing.T) {
	k := newKey(t)
	proof, err := k.Proof("GET", "https://a", "", "", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	key, _, _ := verify(t, proof)
	sum := sha256.Sum256(fmt.Appendf(nil, `{"crv":"P-256","kty":"EC","x":"%s","y":"%s"}`, key.X, key.Y)) // RFC 7638, section 3
	if want := base64.RawURLEncoding.EncodeToString(sum[:]); k.Thumbprint() != want {
		t.Errorf("want %s, got %s", want, k.Thumbprint())
	}
	if newKey(t).Thumbprint() == k.Thumbprint() {
		t.Error("two keys are the same")
	}
}

func TestProofsAreForOneRequestEach(t *testing.T) {
	k := newKey(t)
	var mu sync.Mutex
	seen := map[any]bool{}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				proof, err := k.Proof("GET", "https://a", "", "", time.Now())
				if err != nil {
					t.Error(err)
					return
				}
				_, _, payload := verify(t, proof)
				mu.Lock()
				if seen[payload["jti"]] {
					t.Error("a jti came twice")
				}
				seen[payload["jti"]] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

func TestKeyCannotBePrinted(t *testing.T) {
	k := newKey(t)
	scalar, err := k.private.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	holder := struct{ K *Key }{k}
	asJSON, err := json.Marshal(holder)
	if err != nil {
		t.Fatal(err)
	}
	texts := []string{string(asJSON)}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		texts = append(texts, fmt.Sprintf(verb, k), fmt.Sprintf(verb, *k), fmt.Sprintf(verb, holder))
	}
	number := new(big.Int).SetBytes(scalar)
	for _, text := range texts {
		for _, canary := range []string{number.String(), fmt.Sprintf("%x", scalar), fmt.Sprintf("%X", scalar), fmt.Sprint(scalar), encode(scalar)} {
			if strings.Contains(text, strings.Trim(canary, "[]")) {
				t.Errorf("the private key is in %s", text)
			}
		}
	}
}

func BenchmarkProof(b *testing.B) {
	k := newKey(b)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := k.Proof("GET", "https://api.example.com/orders/1", "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo", "nonce", time.Now()); err != nil {
				b.Fatal(err)
			}
		}
	})
}
