package outbound

import (
	"strings"

	"github.com/sidepass/sidepass/proxy"
)

// subjectToken is the bearer token that the application sent, for a route that exchanges it (RFC 8693). found is false where
// it sent none: no Authorization, another scheme, or nothing after the scheme. A reason other than OK is why a token that is
// there cannot be used; it is not taken for none, lest a request with a broken token be sent on as our own.
func subjectToken(h proxy.Fields) (token string, found bool, reason proxy.Reason) {
	value, lines := h.First("Authorization")
	switch {
	case lines == 0:
		return "", false, proxy.OK
	case lines > 1:
		return "", false, proxy.MalformedRequest
	case len(value) < len(bearer) || !strings.EqualFold(value[:len(bearer)], bearer):
		return "", false, proxy.OK
	}
	rest := value[len(bearer):]
	token = strings.TrimLeft(rest, " ")
	switch {
	case token == "":
		return "", false, proxy.OK
	case isTokenChar(rest[0]): // Bearerish x
		return "", false, proxy.OK
	case rest[0] != ' ' || !visible(token):
		return "", false, proxy.SubjectRefused
	}
	return token, true, proxy.OK
}

// unusable refuses a request whose subject token cannot be taken from it.
func (rt *route) unusable(reason proxy.Reason) proxy.Verdict {
	if reason == proxy.SubjectRefused {
		return refuse(reason, rt.name, "The Authorization field of the request is not `Bearer <token>`, so that there is no token to exchange for route "+rt.name+".")
	}
	return refuse(reason, rt.name, "The request has more than one Authorization field.")
}

// visible says whether s is printable ASCII without a space.
func visible(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

// isTokenChar says whether a scheme may contain c (RFC 9110, section 5.6.2).
func isTokenChar(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}
