// Package dpop shows that we hold the key that a token is bound to (RFC 9449): a proof goes with each request that carries such a
// token, and with each request for one. It speaks no HTTP: its caller sends the DPoP field and reads DPoP-Nonce.
package dpop

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Key is an ES256 key that never leaves the process. It does not change, is safe for concurrent use, and cannot be printed.
type Key struct {
	private    *ecdsa.PrivateKey // package fmt prints no more of it than its address
	header     string            // the first part of each proof, encoded
	thumbprint string
}

// NewKey makes a key. A process needs one: tokens are bound to it, and are lost with it.
func NewKey() (*Key, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making a DPoP key: %w", err)
	}
	point, err := private.PublicKey.Bytes() // 4, x, y
	if err != nil {
		return nil, fmt.Errorf("making a DPoP key: %w", err)
	}
	// The members that RFC 7638 (section 3.2) wants, in its order and without white space: what is published is what is digested.
	public := fmt.Sprintf(`{"crv":"P-256","kty":"EC","x":"%s","y":"%s"}`, encode(point[1:33]), encode(point[33:]))
	digest := sha256.Sum256([]byte(public))
	return &Key{
		private:    private,
		header:     encode([]byte(`{"typ":"dpop+jwt","alg":"ES256","jwk":` + public + `}`)),
		thumbprint: encode(digest[:]),
	}, nil
}

// Thumbprint is the key's (RFC 7638, SHA-256): the jkt that a token bound to it carries.
func (k *Key) Thumbprint() string { return k.thumbprint }

// Proof is the value of the DPoP field of one request (section 4.2); it is good for that request alone. method and uri are as the
// server sees them; a query or fragment of uri is left out. hash is TokenHash of the token that the request carries, "" in a
// request for a token. nonce is the server's newest, "" while it gave none.
func (k *Key) Proof(method, uri, hash, nonce string, now time.Time) (string, error) {
	if i := strings.IndexAny(uri, "?#"); i >= 0 {
		uri = uri[:i]
	}
	payload, err := json.Marshal(struct {
		ID     string `json:"jti"`
		Method string `json:"htm"`
		URI    string `json:"htu"`
		Issued int64  `json:"iat"`
		Hash   string `json:"ath,omitempty"`
		Nonce  string `json:"nonce,omitempty"`
	}{rand.Text(), method, uri, now.Unix(), hash, nonce})
	if err != nil {
		return "", fmt.Errorf("writing a DPoP proof: %w", err)
	}
	text := k.header + "." + encode(payload)
	signature, err := jwt.SigningMethodES256.Sign(text, k.private)
	if err != nil {
		return "", fmt.Errorf("signing a DPoP proof: %w", err)
	}
	return text + "." + encode(signature), nil
}

// TokenHash is the ath of a token, the same in all proofs that go with it.
func TokenHash(token string) string {
	digest := sha256.Sum256([]byte(token))
	return encode(digest[:])
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
