package jwks

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"

	"github.com/go-jose/go-jose/v4"
)

// Key is one public key that may verify signatures. It is never changed.
type Key struct {
	// ID is the key's `kid`; "" when it has none. Several keys of a set may share one (RFC 7517, section 4.5).
	ID string
	// Algorithms are the values of `alg` that this key may verify: the key's own `alg` where it has one, otherwise those
	// that fit its type and curve. Never empty.
	Algorithms []string
	// Public is an *rsa.PublicKey of 2048 to 8192 bits, an *ecdsa.PublicKey on P-256, P-384 or P-521, or an ed25519.PublicKey.
	Public crypto.PublicKey
	// Thumbprint is the SHA-256 thumbprint of RFC 7638.
	Thumbprint [32]byte
	// Issuer is the issuer that Microsoft Entra ID ties a key to, with "{tenantid}" where the token's `tid` belongs;
	// "" where the key is not tied.
	Issuer string
}

// Bounds of RSA keys in bits: RFC 7518, section 3.3, and what a request may cost.
const (
	minRSABits = 2048
	maxRSABits = 8192
)

// note is a remark about a key that is used all the same.
type note string

const privateNote note = "publishes its private part: whoever reads the set can sign with it (the private part is ignored)"

// parseKey reads one JWK (RFC 7517, section 4). The error says why the key is not used.
func parseKey(data []byte) (*Key, note, error) {
	var members map[string]json.RawMessage // names of a map match exactly, those of a struct without case
	if err := json.Unmarshal(data, &members); err != nil || members == nil {
		return nil, "", errors.New("it is not a JSON object")
	}
	text := func(name string) (string, error) {
		raw, ok := members[name]
		if !ok {
			return "", nil
		}
		if s, ok := jsonString(raw); ok {
			return s, nil
		}
		return "", fmt.Errorf("its %q is not a string", name)
	}
	var m struct{ kty, crv, kid, alg, use, issuer string }
	for _, f := range []struct {
		to   *string
		name string
	}{{&m.kty, "kty"}, {&m.crv, "crv"}, {&m.kid, "kid"}, {&m.alg, "alg"}, {&m.use, "use"}, {&m.issuer, "issuer"}} {
		s, err := text(f.name)
		if err != nil {
			return nil, "", err
		}
		*f.to = s
	}
	if _, ok := members["use"]; ok && m.use != "sig" {
		return nil, "", fmt.Errorf("its use is %q, not \"sig\"", short(m.use))
	}
	if raw, ok := members["key_ops"]; ok {
		var ops []string
		if json.Unmarshal(raw, &ops) != nil || !slices.Contains(ops, "verify") {
			return nil, "", errors.New("its key_ops do not include \"verify\"")
		}
	}
	public, err := publicKey(m.kty, members)
	if err != nil {
		return nil, "", err
	}
	fits, err := algorithmsFor(public)
	if err != nil {
		return nil, "", err
	}
	if _, ok := members["alg"]; ok {
		if !slices.Contains(fits, m.alg) {
			return nil, "", fmt.Errorf("its alg %q is not a signature algorithm that fits its type and curve", short(m.alg))
		}
		fits = []string{m.alg}
	}
	thumbprint, err := (&jose.JSONWebKey{Key: public}).Thumbprint(crypto.SHA256)
	if err != nil {
		return nil, "", errors.New("it has no thumbprint")
	}
	k := &Key{ID: m.kid, Algorithms: fits, Public: public, Thumbprint: [32]byte(thumbprint), Issuer: m.issuer}
	if _, private := members["d"]; private {
		return k, privateNote, nil
	}
	return k, "", nil
}

// publicKey makes the public key. Only the members that make it up are looked at: a private part, a certificate chain or
// a thumbprint that the JOSE library would stumble over must not cost a good key.
func publicKey(kty string, members map[string]json.RawMessage) (any, error) {
	var bare map[string]json.RawMessage // an absent member becomes null, which the library refuses
	switch kty {
	case "RSA":
		return rsaPublicKey(members) // the library's bound of 4096 bits is a variable of the whole process
	case "EC":
		bare = map[string]json.RawMessage{"kty": members["kty"], "crv": members["crv"], "x": members["x"], "y": members["y"]}
	case "OKP":
		bare = map[string]json.RawMessage{"kty": members["kty"], "crv": members["crv"], "x": members["x"]}
	default:
		return nil, fmt.Errorf("its kty %q is not one for public signature keys", short(kty))
	}
	text, err := json.Marshal(bare)
	if err != nil {
		return nil, errors.New("it is malformed")
	}
	var jwk jose.JSONWebKey
	if err := jwk.UnmarshalJSON(text); err != nil {
		return nil, fmt.Errorf("it is malformed or unsupported: %w", err)
	}
	return jwk.Key, nil
}

// rsaPublicKey reads n and e (RFC 7518, section 6.3.1).
func rsaPublicKey(members map[string]json.RawMessage) (*rsa.PublicKey, error) {
	number := func(name string) (*big.Int, error) {
		s, _ := jsonString(members[name])
		b, err := base64.RawURLEncoding.DecodeString(s)
		if err != nil || len(b) == 0 || len(b) > 2*maxRSABits/8 {
			return nil, fmt.Errorf("it is malformed: %q is missing, not base64url, or too large", name)
		}
		return new(big.Int).SetBytes(b), nil
	}
	n, err := number("n")
	if err != nil {
		return nil, err
	}
	e, err := number("e")
	if err != nil {
		return nil, err
	}
	if e.BitLen() > 31 || e.Bit(0) == 0 || e.Cmp(big.NewInt(3)) < 0 {
		return nil, errors.New("its RSA exponent is not an odd number from 3 to 2^31-1")
	}
	return &rsa.PublicKey{N: n, E: int(e.Int64())}, nil
}

// algorithmsFor returns the algorithms that a key's type and curve allow, or why the key is not fit for any.
func algorithmsFor(public any) ([]string, error) {
	switch k := public.(type) {
	case *rsa.PublicKey:
		switch {
		case k.N.BitLen() < minRSABits || k.N.BitLen() > maxRSABits:
			return nil, fmt.Errorf("it is an RSA key of %d bits, and only %d to %d are accepted", k.N.BitLen(), minRSABits, maxRSABits)
		case k.N.Bit(0) == 0:
			return nil, errors.New("its RSA modulus is even")
		case roca(k.N): // RFC 8725, section 3.5
			return nil, errors.New("it is an RSA key that can be broken (ROCA, CVE-2017-15361)")
		}
		return []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}, nil
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return []string{"ES256"}, nil
		case elliptic.P384():
			return []string{"ES384"}, nil
		case elliptic.P521():
			return []string{"ES512"}, nil
		}
	case ed25519.PublicKey:
		return []string{"EdDSA", "Ed25519"}, nil // the same signatures, RFC 8037 and RFC 9864
	}
	return nil, errors.New("it is not a public key of a type that is supported")
}

// jsonString decodes a JSON string; null is none.
func jsonString(raw json.RawMessage) (string, bool) {
	var s *string
	if json.Unmarshal(raw, &s) != nil || s == nil {
		return "", false
	}
	return *s, true
}

// short bounds text from a key set before it goes into a message.
func short(s string) string {
	const most = 64
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
