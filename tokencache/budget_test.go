package tokencache

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestBudgetIsForAnyHour(t *testing.T) {
	var b Budget
	start := time.Now()
	at := func(d time.Duration) time.Time { return start.Add(d) }
	for range 1000 {
		if b.take(start) != 0 {
			t.Fatal("a budget without a limit refuses")
		}
	}
	if left, capped := b.Left(start); left != 0 || capped {
		t.Errorf("without a limit: want no cap, got %d %t", left, capped)
	}
	b.SetLimit(4)
	for _, step := range []struct {
		at   time.Duration
		wait time.Duration
		left int // afterwards
		low  bool
	}{
		{0, 0, 3, false},
		{10 * time.Minute, 0, 2, false},
		{10 * time.Minute, 0, 1, false},
		{50 * time.Minute, 0, 0, true},
		{50 * time.Minute, 10 * time.Minute, 0, true},
		{time.Hour - 1, 1, 0, true},
		{time.Hour, 0, 0, true},
		{time.Hour, 10 * time.Minute, 0, true},
		{70 * time.Minute, 0, 1, false},
		{70 * time.Minute, 0, 0, true},
		{70 * time.Minute, 40 * time.Minute, 0, true},
		{24 * time.Hour, 0, 3, false},
	} {
		now := at(step.at)
		if peek := b.wait(now); peek != step.wait {
			t.Errorf("after %s: want a wait of %s, got %s", step.at, step.wait, peek)
		}
		if got := b.take(now); got != step.wait {
			t.Errorf("after %s: want a request to wait %s, got %s", step.at, step.wait, got)
		}
		if left, capped := b.Left(now); left != step.left || !capped || b.low(now) != step.low {
			t.Errorf("after %s: want %d left, low %t, got %d, %t", step.at, step.left, step.low, left, b.low(now))
		}
	}
	b.SetLimit(4)
	day := 24 * time.Hour
	for _, d := range []time.Duration{10 * time.Minute, 20 * time.Minute, 30 * time.Minute} {
		if b.take(at(day+d)) != 0 {
			t.Fatal("want the other three allowed")
		}
	}
	b.SetLimit(2)
	if got := b.take(at(day + 40*time.Minute)); got != 40*time.Minute {
		t.Errorf("a lower limit: want a wait until only one of the four is within the hour, 40 m, got %s", got)
	}
	b.Spend(at(day + 40*time.Minute))
	if left, _ := b.Left(at(day + 40*time.Minute)); left != 0 {
		t.Errorf("one that is made all the same: want none left, got %d", left)
	}
	if got := b.wait(at(day + 40*time.Minute)); got != 50*time.Minute {
		t.Errorf("one that is made all the same: want it counted, and a wait of 50 m, got %s", got)
	}
	b.SetLimit(6)
	if got := b.take(at(day + 40*time.Minute)); got != 0 {
		t.Errorf("a higher limit: want the request allowed, got %s", got)
	}
	b.SetLimit(0)
	if got := b.take(at(day + 40*time.Minute)); got != 0 || b.low(at(day)) {
		t.Errorf("no limit any more: want the request allowed, got %s", got)
	}
	b.Spend(at(day))
	var none *Budget
	none.Spend(start)
	if none.take(start) != 0 || none.wait(start) != 0 || none.low(start) {
		t.Error("no budget: want everything allowed")
	}
}

// withBudget gives settings a budget of n requests an hour.
func withBudget(b *Budget, n int) func(*Options, *Settings) {
	b.SetLimit(n)
	return func(_ *Options, s *Settings) { s.Budget = b }
}

func TestBudgetSlowsRefreshesAndThenRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b Budget
		src := always(answer{lifetime: 100 * time.Second})
		e := open(t, src, minRemaining(10*time.Second), withBudget(&b, 40), func(o *Options, _ *Settings) { o.Rand = func() float64 { return 0.5 } })
		var refusedAt time.Duration
		begin := time.Now()
		for time.Since(begin) < 2*time.Hour {
			_, l, err := e.Get(t.Context())
			if err != nil {
				refusedAt = time.Since(begin)
				break
			}
			if l == Miss && time.Since(begin) > 0 {
				t.Fatalf("after %s a caller waited although there was a token", time.Since(begin))
			}
			time.Sleep(time.Second)
			synctest.Wait()
		}
		// The first calls come after 76 s each. The 31st leaves nine, fewer than a quarter; from then on min_remaining decides.
		at := src.times()
		if len(at) != 40 || at[30] != 30*76*time.Second || at[31]-at[30] != 86*time.Second || at[39]-at[30] != 9*86*time.Second || refusedAt != at[39]+100*time.Second {
			t.Fatalf("want 40 calls, the last ones after 86 s each, and no token 100 s after that; got %d calls and a refusal after %s: %v", len(at), refusedAt, at)
		}
		f := want(t, e, "", Miss)
		if f.Kind != Throttled || f.Result != ResultThrottled || f.RetryAfter != time.Hour-refusedAt || !strings.Contains(f.Detail, "tokens.max_requests_per_hour") || !strings.Contains(f.Detail, "idp") {
			t.Errorf("want throttled until an hour after the first call, naming the setting and the issuer, got %+v", f)
		}
		time.Sleep(f.RetryAfter - 1)
		if f := want(t, e, "", Miss); f.RetryAfter != 1 {
			t.Errorf("want 1 ns left, got %s", f.RetryAfter)
		}
		wantCalls(t, src, 40, "without a budget")
		time.Sleep(1)
		want(t, e, "token-41", Miss)
		if f := e.Status(time.Now()).Failure; f != nil {
			t.Errorf("afterwards: want no failure, got %v", f)
		}
	})
}

// Whoever asks the issuer uses up the same budget, and no hour sees more calls than it allows.
func TestBudgetIsSharedByAllEntriesOfAnIssuer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b Budget
		b.SetLimit(30)
		i := exchanging(answer{lifetime: 5 * time.Minute})
		c := New(Options{})
		defer c.Close()
		x := c.Exchange(Key{})
		x.Use(Settings{Exchange: i.of, Budget: &b})
		var entries []*Entry
		for n := range 3 {
			e := c.Entry(Key{byte(n + 1)})
			e.Use(Settings{Source: i.of(fmt.Sprint("entry-", n)), Budget: &b})
			entries = append(entries, e)
		}
		refused := 0
		for range 5 * 3600 {
			for n, e := range entries {
				_, _, err := e.Get(t.Context())
				_, _, err2 := x.Subject(fmt.Sprint("subject-", n)).Get(t.Context())
				if err != nil || err2 != nil {
					refused++
				}
			}
			time.Sleep(time.Second)
		}
		for n, from := range i.at {
			if n+30 < len(i.at) && i.at[n+30]-from < time.Hour {
				t.Fatalf("call %d came %s after call %d: more than 30 within an hour", n+30, i.at[n+30]-from, n)
			}
		}
		if len(i.at) < 5*30-1 || refused == 0 {
			t.Errorf("want the budget used up each hour, and some requests refused; got %d calls and %d refusals", len(i.at), refused)
		}
	})
}

func TestLargerBudgetIsUsedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b Budget
		src := always(answer{lifetime: time.Minute})
		e := open(t, src, withBudget(&b, 1))
		want(t, e, "token-1", Miss)
		time.Sleep(time.Minute)
		for range 3 {
			want(t, e, "", Miss)
		}
		b.SetLimit(2)
		want(t, e, "token-2", Miss)
		time.Sleep(time.Minute)
		want(t, e, "", Miss)
		b.SetLimit(0)
		want(t, e, "token-3", Miss)
	})
}

func TestBudgetCountsTheSecondTryOfABrokenConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := answer{err: &Failure{Kind: Unavailable, Result: ResultUnreachable, Broken: true, Detail: "reset"}}
		var b Budget
		var reported atomic.Int32
		src := always(broken)
		e := open(t, src, withBudget(&b, 3), func(o *Options, _ *Settings) {
			o.Observer.Requested = func(context.Context, Labels, string, time.Duration) { reported.Add(1) }
		})
		want(t, e, "", Miss)
		wantCalls(t, src, 2, "a second try")
		time.Sleep(time.Second)
		if f := want(t, e, "", Miss); f.Result != ResultUnreachable {
			t.Errorf("no second try is allowed: want the reason of the first one, got %+v", f)
		}
		wantCalls(t, src, 3, "no second try")
		time.Sleep(2 * time.Second)
		if f := want(t, e, "", Miss); f.Kind != Throttled {
			t.Errorf("want throttled, got %+v", f)
		}
		if reported.Load() != 3 {
			t.Errorf("want what was asked reported, 3 requests, got %d", reported.Load())
		}
	})
}
