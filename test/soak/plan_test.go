//go:build linux

package soak

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sidepass/sidepass/tokencache"
)

// plan is what a run does, scaled to its length so that the contract promises an answer to every request.
//
// A token that was obtained at 0 is due at refreshAt of its life at the latest, and is sent until its end: a request never
// notices that a refresh fails, as long as one succeeds in the (1-refreshAt)·life that are left. When the server is asked
// again is the token cache's back-off: after the nth failure in a row a step of 1, 2, 4, 8, 8 … seconds, up to a quarter
// shorter by chance, or Retry-After where that is longer. So the start of attempt n+1, counted from the first, lies between
// two bounds (see attempt). A fault that is over before the earlier bound of attempt n+1 is therefore survived by the later one.
//
// The plan takes the largest n that the life has room for, has tokens due so early that the later bound and some slack
// for a busy machine fit into what is left, and lets each fault last for a third of the life, or up to the earlier bound
// where that comes first. With tokens of 20 s: n = 3, due after 10 s, an outage of 5.5 s, over which the latest attempt comes
// 7.3 s after the first, and 2.5 s of slack. TestThePlanKeepsItsPromise holds all this against the token cache itself.
type plan struct {
	length       time.Duration // of the run
	life         time.Duration // of a token
	refreshAt    float64       // tokens.refresh_at
	minRemaining time.Duration // tokens.min_remaining
	timeout      time.Duration // of a request to the authorization server
	reloadEvery  time.Duration
	sampleEvery  time.Duration
	slack        time.Duration // that the machine may pause without a request being left without a token
	gap          time.Duration // between a new secret at the server and in the file; only refusals until then
	slow         time.Duration // what a slow server takes, which is less than the timeout
	down         fault         // no answer, the connection is cut
	busy         fault         // 503 with Retry-After
	limited      fault         // 429 with Retry-After
	failing      fault         // 503 without
	hanging      fault         // no answer, the connection stays
}

// fault is a time in which the authorization server gives no tokens.
type fault struct {
	name       string
	cost       time.Duration // what one attempt takes
	retryAfter time.Duration // what it is told
	lasts      time.Duration // 0: this plan has no room for it
	calm       time.Duration // the last back-off that may follow the end
}

// brokenCost is what an attempt takes whose connection is cut: it is made twice, 100 ms apart.
const brokenCost = 100 * time.Millisecond

// attempt says when attempt n+1 starts after n failures, counted from the start of the first.
func attempt(n int, cost, retryAfter time.Duration) (earliest, latest time.Duration) {
	step := time.Second
	for range n {
		earliest += cost + max(step*3/4, retryAfter)
		latest += cost + max(step, retryAfter)
		step = min(2*step, 8*time.Second)
	}
	return earliest, latest
}

func newPlan(length time.Duration) plan {
	p := plan{length: length}
	shortestLife := 3 * time.Second
	if length >= shortest {
		shortestLife = 6 * time.Second // has room for every fault
	}
	p.life = min(max(length/20, shortestLife), 20*time.Second).Truncate(time.Second)
	p.minRemaining = p.life / 20
	p.timeout = min(max(p.life/10, 500*time.Millisecond), 2*time.Second)
	p.reloadEvery = min(max(length/40, 500*time.Millisecond), 15*time.Second)
	p.sampleEvery = min(max(length/240, 100*time.Millisecond), 2*time.Second)
	p.gap, p.slow = p.life/10, p.timeout/2

	p.slack = max(time.Second, p.life/8) // min_remaining and the time of one attempt are in it
	var budget time.Duration             // from the first failure to the start of the attempt that succeeds
	for n := 1; ; n++ {
		_, latest := attempt(n, brokenCost, 0)
		if latest+p.slack > p.life*3/4 {
			break
		}
		budget = latest
	}
	p.refreshAt = min(0.8, 1-float64(budget+p.slack)/float64(p.life))

	retryAfter := max(time.Second, (p.life / 10).Truncate(time.Second))
	p.down = newFault("down", p.life, budget, brokenCost, 0)
	p.busy = newFault("503 with Retry-After", p.life, budget, 0, retryAfter)
	p.limited = newFault("429 with Retry-After", p.life, budget, 0, retryAfter)
	p.failing = newFault("503", p.life, budget, 0, 0)
	p.hanging = newFault("hanging", p.life, budget, p.timeout, 0)
	return p
}

// newFault makes a fault as long as the budget allows.
func newFault(name string, life, budget, cost, retryAfter time.Duration) fault {
	f := fault{name: name, cost: cost, retryAfter: retryAfter}
	const margin = 50 * time.Millisecond // an attempt that starts just as the fault ends must not meet it
	for n := 1; ; n++ {
		earliest, latest := attempt(n, cost, retryAfter)
		if latest > budget {
			return f
		}
		_, before := attempt(n-1, cost, retryAfter)
		f.lasts, f.calm = min(life/3, earliest-margin), latest-before+300*time.Millisecond
	}
}

func (p plan) faults() []fault { return []fault{p.down, p.limited, p.failing, p.hanging, p.busy} }

func (p plan) String() string {
	s := fmt.Sprintf("tokens of %s, refreshed at %.2f of it, min_remaining %s, slack %s, a reload every %s", p.life, p.refreshAt, p.minRemaining, p.slack, p.reloadEvery)
	for _, f := range p.faults() {
		if f.lasts > 0 {
			s += fmt.Sprintf("; %s for %s", f.name, f.lasts)
		}
	}
	return s
}

// faulty is an authorization server in virtual time: it has a fault from a time on, and gives tokens otherwise.
type faulty struct {
	fault
	life     time.Duration
	from, to time.Time
	met      int // requests during the fault
}

func (s *faulty) Token(ctx context.Context) (*tokencache.Token, error) {
	now := time.Now()
	if now.Before(s.from) || !now.Before(s.to) {
		return tokencache.NewToken("token", "", now, s.life), nil
	}
	s.met++
	switch {
	case s.name == "hanging":
		<-ctx.Done()
		return nil, ctx.Err()
	case s.retryAfter > 0:
		return nil, &tokencache.Failure{Kind: tokencache.Throttled, Result: tokencache.ResultThrottled, RetryAfter: s.retryAfter}
	}
	return nil, &tokencache.Failure{Kind: tokencache.Unavailable, Result: tokencache.ResultUnreachable, Broken: s.name == "down"}
}

// live asks for a token every 50 ms, through a fault that begins at a point of the token's life, until all is well again. It
// returns how often there was none, and how many token requests met the fault.
func live(t *testing.T, p plan, f fault, begins time.Duration, luck func() float64) (without, met int) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		cache := tokencache.New(tokencache.Options{Rand: luck})
		defer cache.Close()
		server := &faulty{fault: f, life: p.life, from: time.Now().Add(begins)}
		server.to = server.from.Add(f.lasts)
		e := cache.Entry(tokencache.Key{})
		e.Use(tokencache.Settings{Source: server, Timeout: p.timeout, RefreshAt: p.refreshAt, MinRemaining: p.minRemaining})
		for end := server.to.Add(p.life); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
			_, _, err := e.Get(t.Context())
			var failure *tokencache.Failure
			if errors.As(err, &failure) {
				without++
			}
		}
		met = server.met
	})
	return without, met
}

// Whatever fault of the plan begins at whatever point of a token's life, and whatever the jitter, no request is left without
// a token. The twin: an outage as long as a token lives leaves some without, so that the simulation is able to say so.
func TestThePlanKeepsItsPromise(t *testing.T) {
	lucks := map[string]func() float64{
		"earliest": func() float64 { return 0 },
		"latest":   func() float64 { return 0.999 },
		"any":      rand.Float64,
	}
	for _, length := range []time.Duration{*length, 4 * time.Second, time.Minute, 2 * time.Minute, 3 * time.Minute, 5 * time.Minute, 10 * time.Minute, time.Hour} {
		p := newPlan(length)
		if p.down.lasts == 0 || p.limited.lasts == 0 {
			t.Errorf("%s: no room for an outage: %s", length, p)
		}
		for _, f := range p.faults() {
			if f.lasts == 0 {
				continue
			}
			met := 0
			for luck, r := range lucks {
				for point := range 20 {
					begins := p.life * time.Duration(20+point) / 20 // in the second life and the third
					without, n := live(t, p, f, begins, r)
					met += n
					if without > 0 {
						t.Errorf("%s, %s that begins after %s, jitter %s: %d requests without a token", length, f.name, begins, luck, without)
					}
				}
			}
			if met == 0 {
				t.Errorf("%s, %s: no token request met the fault", length, f.name)
			}
		}
		tooLong := p.down
		tooLong.lasts = p.life
		if without, _ := live(t, p, tooLong, p.life, lucks["any"]); without == 0 {
			t.Errorf("%s: an outage of %s was survived with tokens of %s", length, tooLong.lasts, p.life)
		}
	}
}
