package tokencache

import (
	"testing"
	"time"
)

func TestState(t *testing.T) {
	const ms = time.Millisecond
	for _, tc := range []struct {
		name               string
		life, minRemaining time.Duration
		refreshAt, r       float64
		due, stale         time.Duration // after the token was obtained
	}{
		{"latest point", 100 * time.Second, 10 * time.Second, 0.8, 1, 80 * time.Second, 90 * time.Second},
		{"earliest point", 100 * time.Second, 10 * time.Second, 0.8, 0, 72 * time.Second, 90 * time.Second},
		{"middle", 100 * time.Second, 10 * time.Second, 0.8, 0.5, 76 * time.Second, 90 * time.Second},
		{"min_remaining comes first, latest", 40 * time.Second, 10 * time.Second, 0.8, 1, 30 * time.Second, 30 * time.Second},
		{"min_remaining comes first, earliest", 40 * time.Second, 10 * time.Second, 0.8, 0, 27 * time.Second, 30 * time.Second},
		{"short life: half of it", 4 * time.Second, 10 * time.Second, 0.8, 1, 2 * time.Second, 2 * time.Second},
		{"short life, earliest", 4 * time.Second, 10 * time.Second, 0.8, 0, 1800 * ms, 2 * time.Second},
		{"no min_remaining", 100 * time.Second, 0, 0.8, 1, 80 * time.Second, 100 * time.Second},
		{"refresh at the end", 100 * time.Second, 0, 1, 1, 100 * time.Second, 100 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			from := time.Now()
			h := plan(NewToken("x", "", from, tc.life), tc.refreshAt, tc.minRemaining, tc.r)
			for _, p := range []struct {
				at   time.Duration
				want State
			}{
				{0, StateFresh}, {tc.due - 1, StateFresh}, {tc.due, StateDue}, {tc.stale - 1, StateDue}, {tc.stale, StateStale},
				{tc.life - 1, StateStale}, {tc.life, StateDead}, {tc.life + time.Hour, StateDead},
			} {
				// Where two points coincide the state between them does not exist.
				if (p.want == StateDue && tc.due == tc.stale) || (p.want == StateStale && tc.stale == tc.life) || (p.at == tc.stale-1 && p.at < tc.due) || (p.at == tc.life-1 && p.at < tc.stale) {
					continue
				}
				if got := h.state(from.Add(p.at)); got != p.want {
					t.Errorf("after %s of %s: want %s, got %s", p.at, tc.life, p.want, got)
				}
			}
		})
	}
	if got := (*held)(nil).state(time.Now()); got != StateDead {
		t.Errorf("no token: want dead, got %s", got)
	}
}

func TestBackoffSteps(t *testing.T) {
	transient, refused := &Failure{Kind: Unavailable}, &Failure{Kind: Refused}
	asks := func(d time.Duration) *Failure { return &Failure{Kind: Throttled, RetryAfter: d} }
	const s = time.Second
	for _, tc := range []struct {
		name     string
		r        float64
		failures []*Failure
		want     []time.Duration
	}{
		{"failures double to 8 s", 1, []*Failure{transient, transient, transient, transient, transient, transient}, []time.Duration{s, 2 * s, 4 * s, 8 * s, 8 * s, 8 * s}},
		{"jitter takes a quarter at most", 0, []*Failure{transient, transient, transient, transient, transient}, []time.Duration{750 * time.Millisecond, 1500 * time.Millisecond, 3 * s, 6 * s, 6 * s}},
		{"refusals double to 60 s, without jitter", 0, []*Failure{refused, refused, refused, refused, refused, refused}, []time.Duration{5 * s, 10 * s, 20 * s, 40 * s, 60 * s, 60 * s}},
		{"a refusal after failures begins anew", 1, []*Failure{transient, transient, refused, refused, transient}, []time.Duration{s, 2 * s, 5 * s, 10 * s, s}},
		{"throttled and unavailable are one series", 1, []*Failure{asks(0), transient, asks(0)}, []time.Duration{s, 2 * s, 4 * s}},
		{"Retry-After longer than the step", 1, []*Failure{asks(30 * s), asks(3 * s)}, []time.Duration{30 * s, 3 * s}},
		{"Retry-After shorter than the step", 1, []*Failure{transient, transient, asks(s)}, []time.Duration{s, 2 * s, 4 * s}},
		{"a budget's wait is exact and no step", 0.5, []*Failure{transient, {Kind: Throttled, RetryAfter: 40 * time.Minute, capped: true}, transient},
			[]time.Duration{875 * time.Millisecond, 40 * time.Minute, 1750 * time.Millisecond}},
		{"Retry-After of a day", 1, []*Failure{asks(24 * time.Hour)}, []time.Duration{15 * time.Minute}},
	} {
		var b backoff
		now := time.Now()
		for i, f := range tc.failures {
			b.failed(f, new(Settings), now, tc.r)
			if got := b.until.Sub(now); got != tc.want[i] {
				t.Errorf("%s: step %d: want %s, got %s", tc.name, i+1, tc.want[i], got)
			}
			if got := b.error(now.Add(tc.want[i] / 4)).RetryAfter; got != tc.want[i]-tc.want[i]/4 {
				t.Errorf("%s: step %d: want %s left after a quarter, got %s", tc.name, i+1, tc.want[i]-tc.want[i]/4, got)
			}
			now = b.until
		}
	}
}
