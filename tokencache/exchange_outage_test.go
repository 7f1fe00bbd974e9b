package tokencache

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestRefusalOfASubjectIsItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &exchanger{answer: func(subject string, _ int) answer {
			if subject == "mallory" {
				return answer{err: &Failure{Kind: Refused, Subject: true, Result: "invalid_grant", Claims: "challenge", Detail: "no"}}
			}
			return answer{lifetime: time.Hour}
		}}
		x := openExchange(t, i)
		for _, step := range []time.Duration{5, 10, 20, 40, 60, 60} {
			f := wantFailure(t, x, "mallory", "invalid_grant", step*time.Second)
			if !f.Subject || f.Claims != "challenge" {
				t.Errorf("want the refusal of the subject with its claims, got %+v", f)
			}
			wantToken(t, x, fmt.Sprintf("alice-%d", step), Lookup(map[bool]Lookup{true: Miss, false: Hit}[x.cache.subjects.byKey[x.key.of(fmt.Sprintf("alice-%d", step))] == nil]))
			time.Sleep(step*time.Second - 1)
			calls := i.count()
			if f := wantFailure(t, x, "mallory", "invalid_grant", 1); f.Claims != "challenge" || i.count() != calls {
				t.Errorf("want it remembered, claims included, got %+v and %d calls", f, i.count()-calls)
			}
			time.Sleep(1)
		}
		if st := x.Status(time.Now()); st.Failure != nil || !st.RetryAt.IsZero() || st.Attempts != i.count() {
			t.Errorf("the route's status has something of a subject: %+v", st)
		}
		wantFailure(t, x, "mallory", "invalid_grant", 60*time.Second)
		s := *x.settings.Load()
		s.Credentials = "new"
		x.Use(s)
		wantFailure(t, x, "mallory", "invalid_grant", 5*time.Second)
	})
}

func TestOutageCostsOneCallAStepWhateverTheSubjects(t *testing.T) {
	for _, tc := range []struct {
		name    string
		failure *Failure
		takes   time.Duration
		warm    bool
		most    int // calls in 2 minutes; the steps double, if it may be one subject's trouble not while the same one asks
	}{
		{"refused connections", &Failure{Kind: Unavailable, Result: ResultUnreachable}, 0, false, 18},
		{"failing", &Failure{Kind: Unavailable, Result: "server_error"}, 20 * time.Millisecond, false, 21},
		{"hanging", nil, time.Hour, false, 13},
		{"throttling", &Failure{Kind: Throttled, Result: ResultThrottled, RetryAfter: 30 * time.Second}, 0, false, 4},
		{"a wrong secret", &Failure{Kind: Refused, Result: "invalid_client"}, 0, false, 6},
		{"a wrong target", &Failure{Kind: Refused, Result: "invalid_target"}, 0, false, 6},
		{"refused without blame: one more until it is sure", &Failure{Kind: Refused, Result: "access_denied"}, 0, false, 10},
		{"failing after it worked: one more until it is sure", &Failure{Kind: Unavailable, Result: "server_error"}, 0, true, 22},
		{"throttling after it worked", &Failure{Kind: Throttled, Result: ResultThrottled, RetryAfter: 30 * time.Second}, 0, true, 4},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var down atomic.Bool
				down.Store(!tc.warm)
				i := &exchanger{answer: func(string, int) answer {
					if !down.Load() {
						return answer{lifetime: time.Hour}
					}
					a := answer{takes: tc.takes}
					if tc.failure != nil {
						f := *tc.failure
						f.Detail = "scripted"
						a.err = &f
					}
					return a
				}}
				x := openExchange(t, i)
				if tc.warm {
					wantToken(t, x, "warm", Miss)
					down.Store(true)
					time.Sleep(time.Second)
				}
				before := i.count()
				begin := time.Now()
				var wg sync.WaitGroup
				var answered atomic.Int64
				for n := range 40 {
					wg.Go(func() {
						time.Sleep(time.Duration(n) * time.Millisecond) // while an issuer is trusted, its flights may overlap
						for time.Since(begin) < 2*time.Minute {
							at := time.Now()
							f := wantFor(t, x, fmt.Sprintf("subject-%d", n), Miss)
							if f == nil || f.Kind == Refused != (tc.failure != nil && tc.failure.Kind == Refused) || f.RetryAfter <= 0 || f.RetryAfter > time.Minute {
								t.Errorf("want the failure with a wait, got %+v", f)
								return
							}
							if w := time.Since(at); w > 5*time.Second {
								t.Errorf("a request waited %s", w)
							}
							answered.Add(1)
							time.Sleep(200 * time.Millisecond)
						}
					})
				}
				wg.Wait()
				if n := i.count() - before; n > tc.most || n < tc.most-4 {
					t.Errorf("want about %d calls in 2 minutes and not more, got %d: %v", tc.most, n, i.at)
				}
				if i.most != 1 {
					t.Errorf("want one call at a time, got %d", i.most)
				}
				if answered.Load() < 10000 && tc.takes < time.Hour {
					t.Errorf("want everybody answered at once, got %d answers", answered.Load())
				}
				if tc.warm {
					wantToken(t, x, "warm", Hit)
				}
				// The issuer is well again: within a step everybody has a token.
				down.Store(false)
				time.Sleep(time.Minute)
				for n := range 40 {
					wg.Go(func() { wantToken(t, x, fmt.Sprintf("subject-%d", n), Miss) })
				}
				wg.Wait()
			})
		})
	}
}

func TestOneSubjectsTroubleIsNotTheOthers(t *testing.T) {
	for name, tc := range map[string]struct {
		failure *Failure
		quiet   time.Duration // between the others' requests for a new token
		denied  int           // of their 100 requests at most
	}{
		"not entitled, while others come and go": {&Failure{Kind: Refused, Result: "access_denied", Detail: "mallory is not entitled"}, time.Second, 0},
		"not entitled, others are rare":          {&Failure{Kind: Refused, Result: "access_denied", Detail: "mallory is not entitled"}, time.Minute, 0},
		"a server that trips over one":           {&Failure{Kind: Unavailable, Result: "server_error", Detail: "mallory"}, time.Second, 0},
		"it does, and others are rare":           {&Failure{Kind: Unavailable, Result: "server_error", Detail: "mallory"}, 61 * time.Second, 25},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				i := &exchanger{answer: func(subject string, _ int) answer {
					if subject == "mallory" {
						return answer{takes: 10 * time.Millisecond, err: tc.failure}
					}
					return answer{takes: 10 * time.Millisecond, lifetime: time.Hour}
				}}
				x := openExchange(t, i)
				wantToken(t, x, "alice", Miss)
				ctx, stop := context.WithCancel(t.Context())
				var wg sync.WaitGroup
				wg.Go(func() {
					for ctx.Err() == nil {
						if f := wantFor(t, x, "mallory", Miss); f == nil || f.Detail != tc.failure.Detail {
							t.Errorf("mallory: want the reason, got %+v", f)
						}
						time.Sleep(100 * time.Millisecond)
					}
				})
				denied := 0
				for n := range 100 {
					time.Sleep(tc.quiet)
					if f := wantFor(t, x, fmt.Sprintf("bob-%d", n), Miss); f != nil {
						denied++
						if f.Kind == Refused || f.RetryAfter > time.Second {
							t.Errorf("bob was told %+v", f)
						}
					}
				}
				stop()
				wg.Wait()
				if denied > tc.denied {
					t.Errorf("want at most %d requests of others denied, got %d", tc.denied, denied)
				}
			})
		})
	}
}

func TestWaitForAnotherSubjectHasAnEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := exchanging(answer{takes: 3 * time.Second, lifetime: time.Hour})
		x := openExchange(t, i)
		var wg sync.WaitGroup
		wg.Go(func() { wantToken(t, x, "alice", Miss) })
		synctest.Wait()
		for n := range 10 {
			wg.Go(func() {
				begin := time.Now()
				wantFailure(t, x, fmt.Sprintf("bob-%d", n), ResultTimeout, time.Second)
				if w := time.Since(begin); w != 5*time.Second {
					t.Errorf("want a wait of one attempt's time, got %s", w)
				}
			})
		}
		wg.Wait()
		time.Sleep(time.Second)
		synctest.Wait()
		for n := range 10 {
			wantToken(t, x, fmt.Sprintf("bob-%d", n), Hit) // their flights went on
		}
	})
}

// burst asks for n subjects at once.
func burst(t *testing.T, x *Exchange, n int, check func(subject string, f *Failure)) {
	var wg sync.WaitGroup
	for k := range n {
		wg.Go(func() {
			subject := fmt.Sprintf("subject-%d", k)
			check(subject, wantFor(t, x, subject, Miss))
		})
	}
	wg.Wait()
}

func TestFailuresThatWereOnTheirWayAreOneStep(t *testing.T) {
	for name, tc := range map[string]struct {
		failure Failure
		wait    time.Duration // afterwards, of everybody
		next    time.Duration // after the failure that follows
	}{
		"failing":    {Failure{Kind: Unavailable, Result: "server_error", Detail: "500"}, time.Second, 2 * time.Second},
		"throttling": {Failure{Kind: Throttled, Result: ResultThrottled, Detail: "429"}, 20 * time.Second, 20 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				i := &exchanger{answer: func(_ string, n int) answer {
					if n == 1 {
						return answer{lifetime: time.Hour}
					}
					f := tc.failure
					if f.Kind == Throttled {
						f.RetryAfter = time.Duration(min(n-1, 20)) * time.Second // the last one wants the most
					}
					return answer{takes: 100 * time.Millisecond, err: &f}
				}}
				x := openExchange(t, i)
				wantToken(t, x, "warm", Miss)
				burst(t, x, 20, func(subject string, f *Failure) {
					if f == nil || f.RetryAfter <= 0 {
						t.Errorf("%s: want a failure, got %v", subject, f)
					}
				})
				if i.count() != 21 || i.most != 20 {
					t.Fatalf("an issuer that has just answered: want all asked for at once, got %d calls, %d at once", i.count(), i.most)
				}
				if w := wantFor(t, x, "another", Miss).RetryAfter; w != tc.wait {
					t.Errorf("want one step, %s, got %s", tc.wait, w)
				}
				time.Sleep(tc.wait)
				if w := wantFor(t, x, "another", Miss).RetryAfter; w != tc.next {
					t.Errorf("want the next step, %s, got %s", tc.next, w)
				}
				burst(t, x, 20, func(subject string, f *Failure) {
					if f == nil || f.RetryAfter <= 0 {
						t.Errorf("%s: want a failure, got %v", subject, f)
					}
				})
				if i.count() != 22 {
					t.Errorf("want one call for the next step, got %d", i.count()-21)
				}
			})
		})
	}
}

// After a failure that may be one subject's own, the next subject asks alone, and what it hears settles it.
func TestDoubtIsSettledByOneCall(t *testing.T) {
	for name, tc := range map[string]struct {
		failure *Failure
		others  bool // have the same trouble
		calls   int  // of 20 others
		wait    time.Duration
	}{
		"failing, one":        {&Failure{Kind: Unavailable, Result: "server_error", Detail: "a's"}, false, 20, 0},
		"failing, everybody":  {&Failure{Kind: Unavailable, Result: "server_error", Detail: "a's"}, true, 1, time.Second},
		"refusing, one":       {&Failure{Kind: Refused, Result: "access_denied", Detail: "a's"}, false, 20, 0},
		"refusing, everybody": {&Failure{Kind: Refused, Result: "access_denied", Detail: "a's"}, true, 1, 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				i := &exchanger{answer: func(subject string, n int) answer {
					if subject == "a" || tc.others && n > 1 {
						return answer{takes: 10 * time.Millisecond, err: tc.failure}
					}
					return answer{takes: 10 * time.Millisecond, lifetime: time.Hour}
				}}
				x := openExchange(t, i)
				wantToken(t, x, "warm", Miss)
				wantFor(t, x, "a", Miss)
				begin := time.Now()
				burst(t, x, 20, func(subject string, f *Failure) {
					if (f != nil) != tc.others || f != nil && f.RetryAfter != tc.wait {
						t.Errorf("%s: got %+v", subject, f)
					}
				})
				if n, w := i.count()-2, time.Since(begin); n != tc.calls || w != map[bool]time.Duration{true: 10, false: 20}[tc.others]*time.Millisecond {
					t.Errorf("want %d calls, one of them alone, got %d in %s", tc.calls, n, w)
				}
				if !tc.others {
					return
				}
				// From now on it is everybody's, also where the next one to have it is the one that had it last.
				last := i.calls[len(i.calls)-1]
				time.Sleep(tc.wait)
				wantFor(t, x, last, Miss)
				calls := i.count()
				if wantFor(t, x, "another", Miss); i.count() != calls {
					t.Errorf("want nobody to ask in the back-off, got %d calls", i.count()-calls)
				}
			})
		})
	}
}
