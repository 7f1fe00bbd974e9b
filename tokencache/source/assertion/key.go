// Package assertion signs the JWT by which a client proves to an authorization server who it is: private_key_jwt and
// client_secret_jwt (RFC 7523, section 2.2; OpenID Connect Core, section 9).
package assertion

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // x5t is defined over SHA-1 (RFC 7515, section 4.1.7); it names a certificate and protects nothing
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"
)

// Options of a Key. The zero value is usable.
type Options struct {
	// Algorithm signs: RS256 … RS512, PS256 … PS512, ES256 … ES512, EdDSA; with a secret HS256 … HS512. By default it is the JWK's own,
	// else RS256, the ES… of the curve, EdDSA, or HS256.
	Algorithm string
	// KeyID is the kid of the header; by default the JWK's own, else none.
	KeyID string
	// Certificate, in PEM, is the key's: its thumbprint goes into the header as x5t#S256, and with RS256 as x5t too, which is how
	// Entra ID finds the key. Of several the first counts. Empty: none.
	Certificate []byte
}

// Key signs assertions. It does not change, is safe for concurrent use, and cannot be printed.
type Key struct {
	// sign holds the private key: package fmt prints no more of a function than its address, but all of an ed25519.PrivateKey.
	sign   func(text string) ([]byte, error)
	header string // encoded
}

// Parse is the key in a file: PEM (PKCS #8, PKCS #1 or SEC 1) or a JWK. An error says what is wrong, and nothing of what is in it.
func Parse(text []byte, o Options) (*Key, error) {
	var signer crypto.Signer
	var err error
	if text = bytes.TrimSpace(text); bytes.HasPrefix(text, []byte("{")) {
		signer, err = fromJWK(text, &o)
	} else {
		signer, err = fromPEM(text)
	}
	if err != nil {
		return nil, err
	}
	method, err := methodFor(signer, o.Algorithm)
	if err != nil {
		return nil, err
	}
	header := map[string]string{}
	if len(o.Certificate) > 0 {
		if header, err = thumbprints(o.Certificate, signer, method.Alg()); err != nil {
			return nil, err
		}
	}
	return newKey(method, signer, o.KeyID, header), nil
}

// FromSecret is the key that a client secret is. The Certificate of the options does not count.
func FromSecret(secret string, o Options) (*Key, error) {
	if o.Algorithm == "" {
		o.Algorithm = "HS256"
	}
	method, ok := jwt.GetSigningMethod(o.Algorithm).(*jwt.SigningMethodHMAC)
	switch {
	case !ok:
		return nil, fmt.Errorf("a client secret cannot sign with %q: use HS256, HS384 or HS512", o.Algorithm)
	case secret == "":
		return nil, errors.New("there is no client secret to sign with")
	}
	return newKey(method, []byte(secret), o.KeyID, map[string]string{}), nil
}

func newKey(method jwt.SigningMethod, key any, id string, header map[string]string) *Key {
	header["alg"], header["typ"] = method.Alg(), "JWT"
	if id != "" {
		header["kid"] = id
	}
	text, _ := json.Marshal(header) // strings alone: cannot fail
	return &Key{header: encode(text), sign: func(text string) ([]byte, error) { return method.Sign(text, key) }}
}

// fromJWK reads a JWK (RFC 7517), whose alg and kid count unless the options say otherwise.
func fromJWK(text []byte, o *Options) (crypto.Signer, error) {
	var key jose.JSONWebKey
	if key.UnmarshalJSON(text) != nil {
		return nil, errors.New("the private key is a JWK that cannot be read")
	}
	signer, ok := key.Key.(crypto.Signer)
	if !ok {
		return nil, errors.New("the JWK is not a private key of type RSA, EC or OKP (Ed25519)")
	}
	if o.KeyID == "" {
		o.KeyID = key.KeyID
	}
	if o.Algorithm == "" {
		o.Algorithm = key.Algorithm
	}
	return signer, nil
}

// fromPEM reads the first private key in PEM.
func fromPEM(text []byte) (crypto.Signer, error) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		var key any
		var err error
		switch block.Type {
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "RSA PRIVATE KEY":
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		case "ENCRYPTED PRIVATE KEY":
			return nil, errors.New("the private key is encrypted, which is not supported: give it in the clear, in a file that only sidepass can read")
		default:
			continue
		}
		signer, ok := key.(crypto.Signer)
		if err != nil || !ok {
			return nil, errors.New("the private key cannot be read: want RSA, EC or Ed25519, as PKCS #8, PKCS #1 or SEC 1")
		}
		return signer, nil
	}
	return nil, errors.New("no private key in it: want PEM or a JWK")
}

// methodFor is the algorithm that was asked for, if the key can do it, or the key's usual one.
func methodFor(key crypto.Signer, algorithm string) (jwt.SigningMethod, error) {
	var can []string // the usual one first
	switch k := key.(type) {
	case *rsa.PrivateKey:
		if k.N.BitLen() < 2048 {
			return nil, fmt.Errorf("the private key has %d bits: an RSA key needs 2048 (RFC 7518, section 3.3)", k.N.BitLen())
		}
		can = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
	case *ecdsa.PrivateKey:
		switch k.Curve.Params().BitSize {
		case 256:
			can = []string{"ES256"}
		case 384:
			can = []string{"ES384"}
		case 521:
			can = []string{"ES512"}
		}
	case ed25519.PrivateKey:
		can = []string{"EdDSA"}
		if algorithm == "Ed25519" { // what RFC 9864 calls it
			algorithm = "EdDSA"
		}
	}
	if len(can) == 0 {
		return nil, errors.New("the private key is of a kind that no assertion is signed with: use RSA, EC (P-256, P-384, P-521) or Ed25519")
	}
	if algorithm == "" {
		algorithm = can[0]
	}
	for _, name := range can {
		if name == algorithm {
			return jwt.GetSigningMethod(name), nil
		}
	}
	return nil, fmt.Errorf("the private key cannot sign with %q: it can do %q", algorithm, can)
}

// thumbprints are the members of a header that name a key's certificate (RFC 7515, sections 4.1.7 and 4.1.8).
func thumbprints(text []byte, key crypto.Signer, algorithm string) (map[string]string, error) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, errors.New("the certificate cannot be read")
		}
		public, ok := certificate.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
		if !ok || !public.Equal(key.Public()) {
			return nil, errors.New("the certificate does not belong to the private key")
		}
		sum := sha256.Sum256(certificate.Raw)
		header := map[string]string{"x5t#S256": encode(sum[:])}
		if algorithm == "RS256" {
			old := sha1.Sum(certificate.Raw) //nolint:gosec // see the import
			header["x5t"] = encode(old[:])
		}
		return header, nil
	}
	return nil, errors.New("no certificate in it: want PEM blocks of type CERTIFICATE")
}
