package issuer

import (
	"net/http"
	"strings"
	"time"
)

// serveToken is a provider's token endpoint with the client_credentials grant.
func (p *provider) serveToken(w http.ResponseWriter, r *http.Request, f form) {
	form, app, ok := p.authenticated(w, r, f)
	if !ok {
		return
	}
	switch form.Get("grant_type") {
	case "client_credentials":
	case "":
		p.deny(w, &denial{noGrantType, "grant_type"})
		return
	default:
		p.deny(w, &denial{otherGrant, form.Get("grant_type")})
		return
	}
	g, denied := p.target(p, app, form)
	if denied != nil {
		p.deny(w, denied)
		return
	}
	left, ok := p.spend(app.ID)
	if p.limit != nil {
		p.limit(w.Header(), left)
	}
	if !ok {
		p.deny(w, &denial{limited, app.ID})
		return
	}
	answer(w, http.StatusOK, p.granted(app, g))
}

// granted makes the token and the answer.
func (p *provider) granted(app App, g grant) map[string]any {
	header, changes := p.claims(p, app, g)
	claims := p.server.claims(changes)
	changes["iat"], changes["exp"] = claims["iat"], claims["exp"]
	said := map[string]any{"token_type": p.tokenType, "expires_in": claims["exp"].(int64) - claims["iat"].(int64)}
	if len(g.scopes) > 0 {
		said["scope"] = strings.Join(g.scopes, " ")
	}
	if app.Opaque || g.opaque {
		said["access_token"] = p.server.mintOpaque(p.opaque, changes)
	} else {
		said["access_token"] = p.server.MintWith(changes, MintOptions{Header: header})
	}
	if p.answer != nil {
		p.answer(p, g, claims, said)
	}
	return said
}

// audience is one as a string and several as a list, as most write them; nil is none.
func audience(names []string) any {
	switch len(names) {
	case 0:
		return nil
	case 1:
		return names[0]
	}
	return names
}

// ids are the names of a grant's APIs that have one.
func (g grant) ids() (names []string) {
	for _, a := range g.apis {
		if a.ID != "" {
			names = append(names, a.ID)
		}
	}
	return names
}

// limit is how a client stands with its provider.
type limit struct {
	max, left int
	reset     time.Duration // until it has max again
	exact     bool          // max is the client's own, told by Tenant.Quota
}

// window is what a client has used since its first token.
type window struct {
	began  time.Time
	tokens int
}

// quotaWindow is how long a Quota is for: Auth0's quota per hour. Nobody here waits for its end.
const quotaWindow = time.Hour

// usualLimit is what a client has that has no Quota.
const usualLimit = 100

// spend takes one token from a client's quota, if it has any.
func (p *provider) spend(client string) (limit, bool) {
	if p.tenant.Quota == 0 {
		return limit{max: usualLimit, left: usualLimit - 1, reset: time.Minute}, true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.issued[client]
	if w == nil {
		w = &window{began: time.Now()}
		p.issued[client] = w
	}
	l := limit{max: p.tenant.Quota, left: p.tenant.Quota - w.tokens, reset: time.Until(w.began.Add(quotaWindow)), exact: true}
	if l.left <= 0 {
		l.left = 0
		return l, false
	}
	w.tokens++
	l.left--
	return l, true
}
