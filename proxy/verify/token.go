package verify

import (
	"slices"
	"strings"
	"time"
	"unsafe"
)

// Token is an access token that was found good. It is shared by the requests that carry it and never changed.
type Token struct {
	// IssuerName is the configured name of its issuer, Issuer the issuer identifier.
	IssuerName, Issuer string
	// Subject is `sub`, ID is `jti`; "" when absent.
	Subject, ID string
	// Client is `azp`, else `client_id`, `appid`, `cid`, else `sub`; "" when none is there. It means something only
	// together with the issuer.
	Client string
	// Expiry, NotBefore and IssuedAt are `exp`, `nbf` and `iat`; zero when absent. Expiry is absent only from an
	// introspected token.
	Expiry, NotBefore, IssuedAt time.Time

	claims       document
	scopes       []string // sorted
	confirmation confirmation
}

// HasScope says whether the token has exactly this scope.
func (t *Token) HasScope(scope string) bool {
	_, found := slices.BinarySearch(t.scopes, scope)
	return found
}

// Claim returns a claim by its name, or by a JSON Pointer (RFC 6901) where it begins with "/": a string, json.Number,
// bool, nil, []any or map[string]any. The caller owns what it gets.
func (t *Token) Claim(path string) (value any, ok bool) {
	i, ok := t.claims.find(path)
	if !ok {
		return nil, false
	}
	return t.claims.value(i), true
}

// HasClaim says whether a claim, named as for [Token.Claim], has a value; see [ClaimValue]. It does not allocate unless
// the token escapes what it could write plainly.
func (t *Token) HasClaim(path, value string) bool {
	i, ok := t.claims.find(path)
	return ok && t.claims.is(i, value)
}

// size is roughly the memory that the token holds on to, in bytes.
func (t *Token) size() int {
	return int(unsafe.Sizeof(*t)) + len(t.claims.text) + cap(t.claims.nodes)*int(unsafe.Sizeof(node{})) + cap(t.scopes)*int(unsafe.Sizeof(""))
}

// clientOf is the client that a token was issued to. The first claim of them that is there counts: one that is not a text
// names nobody.
func clientOf(d document) string {
	for _, name := range [...]string{"azp", "client_id", "appid", "cid", "sub"} {
		if i, ok := d.member(0, name); ok && d.nodes[i].kind != null {
			s, _ := d.str(i)
			return s
		}
	}
	return ""
}

// scopesOf unites the scopes of the claims: a string is split at its spaces, an array's texts are taken whole, and
// anything else counts as none.
func scopesOf(d document, claims []string) []string {
	var out []string
	for _, claim := range claims {
		i, ok := d.find(claim)
		if !ok {
			continue
		}
		if s, ok := d.str(i); ok {
			for scope := range strings.SplitSeq(s, " ") {
				if scope != "" {
					out = append(out, scope)
				}
			}
			continue
		}
		if d.nodes[i].kind != array {
			continue
		}
		for j := range d.each(i) {
			if s, ok := d.str(j); ok && s != "" {
				out = append(out, s)
			}
		}
	}
	slices.Sort(out)
	return slices.Clip(slices.Compact(out))
}
