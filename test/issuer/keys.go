package issuer

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"

	"github.com/golang-jwt/jwt/v5"
)

// Key is a signing key for one algorithm. It does not change.
type Key struct {
	id      string
	method  jwt.SigningMethod
	private crypto.Signer
	params  map[string]string // the JWK's required members (RFC 7638 section 3.2)
}

// NewKey makes a key: RSA of 2048 bits for RS256 to PS512, the algorithm's curve for ES256 to ES512, Ed25519 for EdDSA.
// Other algorithms are an error.
func NewKey(algorithm string) (*Key, error) {
	var private crypto.Signer
	var err error
	switch algorithm {
	case "RS256", "RS384", "RS512", "PS256", "PS384", "PS512":
		private, err = rsa.GenerateKey(rand.Reader, 2048)
	case "ES256":
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ES384":
		private, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "ES512":
		private, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case "EdDSA":
		_, private, err = ed25519.GenerateKey(rand.Reader)
	default:
		return nil, fmt.Errorf("issuer: no key for algorithm %q: use RS256 to RS512, PS256 to PS512, ES256 to ES512 or EdDSA", algorithm)
	}
	if err != nil {
		return nil, fmt.Errorf("issuer: make a key for %s: %w", algorithm, err)
	}
	k := &Key{method: jwt.GetSigningMethod(algorithm), private: private}
	if k.params, err = publicParams(private.Public()); err != nil {
		return nil, err
	}
	canonical, err := json.Marshal(k.params) // sorted, without white space
	if err != nil {
		return nil, err
	}
	thumbprint := sha256.Sum256(canonical)
	k.id = b64(thumbprint[:])
	return k, nil
}

func publicParams(public crypto.PublicKey) (map[string]string, error) {
	switch p := public.(type) {
	case *rsa.PublicKey:
		return map[string]string{"kty": "RSA", "n": b64(p.N.Bytes()), "e": b64(big.NewInt(int64(p.E)).Bytes())}, nil
	case *ecdsa.PublicKey:
		point, err := p.Bytes() // 4, X, Y
		if err != nil {
			return nil, fmt.Errorf("issuer: encode an EC key: %w", err)
		}
		half := len(point) / 2
		return map[string]string{"kty": "EC", "crv": p.Params().Name, "x": b64(point[1 : 1+half]), "y": b64(point[1+half:])}, nil
	case ed25519.PublicKey:
		return map[string]string{"kty": "OKP", "crv": "Ed25519", "x": b64(p)}, nil
	}
	return nil, fmt.Errorf("issuer: no JWK for a %T", public)
}

// ID is the key's `kid`: its thumbprint (RFC 7638), so that no two keys ever share one.
func (k *Key) ID() string { return k.id }

// Algorithm is its JWS algorithm.
func (k *Key) Algorithm() string { return k.method.Alg() }

// Public is its public key: *rsa.PublicKey, *ecdsa.PublicKey or ed25519.PublicKey.
func (k *Key) Public() crypto.PublicKey { return k.private.Public() }

// JWK is the public key as a JSON Web Key (RFC 7517), the caller's to change.
func (k *Key) JWK() map[string]any {
	m := map[string]any{"kid": k.id, "alg": k.Algorithm(), "use": "sig"}
	for name, value := range k.params {
		m[name] = value
	}
	return m
}

// Sign is the JWS signature of a signing input (RFC 7515 section 5.1), not yet encoded.
func (k *Key) Sign(input []byte) []byte {
	sig, err := k.method.Sign(string(input), k.private)
	if err != nil {
		panic("issuer: a key and its algorithm do not fit: " + err.Error())
	}
	return sig
}

// String is the algorithm and kid; the private key is not printed.
func (k *Key) String() string { return k.Algorithm() + " " + k.id }

// GoString is String.
func (k *Key) GoString() string { return k.String() }

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func firstKeys(o Options) ([]*Key, error) {
	if len(o.Keys) > 0 {
		if len(o.Algorithms) > 0 {
			return nil, errors.New("issuer: Keys and Algorithms are both set: keys bring their algorithms with them")
		}
		if slices.Contains(o.Keys, nil) {
			return nil, errors.New("issuer: one of Keys is nil")
		}
		return slices.Clone(o.Keys), nil
	}
	algorithms := o.Algorithms
	if len(algorithms) == 0 {
		algorithms = []string{"RS256", "PS256", "ES256", "EdDSA"}
	}
	var keys []*Key
	for _, a := range algorithms {
		k, err := NewKey(a)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// Keys are the published keys, oldest first.
func (s *Server) Keys() []*Key {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.keys)
}

// Key is the newest published key for an algorithm, nil when there is none.
func (s *Server) Key(algorithm string) *Key {
	for _, k := range slices.Backward(s.Keys()) {
		if k.Algorithm() == algorithm {
			return k
		}
	}
	return nil
}

// Rotate makes a new key of the algorithm that signs now, publishes it, signs with it from now on and returns it.
// The old keys stay published until Withdraw.
func (s *Server) Rotate() *Key {
	k, err := NewKey(s.signingKey().Algorithm())
	if err != nil {
		panic(err) // the algorithm is one that NewKey has made a key for before
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys = append(s.keys, k)
	s.signer = k
	return k
}

// Withdraw takes a key out of the published set: its tokens can no longer be verified. The key that signs cannot be
// withdrawn, Rotate first; an unknown kid is an error too.
func (s *Server) Withdraw(kid string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.signer.id == kid {
		return fmt.Errorf("issuer: key %s is the one that signs: call Rotate first", kid)
	}
	i := slices.IndexFunc(s.keys, func(k *Key) bool { return k.id == kid })
	if i < 0 {
		return fmt.Errorf("issuer: no key %s is published", kid)
	}
	s.keys = slices.Delete(s.keys, i, i+1)
	return nil
}

func (s *Server) signingKey() *Key {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.signer
}

// merge sets members of m over it; a nil value removes one.
func merge(into, m map[string]any) {
	maps.Copy(into, m)
	maps.DeleteFunc(into, func(_ string, v any) bool { return v == nil })
}
