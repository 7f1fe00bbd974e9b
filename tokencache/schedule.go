package tokencache

import "time"

// State is where a token is in its life. It is a function of the token's plan and the time, and nothing else.
type State string

const (
	StateFresh State = "fresh" // sent as it is
	StateDue   State = "due"   // sent as it is, and refreshed in the background
	StateStale State = "stale" // under min_remaining: sent only when no new one can be had
	StateDead  State = "dead"  // expired, dropped, or never there: not sent
)

// held is a token with the points at which its state changes, which are drawn once.
type held struct {
	token *Token
	due   time.Time
	late  time.Time // when it is due to an issuer that wants few requests; not before due
	stale time.Time

	restored bool // an earlier process obtained it
}

// plan draws the points. The refresh comes at a random point of the last tenth before refreshAt of the lifetime, so
// that replicas which started together drift apart, or of the last tenth before minRemaining where that is earlier,
// so that it too comes ahead of the point where callers wait. r is in [0,1).
func plan(t *Token, refreshAt float64, minRemaining time.Duration, r float64) *held {
	life := t.Expiry.Sub(t.Obtained)
	fresh := life - min(minRemaining, life/2)
	draw := func(latest time.Duration) time.Time {
		return t.Obtained.Add(time.Duration(float64(latest) * (0.9 + 0.1*r)))
	}
	return &held{
		token: t,
		due:   draw(min(time.Duration(float64(life)*refreshAt), fresh)),
		late:  draw(fresh),
		stale: t.Obtained.Add(fresh),
	}
}

// RefreshAfter is how long a token that lives for life is used before the next is asked for, at the longest; the rest is as in [Settings].
func RefreshAfter(life time.Duration, refreshAt float64, minRemaining time.Duration) time.Duration {
	t := &Token{Expiry: time.Time{}.Add(life)}
	return plan(t, refreshAt, minRemaining, 1).due.Sub(t.Obtained)
}

// step is the least by which another token has to be later than t to gain anything: a twentieth of the life that t has, and
// less where tokens are refreshed so early that each is hardly later than the one before.
func (t *Token) step(refreshAt float64) time.Duration {
	return time.Duration(float64(t.Expiry.Sub(t.Obtained)) * min(1.0/20, refreshAt/2))
}

// sameEnd says whether two tokens' ends, or a token's and its subject's, are so near to each other that to go from one to
// the other would gain nothing.
func (t *Token) sameEnd(other time.Time, refreshAt float64) bool {
	return other.Sub(t.Expiry).Abs() < t.step(refreshAt)
}

// toTheEnd has the token sent until it expires: there will be no better one before.
func (h *held) toTheEnd() *held {
	h.due, h.late, h.stale = h.token.Expiry, h.token.Expiry, h.token.Expiry
	return h
}

func (h *held) state(now time.Time) State {
	switch {
	case h == nil || !now.Before(h.token.Expiry):
		return StateDead
	case !now.Before(h.stale):
		return StateStale
	case !now.Before(h.due):
		return StateDue
	}
	return StateFresh
}
