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
	stale time.Time
}

// plan draws the points. The refresh comes at a random point of the last tenth before refreshAt of the lifetime, so
// that replicas which started together drift apart, or of the last tenth before minRemaining where that is earlier,
// so that it too comes ahead of the point where callers wait. r is in [0,1).
func plan(t *Token, refreshAt float64, minRemaining time.Duration, r float64) *held {
	life := t.Expiry.Sub(t.Obtained)
	fresh := life - min(minRemaining, life/2)
	latest := min(time.Duration(float64(life)*refreshAt), fresh)
	return &held{
		token: t,
		due:   t.Obtained.Add(time.Duration(float64(latest) * (0.9 + 0.1*r))),
		stale: t.Obtained.Add(fresh),
	}
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
