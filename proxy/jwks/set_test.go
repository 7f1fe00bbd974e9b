package jwks

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type m = map[string]any

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

var rsaKey = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

func ecKey(c elliptic.Curve) *ecdsa.PrivateKey {
	k, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		panic(err)
	}
	return k
}

func with(base m, change m) m {
	out := m{}
	for k, v := range base {
		out[k] = v
	}
	for k, v := range change {
		if v == nil {
			delete(out, k)
		} else {
			out[k] = v
		}
	}
	return out
}

func rsaJWK(change m) m {
	k := rsaKey()
	return with(m{"kty": "RSA", "kid": "r", "use": "sig", "alg": "RS256", "n": b64(k.N.Bytes()), "e": "AQAB"}, change)
}

func ecJWK(c elliptic.Curve, change m) m {
	k := ecKey(c)
	n := (c.Params().BitSize + 7) / 8
	raw, err := k.PublicKey.Bytes()
	if err != nil {
		panic(err)
	}
	return with(m{"kty": "EC", "kid": "e", "crv": c.Params().Name, "x": b64(raw[1 : 1+n]), "y": b64(raw[1+n:])}, change)
}

func edJWK(change m) m {
	pub, _, _ := ed25519.GenerateKey(rand.Reader)
	return with(m{"kty": "OKP", "kid": "o", "crv": "Ed25519", "x": b64(pub)}, change)
}

func document(keys ...any) []byte {
	b, err := json.Marshal(m{"keys": keys})
	if err != nil {
		panic(err)
	}
	return b
}

func TestKeyAlgorithms(t *testing.T) {
	rs := []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
	for _, c := range []struct {
		name string
		key  m
		want []string
	}{
		{"RSA with alg", rsaJWK(nil), []string{"RS256"}},
		{"RSA without alg, use or kid", rsaJWK(m{"alg": nil, "use": nil, "kid": nil}), rs},
		{"RSA with PS512", rsaJWK(m{"alg": "PS512"}), []string{"PS512"}},
		{"P-256", ecJWK(elliptic.P256(), nil), []string{"ES256"}},
		{"P-384", ecJWK(elliptic.P384(), nil), []string{"ES384"}},
		{"P-521", ecJWK(elliptic.P521(), m{"alg": "ES512"}), []string{"ES512"}},
		{"Ed25519", edJWK(nil), []string{"EdDSA", "Ed25519"}},
		{"Ed25519 with alg", edJWK(m{"alg": "EdDSA"}), []string{"EdDSA"}},
		{"key_ops with verify", rsaJWK(m{"key_ops": []string{"verify"}}), []string{"RS256"}},
		{"exponent 3", rsaJWK(m{"e": "Aw"}), []string{"RS256"}},
		{"unknown members", rsaJWK(m{"x": 1, "foo": m{}, "exp": 3}), []string{"RS256"}},
		{"a certificate chain that is none", rsaJWK(m{"x5c": []string{"rubbish"}, "x5t": "AA", "x5u": ":"}), []string{"RS256"}},
		{"private part", rsaJWK(m{"d": b64(rsaKey().D.Bytes())}), []string{"RS256"}},
		{"tied to an issuer", rsaJWK(m{"issuer": "https://login.example/{tenantid}/v2.0"}), []string{"RS256"}},
		{"RSA of 8192 bits", rsaJWK(m{"n": b64(new(big.Int).SetBit(new(big.Int).Lsh(rsaKey().N, 8192-2048), 0, 1).Bytes())}), []string{"RS256"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := Parse(document(c.key))
			if err != nil {
				t.Fatalf("%v: %v", err, s)
			}
			if got := s.Keys[0].Algorithms; !slices.Equal(got, c.want) {
				t.Errorf("algorithms %v, want %v", got, c.want)
			}
			if s.Ignored != 0 {
				t.Errorf("%d keys ignored: %v", s.Ignored, s.Notes)
			}
			if want, _ := c.key["issuer"].(string); s.Keys[0].Issuer != want {
				t.Errorf("issuer %q, want %q", s.Keys[0].Issuer, want)
			}
		})
	}
}

// Every bad key is ignored for its own reason, and the good key beside it is used.
func TestKeysThatAreIgnored(t *testing.T) {
	short := new(big.Int).Rsh(rsaKey().N, 1024)
	huge := new(big.Int).SetBit(new(big.Int).Lsh(rsaKey().N, 8192), 0, 1)
	large := new(big.Int).SetBit(new(big.Int).Lsh(rsaKey().N, 8193-2048), 0, 1)
	off := ecJWK(elliptic.P256(), nil)
	off["y"] = off["x"]
	for _, c := range []struct {
		name string
		key  any
		note string
	}{
		{"not an object", "x", "not a JSON object"},
		{"null", nil, "not a JSON object"},
		{"no kty", rsaJWK(m{"kty": nil}), `kty ""`},
		{"unknown kty", m{"kty": "AKP", "alg": "ML-DSA-44", "pub": "AA"}, `kty "AKP"`},
		{"symmetric", m{"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"}, `kty "oct"`},
		{"kty that is not a string", rsaJWK(m{"kty": 1}), `"kty" is not a string`},
		{"kid that is not a string", rsaJWK(m{"kid": 7}), `"kid" is not a string`},
		{"encryption", rsaJWK(m{"use": "enc", "alg": "RSA-OAEP"}), `use is "enc"`},
		{"unknown use", rsaJWK(m{"use": "jwt-svid"}), `use is "jwt-svid"`},
		{"empty use", rsaJWK(m{"use": ""}), `use is ""`},
		{"key_ops without verify", rsaJWK(m{"key_ops": []string{"encrypt"}}), "key_ops"},
		{"key_ops of another type", rsaJWK(m{"key_ops": "verify"}), "key_ops"},
		{"alg for encryption", rsaJWK(m{"alg": "RSA-OAEP"}), `alg "RSA-OAEP"`},
		{"alg HS256", rsaJWK(m{"alg": "HS256"}), `alg "HS256"`},
		{"alg none", rsaJWK(m{"alg": "none"}), `alg "none"`},
		{"alg of another type", rsaJWK(m{"alg": "ES256"}), `alg "ES256"`},
		{"alg of another curve", ecJWK(elliptic.P384(), m{"alg": "ES256"}), `alg "ES256"`},
		{"EC key that says RSA", ecJWK(elliptic.P256(), m{"kty": "RSA"}), "malformed"},
		{"RSA without e", rsaJWK(m{"e": nil}), "malformed"},
		{"RSA with bad base64", rsaJWK(m{"n": "+/=="}), "malformed"},
		{"RSA of 1024 bits", rsaJWK(m{"n": b64(short.Bytes())}), "1024 bits"},
		{"RSA of 8193 bits", rsaJWK(m{"n": b64(large.Bytes())}), "8193 bits"},
		{"RSA of 10240 bits", rsaJWK(m{"n": b64(huge.Bytes())}), "10240 bits"},
		{"RSA of 65536 bits", rsaJWK(m{"n": strings.Repeat("_", 65536/6)}), "malformed"},
		{"even modulus", rsaJWK(m{"n": b64(new(big.Int).Sub(rsaKey().N, big.NewInt(1)).Bytes())}), "even"},
		{"exponent 1", rsaJWK(m{"e": "AQ"}), "exponent"},
		{"exponent 4", rsaJWK(m{"e": "BA"}), "exponent"},
		{"exponent 2^33+1", rsaJWK(m{"e": b64(big.NewInt(1<<33 + 1).Bytes())}), "exponent"},
		{"exponent of 100 bytes", rsaJWK(m{"e": strings.Repeat("_", 136)}), "exponent"},
		{"off the curve", off, "malformed"},
		{"secp256k1", ecJWK(elliptic.P256(), m{"crv": "secp256k1"}), "malformed or unsupported"},
		{"point at infinity", ecJWK(elliptic.P256(), m{"x": b64(make([]byte, 32)), "y": b64(make([]byte, 32))}), "malformed"},
		{"X25519", edJWK(m{"crv": "X25519"}), "unsupported"},
		{"Ed448", edJWK(m{"crv": "Ed448"}), "unsupported"},
		{"short Ed25519", edJWK(m{"x": "AAAA"}), "malformed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := Parse(document(c.key, rsaJWK(m{"kid": "good"})))
			if err != nil || len(s.Keys) != 1 || s.Keys[0].ID != "good" || s.Ignored != 1 {
				t.Fatalf("got %v, %+v; want the good key alone", err, s)
			}
			if len(s.Notes) != 1 || !strings.Contains(s.Notes[0], c.note) {
				t.Errorf("notes %q, want one with %q", s.Notes, c.note)
			}
			if _, err := Parse(document(c.key)); !errors.Is(err, ErrNoKeys) {
				t.Errorf("alone: %v, want ErrNoKeys", err)
			}
		})
	}
}

func TestDocumentsThatAreRefused(t *testing.T) {
	for name, text := range map[string]string{
		"empty": "", "HTML": "<html>", "null": "null", "array": "[]", "no keys": "{}", "keys null": `{"keys":null}`, "keys empty": `{"keys":[]}`,
		"keys an object": `{"keys":{}}`, "Keys": strings.Replace(string(document(rsaJWK(nil))), `"keys"`, `"Keys"`, 1),
		"deep": `{"keys":` + strings.Repeat("[", 500_000), "trailing text": string(document(rsaJWK(nil))) + "x",
		"too large": string(document(rsaJWK(nil))) + strings.Repeat(" ", maxBytes),
	} {
		t.Run(name, func(t *testing.T) {
			if s, err := Parse([]byte(text)); err == nil {
				t.Errorf("accepted with %d keys", len(s.Keys))
			}
		})
	}
	if _, err := Parse(document(rsaJWK(nil))); err != nil {
		t.Errorf("the twin: %v", err)
	}
}

func TestManyKeysAreBounded(t *testing.T) {
	var keys []any
	for i := range maxUsable + 5 {
		keys = append(keys, edJWK(m{"kid": fmt.Sprint(i)}))
	}
	s, err := Parse(document(keys...))
	if err != nil || len(s.Keys) != maxUsable || s.Ignored != 5 {
		t.Errorf("%v: %d keys used, %d ignored", err, len(s.Keys), s.Ignored)
	}
	junk := make([]any, 50_000)
	s, err = Parse(document(junk...))
	if !errors.Is(err, ErrNoKeys) || s.Ignored != len(junk) || len(s.Notes) > maxNotes {
		t.Errorf("%v: %d ignored, %d notes", err, s.Ignored, len(s.Notes))
	}
}

func TestPrivatePartIsNotedAndDropped(t *testing.T) {
	d := b64(rsaKey().D.Bytes())
	s, err := Parse(document(rsaJWK(m{"d": d})))
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := s.Keys[0].Public.(*rsa.PublicKey); !ok {
		t.Errorf("the key is a %T", s.Keys[0].Public)
	}
	if len(s.Notes) != 1 || !strings.Contains(s.Notes[0], "private part") || strings.Contains(s.Notes[0], d) {
		t.Errorf("notes %q", s.Notes)
	}
}

// The example of RFC 7638, section 3.1.
func TestThumbprint(t *testing.T) {
	s, err := Parse([]byte(`{"keys":[{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw","e":"AQAB","alg":"RS256","kid":"2011-04-29"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	want, _ := base64.RawURLEncoding.DecodeString("NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs")
	if got := s.Keys[0].Thumbprint; hex.EncodeToString(got[:]) != hex.EncodeToString(want) {
		t.Errorf("thumbprint %x, want %x", got, want)
	}
}

func TestCandidates(t *testing.T) {
	bare := m{"alg": nil, "use": nil, "kid": nil}
	for _, c := range []struct {
		name     string
		keys     []any
		kid, alg string
		want     int
	}{
		{"kid and alg", []any{rsaJWK(nil), edJWK(nil)}, "r", "RS256", 1},
		{"other kid", []any{rsaJWK(nil)}, "x", "RS256", 0},
		{"kid in another case", []any{rsaJWK(nil)}, "R", "RS256", 0},
		{"key of another alg", []any{rsaJWK(nil)}, "r", "PS256", 0},
		{"key of another type", []any{ecJWK(elliptic.P256(), nil)}, "e", "RS256", 0},
		{"key of another curve", []any{ecJWK(elliptic.P384(), nil)}, "e", "ES256", 0},
		{"key without alg", []any{rsaJWK(m{"alg": nil})}, "r", "PS384", 1},
		{"HS256", []any{rsaJWK(m{"alg": nil})}, "r", "HS256", 0},
		{"none", []any{rsaJWK(m{"alg": nil})}, "r", "none", 0},
		{"one kid, two algs", []any{rsaJWK(nil), rsaJWK(m{"alg": "PS256"})}, "r", "PS256", 1},
		{"one kid, two keys", []any{ecJWK(elliptic.P256(), nil), ecJWK(elliptic.P256(), nil)}, "e", "ES256", 2},
		{"one kid, many keys", []any{edJWK(nil), edJWK(nil), edJWK(nil), edJWK(nil), edJWK(nil), edJWK(nil)}, "o", "EdDSA", maxCandidates},
		{"no kid in the token, one key fits", []any{rsaJWK(nil), edJWK(nil)}, "", "RS256", 1},
		{"no kid in the token, two keys fit", []any{rsaJWK(nil), rsaJWK(m{"kid": "r2"})}, "", "RS256", 0},
		{"no kid in the token nor in the only key", []any{rsaJWK(bare)}, "", "RS256", 1},
		{"no kid in the only key", []any{rsaJWK(bare)}, "x", "RS256", 1},
		{"no kid in two keys", []any{rsaJWK(bare), rsaJWK(bare)}, "x", "RS256", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := Parse(document(c.keys...))
			if err != nil {
				t.Fatal(err)
			}
			if got := s.Candidates(c.kid, c.alg); len(got) != c.want {
				t.Errorf("%d candidates, want %d", len(got), c.want)
			}
			if n := testing.AllocsPerRun(10, func() { s.Candidates(c.kid, c.alg) }); n != 0 {
				t.Errorf("%v allocations", n)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add(document(rsaJWK(nil), edJWK(nil), ecJWK(elliptic.P256(), nil), m{"kty": "oct", "k": "AA"}))
	f.Add([]byte(`{"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Parse(data)
		if err != nil {
			return
		}
		for _, k := range s.Keys {
			if len(k.Algorithms) == 0 || k.Thumbprint == [32]byte{} {
				t.Fatalf("a key without algorithms or thumbprint: %+v", k)
			}
			for _, alg := range k.Algorithms {
				if strings.HasPrefix(alg, "HS") || alg == "none" {
					t.Fatalf("a key that allows %s", alg)
				}
			}
			if r, ok := k.Public.(*rsa.PublicKey); ok && (r.N.BitLen() < 2048 || r.N.BitLen() > 8192 || r.E&1 == 0) {
				t.Fatalf("an RSA key of %d bits with exponent %d", r.N.BitLen(), r.E)
			}
		}
	})
}
