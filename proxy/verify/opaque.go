package verify

import (
	"context"
	"encoding/base64"
	"strings"

	"github.com/sidepass/sidepass/proxy"
)

// IsJWT says whether a token has the shape of a signed JWT: three parts with dots between, of which the first is a JSON
// object in base64url, as far as its first character tells. All that [Verifier.Verify] accepts has it. A token without it is
// opaque: only its issuer can say what it stands for. It does not allocate.
func IsJWT(compact string) bool {
	if strings.Count(compact, ".") != 2 {
		return false
	}
	header := compact[:strings.IndexByte(compact, '.')]
	for header != "" {
		var in [4]byte
		var out [3]byte
		n := copy(in[:], header)
		header = header[n:]
		decoded, err := base64.RawURLEncoding.Decode(out[:], in[:n])
		if err != nil {
			return false
		}
		for _, c := range out[:decoded] {
			switch c {
			case ' ', '\t', '\n', '\r':
			default:
				return c == '{'
			}
		}
	}
	return false
}

// Active says whether a token is active by its issuer's answer about it (RFC 7662, section 2.2). Only the JSON value true says
// so; "true", 1 or nothing do not. The error says why the text is no answer at all.
func Active(answer string) (bool, error) {
	d, err := parseObject(answer)
	if err != nil {
		return false, err
	}
	i, ok := d.member(0, "active")
	return ok && d.nodes[i].kind == boolean && d.raw(d.nodes[i].value) == "true", nil
}

// answerChecks are made of an issuer's answer, in this order.
var answerChecks = [...]check{
	{"answer", (*judgement).answer},
	{"issuer", (*judgement).issuer},
	{"type", (*judgement).answeredType},
	{"time", (*judgement).times},
	{"audience", (*judgement).audience},
	{"required claims", (*judgement).requiredClaims},
	{"client", (*judgement).client},
	{"binding", (*judgement).binding},
	{"revocation", (*judgement).revocation},
}

// Introspected judges what the issuer of that configured name said about an opaque token (RFC 7662, section 2.2): the
// text of its answer, which [Active] was true of. Claims are checked as those of a JWT are, except that `iss` and `exp` may be
// absent and that nothing is signed. The error is always an [*Error]; malformed_token says that the answer is of no use, and
// nothing of the token.
func (v *Verifier) Introspected(issuer, answer string, held Possession) (*Token, error) {
	j, no := v.introspection(issuer, answer, held)
	if no != nil {
		return nil, no
	}
	if err := j.run(context.Background(), answerChecks[:]); err != nil {
		return nil, err
	}
	return j.token, nil
}

// ExplainIntrospected judges an answer as [Verifier.Introspected] does, and returns the checks as [Verifier.Explain] does.
func (v *Verifier) ExplainIntrospected(issuer, answer string, held Possession) ([]Step, *Token) {
	j, no := v.introspection(issuer, answer, held)
	if no != nil {
		return []Step{{"issuer", no}}, nil
	}
	return j.explain(context.Background(), answerChecks[:])
}

func (v *Verifier) introspection(issuer, answer string, held Possession) (*judgement, *Error) {
	for _, t := range v.trusts {
		if t.Name == issuer {
			return &judgement{v: v, now: v.now(), introspected: true, trust: t, compact: answer, held: held}, nil
		}
	}
	return nil, refuse(proxy.UntrustedIssuer, "")
}

// answer reads the claims that have a meaning here.
func (j *judgement) answer(context.Context) *Error {
	var err error
	if j.claims, err = parseObject(j.compact); err != nil {
		return refuse(proxy.MalformedToken, "The issuer's answer about the token "+err.Error()+".")
	}
	return j.read()
}

// answeredType refuses what the issuer knows and calls something else than an access token, a refresh token for instance.
// token_type is optional and without a registry for this use: Bearer is the word of RFC 7662, access_token that of some.
func (j *judgement) answeredType(context.Context) *Error {
	i, ok := j.claims.member(0, "token_type")
	if !ok || j.claims.nodes[i].kind == null {
		return nil
	}
	typ, ok := j.claims.str(i)
	switch typ = strings.ToLower(typ); {
	case ok && (typ == "" || typ == "bearer" || typ == "access_token"):
		return nil
	case typ == "dpop":
		if _, bound := j.claims.member(0, "cnf"); !bound {
			return refuse(proxy.BindingFailed, "The token is bound to a key by DPoP, and its issuer does not say to which.")
		}
		return nil
	}
	return refuse(proxy.WrongType, "")
}
