package outbound

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/sidepass/sidepass/proxy"
	"github.com/sidepass/sidepass/tokencache"
)

// bearer is the scheme of tokens that need nothing beside them.
const bearer = "Bearer"

// credential is what a route's verdicts share while the token stays the same, made once so that a request costs no
// allocation.
type credential struct {
	token  *tokencache.Token
	remove []string
	set    [1]proxy.Field
	// Of a request that is sent to one destination with its path as it came, there is nothing to remember but whether it may be
	// sent again.
	once, never follow
}

// credential returns what belongs to a bearer token. Two requests with different tokens may make it twice; that is all. That of
// an exchanged token is not kept for another request, since it holds the subject token.
func (rt *route) credential(tokens Tokens, shared bool, t *tokencache.Token) *credential {
	if shared {
		if c := rt.last.Load(); c != nil && c.token == t {
			return c
		}
	}
	f := follow{route: rt, tokens: tokens, shared: shared, token: t}
	c := &credential{
		token:  t,
		remove: rt.remove,
		set:    [1]proxy.Field{{Name: "Authorization", Value: t.Authorization()}},
		once:   f,
		never:  f,
	}
	c.once.replay, c.once.authority = true, rt.usual
	if shared {
		rt.last.Store(c)
	}
	return c
}

// withoutToken is the answer when there is no token: the request never goes on without one.
func (rt *route) withoutToken(err error) proxy.Verdict {
	var f *tokencache.Failure
	if !errors.As(err, &f) {
		detail := "No access token could be had for route " + rt.name + "."
		if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			detail = "The request ended before the access token for route " + rt.name + " came."
		}
		v := refuse(proxy.TokenUnavailable, rt.name, detail)
		v.RetryAfter = time.Second
		return v
	}
	detail := f.Detail
	if f.Code != "" && !strings.Contains(detail, f.Code) {
		detail = strings.TrimSpace(f.Code + ": " + detail)
	}
	detail = strings.TrimSuffix(detail, ".") + "."
	if f.Subject {
		v := refuse(proxy.SubjectRefused, rt.name, "The caller's token was refused for route "+rt.name+": "+detail)
		v.Claims = f.Claims
		return v
	}
	detail = "No access token for route " + rt.name + ": " + detail
	if f.Kind == tokencache.Refused {
		return refuse(proxy.TokenRefused, rt.name, detail)
	}
	v := refuse(proxy.TokenUnavailable, rt.name, detail)
	v.RetryAfter = f.RetryAfter
	return v
}

func (rt *route) observeLookup(result tokencache.Lookup) {
	if rt.observer.Lookup != nil {
		rt.observer.Lookup(rt.name, result)
	}
}
