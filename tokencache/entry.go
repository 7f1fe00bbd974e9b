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
)

// Settings are what a configuration says about an entry.
type Settings struct {
	Source Source
	// Credentials is a fingerprint of what Source authenticates with. When it changes, failures are forgotten.
	Credentials  string
	Labels       Labels
	Timeout      time.Duration // of one attempt, its one retry included; default 5 s
	RefreshAt    float64       // part of the lifetime after which a token is due; default 0.8
	MinRemaining time.Duration // a token with less left is stale; at most half the lifetime; 0 is none
}

// Entry is the token of one key. It is safe for concurrent use.
type Entry struct {
	cache   *Cache
	current atomic.Pointer[held] // nil: none

	mu          sync.Mutex // never held while waiting
	settings    *Settings  // nil before Use
	flight      *flight    // nil: none
	backoff     backoff
	attempts    int // flights that have ended
	lastSuccess time.Time
	lastFailure time.Time
	failure     *Failure // of the last flight; nil when it succeeded
}

// Use installs the settings of a configuration. Call it before the first Get. Tokens stay, with the points they drew.
// A flight goes on with the settings that it began with; should it fail after the credentials changed, it is flown again.
func (e *Entry) Use(s Settings) {
	if s.Timeout <= 0 {
		s.Timeout = 5 * time.Second
	}
	if s.RefreshAt <= 0 || s.RefreshAt > 1 {
		s.RefreshAt = 0.8
	}
	s.MinRemaining = max(0, s.MinRemaining)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.settings != nil && e.settings.Credentials != s.Credentials {
		e.backoff = backoff{}
	}
	e.settings = &s
}

// Get returns a token that has not expired. It waits for at most one flight's time, and not at all in a back-off.
// The error is a *Failure whose RetryAfter is the time until the next attempt, or ctx's when that ended the wait.
func (e *Entry) Get(ctx context.Context) (*Token, Lookup, error) {
	if h := e.current.Load(); h.state(time.Now()) == StateFresh {
		return h.token, Hit, nil
	}
	return e.get(ctx)
}

func (e *Entry) get(ctx context.Context) (*Token, Lookup, error) {
	lookup := Hit
	// One round waits and the next one returns what came. The third is for a token that was dropped in between.
	for range 3 {
		h, state, f, failure := e.ask()
		if state == StateFresh || state == StateDue {
			return h.token, lookup, nil
		}
		var enough <-chan time.Time
		if f != nil {
			if state == StateStale {
				// Half of what the old token has left goes into waiting for a better one, the other half into its journey.
				enough = time.After(time.Until(h.token.Expiry) / 2)
			}
			select {
			case <-f.done:
				failure = f.failure
			case <-enough:
			case <-ctx.Done():
				return nil, Miss, ctx.Err()
			}
		}
		h = e.current.Load()
		switch state = h.state(time.Now()); {
		case state == StateStale:
			return h.token, Stale, nil
		case state == StateDead && failure != nil:
			return nil, Miss, failure
		}
		lookup = Miss
	}
	return nil, Miss, &Failure{Kind: Unavailable, Result: ResultOther, RetryAfter: time.Second,
		Detail: "new tokens were refused or had expired before they could be sent; look at the upstream and at the tokens' lifetime"}
}

// ask is one look: the token that is there, its state, and unless it is fresh the flight to the next one. Where a token
// that is stale or dead has no flight, failure says why.
func (e *Entry) ask() (h *held, state State, f *flight, failure *Failure) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	h = e.current.Load()
	state = h.state(now)
	switch {
	case state == StateFresh || e.flight != nil:
	case !now.Before(e.backoff.until):
		failure = e.start()
	case state != StateDue:
		failure = e.backoff.error(now)
	}
	return h, state, e.flight, failure
}

// Drop forgets a token that the upstream refused, and says whether it did: it does nothing when t is not the current token.
func (e *Entry) Drop(t *Token) (dropped bool) {
	h := e.current.Load()
	return h != nil && h.token == t && e.current.CompareAndSwap(h, nil)
}

// Status is what readiness, the status page and metrics want to know.
type Status struct {
	State       State
	Token       *Token    // nil when State is dead
	Attempts    int       // flights that have ended, well or badly
	LastSuccess time.Time // zero: never
	LastFailure time.Time // zero: never
	Failure     *Failure  // of the last flight; nil when it succeeded or none has ended
	RetryAt     time.Time // end of the back-off; zero when there is none
}

// Ready says that there is a token, or that none is missed: the last flight brought one, and nobody has asked since it expired.
func (s Status) Ready() bool { return s.Token != nil || (s.Attempts > 0 && s.Failure == nil) }

// Status is the entry's state at a time. It starts nothing.
func (e *Entry) Status(now time.Time) Status {
	e.mu.Lock()
	defer e.mu.Unlock()
	h := e.current.Load()
	s := Status{State: h.state(now), Attempts: e.attempts, LastSuccess: e.lastSuccess, LastFailure: e.lastFailure, Failure: e.failure}
	if s.State != StateDead {
		s.Token = h.token
	}
	if now.Before(e.backoff.until) {
		s.RetryAt = e.backoff.until
	}
	return s
}
