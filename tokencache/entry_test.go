package tokencache

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestColdBurstIsOneCall(t *testing.T) {
	for _, callers := range []int{100, 1000} {
		synctest.Test(t, func(t *testing.T) {
			src := always(answer{takes: 300 * time.Millisecond, lifetime: time.Hour})
			e := open(t, src)
			var wg sync.WaitGroup
			for range callers {
				wg.Go(func() { want(t, e, "token-1", Miss) })
			}
			wg.Wait()
			wantCalls(t, src, 1, "cold burst")
			want(t, e, "token-1", Hit)
		})
	}
}

func TestRefreshAheadOnceWhileInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := always(answer{takes: time.Second, lifetime: 100 * time.Second})
		e := open(t, src, minRemaining(10*time.Second))
		want(t, e, "token-1", Miss)
		time.Sleep(80*time.Second - 1)
		want(t, e, "token-1", Hit)
		synctest.Wait()
		wantCalls(t, src, 1, "just before refresh_at")
		time.Sleep(1)
		for range 50 { // nobody waits, and there is one flight
			before := time.Now()
			want(t, e, "token-1", Hit)
			if w := time.Since(before); w != 0 {
				t.Fatalf("a caller waited %s while its token was good", w)
			}
		}
		time.Sleep(time.Second)
		synctest.Wait()
		want(t, e, "token-2", Hit)
		wantCalls(t, src, 2, "after the refresh")
	})
}

// However early the refresh, a new token is one, and what an issuer gives out until it expires is not.
func TestEarlyRefreshes(t *testing.T) {
	const life = 1000 * time.Second
	for _, refreshAt := range []float64{0.005, 0.02, 0.05, 0.06, 0.8} {
		for _, again := range []bool{false, true} {
			for _, replicated := range []int{1, 5} {
				synctest.Test(t, func(t *testing.T) {
					begin, calls := time.Now(), 0
					src := sourceFunc(func(context.Context) (*Token, error) {
						calls++
						lifetime := life
						if again {
							lifetime = time.Until(begin.Add(life)).Truncate(time.Second)
						}
						return NewToken("token", "", time.Now(), lifetime), nil
					})
					es := replicas(t, replicated, &fleet{}, src, func(s *Settings) { s.RefreshAt = refreshAt })
					every := time.Duration(refreshAt * float64(life))
					for time.Since(begin) < min(10*every, life-2*time.Second) {
						for _, e := range es {
							get(t, e)
						}
						time.Sleep(every / 50)
					}
					least, most := int(time.Since(begin)/every), int(time.Since(begin)*10/9/every)+1
					if again {
						least, most = 2, 2
					}
					if calls < least || calls > most {
						t.Errorf("refresh_at %v, %d replicas, the same again %v: %d to %d calls, got %d", refreshAt, replicated, again, least, most, calls)
					}
				})
			}
		}
	}
}

func TestRefreshPointIsDrawnInTheLastTenth(t *testing.T) {
	for _, tc := range []struct {
		r    float64
		want time.Duration
	}{{0, 72 * time.Second}, {0.5, 76 * time.Second}, {1, 80 * time.Second}} {
		synctest.Test(t, func(t *testing.T) {
			src := always(answer{lifetime: 100 * time.Second})
			e := open(t, src, func(o *Options, _ *Settings) { o.Rand = func() float64 { return tc.r } })
			want(t, e, "token-1", Miss)
			time.Sleep(tc.want - 1)
			want(t, e, "token-1", Hit)
			synctest.Wait()
			wantCalls(t, src, 1, "before its point")
			time.Sleep(1)
			want(t, e, "token-1", Hit)
			synctest.Wait()
			wantCalls(t, src, 2, "at its point")
		})
	}
}

func TestNoRefreshWhenIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := always(answer{lifetime: 100 * time.Second})
		e := open(t, src)
		want(t, e, "token-1", Miss)
		time.Sleep(24 * time.Hour)
		wantCalls(t, src, 1, "idle for a day")
		if s := e.Status(time.Now()); s.State != StateDead || s.Token != nil || !s.Ready() {
			t.Errorf("idle: want dead, no token, ready; got %s %v %t", s.State, s.Token, s.Ready())
		}
		want(t, e, "token-2", Miss)
	})
}

func TestStaleWaitsForTheNewToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := always(answer{takes: 2 * time.Second, lifetime: 100 * time.Second})
		e := open(t, src, minRemaining(10*time.Second))
		want(t, e, "token-1", Miss)
		time.Sleep(90 * time.Second)
		want(t, e, "token-2", Miss)
		wantCalls(t, src, 2, "stale")
	})
}

func TestStaleIsSentWhileTheIssuerFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := script(answer{lifetime: 100 * time.Second}, failing(Unavailable, "server_error"))
		e := open(t, src, minRemaining(10*time.Second))
		want(t, e, "token-1", Miss)
		time.Sleep(90 * time.Second)
		for time.Now().Before(e.current.Load().token.Expiry) {
			want(t, e, "token-1", Stale) // after a failed flight, and at once in a back-off
			time.Sleep(100 * time.Millisecond)
		}
		f := want(t, e, "", Miss)
		if f.Result != "server_error" || f.RetryAfter <= 0 {
			t.Errorf("want the original failure with the remaining wait, got %+v", f)
		}
		wantCalls(t, src, 1+4, "steps of 1, 2, 4 and 8 s begin within the last 10 s")
	})
}

func TestStaleIsSentRatherThanWaitedToDeath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := script(answer{lifetime: 100 * time.Second}, answer{takes: time.Hour})
		e := open(t, src, minRemaining(10*time.Second), func(_ *Options, s *Settings) { s.Timeout = 30 * time.Second })
		want(t, e, "token-1", Miss)
		time.Sleep(90 * time.Second)
		before := time.Now()
		want(t, e, "token-1", Stale)
		if w := time.Since(before); w != 5*time.Second {
			t.Errorf("10 s left and an issuer that hangs: want a wait of 5 s, got %s", w)
		}
	})
}

func TestDeadWaitsForOneAttemptAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := always(answer{takes: time.Hour})
		e := open(t, src, func(_ *Options, s *Settings) { s.Timeout = 3 * time.Second })
		begin := time.Now()
		var wg sync.WaitGroup
		for range 40 {
			wg.Go(func() {
				if f := want(t, e, "", Miss); f.Result != ResultTimeout || f.Kind != Unavailable || f.RetryAfter != time.Second {
					t.Errorf("want a timeout with 1 s to the next attempt, got %+v", f)
				}
			})
		}
		wg.Wait()
		if w := time.Since(begin); w != 3*time.Second {
			t.Errorf("40 waiters: want all released after 3 s, it took %s", w)
		}
		wantCalls(t, src, 1, "40 waiters in an outage")
		want(t, e, "", Miss)
		if w := time.Since(begin); w != 3*time.Second {
			t.Errorf("in a back-off: want an answer at once, it took %s", w-3*time.Second)
		}
	})
}

func TestCallsInAnOutageAreSteps(t *testing.T) {
	// An outage of 10 minutes under load, cold, and with a token to refresh that nobody waits for.
	for name, tc := range map[string]struct {
		kind  Kind
		first time.Duration
		steps []time.Duration
		limit time.Duration
	}{
		"failing":  {Unavailable, 0, []time.Duration{1, 2, 4}, 8},
		"refusing": {Refused, 0, []time.Duration{5, 10, 20, 40}, 60},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				src := always(failing(tc.kind, ResultOther))
				e := open(t, src)
				for end := time.Now().Add(10 * time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
					if f := want(t, e, "", Miss); f.RetryAfter <= 0 || f.RetryAfter > tc.limit*time.Second {
						t.Fatalf("RetryAfter %s", f.RetryAfter)
					}
				}
				var at time.Duration
				for i, got := range src.times() {
					if got != at {
						t.Fatalf("call %d: want it after %s, it came after %s", i+1, at, got)
					}
					step := tc.limit
					if i < len(tc.steps) {
						step = tc.steps[i]
					}
					at += step * time.Second
				}
				if at < 10*time.Minute {
					t.Errorf("the last call came too early: the next one would be after %s", at)
				}
			})
		})
	}
}

func TestSuccessEndsTheSeriesOfFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := failing(Unavailable, ResultOther)
		src := script(down, down, down, answer{lifetime: time.Minute}, down)
		e := open(t, src)
		for _, step := range []time.Duration{1, 2, 4} {
			if f := want(t, e, "", Miss); f.RetryAfter != step*time.Second {
				t.Errorf("want %d s, got %s", step, f.RetryAfter)
			}
			time.Sleep(step * time.Second)
		}
		want(t, e, "token-4", Miss)
		time.Sleep(time.Minute)
		if f := want(t, e, "", Miss); f.RetryAfter != time.Second {
			t.Errorf("the first failure after a success: want 1 s, got %s", f.RetryAfter)
		}
	})
}

func TestFailedBackgroundRefreshBacksOffUnnoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := script(answer{lifetime: time.Hour}, failing(Unavailable, ResultUnreachable), failing(Unavailable, ResultUnreachable), answer{lifetime: time.Hour})
		e := open(t, src)
		want(t, e, "token-1", Miss)
		time.Sleep(48 * time.Minute)
		for range 290 {
			want(t, e, "token-1", Hit)
			time.Sleep(10 * time.Millisecond)
		}
		wantCalls(t, src, 3, "a refresh at 0 s and 1 s")
		time.Sleep(100 * time.Millisecond)
		want(t, e, "token-1", Hit)
		synctest.Wait()
		want(t, e, "token-4", Hit)
	})
}

func TestBrokenConnectionIsTriedOnceMore(t *testing.T) {
	broken := answer{err: &Failure{Kind: Unavailable, Result: ResultUnreachable, Broken: true, Detail: "refused"}}
	synctest.Test(t, func(t *testing.T) {
		src := script(broken, answer{lifetime: time.Hour})
		e := open(t, src)
		begin := time.Now()
		want(t, e, "token-2", Miss)
		if w := time.Since(begin); w != retryPause {
			t.Errorf("want the second try after %s, got %s", retryPause, w)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		src := always(broken)
		e := open(t, src)
		want(t, e, "", Miss)
		want(t, e, "", Miss)
		wantCalls(t, src, 2, "a broken connection that stays broken")
	})
	synctest.Test(t, func(t *testing.T) {
		src := always(failing(Unavailable, ResultUnreachable))
		e := open(t, src)
		want(t, e, "", Miss)
		wantCalls(t, src, 1, "a failure that is not a broken connection")
	})
	synctest.Test(t, func(t *testing.T) { // the retry is within the timeout
		src := always(broken)
		e := open(t, src, func(_ *Options, s *Settings) { s.Timeout = retryPause / 2 })
		want(t, e, "", Miss)
		wantCalls(t, src, 1, "no time for a second try")
	})
}

func TestCallerThatGivesUpEndsOnlyItsOwnWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := always(answer{takes: 2 * time.Second, lifetime: time.Hour})
		e := open(t, src)
		leader, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, l, err := e.Get(leader); !errors.Is(err, context.Canceled) || l != Miss {
				t.Errorf("leader: want its own cancellation, got %s %v", l, err)
			}
		})
		synctest.Wait()
		for range 10 {
			wg.Go(func() { want(t, e, "token-1", Miss) })
		}
		time.Sleep(time.Second)
		cancel()
		wg.Wait()
		wantCalls(t, src, 1, "leader cancelled")
	})
}

func TestNewCredentialsForgetFailuresAndKeepTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad, good := always(failing(Refused, "invalid_client")), always(answer{lifetime: time.Hour})
		e := open(t, bad)
		s := *e.settings.Load()
		want(t, e, "", Miss)
		e.Use(s) // a reload that changes nothing about the credentials
		if f := want(t, e, "", Miss); f.Kind != Refused || f.RetryAfter != 5*time.Second {
			t.Errorf("want the refusal remembered for 5 s, got %+v", f)
		}
		s.Source, s.Credentials = good, "new"
		e.Use(s)
		want(t, e, "token-1", Miss)
		wantCalls(t, bad, 1, "old credentials")
		s.Source, s.Credentials = bad, "newer"
		e.Use(s)
		want(t, e, "token-1", Hit)
	})
}

func TestRefusalIsRememberedAnewAfterEachCredential(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := always(failing(Refused, "invalid_client"))
		e := open(t, src)
		s := *e.settings.Load()
		want(t, e, "", Miss)
		time.Sleep(5 * time.Second)
		if f := want(t, e, "", Miss); f.RetryAfter != 10*time.Second {
			t.Errorf("second refusal: want 10 s, got %s", f.RetryAfter)
		}
		s.Credentials = "new"
		e.Use(s)
		if f := want(t, e, "", Miss); f.RetryAfter != 5*time.Second {
			t.Errorf("first refusal of new credentials: want 5 s, got %s", f.RetryAfter)
		}
	})
}

func TestFlightThatFailsWithOldCredentialsIsFlownAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old := always(answer{takes: time.Second, err: &Failure{Kind: Refused, Result: "invalid_client", Detail: "old"}})
		e := open(t, old)
		s := *e.settings.Load()
		var wg sync.WaitGroup
		wg.Go(func() { want(t, e, "token-1", Miss) })
		synctest.Wait()
		s.Source, s.Credentials = always(answer{lifetime: time.Hour}), "new"
		e.Use(s)
		wg.Wait()
		wantCalls(t, old, 1, "old credentials")
		if st := e.Status(time.Now()); st.Failure != nil || st.Attempts != 1 {
			t.Errorf("want one attempt and no failure, got %+v", st)
		}
	})
}

func TestRetryAfterIsHonoured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := always(answer{err: &Failure{Kind: Throttled, Result: ResultThrottled, Detail: "429", RetryAfter: time.Hour}})
		e := open(t, src)
		want(t, e, "", Miss)
		time.Sleep(15*time.Minute - 1)
		if f := want(t, e, "", Miss); f.Kind != Throttled || f.RetryAfter != 1 {
			t.Errorf("want throttled with 1 ns left, got %s %s", f.Kind, f.RetryAfter)
		}
		wantCalls(t, src, 1, "within Retry-After")
		time.Sleep(1)
		want(t, e, "", Miss)
		wantCalls(t, src, 2, "after 15 minutes")
	})
}

func TestDrop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := always(answer{takes: time.Second, lifetime: time.Hour})
		e := open(t, src)
		want(t, e, "token-1", Miss)
		first, _, _ := e.Get(t.Context())
		if !e.Drop(first) {
			t.Error("the current token: want it dropped")
		}
		if e.Drop(first) {
			t.Error("the same token again: want nothing dropped")
		}
		want(t, e, "token-2", Miss)
		if e.Drop(first) {
			t.Error("an older token: want nothing dropped")
		}
		want(t, e, "token-2", Hit)
		wantCalls(t, src, 2, "one token dropped")
	})
}

// Routes that share a token may each drop it before a waiting request has seen it.
func TestWaiterWhoseTokenIsDroppedAgainAndAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := always(answer{takes: time.Second, lifetime: time.Hour})
		var e *Entry
		e = open(t, src, func(o *Options, _ *Settings) { o.Observer.Stored = func(_ Labels, tok *Token) { e.Drop(tok) } })
		want(t, e, "token-3", Miss)
		wantCalls(t, src, 3, "dropped each time")
	})
}

func TestDropWhileItIsTheFallback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := script(answer{lifetime: 100 * time.Second}, answer{takes: time.Second, err: &Failure{Kind: Unavailable, Result: ResultOther, Detail: "down"}})
		e := open(t, src, minRemaining(10*time.Second))
		want(t, e, "token-1", Miss)
		old, _, _ := e.Get(t.Context())
		time.Sleep(90 * time.Second)
		var wg sync.WaitGroup
		wg.Go(func() { want(t, e, "", Miss) })
		synctest.Wait()
		e.Drop(old)
		wg.Wait()
	})
}

func TestStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := script(failing(Unavailable, ResultOther), answer{lifetime: 100 * time.Second}, failing(Refused, "invalid_client"))
		e := open(t, src, minRemaining(10*time.Second))
		check := func(what string, state State, attempts int, failing, ready bool, retryIn time.Duration) {
			t.Helper()
			s := e.Status(time.Now())
			var left time.Duration
			if !s.RetryAt.IsZero() {
				left = time.Until(s.RetryAt)
			}
			if s.State != state || (s.Token == nil) != (state == StateDead) || s.Attempts != attempts || (s.Failure != nil) != failing || s.Ready() != ready || left != retryIn {
				t.Errorf("%s: got %+v, ready %t, back-off %s", what, s, s.Ready(), left)
			}
		}
		check("before the first attempt", StateDead, 0, false, false, 0)
		want(t, e, "", Miss)
		check("failed", StateDead, 1, true, false, time.Second)
		time.Sleep(time.Second)
		want(t, e, "token-2", Miss)
		check("succeeded", StateFresh, 2, false, true, 0)
		time.Sleep(80 * time.Second)
		check("due", StateDue, 2, false, true, 0)
		want(t, e, "token-2", Hit)
		synctest.Wait()
		check("refresh refused", StateDue, 3, true, true, 5*time.Second)
		time.Sleep(20 * time.Second)
		check("expired after a refusal", StateDead, 3, true, false, 0)
		s := e.Status(time.Now())
		if got := [2]time.Duration{time.Since(s.LastSuccess), time.Since(s.LastFailure)}; got != [2]time.Duration{100 * time.Second, 20 * time.Second} {
			t.Errorf("last success and failure: want 100 s and 20 s ago, got %v", got)
		}
	})
}

func TestGetOfAFreshTokenAllocatesNothing(t *testing.T) {
	e := open(t, always(answer{lifetime: time.Hour}))
	want(t, e, "token-1", Miss)
	ctx := t.Context()
	if n := testing.AllocsPerRun(1000, func() {
		tok, _, _ := e.Get(ctx)
		_ = tok.Authorization()
	}); n != 0 {
		t.Errorf("want 0 allocations, got %v", n)
	}
}
