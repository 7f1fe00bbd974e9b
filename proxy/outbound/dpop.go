package outbound

import (
	"context"
	"strings"

	"github.com/sidepass/sidepass/proxy"
	"github.com/sidepass/sidepass/tokencache"
)

// Prover proves that we hold the key which a token is bound to (RFC 9449). It is safe for concurrent use and does not block.
type Prover interface {
	// Proof is a new value of the DPoP field for one request: method and uri as they go to the upstream, the uri without
	// a query, and the token that it carries. It uses the newest nonce of the uri's server.
	Proof(method, uri, accessToken string) (string, error)
	// Nonce notes what a server said in DPoP-Nonce (section 8.2), for its next proofs.
	Nonce(uri, nonce string)
}

const schemeDPoP = "DPoP"

// bound is the 401 policy of one request that carries a token bound to our key. It does not change.
type bound struct {
	follow
	method string
	uri    string // htu: where the request goes, without the query
}

// admitBound sends a request on with a token that is not a bearer token.
func (rt *route) admitBound(r *proxy.Request, f follow) proxy.Verdict {
	if rt.prover == nil || f.token.Scheme != schemeDPoP {
		return refuse(proxy.InternalError, rt.name, "The token for route "+rt.name+" is of the type "+f.token.Scheme+", which this route cannot send.")
	}
	b := &bound{follow: f, method: strings.Clone(r.Method), uri: rt.uri(&f, r.Target.Path)}
	v, ok := b.send(f.token)
	if !ok {
		return refuse(proxy.InternalError, rt.name, "The DPoP proof for route "+rt.name+" could not be made.")
	}
	return v
}

// uri is where a request is sent, without the query.
func (rt *route) uri(f *follow, path string) string {
	origin := rt.origin
	if f.authority != "" {
		origin = rt.scheme + "://" + f.authority
	}
	switch {
	case f.path != "":
		path = f.path
	case path == "*": // OPTIONS *: about the server, not a resource
		path = ""
	}
	return origin + path
}

// send sends the request with a token and, where that is bound, a new proof. It is false when there is no proof.
func (b *bound) send(t *tokencache.Token) (proxy.Verdict, bool) {
	rt := b.route
	v := rt.onward(b.authority, b.path)
	v.Remove = rt.remove
	v.Set = []proxy.Field{{Name: "Authorization", Value: t.Authorization()}}
	if t.Scheme != bearer {
		proof, err := rt.prover.Proof(b.method, b.uri, t.Reveal())
		if err != nil {
			return proxy.Verdict{}, false
		}
		v.Set = append(v.Set, proxy.Field{Name: "DPoP", Value: proof})
	}
	v.Follow = b
	if rt.retry != Never { // whatever the method: who wants a nonce has done nothing yet
		v.ReplayLimit = rt.replayLimit
	}
	return v, true
}

// Answered implements [proxy.Follow]. A server that wants its nonce in the proof (RFC 9449, section 9) says nothing of the
// token: that one stays, and the request is sent once more with a proof that has the nonce.
func (b *bound) Answered(ctx context.Context, a *proxy.Head, replayable bool) (proxy.Verdict, bool) {
	rt := b.route
	nonce, lines := a.Header.First("Dpop-Nonce")
	if lines == 1 {
		rt.prover.Nonce(b.uri, nonce)
	}
	if !a.Unauthorized() {
		return proxy.Verdict{}, false
	}
	if wantsNonce(a.Header) {
		if lines == 1 && !a.Again && replayable && rt.retry != Never {
			if v, ok := b.send(b.token); ok {
				rt.observe401(Replayed)
				return v, true
			}
		}
		rt.observe401(Suppressed)
		return proxy.Verdict{}, false
	}
	dropped := rt.guard.drop(rt.now(), b.tokens, b.token)
	if b.replay && replayable && !a.Again {
		if t := b.newer(ctx); t != nil {
			if v, ok := b.send(t); ok {
				rt.observe401(Replayed)
				return v, true
			}
		}
	}
	rt.observeDrop(dropped)
	return proxy.Verdict{}, false
}

// wantsNonce says whether a challenge has the error use_dpop_nonce.
func wantsNonce(h proxy.Fields) bool {
	_, lines := h.First("Www-Authenticate")
	for i := range lines {
		if strings.Contains(h.At("Www-Authenticate", i), "use_dpop_nonce") {
			return true
		}
	}
	return false
}
