package inbound

import (
	"strings"

	"github.com/sidepass/sidepass/proxy"
)

// credentials is the bearer token of a request (RFC 6750, section 2.1), which is looked for in the one Authorization
// line and nowhere else: not in the query, the body, a cookie or a trailer. Schemes compare without case; between
// scheme and token there is exactly one space.
func credentials(h proxy.Fields) (string, *refusal) {
	value, lines := h.First("Authorization")
	switch {
	case lines == 0:
		return "", &refusal{reason: proxy.NoToken}
	case lines > 1:
		return "", &refusal{reason: proxy.MultipleTokens}
	}
	scheme, token, _ := strings.Cut(value, " ")
	switch {
	case strings.EqualFold(scheme, "Bearer"):
		if !visible(token) {
			return "", &refusal{reason: proxy.MalformedAuthorization}
		}
		return token, nil
	case strings.EqualFold(scheme, "DPoP"):
		return "", &refusal{reason: proxy.BindingFailed, detail: "Tokens that are bound to a key by DPoP are not accepted here; send one that is not, as a bearer token."}
	case !isToken(scheme):
		return "", &refusal{reason: proxy.MalformedAuthorization}
	}
	return "", &refusal{reason: proxy.NoToken, detail: "The Authorization field has another scheme than Bearer."}
}

// visible says whether s is printable ASCII without a space, and not empty. So is a token; whether it is a well-formed
// one is the verifier's to say.
func visible(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return s != ""
}

// isToken says whether s is a token of RFC 9110, section 5.6.2, as a scheme and a field's name are.
func isToken(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		alnum := c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !alnum && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != ""
}
