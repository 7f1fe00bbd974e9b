package outbound

import (
	"context"
	"sync"
	"time"

	"github.com/sidepass/sidepass/proxy"
	"github.com/sidepass/sidepass/tokencache"
)

// Action is what was done about an upstream's 401.
type Action string

// The actions.
const (
	Replayed   Action = "replayed"   // the request was sent again with a newer token
	Dropped    Action = "dropped"    // the token was dropped, and the answer passed through
	Suppressed Action = "suppressed" // the answer passed through: the token was dropped lately, or this was the second answer
)

// dropInterval is how long a route keeps its token, whatever the upstream says of it, after a 401 made it drop one. An
// upstream that answers 401 to everything therefore costs one token request in that time. That goes for a route which
// exchanges tokens too: the upstream's 401 to one subject leaves the others their tokens for that time, good or bad.
const dropInterval = 30 * time.Second

// Guard remembers when a route last dropped a token. The zero value allows the first drop; a Guard must not be copied.
// It is safe for concurrent use, and belongs to the process: a reload gives it to the route's next gate.
type Guard struct {
	mu   sync.Mutex
	last time.Time
}

// drop drops the token if it is the current one and no other was dropped within dropInterval. Once it returns, a drop
// by another request is complete: asking for a token then gives a newer one if there is to be one.
func (g *Guard) drop(now time.Time, tokens Tokens, t *tokencache.Token) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.last.IsZero() && now.Sub(g.last) < dropInterval || !tokens.Drop(t) {
		return false
	}
	g.last = now
	return true
}

// follow is the 401 policy for requests that were sent with one token. It does not change and is shared by requests.
type follow struct {
	route     *route
	tokens    Tokens // where token comes from
	shared    bool   // tokens are not one subject's
	token     *tokencache.Token
	replay    bool // the policy and the method allow that the request is sent again
	authority string
	path      string
}

// Answered implements [proxy.Follow]. It blocks while a new token is fetched.
func (f *follow) Answered(ctx context.Context, a *proxy.Head, replayable bool) (proxy.Verdict, bool) {
	if !a.Unauthorized() {
		return proxy.Verdict{}, false
	}
	rt := f.route
	if a.Again {
		rt.observe401(Suppressed)
		return proxy.Verdict{}, false
	}
	dropped := rt.guard.drop(rt.now(), f.tokens, f.token)
	if f.replay && replayable {
		if t := f.newer(ctx); t != nil && t.Scheme == bearer {
			rt.observe401(Replayed)
			return rt.forward(rt.credential(f.tokens, f.shared, t), f, f.authority, f.path), true
		}
	}
	rt.observeDrop(dropped)
	return proxy.Verdict{}, false
}

// newer returns the newest token if it is another than the one that was refused. The server may have handed out
// the same once more, which would be refused once more.
func (f *follow) newer(ctx context.Context) *tokencache.Token {
	t, lookup, err := f.tokens.Get(ctx)
	if err != nil || t.Authorization() == f.token.Authorization() {
		return nil
	}
	f.route.observeLookup(lookup)
	return t
}

func (rt *route) observeDrop(dropped bool) {
	if dropped {
		rt.observe401(Dropped)
	} else {
		rt.observe401(Suppressed)
	}
}

func (rt *route) observe401(a Action) {
	if rt.observer.Upstream401 != nil {
		rt.observer.Upstream401(rt.name, a)
	}
}
