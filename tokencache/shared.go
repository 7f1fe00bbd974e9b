package tokencache

import (
	"context"
	"sync"
	"time"
)

// Shared is a second level of the cache that the replicas of a service have in common: one of them asks the issuer, the others
// take what it was given. It is safe for concurrent use. Nothing depends on it: what it says is held against what the entry knows,
// and where it has nothing to say each replica asks for itself.
type Shared interface {
	// Take returns what the replicas have, or says whose turn it is to ask the issuer. An error means that the level cannot be
	// used now; it comes soon, and holds no secret.
	Take(ctx context.Context, q Question) (Turn, error)
	// Forget removes a token that an upstream refused, if it is still the one that is there. It returns soon.
	Forget(ctx context.Context, key Key, t *Token)
}

// Question is what Shared is asked.
type Question struct {
	Key Key
	// Credentials are those that a Holdup must have begun with.
	Credentials string
	// Fit says whether a token is what is wanted. It is called once for each token that is found.
	Fit func(*Token) bool
}

// Turn is the answer: at most one of its fields is set. With none, it is another replica that asks.
type Turn struct {
	Token  *Token
	Holdup *Holdup
	Lease  Lease // it is our turn
}

// Lease is the right to ask the issuer for all replicas. It lapses when it is not kept, and then nothing that it ends with
// counts: a replica that dies or sleeps delays the others for a moment, and undoes nothing when it wakes.
type Lease interface {
	// Keep keeps it until ctx ends.
	Keep(ctx context.Context)
	// End gives it back, with a token or a holdup for the others, or with neither. It returns soon. Call it once.
	End(t *Token, h *Holdup)
}

// Holdup is a back-off of all replicas: what the issuer said to one of them.
type Holdup struct {
	Failure     *Failure // RetryAfter is the time that is left
	Credentials string   // with which the issuer was asked
	InARow      int      // see backoff
}

const (
	sharedPause    = 25 * time.Millisecond // between looks while another replica asks; doubles
	sharedPauseMax = 200 * time.Millisecond
)

// outcome is how a flight went.
type outcome struct {
	token   *Token // either this
	failure *Failure
	holdup  *Holdup // or this, which another replica ran into
	shared  bool    // token is another replica's
	old     *Token  // another replica's, alive though nearly over: better than none
	r       float64 // the draw with which other replicas' tokens were judged
	lease   Lease   // still ours; nil: none
	keeping func()  // ends the keeping of lease
}

// fetchShared takes what another replica was given, waits for it a while, or asks the issuer for all of them. Half the timeout
// is left for asking after all: a level that keeps saying that somebody asks must not be what a request fails for. A refresh that no
// request waits for does not ask: while the issuer cannot be reached, one replica tries for all.
func (e *Entry) fetchShared(ctx context.Context, s *Settings) (o outcome) {
	o.r = e.cache.rand()
	q := Question{Key: e.key, Credentials: s.Credentials, Fit: func(t *Token) bool {
		fit, old := e.judge(t, s, o.r)
		if old {
			o.old = t
		}
		return fit
	}}
	patience := time.NewTimer(s.Timeout / 2)
	defer patience.Stop()
	for pause := sharedPause; ; pause = min(2*pause, sharedPauseMax) {
		turn, err := s.Shared.Take(ctx, q)
		switch {
		case err == nil && turn.Token != nil:
			o.token, o.shared = turn.Token, true
			return o
		case err == nil && turn.Holdup != nil:
			o.holdup = turn.Holdup
			return o
		case err == nil && turn.Lease != nil:
			o.keep(ctx, turn.Lease)
			fallthrough
		case err != nil:
			o.token, o.failure = e.ask(ctx, s, "")
			return o
		}
		select {
		case <-time.After(time.Duration(float64(pause) * (0.75 + 0.25*e.cache.rand()))):
		case <-patience.C:
			if e.current.Load().state(time.Now()) == StateDue { // no request waits for this flight
				o.failure = &Failure{Kind: Unavailable, Result: ResultTimeout, Detail: "another replica asks the issuer, and has had no answer yet"}
				return o
			}
			o.token, o.failure = e.ask(ctx, s, "")
			return o
		case <-ctx.Done():
			o.failure = stopping()
			return o
		}
	}
}

// judge says whether another replica's token can take the place of ours, or is at least better than none. One that is due
// replaces nothing but a dead one: it is sent while the next one is fetched.
func (e *Entry) judge(t *Token, s *Settings, r float64) (fit, old bool) {
	if t.Scheme != "Bearer" || e.wasRefused(t) {
		return false, false
	}
	now := time.Now()
	state, ours := plan(t, s.RefreshAt, s.MinRemaining, r).state(now), e.current.Load()
	if ours.state(now) == StateDead || ours.restored {
		return state == StateFresh || state == StateDue, state == StateStale
	}
	return state == StateFresh && t.sinceLater(ours.token, s.RefreshAt), false
}

// sinceLater says whether t was obtained after another token, and not about when that was: two replicas that cannot share for a
// while have tokens that gain nothing on each other. An issuer may have given out the same token again.
func (t *Token) sinceLater(other *Token, refreshAt float64) bool {
	return t.Obtained.Sub(other.Obtained) >= other.step(refreshAt)
}

func (e *Entry) wasRefused(t *Token) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.refused != nil && e.refused.Authorization() == t.Authorization()
}

// refuse remembers a token that an upstream refused.
func (e *Entry) refuse(t *Token) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.refused = t
}

// keep holds a lease until settle.
func (o *outcome) keep(ctx context.Context, lease Lease) {
	ctx, stop := context.WithCancel(ctx)
	var keeping sync.WaitGroup
	keeping.Go(func() { lease.Keep(ctx) })
	o.lease, o.keeping = lease, func() { stop(); keeping.Wait() }
}

// settle gives the lease back and tells the others how it went. What is only true of this replica stays here: a token that was
// refused before, and a failure that is not the issuer's word.
func (e *Entry) settle(o *outcome, s *Settings, landed bool) {
	if o.lease == nil {
		return
	}
	o.keeping()
	switch {
	case o.token != nil && o.token.Scheme == "Bearer" && !e.wasRefused(o.token):
		o.lease.End(o.token, nil)
	case landed && o.failure != nil && o.failure.Answered:
		o.lease.End(nil, e.holdup(o.failure, s))
	case landed && o.failure != nil && o.failure.Kind == Unavailable && !o.failure.Answered && e.cache.ctx.Err() == nil:
		// It had no answer. That may be true of this replica alone, so another one tries, but not at once: the lease lapses.
	default:
		o.lease.End(nil, nil)
	}
}

// holdup is the back-off that a failure has begun; nil when it is over.
func (e *Entry) holdup(f *Failure, s *Settings) *Holdup {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	if e.backoff.failure == nil || !e.backoff.holds(now) {
		return nil
	}
	left := *f
	left.RetryAfter = e.backoff.until.Sub(now)
	return &Holdup{Failure: &left, Credentials: s.Credentials, InARow: e.backoff.inARow}
}

// join begins the back-off that another replica ran into.
func (b *backoff) join(h *Holdup, now time.Time) {
	*b = backoff{failure: h.Failure, credentials: h.Credentials, since: now, until: now.Add(h.Failure.asked()), inARow: h.InARow}
}
