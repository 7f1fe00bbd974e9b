package introspect

import "time"

// Steps of the back-off.
const (
	firstStep = 500 * time.Millisecond // doubles with each failure in a row
	lastStep  = 5 * time.Second
	// An answer that is of no use may be the fault of the token that was asked about, and a token's sender must not be able
	// to shut out the others: a few such answers in a row cause no back-off, and more a short one.
	freeAnswers    = 2
	lastAnswerStep = time.Second
	maxRetryAfter  = time.Minute // of what an issuer asks for
)

// backoff says whether an issuer is left alone. The zero value asks it. After a failure nothing is asked for a step, and
// then one question alone, until one is answered; that makes the value zero again.
type backoff struct {
	inARow int       // failures, of questions that did not overlap
	until  time.Time // zero while questions are free
	trying bool      // the one question is on its way
}

// pass is the leave to ask a question.
type pass struct {
	inARow int  // at the time
	trial  bool // it is the one question
}

// admit gives leave for a question, or says how long to wait.
func (b *backoff) admit(now time.Time) (p pass, wait time.Duration) {
	p.inARow = b.inARow
	switch {
	case b.until.IsZero():
	case now.Before(b.until):
		return p, b.until.Sub(now)
	case b.trying:
		return p, leastRetry
	default:
		b.trying, p.trial = true, true
	}
	return p, 0
}

// failed counts a failure and returns how long the issuer is left alone from now on. Of questions that were on their way
// together one counts.
func (b *backoff) failed(p pass, f *failure, now time.Time) time.Duration {
	if p.trial {
		b.trying = false
	}
	if p.inARow == b.inARow {
		b.inARow++
		n, last := b.inARow, lastStep
		if f.answered {
			n, last = n-freeAnswers, lastAnswerStep
		}
		if n > 0 {
			step := firstStep
			for ; n > 1 && step < last; n-- {
				step *= 2
			}
			b.until = now.Add(max(min(step, last), min(f.retryAfter, maxRetryAfter)))
		}
	}
	return b.until.Sub(now)
}
