package tokencache

import "time"

const (
	failureStep   = time.Second // doubles with each failure in a row
	failureLimit  = 8 * time.Second
	refusalStep   = 5 * time.Second // doubles with each refusal in a row
	refusalLimit  = 60 * time.Second
	retryAfterMax = 15 * time.Minute // of what an issuer asks for
)

// backoff says until when the issuer is not asked again. The zero value is none.
type backoff struct {
	failure     *Failure // the last one; nil after a success
	credentials string   // with which it failed
	since       time.Time
	until       time.Time
	inARow      int // how many of this sort, refusals or others, came one after the other
}

// failed begins the next step.
func (b *backoff) failed(f *Failure, s *Settings, now time.Time, r float64) {
	if b.failure == nil || (b.failure.Kind == Refused) != (f.Kind == Refused) {
		b.inARow = 0
	}
	if !f.capped { // the issuer was not asked
		b.inARow++
	}
	b.step(f, s, now, r)
}

// step begins the same step once more. r, in [0,1), shortens the step of a failure by up to a quarter, so that replicas
// do not come back together; a refusal's is exact. An issuer that asks for more time than the step gets it. A request that
// our own budget did not allow waits for just as long as the budget says.
func (b *backoff) step(f *Failure, s *Settings, now time.Time, r float64) {
	var wait time.Duration
	switch {
	case f.capped:
		if wait = f.RetryAfter; s.Shared != nil { // another replica may have a token before that
			wait = min(wait, failureLimit)
		}
	case f.Kind == Refused:
		wait = max(doubled(refusalStep, refusalLimit, b.inARow), f.asked())
	default:
		wait = max(time.Duration(float64(doubled(failureStep, failureLimit, b.inARow))*(0.75+0.25*r)), f.asked())
	}
	b.failure, b.credentials, b.since, b.until = f, s.Credentials, now, now.Add(wait)
}

// forget ends a back-off that began with other credentials, or for want of a budget that there is now.
func (b *backoff) forget(s *Settings, now time.Time) {
	if b.failure != nil && (b.credentials != s.Credentials || b.failure.capped && s.Budget.wait(now) == 0) {
		*b = backoff{}
	}
}

// holds says whether the issuer is not to be asked yet.
func (b *backoff) holds(now time.Time) bool { return now.Before(b.until) }

// doubled is the nth step of a series that doubles up to limit.
func doubled(step, limit time.Duration, n int) time.Duration {
	for ; n > 1 && step < limit; n-- {
		step *= 2
	}
	return min(step, limit)
}

// error is the last failure, with the time that is left until the next attempt.
func (b *backoff) error(now time.Time) *Failure {
	f := *b.failure
	f.RetryAfter = max(0, b.until.Sub(now))
	return &f
}
