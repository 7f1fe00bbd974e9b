package inbound

import (
	"errors"

	"github.com/sidepass/sidepass/proxy"
	"github.com/sidepass/sidepass/proxy/verify"
)

// tenure lets a stream last as long as its token, by the verifier that let it begin. Rules are not held against it again.
type tenure struct {
	verifier Verifier
	token    *verify.Token
}

// limit has a request end with its token if it becomes a stream, unless streams are kept. In audit mode they are: the same
// request would pass again, whatever its token.
func (g *Gate) limit(v *proxy.Verdict, rl *rule, tok *verify.Token) {
	if !g.expire || rl.audit {
		return
	}
	v.Tenure = &tenure{g.verifier, tok}
	v.ResourceMetadata, v.DPoP = g.metadata.url, g.challenge(tok, &refusal{}) // of a refusal, as long as there is no answer
}

// Lasts ends a stream for what has become of its token, and for nothing else: not for a list of revocations that is not there,
// nor for a clock that was set back.
func (t *tenure) Lasts() proxy.Reason {
	err := t.verifier.Recheck(t.token)
	if err == nil {
		return proxy.OK
	}
	no, ok := errors.AsType[*verify.Error](err)
	if !ok {
		return proxy.InternalError
	}
	switch no.Reason {
	case proxy.RevocationsUnavailable, proxy.NotYetValid:
		return proxy.OK
	}
	return no.Reason
}
