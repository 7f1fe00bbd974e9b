package verify

import (
	"bytes"
	"crypto/hmac"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/c2sp/wycheproof"

	"github.com/sidepass/sidepass/proxy"
	"github.com/sidepass/sidepass/proxy/jwks"
)

// The vectors that Project Wycheproof publishes for JOSE (https://github.com/C2SP/wycheproof), held against the checks of a token
// that know no claims, with each vector's keys read as an issuer's are. Every vector is judged, and an invalid one is never
// accepted. Of the valid ones, those that are refused here are refused by a rule that is written down, and are counted.

// joseChecks are those of checks that know no claims, in the same order.
var joseChecks = slices.DeleteFunc(slices.Clone(checks[:]), func(c check) bool {
	return !slices.Contains([]string{"format", "header", "algorithm", "key", "signature"}, c.name)
})

type vectorGroup struct {
	Public, Private json.RawMessage // a key or a key set
	PublicKeyJWK    json.RawMessage
	PublicKey       struct{ Uncompressed string }
	Tests           []vector
}

type vector struct {
	ID              int `json:"tcId"`
	Comment, Result string
	Public          json.RawMessage
	JWS, JWE        json.RawMessage // a text, or a JSON serialization
	Msg, Sig        string          // in hex
}

func readVectors(t *testing.T, file string) []vectorGroup {
	t.Helper()
	text, err := fs.ReadFile(wycheproof.TestVectors, file)
	if err != nil {
		t.Fatal(err)
	}
	var f struct{ TestGroups []vectorGroup }
	if err := json.Unmarshal(text, &f); err != nil || len(f.TestGroups) == 0 {
		t.Fatalf("%s: %v", file, err)
	}
	return f.TestGroups
}

func (g vectorGroup) key() json.RawMessage {
	if g.Public != nil {
		return g.Public
	}
	return g.Private
}

// compact is the text of a token, and the alg in its header.
func (v vector) compact() (compact, alg string) {
	raw := v.JWS
	if v.JWE != nil {
		raw = v.JWE
	}
	if json.Unmarshal(raw, &compact) != nil {
		compact = string(raw)
	}
	first, _, _ := strings.Cut(compact, ".")
	text, _ := base64.RawURLEncoding.DecodeString(first)
	var header struct{ Alg string }
	_ = json.Unmarshal(text, &header)
	return compact, header.Alg
}

// vectorKeys reads a key or a key set as an issuer's, of which none may be usable.
func vectorKeys(key json.RawMessage) *keys {
	var set struct{ Keys []json.RawMessage }
	if json.Unmarshal(key, &set) != nil || set.Keys == nil {
		key = json.RawMessage(`{"keys":[` + string(key) + `]}`)
	}
	parsed, err := jwks.Parse(key)
	if err != nil {
		return &keys{err: &jwks.UnavailableError{RetryAfter: time.Second}}
	}
	return &keys{set: parsed}
}

func joseVerdict(t *testing.T, v *Verifier, compact string, k *keys) proxy.Reason {
	t.Helper()
	j := judgement{v: v, compact: compact, trust: &trust{Trust: Trust{Name: "wycheproof", Keys: k, Algorithms: allAlgorithms}}}
	if err := j.run(t.Context(), joseChecks); err != nil {
		return err.Reason
	}
	return proxy.OK
}

// Why what a vector calls valid is refused.
const (
	asideEncrypted = "encrypted, which no access token here may be"
	asideSymmetric = "a symmetric key, with which nobody's tokens are verified here"
	asideEmpty     = "an empty payload, which is no JWT (RFC 7519, section 7.2)"
	asideOtherAlg  = "a key whose own alg is another: PS256 for PS384, and ES521, which does not exist (RFC 7517, section 4.4)"
)

func (v vector) aside(key json.RawMessage) string {
	compact, alg := v.compact()
	switch {
	case v.JWE != nil:
		return asideEncrypted
	case bytes.Contains(key, []byte(`"oct"`)):
		return asideSymmetric
	case v.Result != "valid":
		return ""
	case strings.Contains(compact, ".."):
		return asideEmpty
	case !bytes.Contains(key, []byte(`"`+alg+`"`)):
		return asideOtherAlg
	}
	return ""
}

func TestWycheproofTokens(t *testing.T) {
	for file, want := range map[string]map[string]int{ // :: reason, or why they are set aside → vectors
		"json_web_signature_test.json": {
			"ok": 26, "bad_signature": 291, "malformed_token": 22, "unknown_key": 7, "algorithm_not_allowed": 1, "keys_unavailable": 4,
			asideSymmetric: 40, asideEmpty: 6, asideOtherAlg: 4,
		},
		"json_web_key_test.json":        {"ok": 1, "malformed_token": 2, "keys_unavailable": 8, asideSymmetric: 15},
		"json_web_crypto_test.json":     {"ok": 2, "bad_signature": 5, "malformed_token": 18, "unknown_key": 2, "algorithm_not_allowed": 1, "keys_unavailable": 1, asideSymmetric: 20, asideEncrypted: 34},
		"json_web_encryption_test.json": {asideEncrypted: 139},
	} {
		t.Run(file, func(t *testing.T) {
			w := newWorld(t, nil)
			got := map[string]int{}
			for _, g := range readVectors(t, file) {
				for _, v := range g.Tests {
					compact, _ := v.compact()
					reason, aside := joseVerdict(t, w.Verifier, compact, vectorKeys(g.key())), v.aside(g.key())
					if want := v.Result == "valid" && aside == ""; (reason == proxy.OK) != want {
						t.Errorf("vector %d, %s, which is %s: got %s", v.ID, v.Comment, v.Result, reason)
					}
					if aside == asideOtherAlg { // that is all that keeps it from being accepted
						without := bytes.ReplaceAll(g.key(), []byte(`"alg"`), []byte(`"gla"`))
						if r := joseVerdict(t, w.Verifier, compact, vectorKeys(without)); r != proxy.OK {
							t.Errorf("vector %d, %s, with a key without alg: got %s", v.ID, v.Comment, r)
						}
					}
					if aside == "" {
						aside = string(reason)
					}
					got[aside]++
				}
			}
			if !maps.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

// The vectors of symmetric keys tell of the serialization all the same, with a MAC in the signature's place.
func TestWycheproofSerialization(t *testing.T) {
	const (
		copied  = "the same text as a valid vector: its padding was lost on the way into JSON"
		skipped = "called valid for decoders that skip what is not base64url, which RFC 7515, section 2, does not allow"
	)
	want := map[string]int{"ok": 8, "malformed": 25, "bad MAC": 3, copied: 2, skipped: 2}
	got, valid := map[string]int{}, map[string]bool{}
	for _, g := range readVectors(t, "json_web_signature_test.json") {
		var key struct{ Kty, Alg, K string }
		if json.Unmarshal(g.key(), &key) != nil || key.Kty != "oct" {
			continue
		}
		secret, err := base64.RawURLEncoding.DecodeString(key.K)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range g.Tests {
			compact, _ := v.compact()
			outcome := "malformed"
			if j := (judgement{compact: compact}); j.format(t.Context()) == nil {
				mac := hmac.New(hashOf(key.Alg).New, secret)
				mac.Write([]byte(j.signed))
				outcome = "bad MAC"
				if hmac.Equal(mac.Sum(nil), j.signature) {
					outcome = "ok"
				}
			}
			switch ok := outcome == "ok"; {
			case ok == (v.Result == "valid"):
				valid[compact] = ok
			case ok && valid[compact]:
				outcome = copied
			case !ok && strings.Contains(compact, "?"):
				outcome = skipped
			default:
				t.Errorf("vector %d, %s, which is %s: got %s", v.ID, v.Comment, v.Result, outcome)
			}
			got[outcome]++
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// otherSignatures are files of bare signatures with JWKs that no algorithm of ours makes.
var otherSignatures = []string{
	"ecdsa_secp256k1_sha256_p1363_test.json", "ecdsa_secp256k1_sha512_p1363_test.json", "ecdsa_secp256k1_shake128_p1363_test.json",
	"ecdsa_secp256k1_shake256_p1363_test.json", "ecdsa_secp256r1_sha512_p1363_test.json", "ecdsa_secp256r1_shake128_p1363_test.json",
	"ecdsa_secp384r1_sha512_p1363_test.json", "ecdsa_secp384r1_shake256_p1363_test.json", "ecdsa_secp521r1_shake256_p1363_test.json", "ed448_test.json",
}

// signatureFiles are those of bare signatures that ours are made of.
var signatureFiles = map[string]struct {
	alg            string
	valid, invalid int
}{
	"ecdsa_secp256r1_sha256_p1363_test.json": {"ES256", 173, 89},
	"ecdsa_secp384r1_sha384_p1363_test.json": {"ES384", 193, 87},
	"ecdsa_secp521r1_sha512_p1363_test.json": {"ES512", 231, 87},
	"ed25519_test.json":                      {"EdDSA", 88, 63},
	"rsa_pss_2048_sha256_mgf1_32_test.json":  {"PS256", 63, 45},
	"rsa_pss_3072_sha256_mgf1_32_test.json":  {"PS256", 63, 45},
	"rsa_pss_4096_sha256_mgf1_32_test.json":  {"PS256", 63, 45},
	"rsa_pss_2048_sha384_mgf1_48_test.json":  {"PS384", 95, 46},
	"rsa_pss_4096_sha384_mgf1_48_test.json":  {"PS384", 95, 46},
	"rsa_pss_4096_sha512_mgf1_64_test.json":  {"PS512", 132, 47},
}

func TestWycheproofSignatures(t *testing.T) {
	for file, want := range signatureFiles {
		t.Run(want.alg+" "+file, func(t *testing.T) {
			w := newWorld(t, nil)
			valid, invalid := 0, 0
			for _, g := range readVectors(t, file) {
				k := vectorKeys(g.signatureKey(t))
				if k.set == nil {
					t.Fatal("a key cannot be used")
				}
				for _, v := range g.Tests {
					signed, err := hex.DecodeString(v.Msg)
					signature, err2 := hex.DecodeString(v.Sig)
					if err := errors.Join(err, err2); err != nil {
						t.Fatal(err)
					}
					j := judgement{v: w.Verifier, signed: string(signed), signature: signature, alg: want.alg, keys: k.set.Candidates("", want.alg)}
					if err := j.verifySignature(t.Context()); (err == nil) != (v.Result == "valid") || len(j.keys) != 1 {
						t.Errorf("vector %d, %s, which is %s: got %v", v.ID, v.Comment, v.Result, err)
					}
					if v.Result == "valid" {
						valid++
					} else {
						invalid++
					}
				}
			}
			if valid != want.valid || invalid != want.invalid {
				t.Errorf("%d valid and %d invalid vectors, want %d and %d", valid, invalid, want.valid, want.invalid)
			}
		})
	}
}

// signatureKey is the JWK of a group of bare signatures. Some groups have the point alone.
func (g vectorGroup) signatureKey(t *testing.T) json.RawMessage {
	if g.PublicKeyJWK != nil {
		return g.PublicKeyJWK
	}
	point, err := hex.DecodeString(g.PublicKey.Uncompressed)
	if err != nil || len(point) < 65 {
		t.Fatalf("a group without a key: %v", err)
	}
	n := len(point) / 2
	curve := map[int]string{32: "P-256", 48: "P-384", 66: "P-521"}[n]
	return json.RawMessage(asJSON(m{"kty": "EC", "crv": curve, "x": b64(point[1 : 1+n]), "y": b64(point[1+n:])}))
}

// Keys for key agreement verify nothing. Three vectors of each file have a key of another sort, for an implementation to trip over.
func TestWycheproofKeyAgreementKeys(t *testing.T) {
	for file, want := range map[string]struct{ useless, usable int }{"x25519_jwk_test.json": {528, 3}, "x448_jwk_test.json": {520, 3}} {
		useless, usable := 0, 0
		for _, g := range readVectors(t, file) {
			for _, v := range g.Tests {
				var key struct{ Crv string }
				if err := json.Unmarshal(v.Public, &key); err != nil {
					t.Fatal(err)
				}
				if slices.Contains([]string{"P-256", "P-384", "P-521"}, key.Crv) {
					usable++
					continue
				}
				if useless++; vectorKeys(v.Public).set != nil {
					t.Errorf("%s, vector %d: its key could be used", file, v.ID)
				}
			}
		}
		if useless != want.useless || usable != want.usable {
			t.Errorf("%s: %d keys and %d others, want %d and %d", file, useless, usable, want.useless, want.usable)
		}
	}
}

// No file of vectors with JSON Web Keys or tokens is left out by oversight.
func TestWycheproofFiles(t *testing.T) {
	want := []string{
		"json_web_crypto_test.json", "json_web_encryption_test.json", "json_web_key_test.json", "json_web_signature_test.json", "x25519_jwk_test.json", "x448_jwk_test.json",
	}
	want = slices.Sorted(slices.Values(slices.Concat(want, otherSignatures, slices.Collect(maps.Keys(signatureFiles)))))
	files, err := fs.Glob(wycheproof.TestVectors, "*.json")
	if err != nil {
		t.Fatal(err)
	}
	got := slices.DeleteFunc(files, func(file string) bool {
		text, err := fs.ReadFile(wycheproof.TestVectors, file)
		if err != nil {
			t.Fatal(err)
		}
		return !bytes.Contains(text, []byte(`"publicKeyJwk"`)) && !strings.Contains(file, "jwk") && !strings.Contains(file, "json_web")
	})
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
