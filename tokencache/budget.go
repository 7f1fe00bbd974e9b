package tokencache

import (
	"fmt"
	"sync"
	"time"
)

// budgetPeriod is the hour of tokens.max_requests_per_hour: any, not one of the clock.
const budgetPeriod = time.Hour

// Budget caps the token requests that one issuer gets within any hour. All entries that ask the issuer share it; it belongs
// to the process and outlives reloads. The zero value caps nothing. It is safe for concurrent use and must not be copied.
type Budget struct {
	mu    sync.Mutex
	limit int         // 0: no cap
	sent  []time.Time // of the requests within the last hour, oldest first
}

// SetLimit changes the cap to n requests an hour; 0 or less is none. Requests that were made while there was none do not count.
func (b *Budget) SetLimit(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.limit = max(0, n)
	if b.limit == 0 {
		b.sent = nil
	}
}

// Left is how many requests are allowed now. It is false when there is no cap.
func (b *Budget) Left(now time.Time) (left int, capped bool) {
	if b == nil {
		return 0, false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.forget(now)
	return max(0, b.limit-len(b.sent)), b.limit > 0
}

// Spend counts a request that is made whether or not the budget allows it: one that a Source adds to the attempt it was
// asked for.
func (b *Budget) Spend(now time.Time) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.forget(now); b.limit > 0 {
		b.sent = append(b.sent, now)
	}
}

// low says that less than a quarter is left, so that refreshes come as late as they can.
func (b *Budget) low(now time.Time) bool {
	if b == nil {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.forget(now)
	return b.limit > 0 && (b.limit-len(b.sent))*4 < b.limit
}

// wait is how long it is until a request is allowed; 0 is now.
func (b *Budget) wait(now time.Time) time.Duration {
	if b == nil {
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.untilNext(now)
}

// take counts a request, unless it has to wait.
func (b *Budget) take(now time.Time) (wait time.Duration) {
	if b == nil {
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if wait = b.untilNext(now); wait == 0 && b.limit > 0 {
		b.sent = append(b.sent, now)
	}
	return wait
}

func (b *Budget) untilNext(now time.Time) time.Duration {
	b.forget(now)
	if b.limit == 0 || len(b.sent) < b.limit {
		return 0
	}
	return b.sent[len(b.sent)-b.limit].Add(budgetPeriod).Sub(now) // the limit may be lower than when they were sent
}

func (b *Budget) forget(now time.Time) {
	for len(b.sent) > 0 && now.Sub(b.sent[0]) >= budgetPeriod {
		b.sent = b.sent[1:]
	}
}

// overBudget is the failure of a request that the budget does not allow for another wait.
func overBudget(s *Settings, wait time.Duration) *Failure {
	return &Failure{
		Kind: Throttled, Result: ResultThrottled, RetryAfter: wait, capped: true,
		Detail: fmt.Sprintf("issuer %s has had as many token requests in the last hour as tokens.max_requests_per_hour allows; "+
			"raise it, or have the issuer give its tokens a longer life", s.Labels.Issuer),
	}
}
