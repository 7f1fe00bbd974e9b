package tokencache

import (
	"context"
	"errors"
	"runtime/debug"
	"time"
)

// retryPause is how long a flight waits before it tries a broken connection once more.
const retryPause = 100 * time.Millisecond

// flight is one attempt at a new token, which any number of callers may wait for.
type flight struct {
	caller  context.Context // of the first caller that waits; the attempts have its values
	began   time.Time
	done    chan struct{} // closed at the end
	token   *Token        // set before done is closed, either this
	failure *Failure      // or that
	shared  bool          // the token is another replica's
}

// start begins a flight. Where it may not, because it is another subject's turn to ask, that one's flight is returned and
// others is true; or the failure says why not. e.mu is held, and no flight of e is on its way.
func (e *Entry) start(caller context.Context, s *Settings, subjectToken string, now time.Time) (f *flight, others bool, failure *Failure) {
	f = &flight{caller: caller, began: now, done: make(chan struct{})}
	if e.exchange != nil {
		if first, failure := e.exchange.enter(f, s, now); first != f {
			return first, first != nil, failure
		}
	}
	if !e.cache.launch(func() { e.fly(f, subjectToken) }) {
		if e.exchange != nil {
			e.exchange.leave(f)
		}
		return nil, false, stopping()
	}
	e.flight = f
	return f, false, nil
}

func stopping() *Failure {
	return &Failure{Kind: Unavailable, Result: ResultOther, Detail: "no token is obtained any more: the process is stopping"}
}

// fly runs a flight from its start to the release of its waiters.
func (e *Entry) fly(f *flight, subjectToken string) {
	for {
		s := e.settings.Load()
		o := e.fetch(f.caller, s, subjectToken)
		landed := e.land(f, s, &o)
		e.settle(&o, s, landed)
		if landed {
			return
		}
	}
}

// fetch gets a token within the settings' timeout. That the caller gives up does not end it.
func (e *Entry) fetch(caller context.Context, s *Settings, subjectToken string) (o outcome) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(caller), s.Timeout)
	defer cancel()
	defer context.AfterFunc(e.cache.ctx, cancel)()
	if s.Shared != nil && e.exchange == nil {
		return e.fetchShared(ctx, s)
	}
	o.token, o.failure = e.ask(ctx, s, subjectToken)
	return o
}

// ask makes an attempt, and one more when the connection broke.
func (e *Entry) ask(ctx context.Context, s *Settings, subjectToken string) (*Token, *Failure) {
	token, failure := e.attempt(ctx, s, subjectToken)
	if failure == nil || !failure.Broken {
		return token, failure
	}
	select {
	case <-time.After(retryPause):
		if token, again := e.attempt(ctx, s, subjectToken); again == nil || !again.capped {
			return token, again
		}
	case <-ctx.Done():
	}
	return nil, failure
}

// attempt asks the source once and reports it, unless the budget does not allow it.
func (e *Entry) attempt(ctx context.Context, s *Settings, subjectToken string) (*Token, *Failure) {
	began := time.Now()
	if wait := s.Budget.take(began); wait > 0 {
		return nil, overBudget(s, wait)
	}
	if observe := e.cache.observer.Requesting; observe != nil {
		ctx = observe(ctx, s.Labels)
	}
	token, failure := e.call(ctx, s, subjectToken)
	if failure != nil && e.cache.ctx.Err() != nil {
		return nil, stopping()
	}
	if observe := e.cache.observer.Requested; observe != nil {
		result := ResultOK
		if failure != nil {
			result = failure.Result
		}
		observe(ctx, s.Labels, result, time.Since(began))
	}
	return token, failure
}

// call turns whatever a source does into a token that lives or a failure.
func (e *Entry) call(ctx context.Context, s *Settings, subjectToken string) (token *Token, failure *Failure) {
	defer func() {
		if recover() != nil { // the value may hold a secret, the stack does not
			token, failure = nil, &Failure{Kind: Unavailable, Result: ResultOther, Detail: "the token request ended in an internal error; the log has more"}
			if observe := e.cache.observer.Panicked; observe != nil {
				observe(s.Labels, debug.Stack())
			}
		}
	}()
	source := s.Source
	if e.exchange != nil {
		source = s.Exchange(subjectToken)
	}
	token, err := source.Token(ctx)
	now := time.Now()
	switch {
	case err == nil && token != nil && now.Before(token.Expiry):
		if e.expires.IsZero() {
			return token, nil
		}
		if token = token.until(e.expires); now.Before(token.Expiry) {
			return token, nil
		}
		return nil, expired()
	case err == nil:
		return nil, &Failure{Kind: Unavailable, Result: ResultInvalidResponse, Detail: "the answer to the token request holds no token that is still valid"}
	case errors.As(err, &failure) && failure != nil:
		return nil, failure
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return nil, &Failure{Kind: Unavailable, Result: ResultTimeout, Detail: "the token request took longer than " + s.Timeout.String()}
	}
	return nil, &Failure{Kind: Unavailable, Result: ResultOther, Detail: "the token request failed for an unknown reason"}
}

// land records a flight's outcome, reports it and releases the waiters, in this order. It is false when the flight
// has to be flown again because it failed with credentials that are no longer the configured ones.
func (e *Entry) land(f *flight, s *Settings, o *outcome) bool {
	now, r := time.Now(), e.cache.rand()
	if o.shared {
		r = o.r // with which it was judged
	}
	e.mu.Lock()
	if o.token == nil && e.settings.Load().Credentials != s.Credentials {
		e.mu.Unlock()
		return false
	}
	e.attempts++
	if o.token != nil {
		e.store(o.token, s, now, r)
		e.backoff = backoff{}
		e.lastSuccess, e.failure, o.old = now, nil, nil
		if !o.shared {
			e.counts.obtained.Add(1)
		}
	} else {
		e.fail(f, s, o, now, r)
	}
	if e.exchange != nil && (o.failure == nil || o.failure.Subject) {
		e.exchange.answered(o.failure == nil, now)
	}
	e.mu.Unlock()

	e.report(s, o)
	f.token, f.failure, f.shared = o.token, o.failure, o.shared
	e.mu.Lock()
	e.flight = nil
	e.mu.Unlock()
	if e.exchange != nil {
		e.exchange.leave(f)
	}
	close(f.done)
	return true
}

// fail begins the back-off of a flight that failed, and makes the failure one that says how long it is. e.mu is held.
func (e *Entry) fail(f *flight, s *Settings, o *outcome, now time.Time, r float64) {
	if o.holdup != nil {
		o.failure = o.holdup.Failure
		e.backoff.join(o.holdup, now)
	} else {
		e.backoff.failed(o.failure, s, now, e.ownStep(r))
	}
	until := e.backoff.until
	if e.exchange != nil && !o.failure.Subject {
		until = e.exchange.failed(e, f, s, o.failure, now, r)
	}
	shown := *o.failure
	shown.RetryAfter = until.Sub(now)
	o.failure = &shown
	e.lastFailure, e.failure = now, o.failure
	if o.old != nil && e.current.Load().state(now) != StateDead {
		o.old = nil
	}
	if o.old != nil {
		e.store(o.old, s, now, o.r)
	}
}

// report tells the observer how a flight went.
func (e *Entry) report(s *Settings, o *outcome) {
	observer := &e.cache.observer
	taken := o.old
	if o.shared {
		taken = o.token
	}
	if taken != nil && observer.Taken != nil {
		observer.Taken(s.Labels, taken)
	}
	switch {
	case o.shared:
	case o.token != nil:
		if observer.Stored != nil {
			observer.Stored(s.Labels, o.token)
		}
	case e.cache.ctx.Err() == nil && observer.Failed != nil:
		observer.Failed(s.Labels, o.failure)
	}
	if o.token != nil && s.Keep != nil {
		s.Keep(o.token)
	}
}

// store makes t the current token. It is sent until it expires, and not refreshed ahead, when no better one is to be had:
// because its subject token expires with it, or because the issuer hands out what it has until that expires.
func (e *Entry) store(t *Token, s *Settings, now time.Time, r float64) {
	h, old := plan(t, s.RefreshAt, s.MinRemaining, r), e.current.Load()
	if !e.expires.IsZero() && t.sameEnd(e.expires, s.RefreshAt) || old.state(now) != StateDead && !old.restored && t.sameEnd(old.token.Expiry, s.RefreshAt) {
		h.toTheEnd()
	}
	e.current.Store(h)
}

// ownStep is the draw for the back-off of the entry itself. Among the subjects of an exchange it is the longest, so that after
// a failure another subject is the first to ask.
func (e *Entry) ownStep(r float64) float64 {
	if e.exchange != nil {
		return 1
	}
	return r
}
