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
// where that comes first. With tokens of 20 s: n = 3, due after 8 s, an outage of 5.5 s, over which the latest attempt comes
// 7.3 s after the first, and 5 s of slack. A smoke test, which may run beside others, has tokens of 10 s, due after 0.9 s, an outage of
// 0.8 s, and 8 s of slack. Tokens are never due within a twentieth of their life: the cache takes two tokens whose ends are that near
// for an issuer that hands out the same one until it expires, and does not refresh ahead. TestThePlanKeepsItsPromise holds all
// this against the token cache itself.
type plan struct {
	length       time.Duration // of the run
	life         time.Duration // of a token
	refreshAt    float64       // tokens.refresh_at
	minRemaining time.Duration // tokens.min_remaining
	timeout      time.Duration // of a request to the authorization server
	reloadEvery  time.Duration
	sampleEvery  time.Duration
	slack        time.Duration // that the machine may pause without a request being left without a token
	gap          time.Duration // between the first refusal of the old secret and the new one in the file
	slow         time.Duration // what a slow server takes, which is less than the timeout
	faults       []fault       // for which there is room
}

// fault is a time in which the authorization server gives no tokens. It begins when a token request first meets it.
type fault struct {
	name       string
	status     int           // it answers; 0: it does not
	cost       time.Duration // what one attempt takes
	retryAfter time.Duration // what it is told
	lasts      time.Duration
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
	p.life = min(max(length/10, 10*time.Second), 20*time.Second).Truncate(time.Second)
	p.slack = p.life / 4 // min_remaining and the time of one attempt are in it
	if length < shortest {
		p.life, p.slack = 10*time.Second, 8*time.Second
	}
	p.minRemaining = p.life / 20
	p.timeout = p.life / 10
	p.reloadEvery = min(max(length/40, 500*time.Millisecond), 15*time.Second)
	p.sampleEvery = min(max(length/240, 100*time.Millisecond), 2*time.Second)
	p.gap, p.slow = p.life/10, p.timeout/2

	var budget time.Duration // from the first failure to the start of the attempt that succeeds
	for n := 1; ; n++ {
		_, latest := attempt(n, brokenCost, 0)
		if latest+p.slack > p.life*3/4 && n > 1 {
			break
		}
		budget = latest
	}
	p.refreshAt = min(0.8, 1-float64(budget+p.slack)/float64(p.life))

	retryAfter := (p.life / 10).Truncate(time.Second)
	if length < shortest {
		retryAfter = time.Second
	}
	for _, f := range []fault{
		{name: "down", cost: brokenCost},
		{name: "429 with Retry-After", status: 429, retryAfter: retryAfter},
		{name: "503", status: 503},
		{name: "hanging", cost: p.timeout},
		{name: "503 with Retry-After", status: 503, retryAfter: retryAfter},
	} {
		if f.fit(p.life, budget); f.lasts > 0 {
			p.faults = append(p.faults, f)
		}
	}
	return p
}

// fit makes a fault as long as the budget allows.
func (f *fault) fit(life, budget time.Duration) {
	const margin = 50 * time.Millisecond // an attempt that starts just as the fault ends must not meet it
	for n := 1; ; n++ {
		earliest, latest := attempt(n, f.cost, f.retryAfter)
		if latest > budget {
			return
		}
		_, before := attempt(n-1, f.cost, f.retryAfter)
		f.lasts, f.calm = min(life/3, earliest-margin), latest-before+300*time.Millisecond
	}
}

func (p plan) String() string {
	s := fmt.Sprintf("tokens of %s, refreshed at %.2f of it, min_remaining %s, slack %s, a reload every %s", p.life, p.refreshAt, p.minRemaining, p.slack, p.reloadEvery)
	for _, f := range p.faults {
		s += fmt.Sprintf("; %s for %s", f.name, f.lasts)
	}
	return s
}

// faulty is an authorization server in virtual time. Its fault begins at a time, as it does for a token that is due later than
// another, or when it is first met.
type faulty struct {
	fault
	life     time.Duration
	from, to time.Time // zero to: when it is first met
	met      int       // requests during the fault
}

func (s *faulty) Token(ctx context.Context) (*tokencache.Token, error) {
	now := time.Now()
	if now.Before(s.from) || !s.to.IsZero() && now.After(s.to) {
		return tokencache.NewToken("token", "", now, s.life), nil
	}
	if s.to.IsZero() {
		s.to = now.Add(s.lasts)
	}
	s.met++
	switch {
	case s.retryAfter > 0:
		return nil, &tokencache.Failure{Kind: tokencache.Throttled, Result: tokencache.ResultThrottled, RetryAfter: s.retryAfter}
	case s.status > 0:
		return nil, &tokencache.Failure{Kind: tokencache.Unavailable, Result: tokencache.ResultOther}
	case s.cost == brokenCost:
		return nil, &tokencache.Failure{Kind: tokencache.Unavailable, Result: tokencache.ResultUnreachable, Broken: true}
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

// live asks for a token every 100 ms, through a fault that begins at a point of the token's life, or when it is met after that,
// until all is well again. It returns how often there was none, and how many token requests met the fault.
func live(t *testing.T, p plan, f fault, begins time.Duration, whenMet bool, luck func() float64) (without, met int) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		cache := tokencache.New(tokencache.Options{Rand: luck})
		defer cache.Close()
		server := &faulty{fault: f, life: p.life, from: time.Now().Add(begins)}
		if !whenMet {
			server.to = server.from.Add(f.lasts)
		}
		e := cache.Entry(tokencache.Key{})
		e.Use(tokencache.Settings{Source: server, Timeout: p.timeout, RefreshAt: p.refreshAt, MinRemaining: p.minRemaining})
		for end := time.Now().Add(begins + f.lasts + p.life); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
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
	const points = 12
	lucks := map[string]func() float64{
		"earliest": func() float64 { return 0 },
		"latest":   func() float64 { return 0.999 },
		"any":      rand.Float64,
	}
	for _, length := range []time.Duration{4 * time.Second, 2 * time.Minute, max(*length, 10*time.Minute)} {
		p := newPlan(length)
		if all := 5; len(p.faults) == 0 || length >= shortest && len(p.faults) < all {
			t.Errorf("%s: no room for every fault: %s", length, p)
		}
		for _, f := range p.faults {
			for luck, r := range lucks {
				met := 0
				for point := range points {
					begins := p.life + p.life*time.Duration(point)/points
					for _, whenMet := range []bool{false, true} {
						without, n := live(t, p, f, begins, whenMet, r)
						met += n
						if without > 0 {
							t.Errorf("%s, %s that begins after %s, when met: %t, jitter %s: %d requests without a token", length, f.name, begins, whenMet, luck, without)
						}
					}
				}
				if met < points {
					t.Errorf("%s, %s, jitter %s: %d token requests met the fault, want one at each point and more", length, f.name, luck, met)
				}
			}
		}
		tooLong := p.faults[0]
		tooLong.lasts = p.life
		if without, _ := live(t, p, tooLong, p.life, true, lucks["any"]); without == 0 {
			t.Errorf("%s: an outage of %s was survived with tokens of %s", length, tooLong.lasts, p.life)
		}
	}
}
