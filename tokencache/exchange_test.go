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

// exchanger is an issuer that exchanges. Its tokens say for whom they are.
type exchanger struct {
	answer func(subject string, n int) answer // n counts the calls for all subjects, from 1

	mu       sync.Mutex
	calls    []string // the subjects
	at       []time.Duration
	first    time.Time
	inFlight int
	most     int
}

func (i *exchanger) of(subject string) Source {
	return sourceFunc(func(ctx context.Context) (*Token, error) {
		i.mu.Lock()
		if i.first.IsZero() {
			i.first = time.Now()
		}
		i.calls, i.at = append(i.calls, subject), append(i.at, time.Since(i.first))
		n := len(i.calls)
		i.inFlight++
		i.most = max(i.most, i.inFlight)
		i.mu.Unlock()
		defer func() {
			i.mu.Lock()
			i.inFlight--
			i.mu.Unlock()
		}()
		a := i.answer(subject, n)
		select {
		case <-time.After(a.takes):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if a.panics != nil {
			panic(a.panics)
		}
		if a.err != nil || a.lifetime == 0 {
			return nil, a.err
		}
		return NewToken("for "+subject, "", time.Now(), a.lifetime), nil
	})
}

// count is the number of calls so far, those for one subject if one is given.
func (i *exchanger) count(subject ...string) int {
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(subject) == 0 {
		return len(i.calls)
	}
	n := 0
	for _, s := range i.calls {
		if s == subject[0] {
			n++
		}
	}
	return n
}

func exchanging(a answer) *exchanger {
	return &exchanger{answer: func(string, int) answer { return a }}
}

// openExchange is a cache with one exchange that asks i, closed at the end of the test.
func openExchange(t testing.TB, i *exchanger, change ...func(*Options, *Settings)) *Exchange {
	t.Helper()
	o, s := Options{Rand: latest}, Settings{Exchange: i.of, Labels: Labels{Issuer: "idp", Grant: "token_exchange", Routes: []string{"orders"}}}
	for _, f := range change {
		f(&o, &s)
	}
	c := New(o)
	t.Cleanup(c.Close)
	x := c.Exchange(Key{})
	x.Use(s)
	return x
}

// wantFor gets a subject's token and fails the test unless the lookup is this one, and the token the subject's own. The
// failure is returned, if there is one.
func wantFor(t *testing.T, x *Exchange, subject string, lookup Lookup) *Failure {
	t.Helper()
	tok, l, err := x.Subject(subject).Get(t.Context())
	if l != lookup {
		t.Fatalf("%s: want %s, got %s (%v)", subject, lookup, l, err)
	}
	if err == nil {
		if tok.Reveal() != "for "+subject {
			t.Fatalf("%s was given %q", subject, tok.Reveal())
		}
		return nil
	}
	f, ok := err.(*Failure)
	if !ok {
		t.Fatalf("%s: want a *Failure, got %T: %v", subject, err, err)
	}
	return f
}

func wantToken(t *testing.T, x *Exchange, subject string, lookup Lookup) {
	t.Helper()
	if f := wantFor(t, x, subject, lookup); f != nil {
		t.Fatalf("%s: want a token, got %v", subject, f)
	}
}

func wantFailure(t *testing.T, x *Exchange, subject, result string, retryAfter time.Duration) *Failure {
	t.Helper()
	f := wantFor(t, x, subject, Miss)
	if f == nil || f.Result != result || f.RetryAfter != retryAfter {
		t.Fatalf("%s: want %s for %s, got %+v", subject, result, retryAfter, f)
	}
	return f
}

// jwt is a token that expires after d, as issuers make it: whole seconds, and a signature that nobody can check.
func TestOneFlightASubject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := exchanging(answer{takes: 300 * time.Millisecond, lifetime: time.Hour})
		x := openExchange(t, i)
		begin := time.Now()
		var wg sync.WaitGroup
		for n := range 1000 {
			wg.Go(func() { wantToken(t, x, fmt.Sprintf("subject-%d", n%20), Miss) })
		}
		wg.Wait()
		if i.count() != 20 {
			t.Errorf("20 subjects: want 20 calls, got %d", i.count())
		}
		if w := time.Since(begin); w != 600*time.Millisecond {
			t.Errorf("want one subject first and then all at once, 600 ms, got %s", w)
		}
		begin = time.Now()
		for n := range 20 {
			wantToken(t, x, fmt.Sprintf("subject-%d", n), Hit)
		}
		for n := range 5 {
			wg.Go(func() { wantToken(t, x, fmt.Sprintf("another-%d", n), Miss) })
		}
		wg.Wait()
		if w := time.Since(begin); w != 300*time.Millisecond {
			t.Errorf("an issuer that has just answered: want nobody to wait for another subject, got %s", w)
		}
		if c := x.Status(time.Now()).Counts; c != (Counts{Obtained: 25, Cached: 20, Waited: 1005}) || c.Saved() != 1000 {
			t.Errorf("counts: %+v, saved %d", c, c.Saved())
		}
	})
}

// This one is for the race detector: real goroutines, tokens that change all the time, places that come and go.
func TestSubjectsNeverSeeEachOthersTokens(t *testing.T) {
	var n atomic.Int64
	i := &exchanger{answer: func(subject string, _ int) answer {
		switch n.Add(1) % 7 {
		case 0:
			return answer{err: &Failure{Kind: Refused, Subject: true, Result: "invalid_grant", Claims: "claims of " + subject, Detail: "detail of " + subject}}
		case 1:
			return answer{takes: time.Millisecond, lifetime: time.Hour}
		}
		return answer{lifetime: 20 * time.Millisecond}
	}}
	x := openExchange(t, i, func(o *Options, _ *Settings) { o.MaxEntries = 5 })
	var served, refused atomic.Int64
	var wg sync.WaitGroup
	for worker := range 16 {
		wg.Go(func() {
			for k := range 300 {
				subject := fmt.Sprintf("canary-%d", (worker+k)%9)
				s := x.Subject(subject)
				tok, _, err := s.Get(context.Background())
				var f *Failure
				switch {
				case err == nil && tok.Reveal() != "for "+subject:
					t.Errorf("%s was given %s", subject, tok.Reveal())
				case err == nil:
					served.Add(1)
					if k%20 == 0 {
						s.Drop(tok)
					}
				case errors.As(err, &f) && f.Subject && (f.Claims != "claims of "+subject || f.Detail != "detail of "+subject):
					t.Errorf("%s was told %q, %q", subject, f.Detail, f.Claims)
				default:
					refused.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if served.Load() == 0 || refused.Load() == 0 {
		t.Errorf("want some served and some refused, got %d and %d", served.Load(), refused.Load())
	}
}

// Forty subjects under load, none of which has a token: an outage costs one call a step, one at a time, nobody waits
// longer than an attempt, and in a back-off nobody waits at all.
// What one subject runs into, again and again, is not what the others get.
func TestReloadGoesForAllSubjects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad := exchanging(answer{err: &Failure{Kind: Refused, Result: "invalid_client", Detail: "about a", Claims: "about a"}})
		good := exchanging(answer{lifetime: time.Hour})
		x := openExchange(t, bad)
		if f := wantFailure(t, x, "a", "invalid_client", 5*time.Second); f.Detail != "about a" {
			t.Errorf("who asked: want the reason, got %q", f.Detail)
		}
		if f := wantFailure(t, x, "b", "invalid_client", 5*time.Second); strings.Contains(f.Detail+f.Claims, "about a") || bad.count() != 1 {
			t.Errorf("who did not: want to hear that there is a reason, without a call, got %q and %d calls", f.Detail, bad.count())
		}
		s := *x.settings.Load()
		x.Use(s)
		wantFailure(t, x, "b", "invalid_client", 5*time.Second)
		s.Exchange, s.Credentials = good.of, "new"
		x.Use(s)
		wantToken(t, x, "b", Miss)
		wantToken(t, x, "a", Miss)
		s.Exchange, s.Credentials = bad.of, "newer"
		x.Use(s)
		wantToken(t, x, "a", Hit)
	})
}

func TestExchangeWithoutASourceAndAfterClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(Options{})
		x := c.Exchange(Key{})
		wantFailure(t, x, "a", ResultOther, 0)
		if st := x.Status(time.Now()); st.Attempts != 0 || st.Failure != nil {
			t.Errorf("want nothing attempted, got %+v", st)
		}
		x.Use(Settings{}) // a source is missing: a mistake of ours, which ends no process
		wantFailure(t, x, "a", ResultOther, time.Second)
		i := exchanging(answer{lifetime: time.Hour})
		x = c.Exchange(Key{1})
		x.Use(Settings{Exchange: i.of})
		wantToken(t, x, "a", Miss)
		c.Close()
		wantToken(t, x, "a", Hit)
		for range 3 {
			wantFailure(t, x, "b", ResultOther, 0)
			time.Sleep(time.Minute)
		}
	})
}

// Whatever happens in whatever order: a subject's token is its own, has not expired, nor has its subject, and waits have an end.
func TestRandomInterleavingsOfSubjects(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			const timeout = 5 * time.Second
			var mu sync.Mutex
			rnd := rand.New(rand.NewPCG(seed, 2))
			upTo := func(d time.Duration) time.Duration {
				mu.Lock()
				defer mu.Unlock()
				return time.Duration(rnd.Int64N(int64(d)))
			}
			i := &exchanger{answer: func(subject string, _ int) answer {
				a := answer{takes: upTo(4 * time.Second), lifetime: time.Second + upTo(time.Minute)}
				switch upTo(12) {
				case 0, 1:
					a.err = &Failure{Kind: Unavailable, Result: ResultOther, Detail: "scripted"}
				case 2:
					a.err = &Failure{Kind: Refused, Result: "invalid_client", Detail: "scripted"}
				case 3:
					a.err = &Failure{Kind: Refused, Subject: true, Result: "invalid_grant", Detail: subject}
				case 4:
					a.err = &Failure{Kind: Throttled, Result: ResultThrottled, RetryAfter: upTo(10 * time.Second), Detail: "scripted"}
				case 5:
					a.panics = "scripted"
				}
				return a
			}}
			var budget Budget
			budget.SetLimit(200)
			x := openExchange(t, i, minRemaining(10*time.Second), func(o *Options, s *Settings) {
				o.Rand, o.MaxEntries, s.Timeout, s.Budget = func() float64 { return float64(upTo(1000)) / 1000 }, 4, timeout, &budget
			})
			subjects := []string{"a", "b", "c", expiring(time.Minute), expiring(2 * time.Minute), expiring(time.Hour)}
			var served, refused atomic.Int64
			var changes atomic.Int32 // drops and new credentials, which may cost a caller a second attempt
			var wg sync.WaitGroup
			for range 12 {
				wg.Go(func() {
					for range 100 {
						time.Sleep(upTo(3 * time.Second))
						subject := subjects[upTo(time.Duration(len(subjects)))]
						if upTo(100) == 0 {
							s := *x.settings.Load()
							s.Credentials += "x"
							changes.Add(1)
							x.Use(s)
						}
						begin, before := time.Now(), changes.Load()
						h := x.Subject(subject)
						tok, _, err := h.Get(t.Context())
						// A flight that began with credentials which are not the current ones is flown again.
						if w := time.Since(begin); w > 2*timeout && changes.Load() == before {
							t.Errorf("a caller waited %s", w)
						}
						var f *Failure
						if err != nil {
							refused.Add(1)
							if errors.As(err, &f) && f.Result == "invalid_grant" && f.Detail != subject {
								t.Errorf("%s was told what became of %s", subject, f.Detail)
							}
							continue
						}
						served.Add(1)
						end := expiryOf(subject)
						if tok.Reveal() != "for "+subject || !time.Now().Before(tok.Expiry) || !end.IsZero() && tok.Expiry.After(end) {
							t.Errorf("%s was given %s, which expires in %s", subject, tok.Reveal(), time.Until(tok.Expiry))
						}
						if upTo(20) == 0 && h.Drop(tok) {
							changes.Add(1)
						}
					}
				})
			}
			wg.Wait()
			if served.Load() == 0 || refused.Load() == 0 {
				t.Errorf("want some served and some refused, got %d and %d", served.Load(), refused.Load())
			}
		})
	}
}

func BenchmarkExchange(b *testing.B) {
	x := openExchange(b, exchanging(answer{lifetime: time.Hour}))
	token := expiring(time.Hour) + strings.Repeat("x", 1000)
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := x.Subject(token).Get(ctx); err != nil {
			b.Fatal(err)
		}
	}
}
