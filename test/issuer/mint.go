package issuer

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"maps"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// digest is a token's SHA-256, under which the server remembers it.
type digest [sha256.Size]byte

// reference is what an opaque token stands for.
type reference struct {
	claims  map[string]any
	expires time.Time // zero: never
}

// MintOptions makes an unusual token. The zero value makes a usual one.
type MintOptions struct {
	// Key signs and gives the header its `alg` and `kid`; it need not be published. Nil: the key that signs now.
	Key *Key

	// Header members are set over `alg`, `typ` (at+jwt) and `kid`; nil removes one. They do not change what is signed with.
	Header map[string]any

	// Sign, when set, makes the signature instead of the key: for `none`, HMAC, or a wrong one.
	Sign func(input []byte) []byte
}

// Mint signs a token with chosen claims, set over the usual ones: `iss`, `sub` and `client_id` (the first client's ID),
// `iat`, `exp` (after the server's lifetime) and `jti`. A nil value removes a claim. There is no `aud` and no `scope`
// unless given. It panics on claims that are not JSON.
func (s *Server) Mint(claims map[string]any) string { return s.MintWith(claims, MintOptions{}) }

// MintWith is Mint with a chosen key, header or signature.
func (s *Server) MintWith(claims map[string]any, o MintOptions) string {
	key := o.Key
	if key == nil {
		key = s.signingKey()
	}
	sign := o.Sign
	if sign == nil {
		sign = key.Sign
	}
	header := map[string]any{"alg": key.Algorithm(), "typ": "at+jwt", "kid": key.ID()} // RFC 9068 section 2.1
	text := mustJSON
	if s.profile != nil {
		header, text = s.profile.header(key), s.profile.headerText
	}
	merge(header, o.Header)
	input := b64(text(header)) + "." + b64(mustJSON(s.claims(claims)))
	return input + "." + b64(sign([]byte(input)))
}

// MintOpaque makes a token that says nothing by itself: only /introspect knows its claims, which are as in Mint.
func (s *Server) MintOpaque(claims map[string]any) string { return s.mintOpaque("", claims) }

func (s *Server) mintOpaque(prefix string, claims map[string]any) string {
	token := prefix + rand.Text()
	ref := reference{claims: s.claims(claims)}
	ref.expires = expiry(ref.claims)
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.opaque, func(_ digest, r reference) bool { return past(r.expires, now) })
	s.opaque[sha256.Sum256([]byte(token))] = ref
	return token
}

// Revoke makes an active token inactive for /introspect, whoever it belongs to. Signed tokens keep their signature: who
// verifies them alone does not notice.
func (s *Server) Revoke(token string) {
	claims, active := s.lookup(token)
	if !active {
		return
	}
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.revoked, func(_ digest, expires time.Time) bool { return past(expires, now) })
	s.revoked[sha256.Sum256([]byte(token))] = expiry(claims)
}

func (s *Server) claims(changes map[string]any) map[string]any {
	now := time.Now()
	s.mu.Lock()
	lifetime := s.lifetime
	s.mu.Unlock()
	claims := map[string]any{"iss": s.Issuer(), "sub": s.subject, "client_id": s.subject,
		"iat": now.Unix(), "exp": now.Unix() + int64(lifetime/time.Second), "jti": rand.Text()}
	merge(claims, changes)
	return claims
}

// lookup returns the claims of a token that is ours, published, unexpired and not revoked.
func (s *Server) lookup(token string) (map[string]any, bool) {
	sum := digest(sha256.Sum256([]byte(token)))
	s.mu.Lock()
	_, revoked := s.revoked[sum]
	ref, isOpaque := s.opaque[sum]
	s.mu.Unlock()
	switch {
	case revoked:
		return nil, false
	case isOpaque:
		return ref.claims, !past(ref.expires, time.Now())
	}
	claims := jwt.MapClaims{}
	_, err := jwt.ParseWithClaims(token, claims, s.verificationKey, jwt.WithIssuer(s.Issuer()), jwt.WithExpirationRequired(), jwt.WithStrictDecoding())
	return claims, err == nil
}

func (s *Server) verificationKey(t *jwt.Token) (any, error) {
	for _, k := range s.Keys() {
		if k.id == t.Header["kid"] && k.method == t.Method {
			return k.Public(), nil
		}
	}
	return nil, errors.New("no such key is published")
}

// expiry is the time of an `exp` as Mint or the JSON decoder leave it, zero when there is none.
func expiry(claims map[string]any) time.Time {
	switch exp := claims["exp"].(type) {
	case int64:
		return time.Unix(exp, 0)
	case int:
		return time.Unix(int64(exp), 0)
	case float64:
		return time.Unix(int64(exp), 0)
	}
	return time.Time{}
}

func past(expires, now time.Time) bool { return !expires.IsZero() && !now.Before(expires) }

func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("issuer: " + err.Error())
	}
	return b
}
