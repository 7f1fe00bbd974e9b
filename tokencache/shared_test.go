package tokencache

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestReplicasShareOneToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := always(answer{takes: 700 * time.Millisecond, lifetime: time.Hour})
		es := replicas(t, 50, &fleet{}, src)
		var mu sync.Mutex
		lookups := map[Lookup]int{}
		all(es, func(e *Entry) {
			token, l := get(t, e)
			mu.Lock()
			defer mu.Unlock()
			if lookups[l]++; token != "token-1" {
				t.Errorf("a replica has %q", token)
			}
		})
		wantCalls(t, src, 1, "50 cold replicas")
		if lookups[Miss] != 1 || lookups[SharedHit] != 49 {
			t.Errorf("want one miss and 49 shared, got %v", lookups)
		}
		if c := es[0].Status(time.Now()).Counts; c.Obtained+es[1].Status(time.Now()).Counts.Obtained > 1 {
			t.Errorf("a token that another replica was given counts as obtained: %+v", c)
		}
	})
}

// However many replicas there are, the issuer is asked as often as by one; and no request waits once there is a token.
func TestATokenALifetimeHoweverManyReplicas(t *testing.T) {
	for _, n := range []int{1, 10, 50} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const life = 100 * time.Second
				src := always(answer{takes: time.Second, lifetime: life})
				es := replicas(t, n, &fleet{}, src, func(s *Settings) { s.MinRemaining = 5 * time.Second })
				all(es, func(e *Entry) { get(t, e) })
				begin := time.Now()
				for time.Since(begin) < 10*life {
					all(es, func(e *Entry) {
						before := time.Now()
						if _, l := get(t, e); l != Hit || time.Since(before) != 0 {
							t.Errorf("a request waited %s (%s) though its replica has a token", time.Since(before), l)
						}
					})
					time.Sleep(500 * time.Millisecond)
				}
				if got := src.calls.Load(); got < 12 || got > 15 || src.most.Load() > 1 { // a refresh comes at 0.72 to 0.8 of each life
					t.Errorf("ten lifetimes: want 12 to 15 calls, one at a time, got %d, %d at a time", got, src.most.Load())
				}
			})
		})
	}
}

func TestAReplicaThatDiesDelaysTheOthersForSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fleet{}
		if turn, _ := f.Take(t.Context(), Question{}); turn.Lease == nil { // and its holder is never heard of again
			t.Fatal("no lease")
		}
		src := always(answer{takes: 100 * time.Millisecond, lifetime: time.Hour})
		begin := time.Now()
		all(replicas(t, 10, f, src), func(e *Entry) { get(t, e) })
		wantCalls(t, src, 1, "after a holder died")
		if took := time.Since(begin); took > 3*time.Second {
			t.Errorf("the others waited %s", took)
		}
	})
}

func TestALeaseIsKeptWhileTheIssuerIsSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := always(answer{takes: 2 * fleetLeaseTime, lifetime: time.Hour})
		all(replicas(t, 5, &fleet{}, src, func(s *Settings) { s.Timeout = 5 * fleetLeaseTime }), func(e *Entry) { get(t, e) })
		wantCalls(t, src, 1, "an issuer that takes longer than a lease")
	})
}

// A replica that slept while it held the lease puts nothing in the place of what others got since.
func TestALapsedLeaseCountsForNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fleet{}
		slept, _ := f.Take(t.Context(), Question{})
		time.Sleep(time.Minute)
		src := always(answer{lifetime: time.Hour})
		e := replicas(t, 1, f, src)[0]
		get(t, e)
		synctest.Wait()
		slept.Lease.End(NewToken("old", "", time.Now().Add(-time.Minute), time.Hour), nil)
		if f.token == nil || f.token.Reveal() != "token-1" {
			t.Errorf("the others have %v", f.token)
		}
	})
}

// busy is a level that says for ever that another replica asks.
type busy struct{}

func (busy) Take(context.Context, Question) (Turn, error) { return Turn{}, nil }
func (busy) Forget(context.Context, Key, *Token)          {}

// broken is a level that cannot be used.
type broken struct{ busy }

func (broken) Take(context.Context, Question) (Turn, error) { return Turn{}, errors.New("down") }

func TestWithoutALevelEachReplicaAsksForItself(t *testing.T) {
	for name, tc := range map[string]struct {
		level Shared
		waits time.Duration
	}{"down": {broken{}, 0}, "always busy": {busy{}, 2 * time.Second}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				src := always(answer{takes: time.Second, lifetime: time.Hour})
				es := replicas(t, 3, tc.level, src, func(s *Settings) { s.Timeout = 4 * time.Second })
				begin := time.Now()
				all(es, func(e *Entry) {
					if _, l := get(t, e); l != Miss {
						t.Errorf("got a token as %s", l)
					}
				})
				wantCalls(t, src, 3, name)
				if took := time.Since(begin) - time.Second; took != tc.waits {
					t.Errorf("waited %s before asking, want %s", took, tc.waits)
				}
			})
		})
	}
}

func TestWhatTheIssuerSaidIsSharedAndNothingElse(t *testing.T) {
	failure := func(kind Kind, result string, answered bool, after time.Duration) answer {
		return answer{err: &Failure{Kind: kind, Result: result, Detail: "scripted", Answered: answered, RetryAfter: after}}
	}
	for name, tc := range map[string]struct {
		answer answer
		calls  int32 // of ten replicas
		retry  time.Duration
	}{
		"throttled":            {failure(Throttled, ResultThrottled, true, 5*time.Minute), 1, 5 * time.Minute},
		"throttled for a day":  {failure(Throttled, ResultThrottled, true, 24*time.Hour), 1, 15 * time.Minute},
		"refused":              {failure(Refused, "invalid_client", true, 0), 1, 5 * time.Second},
		"failing":              {failure(Unavailable, "server_error", true, 0), 1, time.Second},
		"unreachable from one": {failure(Unavailable, ResultUnreachable, false, 0), 10, time.Second},
		"no key to sign with":  {failure(Unavailable, ResultOther, false, 0), 10, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				src := always(tc.answer)
				all(replicas(t, 10, &fleet{}, src), func(e *Entry) {
					_, l, err := e.Get(t.Context())
					var f *Failure
					if !errors.As(err, &f) || l != Miss || f.Result != tc.answer.err.(*Failure).Result || f.RetryAfter > tc.retry || f.RetryAfter < tc.retry/2 {
						t.Errorf("got %s, %+v", l, f)
					}
				})
				wantCalls(t, src, tc.calls, name)
			})
		})
	}
}

// The steps of a back-off grow by what the fleet met, not by what each replica met, and end for all with a token.
func TestAFleetBacksOffAsOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad := answer{err: &Failure{Kind: Unavailable, Result: "server_error", Answered: true}}
		src := script(bad, bad, bad, answer{lifetime: time.Hour})
		es := replicas(t, 10, &fleet{}, src)
		begin := time.Now()
		for src.calls.Load() < 4 {
			all(es, func(e *Entry) { _, _, _ = e.Get(t.Context()) })
			time.Sleep(50 * time.Millisecond)
		}
		if took := time.Since(begin); took < 5*time.Second || took > 9*time.Second {
			t.Errorf("steps of about 1, 2 and 4 s took %s", took)
		}
		time.Sleep(time.Second)
		all(es, func(e *Entry) { get(t, e) })
		wantCalls(t, src, 4, "ten replicas in one back-off")
	})
}

func TestOtherCredentialsAreNotHeldUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fleet{}
		refused := always(answer{err: &Failure{Kind: Refused, Result: "invalid_client", Answered: true}})
		want(t, replicas(t, 1, f, refused, func(s *Settings) { s.Credentials = "old" })[0], "", Miss)
		good := always(answer{lifetime: time.Hour})
		want(t, replicas(t, 1, f, good, func(s *Settings) { s.Credentials = "new" })[0], "token-1", Miss)
	})
}

// meanwhile is a level before whose first answer something happens.
type meanwhile struct {
	Shared
	once sync.Once
	do   func()
}

func (m *meanwhile) Take(ctx context.Context, q Question) (Turn, error) {
	m.once.Do(m.do)
	return m.Shared.Take(ctx, q)
}

// A back-off that is over because the credentials changed while a replica asked for it fails no request.
func TestCredentialsThatChangeMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fleet{}
		old := func(s *Settings) { s.Credentials = "old" }
		refused := always(answer{err: &Failure{Kind: Refused, Result: "invalid_client", Answered: true}})
		want(t, replicas(t, 1, f, refused, old)[0], "", Miss)
		level := &meanwhile{Shared: f}
		e := replicas(t, 1, level, always(answer{lifetime: time.Hour}), old)[0]
		level.do = func() {
			s := *e.settings.Load()
			s.Credentials = "new"
			e.Use(s)
		}
		want(t, e, "token-1", Miss)
	})
}

func TestARefusedTokenDoesNotComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fleet{}
		src := always(answer{lifetime: time.Hour})
		es := replicas(t, 3, f, src)
		all(es, func(e *Entry) { get(t, e) })
		first := es[0].current.Load().token
		if !es[0].Drop(first) {
			t.Fatal("not dropped")
		}
		want(t, es[0], "token-2", Miss)
		synctest.Wait()
		if f.forgot > 1 || f.token.Reveal() != "token-2" {
			t.Errorf("the others would get %s", f.token.Reveal())
		}
		// Another one whose token is refused finds a newer one there, and does not ask.
		if !es[1].Drop(es[1].current.Load().token) {
			t.Fatal("not dropped")
		}
		want(t, es[1], "token-2", SharedHit)
		wantCalls(t, src, 2, "two replicas whose token was refused")
		// Dropping is enough: nobody need ask at once.
		if !es[2].Drop(es[2].current.Load().token) {
			t.Fatal("not dropped")
		}
		synctest.Wait()
		if f.token == nil {
			t.Error("a newer token was forgotten with the refused one")
		}
	})
}

func TestADroppedTokenIsForgottenAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fleet{}
		e := replicas(t, 1, f, always(answer{lifetime: time.Hour}))[0]
		get(t, e)
		synctest.Wait()
		e.Drop(e.current.Load().token)
		synctest.Wait()
		if f.token != nil {
			t.Error("a replica that starts now would get the refused token")
		}
	})
}

// An issuer that gives out the refused token again: it is not put where the others would find it.
func TestARefusedTokenIsNotSharedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fleet{}
		same := sourceFunc(func(context.Context) (*Token, error) { return NewToken("same", "", time.Now(), time.Hour), nil })
		e := replicas(t, 1, f, same)[0]
		want(t, e, "same", Miss)
		synctest.Wait()
		e.Drop(e.current.Load().token)
		want(t, e, "same", Miss)
		synctest.Wait()
		if f.token != nil {
			t.Error("the refused token is shared again")
		}
	})
}

// What a replica that starts makes of a token at each point of its life.
func TestAnOldTokenIsBetterThanNone(t *testing.T) {
	const life = 100 * time.Second
	for name, tc := range map[string]struct {
		age    time.Duration
		src    *issuer
		token  string
		lookup Lookup
		calls  int32 // a second after two requests
	}{
		"fresh":                  {50 * time.Second, always(answer{lifetime: life}), "theirs", SharedHit, 0},
		"past its refresh point": {85 * time.Second, always(answer{lifetime: life}), "theirs", SharedHit, 1},
		"under min_remaining":    {95 * time.Second, always(answer{lifetime: life}), "token-1", Miss, 1},
		"under min_remaining, and the issuer down": {95 * time.Second, always(failing(Unavailable, ResultUnreachable)), "theirs", Stale, 1},
		"expired": {life, always(answer{lifetime: life}), "token-1", Miss, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fleet{token: NewToken("theirs", "", time.Now(), life)}
				time.Sleep(tc.age)
				e := replicas(t, 1, f, tc.src, func(s *Settings) { s.MinRemaining = 10 * time.Second })[0]
				want(t, e, tc.token, tc.lookup)
				get(t, e)
				synctest.Wait()
				wantCalls(t, tc.src, tc.calls, name)
				if tok := e.current.Load().token; tok.Reveal() == "theirs" && time.Until(tok.Expiry) > life-tc.age {
					t.Error("its life was extended")
				}
			})
		})
	}
}

// Replicas that could not share for a while have tokens of about the same age. To take the other's would gain nothing.
func TestATokenOfTheSameAgeIsNoNewOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const life = 100 * time.Second
		src := always(answer{lifetime: life})
		e := replicas(t, 1, broken{}, src)[0]
		get(t, e)
		f := &fleet{token: NewToken("theirs", "", time.Now(), life)}
		s := *e.settings.Load()
		s.Shared = f
		e.Use(s)
		for e.current.Load().token.Reveal() == "token-1" {
			get(t, e)
			time.Sleep(100 * time.Millisecond)
		}
		if got := e.current.Load(); got.token.Reveal() != "token-2" || got.due.Equal(got.token.Expiry) {
			t.Errorf("got %s, due at %s of %s", got.token.Reveal(), got.due, got.token.Expiry)
		}
	})
}

// An issuer that gives out what it has until that expires is asked once by the fleet too.
func TestAnIssuerThatRepeatsItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const life = 100 * time.Second
		begin := time.Now()
		calls := 0
		src := sourceFunc(func(context.Context) (*Token, error) {
			calls++
			n := int(time.Since(begin) / life)
			return NewToken(fmt.Sprint("t", n), "", time.Now(), time.Until(begin.Add(time.Duration(n+1)*life))), nil
		})
		es := replicas(t, 5, &fleet{}, src)
		for time.Since(begin) < life-time.Second {
			all(es, func(e *Entry) { get(t, e) })
			time.Sleep(time.Second)
		}
		if calls != 2 { // at the start, and at the refresh that brings the same
			t.Errorf("want 2 calls, got %d", calls)
		}
	})
}

// An hourly budget that is used up does not keep a replica from what another one gets.
func TestABudgetHoldsNobodyFromTheSharedToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fleet{}
		b := &Budget{}
		b.SetLimit(1)
		src := always(answer{lifetime: time.Minute})
		e := replicas(t, 1, f, src, func(s *Settings) { s.Budget = b })[0]
		get(t, e)
		time.Sleep(time.Minute)
		want(t, e, "", Miss)
		f.mu.Lock()
		f.token = NewToken("theirs", "", time.Now(), time.Minute)
		f.mu.Unlock()
		time.Sleep(failureLimit)
		want(t, e, "theirs", SharedHit)
		wantCalls(t, src, 1, "over its budget")
	})
}

func TestExchangedAndBoundTokensAreNotShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fleet{}
		bound := sourceFunc(func(context.Context) (*Token, error) { return NewDPoPToken("bound", "", time.Now(), time.Hour), nil })
		want(t, replicas(t, 1, f, bound)[0], "bound", Miss)
		synctest.Wait()
		if f.token != nil {
			t.Error("a token that is bound to a key is shared")
		}
		takes := f.takes
		c := New(Options{Rand: latest})
		defer c.Close()
		x := c.Exchange(Key{1})
		x.Use(Settings{Shared: f, Exchange: func(string) Source { return always(answer{lifetime: time.Hour}) }})
		s := x.Subject("subject")
		token, _, err := s.Get(t.Context())
		if err != nil || !s.Drop(token) {
			t.Fatal(token, err)
		}
		synctest.Wait()
		if f.token != nil || f.takes != takes {
			t.Error("the shared level was asked about an exchanged token")
		}
	})
}

func TestClosingGivesTheLeaseBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fleet{}
		e := replicas(t, 1, f, always(answer{takes: time.Hour}))[0]
		go func() { _, _, _ = e.Get(t.Context()) }()
		synctest.Wait()
		e.cache.Close()
		if f.lease != nil || f.holdup != nil {
			t.Error("the others wait for a replica that has stopped")
		}
	})
}

// liar answers with anything at all.
type liar struct {
	rand *rand.Rand
	mu   sync.Mutex
}

func (l *liar) Take(ctx context.Context, q Question) (Turn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	token := func() *Token {
		return NewToken("lie", "", time.Now().Add(-time.Duration(l.rand.Int64N(int64(2*time.Hour)))), time.Duration(l.rand.Int64N(int64(2*time.Hour))))
	}
	switch l.rand.IntN(6) {
	case 0:
		if t := token(); q.Fit(t) {
			return Turn{Token: t}, nil
		}
		return Turn{}, nil
	case 1:
		q.Fit(token()) // and then says something else
		return Turn{}, errors.New("down")
	case 2:
		return Turn{Holdup: &Holdup{Failure: &Failure{Kind: Kind(l.rand.IntN(4)), RetryAfter: time.Duration(l.rand.Int64N(int64(time.Hour)))}, InARow: l.rand.IntN(1000)}}, nil
	case 3:
		return Turn{Lease: (&fleet{}).newLease()}, nil
	}
	return Turn{}, nil
}

func (f *fleet) newLease() *fleetLease {
	f.lease = &fleetLease{f, time.Now().Add(fleetLeaseTime)}
	return f.lease
}

func (*liar) Forget(context.Context, Key, *Token) {}

// Whatever the shared level answers: no token is sent that has expired, no request waits longer than an attempt may take, one flight
// flies at a time, and a token that is there is never taken away.
func TestWhateverTheSharedLevelSays(t *testing.T) {
	for seed := range uint64(30) {
		synctest.Test(t, func(t *testing.T) {
			src := always(answer{takes: 300 * time.Millisecond, lifetime: 20 * time.Minute})
			e := replicas(t, 1, &liar{rand: rand.New(rand.NewPCG(seed, 1))}, src, func(s *Settings) { s.MinRemaining = time.Minute })[0]
			for range 400 {
				h, before := e.current.Load(), time.Now()
				token, lookup, err := e.Get(t.Context())
				if took := time.Since(before); took > 5*time.Second {
					t.Fatalf("seed %d: a request waited %s", seed, took)
				}
				if err == nil && !time.Now().Before(token.Expiry) {
					t.Fatalf("seed %d: an expired token was sent", seed)
				}
				if st := h.state(before); (st == StateFresh || st == StateDue) && (err != nil || lookup != Hit || time.Since(before) != 0) {
					t.Fatalf("seed %d: there was a good token, and the request got %s, %v after %s", seed, lookup, err, time.Since(before))
				}
				time.Sleep(17 * time.Second)
			}
			if src.most.Load() > 1 {
				t.Fatalf("seed %d: %d calls at once", seed, src.most.Load())
			}
		})
	}
}
