package tokencache

import (
	"sync"
	"sync/atomic"
	"time"
)

// Exchange is the tokens that an issuer gave in exchange for subject tokens, all for the same client and target: one Entry
// a subject. It is safe for concurrent use.
//
// What a subject's flight tells of the issuer, all subjects learn. A failure that is not about the subject token begins a
// back-off in which no subject asks and all are answered at once. When it is over, one subject asks, and the others wait for
// what becomes of it: an outage costs one call a step, however many subjects there are. The same is done with the first
// subject after a while in which no answer has vouched for the issuer.
//
// An error that may be about one subject after all (the issuer served others a moment ago, or it refused without blaming the
// client) holds back that subject alone, until a second one has it too; and the steps grow only when another subject than the
// last time has it.
type Exchange struct {
	cache    *Cache
	key      Key
	settings atomic.Pointer[Settings]
	counts   counts

	mu          sync.Mutex // never held while waiting; taken after an entry's
	backoff     backoff
	first       *flight   // that the others wait for; nil: none
	vouched     time.Time // when the issuer last answered with a token or a refusal of the subject; zero after a failure
	suspect     *Entry    // whose failure was the last one; nil after such an answer
	attempts    int
	lastSuccess time.Time
	lastFailure time.Time
	failure     *Failure
}

// Use installs the settings of a configuration, as [Entry.Use] does, for all subjects.
func (x *Exchange) Use(s Settings) { x.settings.Store(s.withDefaults()) }

// Subject is the place of a subject token, which need not have been seen before. It makes no call.
func (x *Exchange) Subject(token string) *Subject {
	c, key := x.cache, x.key.of(token)
	c.mu.Lock()
	e := c.subjects.get(key)
	c.mu.Unlock()
	if e == nil || e.exchange != x {
		e = x.admit(key, &Entry{cache: c, settings: &x.settings, counts: &x.counts, exchange: x, expires: expiryOf(token)})
	}
	return &Subject{entry: e, token: &token}
}

// admit gives an entry a place, unless the subject has got one in the meantime, or has expired and needs none.
func (x *Exchange) admit(key Key, e *Entry) *Entry {
	if !e.expires.IsZero() && !time.Now().Before(e.expires) {
		return e
	}
	x.cache.mu.Lock()
	defer x.cache.mu.Unlock()
	if other := x.cache.subjects.get(key); other != nil && other.exchange == x {
		return other
	}
	x.cache.subjects.put(key, e)
	return e
}

// Status is what the status page wants to know. There is no token in it, and a refusal of a subject is no failure here. Ready
// means nothing, since no token is obtained before a subject token comes.
func (x *Exchange) Status(now time.Time) Status {
	x.mu.Lock()
	defer x.mu.Unlock()
	st := Status{State: StateDead, Attempts: x.attempts, LastSuccess: x.lastSuccess, LastFailure: x.lastFailure, Failure: x.failure, Counts: x.counts.read()}
	if s := x.settings.Load(); s != nil {
		x.backoff.forget(s, now)
	}
	if x.backoff.holds(now) {
		st.RetryAt = x.backoff.until
	}
	return st
}

// enter returns f when it may begin. Else it is the flight to wait for, or the failure with which to answer.
func (x *Exchange) enter(f *flight, s *Settings, now time.Time) (*flight, *Failure) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.backoff.forget(s, now)
	switch {
	case x.backoff.holds(now):
		return nil, x.othersFailure(now)
	case x.vouches(s, now):
	case x.first != nil:
		return x.first, nil
	default:
		x.first = f
	}
	return f, nil
}

// leave ends what other subjects wait for, if f was that.
func (x *Exchange) leave(f *flight) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.first == f {
		x.first = nil
	}
}

// vouches says whether the issuer has answered as lately as one attempt may take.
func (x *Exchange) vouches(s *Settings, now time.Time) bool {
	return x.backoff.failure == nil && !x.vouched.IsZero() && now.Sub(x.vouched) < s.Timeout
}

// answered learns that the issuer gave a token, or refused a subject: it works, and knows us.
func (x *Exchange) answered(token bool, now time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.attempts++
	x.backoff, x.vouched, x.suspect, x.failure = backoff{}, now, nil, nil
	if token {
		x.lastSuccess = now
	}
}

// failed learns that e's flight f failed, not on account of the subject token. It returns until when e is answered without
// asking. e.mu is held, and e's own back-off has begun.
func (x *Exchange) failed(e *Entry, f *flight, s *Settings, failure *Failure, now time.Time, r float64) time.Time {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.backoff.forget(s, now)
	sure := failure.certain() || x.suspect != nil && x.suspect != e
	vouched, began := x.vouches(s, now), x.backoff.failure != nil
	x.attempts++
	x.lastFailure, x.failure = now, failure
	x.suspect, x.vouched = e, time.Time{}
	switch {
	case !sure && !began && (vouched || failure.Kind == Refused): // for now it is that subject's
		return e.backoff.until
	case began && f.began.Before(x.backoff.since): // it was on its way when the step began
		if asked := now.Add(failure.asked()); asked.After(x.backoff.until) {
			x.backoff.until = asked
		}
	case began && !sure: // the same subject as the last time: no reason for a longer step
		x.backoff.step(failure, s, now, r)
	default:
		x.backoff.failed(failure, s, now, r)
	}
	if x.backoff.until.After(e.backoff.until) {
		return x.backoff.until
	}
	return e.backoff.until
}

// othersFailure is what a subject is told in the back-off that others' failures began. What the issuer said when it refused
// may be about one of them. x.mu is held.
func (x *Exchange) othersFailure(now time.Time) *Failure {
	f := x.backoff.error(now)
	f.Claims = ""
	if f.Kind == Refused {
		f.Detail = "the issuer has just refused the same to other callers; what it said is in the log"
	}
	return f
}
