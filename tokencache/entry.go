package tokencache

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Lookup is how Get came by its token; it is the metric's word.
type Lookup string

const (
	Hit   Lookup = "hit"   // it was there
	Miss  Lookup = "miss"  // the caller waited for a flight, its own or another's; or there was none to be had
	Stale Lookup = "stale" // it was under min_remaining, and no new one could be had

	// SharedHit: the caller waited for a flight that took another replica's token, see [Shared].
	SharedHit Lookup = "shared"
)

// Settings are what a configuration says about an entry.
type Settings struct {
	// Source obtains the token of an Entry. It is not for an Exchange.
	Source Source
	// Exchange is the source of a subject's token. It is for an Exchange. Neither the function nor the source
	// keeps the subject token for longer than the attempt.
	Exchange func(subjectToken string) Source
	// Credentials is a fingerprint of what the source authenticates with. When it changes, failures are forgotten.
	Credentials  string
	Labels       Labels
	Timeout      time.Duration // of one attempt, its one retry included; default 5 s
	RefreshAt    float64       // part of the lifetime after which a token is due; default 0.8
	MinRemaining time.Duration // a token with less left is stale; at most half the lifetime; 0 is none
	Budget       *Budget       // of the issuer; nil caps nothing
	// Shared is where replicas share the token; nil: nowhere. It is not for an Exchange, nor for tokens that are bound to a key.
	Shared Shared
	// Keep is given each new token, so that a later process may have it; nil keeps none. It must not block. It is not for an
	// Exchange, nor for tokens that are bound to a key.
	Keep func(*Token)
}

func (s Settings) withDefaults() *Settings {
	if s.Timeout <= 0 {
		s.Timeout = 5 * time.Second
	}
	if s.RefreshAt <= 0 || s.RefreshAt > 1 {
		s.RefreshAt = 0.8
	}
	s.MinRemaining = max(0, s.MinRemaining)
	return &s
}

// Entry is the token of one key. It is safe for concurrent use.
type Entry struct {
	cache    *Cache
	key      Key                       // of no use in a subject's entry
	settings *atomic.Pointer[Settings] // nil in it before Use; the subjects of an exchange have it in common
	counts   *counts                   // likewise
	exchange *Exchange                 // nil unless the entry is a subject's
	expires  time.Time                 // when the subject token expires; zero when that is not known, or there is none
	current  atomic.Pointer[held]      // nil: none

	mu          sync.Mutex // never held while waiting
	flight      *flight    // nil: none
	backoff     backoff
	attempts    int // flights that have ended
	lastSuccess time.Time
	lastFailure time.Time
	failure     *Failure // of the last flight; nil when it succeeded
	refused     *Token   // that was dropped last, where tokens are shared: it must not come back from there
}

// Use installs the settings of a configuration. Call it before the first Get. Tokens stay, with the points they drew.
// A flight goes on with the settings that it began with; should it fail after the credentials changed, it is flown again.
func (e *Entry) Use(s Settings) { e.settings.Store(s.withDefaults()) }

// Restore gives a token that an earlier process obtained to an entry that has none, and says whether it did. It is sent as far as it
// lives, and is due at once: it is for the time until there is one of our own. Call it after Use.
func (e *Entry) Restore(t *Token) bool {
	s, now := e.settings.Load(), time.Now()
	if s == nil || !now.Before(t.Expiry) {
		return false
	}
	h := plan(t, s.RefreshAt, s.MinRemaining, e.cache.rand())
	h.due, h.late, h.restored = now, now, true
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.current.CompareAndSwap(nil, h) {
		return false
	}
	e.lastSuccess = t.Obtained
	return true
}

// Get returns a token that has not expired. It waits for at most one flight's time, and not at all in a back-off.
// The error is a *Failure whose RetryAfter is the time until the next attempt, or ctx's when that ended the wait.
func (e *Entry) Get(ctx context.Context) (*Token, Lookup, error) { return e.getFor(ctx, "") }

// getFor is Get. A flight that it starts uses the subject token.
func (e *Entry) getFor(ctx context.Context, subjectToken string) (*Token, Lookup, error) {
	if h := e.current.Load(); h.state(time.Now()) == StateFresh {
		e.counts.cached.Add(1)
		return h.token, Hit, nil
	}
	token, lookup, err := e.get(ctx, subjectToken)
	e.counts.count(lookup, err)
	return token, lookup, err
}

func (e *Entry) get(ctx context.Context, subjectToken string) (*Token, Lookup, error) {
	lookup := Hit
	var came *Token
	shared := false // what came is another replica's
	var patience <-chan time.Time
	// One round waits and the next one returns what came. The third is for a token that was dropped in between.
	for round := 0; round < 3; round++ {
		l := e.look(ctx, subjectToken)
		if l.state == StateFresh || l.state == StateDue {
			return l.held.token, lookup, nil
		}
		if l.flight != nil {
			var enough <-chan time.Time
			if l.state == StateStale {
				// Half of what the old token has left goes into waiting for a better one, the other half into its journey.
				enough = time.After(time.Until(l.held.token.Expiry) / 2)
			}
			if l.others && patience == nil {
				patience = time.After(l.timeout)
			}
			select {
			case <-l.flight.done:
				if l.others { // it is for this subject to ask now, or to hear why not; patience bounds such rounds
					lookup = Miss
					round--
					continue
				}
				came, l.failure, shared = l.flight.token, l.flight.failure, l.flight.shared
			case <-enough:
			case <-patience:
				l.failure = &Failure{Kind: Unavailable, Result: ResultTimeout, RetryAfter: time.Second,
					Detail: "the issuer is slow, and the token request has only begun"}
			case <-ctx.Done():
				return nil, Miss, ctx.Err()
			}
		}
		h := e.current.Load()
		switch state := h.state(time.Now()); {
		case state == StateStale:
			return h.token, Stale, nil
		case state == StateDead && l.failure != nil:
			return nil, Miss, l.failure
		}
		if lookup = Miss; shared {
			lookup = SharedHit
		}
	}
	if came != nil && time.Now().Before(came.Expiry) { // dropped again, by a route that has the token too: better than none
		return came, Miss, nil
	}
	return nil, Miss, &Failure{Kind: Unavailable, Result: ResultOther, RetryAfter: time.Second,
		Detail: "new tokens were refused or had expired before they could be sent; look at the upstream and at the tokens' lifetime"}
}

// look is what there is at one moment.
type look struct {
	held    *held // the token
	state   State // its state
	flight  *flight
	others  bool          // flight is another subject's; whether there may be one for this subject will be seen at its end
	timeout time.Duration // of an attempt
	failure *Failure      // unless the token can be sent or there is a flight: why not
}

// look looks, and starts a flight where one is wanted and may be.
func (e *Entry) look(ctx context.Context, subjectToken string) (l look) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	l.held = e.current.Load()
	l.state = l.held.state(now)
	s := e.settings.Load()
	if s == nil {
		l.failure = &Failure{Kind: Unavailable, Result: ResultOther, Detail: "the token has no source yet"}
		return l
	}
	e.backoff.forget(s, now)
	switch {
	case l.state == StateFresh:
	case e.flight != nil:
		l.flight = e.flight
	case l.state == StateDue && now.Before(l.held.late) && s.Budget.low(now):
	case e.backoff.holds(now):
		if l.state != StateDue {
			l.failure = e.backoff.error(now)
		}
	case !e.expires.IsZero() && !now.Before(e.expires):
		l.failure = expired()
	default:
		l.timeout = s.Timeout
		if l.state == StateDue { // nobody waits for it
			ctx = context.Background()
		}
		l.flight, l.others, l.failure = e.start(ctx, s, subjectToken, now)
	}
	return l
}

// Drop forgets a token that the upstream refused, and says whether it did: it does nothing when t is not the current token.
func (e *Entry) Drop(t *Token) (dropped bool) {
	h := e.current.Load()
	if h == nil || h.token != t {
		return false
	}
	s := e.settings.Load()
	shared := s != nil && s.Shared != nil
	if shared {
		e.refuse(t) // first, so that no flight brings it back
	}
	if !e.current.CompareAndSwap(h, nil) {
		return false
	}
	if shared {
		e.cache.launch(func() { s.Shared.Forget(e.cache.ctx, e.key, t) })
	}
	return true
}

// Status is what readiness, the status page and metrics want to know.
type Status struct {
	State       State
	Token       *Token    // nil when State is dead
	Due         time.Time // when the next use of the token refreshes it; zero without one
	Attempts    int       // flights that have ended, well or badly
	LastSuccess time.Time // zero: never
	LastFailure time.Time // zero: never
	Failure     *Failure  // of the last flight; nil when it succeeded or none has ended
	RetryAt     time.Time // end of the back-off; zero when there is none
	Counts      Counts
}

// Ready says that there is a token, or that none is missed: the last flight brought one, and nobody has asked since it expired.
func (s Status) Ready() bool { return s.Token != nil || (s.Attempts > 0 && s.Failure == nil) }

// Status is the entry's state at a time. It starts nothing.
func (e *Entry) Status(now time.Time) Status {
	e.mu.Lock()
	defer e.mu.Unlock()
	h := e.current.Load()
	s := Status{State: h.state(now), Attempts: e.attempts, LastSuccess: e.lastSuccess, LastFailure: e.lastFailure, Failure: e.failure, Counts: e.counts.read()}
	if s.State != StateDead {
		s.Token, s.Due = h.token, h.due
	}
	if settings := e.settings.Load(); settings != nil {
		e.backoff.forget(settings, now)
	}
	if e.backoff.holds(now) {
		s.RetryAt = e.backoff.until
	}
	return s
}
