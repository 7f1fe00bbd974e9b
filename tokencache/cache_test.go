package tokencache

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestEntriesAreKeptByKey(t *testing.T) {
	c := New(Options{})
	defer c.Close()
	a, b := Key{1}, Key{2}
	ea, eb := c.Entry(a), c.Entry(b)
	if ea == eb || c.Entry(a) != ea {
		t.Fatal("want one entry a key")
	}
	c.Retain([]Key{b, {3}})
	if c.Entry(b) != eb {
		t.Error("a retained entry was lost")
	}
	if c.Entry(a) == ea {
		t.Error("an entry that was not retained is still there")
	}
}

func TestGetBeforeUse(t *testing.T) {
	c := New(Options{})
	defer c.Close()
	var f *Failure
	if _, l, err := c.Entry(Key{}).Get(t.Context()); !errors.As(err, &f) || l != Miss {
		t.Errorf("want a *Failure, got %s %v", l, err)
	}
}

func TestCloseCancelsFlightsAndWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ended, reports atomic.Int32
		src := sourceFunc(func(ctx context.Context) (*Token, error) {
			<-ctx.Done()
			time.Sleep(time.Second) // whatever it takes to clean up
			ended.Add(1)
			return nil, ctx.Err()
		})
		c := New(Options{Observer: Observer{
			Requested: func(context.Context, Labels, string, time.Duration) { reports.Add(1) },
			Failed:    func(Labels, *Failure) { reports.Add(1) },
		}})
		e, forgotten := c.Entry(Key{1}), c.Entry(Key{2})
		var wg sync.WaitGroup
		for _, x := range []*Entry{e, forgotten} {
			x.Use(Settings{Source: src, Timeout: time.Hour})
			wg.Go(func() { want(t, x, "", Miss) })
		}
		synctest.Wait()
		c.Retain([]Key{{1}})
		begin := time.Now()
		c.Close()
		if ended.Load() != 2 || time.Since(begin) != time.Second {
			t.Errorf("want Close to wait for both flights, 1 s; %d ended, %s", ended.Load(), time.Since(begin))
		}
		wg.Wait()
		want(t, e, "", Miss)
		if reports.Load() != 0 {
			t.Errorf("the end of the process is no failure of the issuer: want nothing reported, got %d reports", reports.Load())
		}
		c.Close()
	})
}

func TestCloseKeepsTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := always(answer{lifetime: time.Hour})
		e := open(t, src)
		want(t, e, "token-1", Miss)
		e.cache.Close()
		want(t, e, "token-1", Hit)
		time.Sleep(50 * time.Minute) // due
		want(t, e, "token-1", Hit)
		time.Sleep(10 * time.Minute)
		want(t, e, "", Miss)
		wantCalls(t, src, 1, "closed")
	})
}

type sourceFunc func(context.Context) (*Token, error)

func (f sourceFunc) Token(ctx context.Context) (*Token, error) { return f(ctx) }

func TestWhateverASourceDoesIsAFailure(t *testing.T) {
	const canary = "canary-secret"
	var typedNil *Failure
	for name, tc := range map[string]struct {
		src    Source
		result string
	}{
		"panic":              {always(answer{panics: canary}), ResultOther},
		"unknown error":      {always(answer{err: errors.New(canary)}), ResultOther},
		"nothing":            {always(answer{}), ResultInvalidResponse},
		"nil failure":        {sourceFunc(func(context.Context) (*Token, error) { return nil, typedNil }), ResultOther},
		"expired token":      {always(answer{lifetime: -time.Second}), ResultInvalidResponse},
		"deadline":           {always(answer{takes: time.Hour}), ResultTimeout},
		"wrapped failure":    {always(answer{err: fmt.Errorf("%s: %w", canary, &Failure{Kind: Refused, Result: "invalid_scope", Detail: "scope"})}), "invalid_scope"},
		"a source that died": {nil, ResultOther},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var stack string
				e := open(t, tc.src, func(o *Options, _ *Settings) { o.Observer.Panicked = func(_ Labels, s []byte) { stack = string(s) } })
				f := want(t, e, "", Miss)
				if f.Result != tc.result {
					t.Errorf("want result %s, got %s", tc.result, f.Result)
				}
				if s := fmt.Sprintf("%v %+v %#v %s", f, f, f, stack); strings.Contains(s, canary) {
					t.Errorf("the failure shows what the source said: %s", s)
				}
				if f.Detail == "" || f.RetryAfter <= 0 {
					t.Errorf("want a sentence and a wait, got %+v", f)
				}
				if (name == "panic") != strings.Contains(stack, "main_test.go") {
					t.Errorf("stack: %q", stack)
				}
			})
		})
	}
}

func TestObserver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log []string
		var mu sync.Mutex
		note := func(l Labels, format string, a ...any) {
			mu.Lock()
			defer mu.Unlock()
			log = append(log, fmt.Sprintf("%s/%s/%v ", l.Issuer, l.Grant, l.Routes)+fmt.Sprintf(format, a...))
		}
		src := script(answer{err: &Failure{Kind: Unavailable, Result: ResultUnreachable, Broken: true, Detail: "refused"}},
			answer{takes: time.Second, err: &Failure{Kind: Unavailable, Result: ResultThrottled, Detail: "slow down"}}, answer{takes: time.Second, lifetime: time.Minute})
		var e *Entry
		e = open(t, src, func(o *Options, _ *Settings) {
			o.Observer = Observer{
				Requested: func(_ context.Context, l Labels, r string, d time.Duration) { note(l, "requested %s %s", r, d) },
				// An observer may look at the entry: no lock is held.
				Stored: func(l Labels, tok *Token) {
					note(l, "stored %s %s", time.Until(tok.Expiry), e.Status(time.Now()).State)
				},
				Failed: func(l Labels, f *Failure) { note(l, "failed %s %s", f.Result, f.RetryAfter) },
			}
		})
		want(t, e, "", Miss)
		time.Sleep(time.Second)
		want(t, e, "token-3", Miss)
		want(t, e, "token-3", Hit)
		got := strings.Join(log, "\n")
		const who = "idp/client_credentials/[orders] "
		if exp := strings.Join([]string{who + "requested unreachable 0s", who + "requested throttled 1s", who + "failed throttled 1s",
			who + "requested ok 1s", who + "stored 1m0s fresh"}, "\n"); got != exp {
			t.Errorf("want\n%s\ngot\n%s", exp, got)
		}
	})
}

// Whatever happens in whatever order: no expired token, no dropped token, one flight at a time, and waits
// have an end.
func TestRandomInterleavings(t *testing.T) {
	for seed := range uint64(40) {
		synctest.Test(t, func(t *testing.T) {
			const timeout = 5 * time.Second
			var mu sync.Mutex
			rnd := rand.New(rand.NewPCG(seed, 1))
			upTo := func(d time.Duration) time.Duration {
				mu.Lock()
				defer mu.Unlock()
				return time.Duration(rnd.Int64N(int64(d)))
			}
			src := &issuer{answer: func(int) answer {
				a := answer{takes: upTo(8 * time.Second), lifetime: time.Second + upTo(time.Minute)}
				switch upTo(10) {
				case 0, 1, 2:
					a.err = &Failure{Kind: Unavailable, Result: ResultOther, Detail: "scripted", Broken: a.takes < time.Second}
				case 3:
					a.err = &Failure{Kind: Refused, Result: "invalid_client", Detail: "scripted"}
				case 4:
					a.panics = "scripted"
				}
				return a
			}}
			e := open(t, src, minRemaining(10*time.Second), func(o *Options, s *Settings) {
				o.Rand, s.Timeout = func() float64 { return float64(upTo(1000)) / 1000 }, timeout
			})
			settings := *e.settings.Load()
			dropped := map[*Token]bool{}
			served := 0
			var changes atomic.Int32 // drops and new credentials, which may cost a caller a second attempt
			var wg sync.WaitGroup
			for range 12 {
				wg.Go(func() {
					for range 150 {
						time.Sleep(upTo(3 * time.Second))
						mu.Lock()
						gone := make(map[*Token]bool, len(dropped))
						for k := range dropped {
							gone[k] = true
						}
						mu.Unlock()
						ctx, cancel := context.WithTimeout(t.Context(), time.Second+upTo(20*time.Second))
						begin, before := time.Now(), changes.Load()
						tok, _, err := e.Get(ctx)
						cancel()
						// The flight may have begun with credentials that are not the current ones, and is then flown again.
						if w := time.Since(begin); w > 2*timeout && changes.Load() == before {
							t.Errorf("a caller waited %s", w)
						}
						if err != nil {
							continue
						}
						if !time.Now().Before(tok.Expiry) {
							t.Errorf("an expired token, %s too late", time.Since(tok.Expiry))
						}
						if gone[tok] {
							t.Errorf("a token that was dropped before it was asked for")
						}
						mu.Lock()
						served++
						if rnd.IntN(20) == 0 {
							if e.Drop(tok) {
								dropped[tok] = true
								changes.Add(1)
							}
						} else if rnd.IntN(50) == 0 {
							settings.Credentials += "x"
							changes.Add(1)
							e.Use(settings)
						}
						mu.Unlock()
					}
				})
			}
			wg.Wait()
			if src.most.Load() != 1 || served == 0 || len(dropped) == 0 {
				t.Errorf("want one flight at a time, and some tokens served and dropped: %d, %d, %d", src.most.Load(), served, len(dropped))
			}
		})
	}
}

// A flight has the values of the context of the caller that began to wait for it, but not its end; one for which nobody waits has none.
func TestFlightsHaveTheirCallersValues(t *testing.T) {
	type key struct{}
	synctest.Test(t, func(t *testing.T) {
		var got []any
		src := sourceFunc(func(ctx context.Context) (*Token, error) {
			time.Sleep(time.Second)
			got = append(got, ctx.Value(key{}))
			return NewToken("t", "", time.Now(), time.Hour), ctx.Err()
		})
		var reported []any
		e := open(t, src, func(o *Options, _ *Settings) {
			o.Observer.Requesting = func(ctx context.Context, _ Labels) context.Context {
				return context.WithValue(ctx, key{}, fmt.Sprint(ctx.Value(key{}), " asks"))
			}
			o.Observer.Requested = func(ctx context.Context, _ Labels, _ string, _ time.Duration) {
				reported = append(reported, ctx.Value(key{}))
			}
		})
		caller, leave := context.WithCancel(context.WithValue(t.Context(), key{}, "first"))
		go func() {
			time.Sleep(time.Millisecond)
			_, _, _ = e.Get(context.WithValue(t.Context(), key{}, "second"))
		}()
		time.AfterFunc(2*time.Millisecond, leave)
		if _, _, err := e.Get(caller); err == nil {
			t.Error("the first caller waited longer than it wanted")
		}
		time.Sleep(50 * time.Minute)
		if _, lookup, _ := e.Get(context.WithValue(t.Context(), key{}, "third")); lookup != Hit { // due
			t.Error(lookup)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if fmt.Sprint(got) != "[first asks <nil> asks]" || fmt.Sprint(reported) != fmt.Sprint(got) {
			t.Errorf("the source saw %v, the observer %v", got, reported)
		}
	})
}
