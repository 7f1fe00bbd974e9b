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
	done    chan struct{} // closed at the end
	failure *Failure      // set before done is closed; nil when there is a token
}

// start begins a flight; the failure says why it could not. e.mu is held, and no flight is on its way.
func (e *Entry) start() *Failure {
	if e.settings == nil {
		return &Failure{Kind: Unavailable, Result: ResultOther, Detail: "the token has no source yet"}
	}
	f := &flight{done: make(chan struct{})}
	if !e.cache.launch(func() { e.fly(f) }) {
		return stopping()
	}
	e.flight = f
	return nil
}

func stopping() *Failure {
	return &Failure{Kind: Unavailable, Result: ResultOther, Detail: "no token is obtained any more: the process is stopping"}
}

// fly runs a flight from its start to the release of its waiters.
func (e *Entry) fly(f *flight) {
	for {
		e.mu.Lock()
		s := e.settings
		e.mu.Unlock()
		token, failure := e.fetch(s)
		if e.land(f, s, token, failure) {
			return
		}
	}
}

// fetch makes an attempt within the settings' timeout, and one more when the connection broke.
func (e *Entry) fetch(s *Settings) (*Token, *Failure) {
	ctx, cancel := context.WithTimeout(e.cache.ctx, s.Timeout)
	defer cancel()
	token, failure := e.attempt(ctx, s)
	if failure == nil || !failure.Broken {
		return token, failure
	}
	select {
	case <-time.After(retryPause):
		return e.attempt(ctx, s)
	case <-ctx.Done():
		return nil, failure
	}
}

// attempt asks the source once and reports it.
func (e *Entry) attempt(ctx context.Context, s *Settings) (*Token, *Failure) {
	began := time.Now()
	token, failure := e.call(ctx, s)
	if failure != nil && e.cache.ctx.Err() != nil {
		return nil, stopping()
	}
	if observe := e.cache.observer.Requested; observe != nil {
		result := ResultOK
		if failure != nil {
			result = failure.Result
		}
		observe(s.Labels, result, time.Since(began))
	}
	return token, failure
}

// call turns whatever a source does into a token that lives or a failure.
func (e *Entry) call(ctx context.Context, s *Settings) (token *Token, failure *Failure) {
	defer func() {
		if recover() != nil { // the value may hold a secret, the stack does not
			token, failure = nil, &Failure{Kind: Unavailable, Result: ResultOther, Detail: "the token request ended in an internal error; the log has more"}
			if observe := e.cache.observer.Panicked; observe != nil {
				observe(s.Labels, debug.Stack())
			}
		}
	}()
	token, err := s.Source.Token(ctx)
	switch {
	case err == nil && token != nil && time.Now().Before(token.Expiry):
		return token, nil
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
func (e *Entry) land(f *flight, s *Settings, token *Token, failure *Failure) bool {
	now := time.Now()
	e.mu.Lock()
	switch {
	case failure == nil:
		e.current.Store(plan(token, s.RefreshAt, s.MinRemaining, e.cache.rand()))
		e.backoff = backoff{}
		e.lastSuccess, e.failure = now, nil
	case e.settings.Credentials != s.Credentials:
		e.mu.Unlock()
		return false
	default:
		e.backoff.failed(failure, now, e.cache.rand())
		failure = e.backoff.error(now)
		e.lastFailure, e.failure = now, failure
	}
	e.attempts++
	e.mu.Unlock()

	observer := &e.cache.observer
	switch {
	case failure == nil && observer.Stored != nil:
		observer.Stored(s.Labels, token)
	case failure != nil && e.cache.ctx.Err() == nil && observer.Failed != nil:
		observer.Failed(s.Labels, failure)
	}

	f.failure = failure
	e.mu.Lock()
	e.flight = nil
	e.mu.Unlock()
	close(f.done)
	return true
}
