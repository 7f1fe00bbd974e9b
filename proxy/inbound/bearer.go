package inbound

import (
	"crypto/tls"
	"strings"

	"github.com/sidepass/sidepass/proxy"
	"github.com/sidepass/sidepass/proxy/verify"
)

// credentials is the token of a request (RFC 6750, section 2.1; RFC 9449, section 7.1), which is looked for in the one Authorization
// line and nowhere else: not in the query, the body, a cookie or a trailer. Schemes compare without case; between
// scheme and token there is exactly one space. dpop says that the scheme is DPoP and not Bearer; proofs, whether that is taken.
func credentials(h proxy.Fields, proofs bool) (compact string, dpop bool, no *refusal) {
	value, lines := h.First("Authorization")
	switch {
	case lines == 0:
		return "", false, &refusal{reason: proxy.NoToken}
	case lines > 1:
		return "", false, &refusal{reason: proxy.MultipleTokens}
	}
	scheme, token, _ := strings.Cut(value, " ")
	dpop = strings.EqualFold(scheme, "DPoP")
	switch {
	case dpop && !proofs:
		return "", false, &refusal{reason: proxy.BindingFailed, detail: "Tokens that are bound to a key by DPoP are not accepted here; send one that is not, as a bearer token."}
	case dpop && !visible(token):
		return "", false, &refusal{reason: proxy.MalformedAuthorization, detail: "The Authorization field is not `DPoP <token>`.", dpop: true}
	case dpop:
		return token, true, nil
	case strings.EqualFold(scheme, "Bearer"):
		if !visible(token) {
			return "", false, &refusal{reason: proxy.MalformedAuthorization}
		}
		return token, false, nil
	case !isToken(scheme):
		return "", false, &refusal{reason: proxy.MalformedAuthorization}
	case proofs:
		return "", false, &refusal{reason: proxy.NoToken, detail: "The Authorization field has another scheme than Bearer and DPoP."}
	}
	return "", false, &refusal{reason: proxy.NoToken, detail: "The Authorization field has another scheme than Bearer."}
}

// possession is what a request's sender shows besides the token and a proof.
func possession(dpop bool, state *tls.ConnectionState) verify.Possession {
	held := verify.Possession{DPoP: dpop}
	if state != nil && len(state.PeerCertificates) > 0 {
		held.Certificate = state.PeerCertificates[0].Raw
	}
	return held
}

// prove judges the proof that comes with a token under the scheme DPoP, in exactly one field (RFC 9449, section 4.3).
func prove(proofs *verify.Proofs, r *proxy.Request, compact string, tok *verify.Token) *refusal {
	no := &refusal{reason: proxy.InvalidDPoPProof, issuer: tok.IssuerName, dpop: true}
	proof, lines := r.Header.First("Dpop")
	switch {
	case lines == 0:
		no.detail = "The request has no DPoP field with a proof."
		return no
	case lines > 1:
		no.detail = "The request has more than one DPoP field; send exactly one."
		return no
	}
	err := proofs.Verify(proof, verify.Use{Method: r.Method, Path: r.Target.Path, Compact: compact, Token: tok})
	if err == nil {
		return nil
	}
	no.reason, no.detail = err.Reason, err.Detail
	return no
}

// visible says whether s is printable ASCII without a space, and not empty. So is a token; whether it is a well-formed
// one is the verifier's to say.
func visible(s string) bool {
	const each, high = 0x0101010101010101, 0x8080808080808080
	i := 0
	for ; len(s)-i >= 8; i += 8 { // a token is long: eight bytes at once
		t := s[i : i+8]
		w := uint64(t[0]) | uint64(t[1])<<8 | uint64(t[2])<<16 | uint64(t[3])<<24 | uint64(t[4])<<32 | uint64(t[5])<<40 | uint64(t[6])<<48 | uint64(t[7])<<56
		below, above := (w-each*'!')&^w, w+each|w // their high bits: whether a byte is below '!', above '~'
		if (below|above)&high != 0 {
			return false
		}
	}
	for ; i < len(s); i++ {
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
