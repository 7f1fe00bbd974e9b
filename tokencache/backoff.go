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
	failure *Failure // the last one; nil after a success
	until   time.Time
	inARow  int // how many of this sort, refusals or others, came one after the other
}

// failed begins the next step. r, in [0,1), shortens the step of a failure by up to a quarter, so that replicas do not
// come back together; a refusal's is exact. An issuer that asks for more time than the step gets it.
func (b *backoff) failed(f *Failure, now time.Time, r float64) {
	if b.failure == nil || (b.failure.Kind == Refused) != (f.Kind == Refused) {
		b.inARow = 0
	}
	b.inARow++
	var step time.Duration
	if f.Kind == Refused {
		step = doubled(refusalStep, refusalLimit, b.inARow)
	} else {
		step = time.Duration(float64(doubled(failureStep, failureLimit, b.inARow)) * (0.75 + 0.25*r))
	}
	b.failure = f
	b.until = now.Add(max(step, min(f.RetryAfter, retryAfterMax)))
}

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
