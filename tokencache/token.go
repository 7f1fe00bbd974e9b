package tokencache

import "time"

// Token is an access token and its lifetime. It is immutable, safe for concurrent use, and cannot be printed:
// its text comes out by Reveal and Authorization only.
type Token struct {
	// authorization is "Bearer …". It is a pointer to a string because package fmt prints what is in unexported fields,
	// and what pointers to structs point to, but of this only the address.
	authorization *string

	Scheme   string    // of the Authorization header: "Bearer" or "DPoP"
	Scope    string    // what the issuer says it granted; "" when it says nothing
	Obtained time.Time // when the answer was received, with the monotonic clock
	Expiry   time.Time // Obtained plus the lifetime; never taken from the token itself
}

// NewToken is a bearer token that was received at obtained, a reading of time.Now, and lives for lifetime.
// The caller has checked that value is legal in a header. scope is what the issuer granted.
func NewToken(value, scope string, obtained time.Time, lifetime time.Duration) *Token {
	return newToken("Bearer", value, scope, obtained, lifetime)
}

// NewDPoPToken is NewToken for a token that is bound to our DPoP key (RFC 9449): a proof has to go with it.
func NewDPoPToken(value, scope string, obtained time.Time, lifetime time.Duration) *Token {
	return newToken("DPoP", value, scope, obtained, lifetime)
}

func newToken(scheme, value, scope string, obtained time.Time, lifetime time.Duration) *Token {
	authorization := scheme + " " + value
	return &Token{authorization: &authorization, Scheme: scheme, Scope: scope, Obtained: obtained, Expiry: obtained.Add(lifetime)}
}

// Reveal is the bare token.
func (t *Token) Reveal() string { return (*t.authorization)[len(t.Scheme)+1:] }

// Authorization is the whole value of an Authorization header, made once: it costs no allocation.
func (t *Token) Authorization() string { return *t.authorization }

// until is the token, or one like it that expires at end if that is earlier. end is a reading of the wall clock.
func (t *Token) until(end time.Time) *Token {
	lifetime := end.Sub(t.Obtained)
	if lifetime >= t.Expiry.Sub(t.Obtained) {
		return t
	}
	short := *t
	short.Expiry = t.Obtained.Add(lifetime)
	return &short
}
