package assertion

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"hash"
	"math/big"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// keys are made once: RSA takes its time.
type keys struct {
	rsa              *rsa.PrivateKey
	p256, p384, p521 *ecdsa.PrivateKey
	ed               ed25519.PrivateKey
}

func newKeys(t *testing.T) keys {
	t.Helper()
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	var k keys
	var err error
	k.rsa, err = rsa.GenerateKey(rand.Reader, 2048)
	must(err)
	k.p256, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	k.p384, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	must(err)
	k.p521, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	must(err)
	_, k.ed, err = ed25519.GenerateKey(rand.Reader)
	must(err)
	return k
}

func inPEM(kind string, der []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func pkcs8(key any) []byte {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return inPEM("PRIVATE KEY", der, err)
}

func inJWK(key any, algorithm, id string) []byte {
	text, err := json.Marshal(jose.JSONWebKey{Key: key, Algorithm: algorithm, KeyID: id})
	if err != nil {
		panic(err)
	}
	return text
}

func certify(key crypto.Signer) (der, text []byte) {
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "client"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return der, inPEM("CERTIFICATE", der, err)
}

// verify checks an assertion as a server would that is told by nobody but its own register which algorithm and key to expect. It uses
// the standard library alone.
func verify(t *testing.T, text, algorithm string, key any) (header, payload map[string]any) {
	t.Helper()
	parts := strings.Split(text, ".")
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
	if err := json.Unmarshal(raw[0], &header); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw[1], &payload); err != nil {
		t.Fatal(err)
	}
	if header["alg"] != algorithm {
		t.Fatalf("want alg %s, got %v", algorithm, header["alg"])
	}
	signed, signature := []byte(parts[0]+"."+parts[1]), raw[2]
	hashes := map[string]struct {
		new func() hash.Hash
		id  crypto.Hash
	}{"256": {sha256.New, crypto.SHA256}, "384": {sha512.New384, crypto.SHA384}, "512": {sha512.New, crypto.SHA512}}
	h := hashes[strings.TrimLeft(algorithm, "RSPEHdA")]
	var digest []byte
	if h.new != nil {
		d := h.new()
		d.Write(signed)
		digest = d.Sum(nil)
	}
	good := false
	switch public := key.(type) {
	case *rsa.PublicKey:
		if strings.HasPrefix(algorithm, "PS") { // RFC 7518, section 3.5: the salt is as long as the hash
			good = rsa.VerifyPSS(public, h.id, digest, signature, &rsa.PSSOptions{SaltLength: h.id.Size()}) == nil
		} else {
			good = rsa.VerifyPKCS1v15(public, h.id, digest, signature) == nil
		}
	case *ecdsa.PublicKey:
		size := (public.Curve.Params().BitSize + 7) / 8
		good = len(signature) == 2*size && ecdsa.Verify(public, digest, new(big.Int).SetBytes(signature[:size]), new(big.Int).SetBytes(signature[size:]))
	case ed25519.PublicKey:
		good = ed25519.Verify(public, signed, signature)
	case string:
		mac := hmac.New(h.new, []byte(public))
		mac.Write(signed)
		good = hmac.Equal(mac.Sum(nil), signature)
	}
	if !good {
		t.Fatalf("the signature does not verify as %s", algorithm)
	}
	return header, payload
}

func TestAssertions(t *testing.T) {
	k := newKeys(t)
	rsaDER, rsaCert := certify(k.rsa)
	ecDER, ecCert := certify(k.p256)
	s256 := func(der []byte) string {
		sum := sha256.Sum256(der)
		return base64.RawURLEncoding.EncodeToString(sum[:])
	}
	s1 := sha1.Sum(rsaDER)
	old := base64.RawURLEncoding.EncodeToString(s1[:])
	pkcs1 := inPEM("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(k.rsa), nil)
	ecDERKey, err := x509.MarshalECPrivateKey(k.p256)
	sec1 := append(inPEM("EC PARAMETERS", []byte{6, 0}, nil), inPEM("EC PRIVATE KEY", ecDERKey, err)...)

	for name, tc := range map[string]struct {
		text      []byte
		options   Options
		public    any
		algorithm string
		header    map[string]any // beside alg and typ
	}{
		"RSA, PKCS #8":                 {pkcs8(k.rsa), Options{}, &k.rsa.PublicKey, "RS256", nil},
		"RSA, PKCS #1":                 {pkcs1, Options{}, &k.rsa.PublicKey, "RS256", nil},
		"RS384":                        {pkcs8(k.rsa), Options{Algorithm: "RS384"}, &k.rsa.PublicKey, "RS384", nil},
		"RS512":                        {pkcs8(k.rsa), Options{Algorithm: "RS512"}, &k.rsa.PublicKey, "RS512", nil},
		"PS256":                        {pkcs8(k.rsa), Options{Algorithm: "PS256"}, &k.rsa.PublicKey, "PS256", nil},
		"PS384":                        {pkcs8(k.rsa), Options{Algorithm: "PS384"}, &k.rsa.PublicKey, "PS384", nil},
		"PS512":                        {pkcs8(k.rsa), Options{Algorithm: "PS512"}, &k.rsa.PublicKey, "PS512", nil},
		"P-256, PKCS #8":               {pkcs8(k.p256), Options{}, &k.p256.PublicKey, "ES256", nil},
		"P-256, SEC 1, and parameters": {sec1, Options{}, &k.p256.PublicKey, "ES256", nil},
		"P-384":                        {pkcs8(k.p384), Options{}, &k.p384.PublicKey, "ES384", nil},
		"P-521":                        {pkcs8(k.p521), Options{Algorithm: "ES512"}, &k.p521.PublicKey, "ES512", nil},
		"Ed25519":                      {pkcs8(k.ed), Options{}, k.ed.Public(), "EdDSA", nil},
		"Ed25519 by its later name":    {pkcs8(k.ed), Options{Algorithm: "Ed25519"}, k.ed.Public(), "EdDSA", nil},
		"white space around":           {append([]byte("\n \n"), append(pkcs8(k.ed), '\n')...), Options{}, k.ed.Public(), "EdDSA", nil},
		"a certificate before the key": {append(rsaCert, pkcs8(k.rsa)...), Options{}, &k.rsa.PublicKey, "RS256", nil},
		"key_id":                       {pkcs8(k.rsa), Options{KeyID: "one"}, &k.rsa.PublicKey, "RS256", map[string]any{"kid": "one"}},
		"RSA JWK":                      {inJWK(k.rsa, "", ""), Options{}, &k.rsa.PublicKey, "RS256", nil},
		"RSA JWK that says PS256":      {inJWK(k.rsa, "PS256", "mine"), Options{}, &k.rsa.PublicKey, "PS256", map[string]any{"kid": "mine"}},
		"the options beat the JWK":     {inJWK(k.rsa, "PS256", "mine"), Options{Algorithm: "RS256", KeyID: "one"}, &k.rsa.PublicKey, "RS256", map[string]any{"kid": "one"}},
		"EC JWK":                       {inJWK(k.p256, "ES256", "mine"), Options{}, &k.p256.PublicKey, "ES256", map[string]any{"kid": "mine"}},
		"OKP JWK":                      {inJWK(k.ed, "", ""), Options{}, k.ed.Public(), "EdDSA", nil},
		"certificate with RS256":       {pkcs8(k.rsa), Options{Certificate: rsaCert}, &k.rsa.PublicKey, "RS256", map[string]any{"x5t#S256": s256(rsaDER), "x5t": old}},
		"certificate with PS256":       {pkcs8(k.rsa), Options{Certificate: rsaCert, Algorithm: "PS256", KeyID: "one"}, &k.rsa.PublicKey, "PS256", map[string]any{"x5t#S256": s256(rsaDER), "kid": "one"}},
		"certificate with ES256":       {pkcs8(k.p256), Options{Certificate: ecCert}, &k.p256.PublicKey, "ES256", map[string]any{"x5t#S256": s256(ecDER)}},
		"the first certificate counts": {pkcs8(k.p256), Options{Certificate: append(append(pkcs8(k.p256), ecCert...), rsaCert...)}, &k.p256.PublicKey, "ES256", map[string]any{"x5t#S256": s256(ecDER)}},
	} {
		t.Run(name, func(t *testing.T) {
			key, err := Parse(tc.text, tc.options)
			if err != nil {
				t.Fatal(err)
			}
			check(t, key, tc.algorithm, tc.public, tc.header)
		})
	}
	for algorithm, options := range map[string]Options{"HS256": {}, "HS384": {Algorithm: "HS384"}, "HS512": {Algorithm: "HS512", KeyID: "one"}} {
		t.Run(algorithm, func(t *testing.T) {
			key, err := FromSecret("canary-secret", options)
			if err != nil {
				t.Fatal(err)
			}
			header := map[string]any{}
			if options.KeyID != "" {
				header["kid"] = options.KeyID
			}
			check(t, key, algorithm, "canary-secret", header)
		})
	}
}

func check(t *testing.T, key *Key, algorithm string, public any, wantHeader map[string]any) {
	t.Helper()
	now := time.Unix(1_800_000_000, 900_000_000)
	ids := map[any]bool{}
	for range 3 {
		text, err := key.Sign(`svc "a"&b`, "https://idp.example.com/", now)
		if err != nil {
			t.Fatal(err)
		}
		header, payload := verify(t, text, algorithm, public)
		want := map[string]any{"alg": algorithm, "typ": "JWT"}
		for n, v := range wantHeader {
			want[n] = v
		}
		if !reflect.DeepEqual(header, want) {
			t.Errorf("want the header %v, got %v", want, header)
		}
		if id, _ := payload["jti"].(string); len(id) < 22 || ids[id] {
			t.Errorf("want a jti of 128 bits that never came before, got %q", id)
		}
		ids[payload["jti"]] = true
		issued, until := payload["iat"].(float64), payload["exp"].(float64)
		if at := float64(now.Unix()); issued > at || until <= at || until-issued > 60 || until > at+60 || payload["nbf"] != issued {
			t.Errorf("want it to be good now and for no more than 60 s, got iat %.0f nbf %v exp %.0f at %.0f", issued, payload["nbf"], until, at)
		}
		if payload["iss"] != `svc "a"&b` || payload["sub"] != `svc "a"&b` || payload["aud"] != "https://idp.example.com/" || len(payload) != 7 {
			t.Errorf("want iss and sub to be the client, aud the audience, and no more than the times and jti: %v", payload)
		}
	}
}

func TestKeysThatCannotBeUsed(t *testing.T) {
	k := newKeys(t)
	_, rsaCert := certify(k.rsa)
	_, ecCert := certify(k.p256)
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	symmetric := []byte(`{"kty":"oct","k":"` + encode([]byte("canary-private")) + `"}`)
	good := pkcs8(k.p256)
	for name, tc := range map[string]struct {
		text    []byte
		options Options
		say     string // "" is a usable twin
	}{
		"usable":                      {good, Options{Algorithm: "ES256", Certificate: ecCert}, ""},
		"nothing":                     {nil, Options{}, "no private key"},
		"text":                        {[]byte("canary-private"), Options{}, "no private key"},
		"a certificate alone":         {rsaCert, Options{}, "no private key"},
		"PEM of rubbish":              {inPEM("PRIVATE KEY", []byte("canary-private"), nil), Options{}, "cannot be read"},
		"encrypted":                   {inPEM("ENCRYPTED PRIVATE KEY", []byte("canary-private"), nil), Options{}, "encrypted"},
		"cut off":                     {good[:len(good)/2], Options{}, "no private key"},
		"JSON that is no JWK":         {[]byte(`{"canary-private":1}`), Options{}, "JWK that cannot be read"},
		"JSON cut off":                {inJWK(k.p256, "", "")[:60], Options{}, "JWK that cannot be read"},
		"a public JWK":                {inJWK(&k.p256.PublicKey, "", ""), Options{}, "not a private key"},
		"a symmetric JWK":             {symmetric, Options{}, "not a private key"},
		"P-224":                       {pkcs8(p224), Options{}, "P-256"},
		"1024 bits":                   {pkcs8(short), Options{}, "2048"},
		"RS256 with an EC key":        {good, Options{Algorithm: "RS256"}, `cannot sign with "RS256"`},
		"ES384 with P-256":            {good, Options{Algorithm: "ES384"}, `["ES256"]`},
		"ES256 with RSA":              {pkcs8(k.rsa), Options{Algorithm: "ES256"}, "PS256"},
		"HS256 with RSA":              {pkcs8(k.rsa), Options{Algorithm: "HS256"}, "cannot sign"},
		"none":                        {good, Options{Algorithm: "none"}, "cannot sign"},
		"EdDSA with RSA":              {pkcs8(k.rsa), Options{Algorithm: "EdDSA"}, "cannot sign"},
		"a JWK for encryption":        {inJWK(k.rsa, "RSA-OAEP", ""), Options{}, "cannot sign"},
		"the same, told what to do":   {inJWK(k.rsa, "RSA-OAEP", ""), Options{Algorithm: "RS256"}, ""},
		"another key's certificate":   {good, Options{Certificate: rsaCert}, "does not belong"},
		"another RSA certificate":     {pkcs8(k.rsa), Options{Certificate: ecCert}, "does not belong"},
		"a certificate of rubbish":    {good, Options{Certificate: inPEM("CERTIFICATE", []byte("x"), nil)}, "cannot be read"},
		"a certificate without one":   {good, Options{Certificate: []byte("x")}, "no certificate"},
		"a key for a certificate":     {good, Options{Certificate: good}, "no certificate"},
		"the first certificate first": {good, Options{Certificate: append(rsaCert[:len(rsaCert):len(rsaCert)], ecCert...)}, "does not belong"},
	} {
		_, err := Parse(tc.text, tc.options)
		if (err == nil) != (tc.say == "") || err != nil && !strings.Contains(err.Error(), tc.say) {
			t.Errorf("%s: want an error about %q, got %v", name, tc.say, err)
		}
		if err != nil && (strings.Contains(err.Error(), "canary") || strings.Contains(err.Error(), string(good[40:60]))) {
			t.Errorf("%s: the error shows the file: %v", name, err)
		}
	}
	for name, tc := range map[string]struct{ secret, algorithm, say string }{
		"usable":        {"x", "HS512", ""},
		"no secret":     {"", "", "no client secret"},
		"RS256":         {"canary-secret", "RS256", "HS256"},
		"none":          {"canary-secret", "none", "HS256"},
		"no such thing": {"canary-secret", "HS1", "HS256"},
	} {
		_, err := FromSecret(tc.secret, Options{Algorithm: tc.algorithm})
		if (err == nil) != (tc.say == "") || err != nil && (!strings.Contains(err.Error(), tc.say) || strings.Contains(err.Error(), "canary")) {
			t.Errorf("a secret, %s: want an error about %q, got %v", name, tc.say, err)
		}
	}
}

func TestKeysCannotBePrinted(t *testing.T) {
	k := newKeys(t)
	canaries := func(secret []byte) []string {
		return []string{string(secret), fmt.Sprintf("%x", secret), fmt.Sprintf("%X", secret), strings.Trim(fmt.Sprint(secret), "[]"), encode(secret)}
	}
	for name, tc := range map[string]struct {
		text   []byte
		secret []byte
	}{
		"RSA":     {pkcs8(k.rsa), k.rsa.D.Bytes()},
		"EC":      {pkcs8(k.p256), func() []byte { b, _ := k.p256.Bytes(); return b }()},
		"Ed25519": {pkcs8(k.ed), k.ed.Seed()},
		"secret":  {nil, []byte("canary-secret")},
	} {
		key, err := Parse(tc.text, Options{})
		if tc.text == nil {
			key, err = FromSecret(string(tc.secret), Options{})
		}
		if err != nil {
			t.Fatal(err)
		}
		holder := struct{ Key *Key }{key}
		asJSON, err := json.Marshal(holder)
		if err != nil {
			t.Fatal(err)
		}
		texts := []string{string(asJSON)}
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
			texts = append(texts, fmt.Sprintf(verb, key), fmt.Sprintf(verb, *key), fmt.Sprintf(verb, holder))
		}
		for _, text := range texts {
			for _, c := range append(canaries(tc.secret), new(big.Int).SetBytes(tc.secret).String()) {
				if strings.Contains(text, c) {
					t.Errorf("%s: the key is in %s", name, text)
				}
			}
		}
	}
}
