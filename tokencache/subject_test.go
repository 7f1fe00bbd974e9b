package tokencache

import (
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"
)

func jwt(claims string, a ...any) string {
	enc := base64.RawURLEncoding.EncodeToString
	return enc([]byte(`{"alg":"RS256"}`)) + "." + enc(fmt.Appendf(nil, claims, a...)) + ".c2lnbmF0dXJl"
}

func expiring(d time.Duration) string { return jwt(`{"exp":%d}`, time.Now().Add(d).Unix()) }

func TestExchangedTokenNeverOutlivesItsSubject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now().Unix()
		for _, tc := range []struct {
			name, subject string
			want          time.Duration // of an hour
		}{
			{"opaque", "opaque-subject-token", time.Hour},
			{"expires sooner", jwt(`{"exp":%d}`, now+600), 600 * time.Second},
			{"expires later", jwt(`{"exp":%d}`, now+7200), time.Hour},
			{"a fraction", jwt(`{"exp":%d.5}`, now+600), 600*time.Second + 500*time.Millisecond},
			{"an exponent", jwt(`{"exp":%d.0e0}`, now+600), 600 * time.Second},
			{"in quotes", jwt(`{"exp":"%d"}`, now+600), 600 * time.Second},
			{"another claim too", jwt(`{"EXP":1,"nested":{"exp":1},"exp":%d}`, now+600), 600 * time.Second},
			{"none", jwt(`{"sub":"alice"}`), time.Hour},
			{"null", jwt(`{"exp":null}`), time.Hour},
			{"no number", jwt(`{"exp":"soon"}`), time.Hour},
			{"too large", jwt(`{"exp":1e300}`), time.Hour},
			{"larger than any number", jwt(`{"exp":1e999}`), time.Hour},
			{"no object", jwt(`[1]`), time.Hour},
			{"no JSON", jwt(`{"exp":%d`, now+600), time.Hour},
			{"no base64", "a.{}.c", time.Hour},
			{"encrypted", "a.b.c.d.e", time.Hour},
			{"two parts", strings.TrimSuffix(jwt(`{"exp":%d}`, now+600), ".c2lnbmF0dXJl"), time.Hour},
			{"four parts", jwt(`{"exp":%d}`, now+600) + ".d", time.Hour},
		} {
			x := openExchange(t, exchanging(answer{lifetime: time.Hour}))
			tok, _, err := x.Subject(tc.subject).Get(t.Context())
			if err != nil {
				t.Fatalf("%s: %v", tc.name, err)
			}
			if got := time.Until(tok.Expiry); got != tc.want {
				t.Errorf("%s: want a life of %s, got %s", tc.name, tc.want, got)
			}
		}
	})
}

func TestExpiredSubjectCostsNoCallAndNoPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := exchanging(answer{lifetime: time.Hour})
		x := openExchange(t, i)
		alice := expiring(10 * time.Minute)
		wantToken(t, x, alice, Miss)
		held := x.Subject(alice)
		time.Sleep(10*time.Minute - 1)
		wantToken(t, x, alice, Hit)
		time.Sleep(1)
		for name, get := range map[string]func() (*Token, Lookup, error){
			"with a place":           func() (*Token, Lookup, error) { return x.Subject(alice).Get(t.Context()) },
			"of a request before":    func() (*Token, Lookup, error) { return held.Get(t.Context()) },
			"never seen":             func() (*Token, Lookup, error) { return x.Subject(expiring(0)).Get(t.Context()) },
			"long ago":               func() (*Token, Lookup, error) { return x.Subject(jwt(`{"exp":-1e300}`)).Get(t.Context()) },
			"at the beginning of it": func() (*Token, Lookup, error) { return x.Subject(jwt(`{"exp":0}`)).Get(t.Context()) },
		} {
			_, _, err := get()
			var f *Failure
			if !errors.As(err, &f) || !f.Subject || f.Kind != Refused || !strings.Contains(f.Detail, "expired") {
				t.Errorf("%s: want a refusal of the subject that says it has expired, got %v", name, err)
			}
		}
		if n := x.cache.subjects.order.Len(); i.count() != 1 || n != 1 {
			t.Errorf("want no further call or place, got %d and %d", i.count()-1, n-1)
		}
		wantToken(t, x, expiring(time.Second), Miss)
	})
}

func TestSubjectThatExpiresDuringItsFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := exchanging(answer{takes: 3 * time.Second, lifetime: time.Hour})
		var stored int
		x := openExchange(t, i, func(o *Options, _ *Settings) { o.Observer.Stored = func(Labels, *Token) { stored++ } })
		if f := wantFor(t, x, expiring(2*time.Second), Miss); !f.Subject || stored != 0 {
			t.Errorf("want a refusal of the subject and nothing stored, got %+v, %d", f, stored)
		}
		wantToken(t, x, "bob", Miss)
	})
}

func TestRefreshAheadOfExchangedTokens(t *testing.T) {
	for _, tc := range []struct {
		name     string
		subject  time.Duration // its life; 0 is not known
		lifetime func(obtained time.Duration) time.Duration
		calls    int // within an hour of constant use
	}{
		{"opaque", 0, func(time.Duration) time.Duration { return 10 * time.Minute }, 8},
		{"a subject that lives long", 24 * time.Hour, func(time.Duration) time.Duration { return 10 * time.Minute }, 8},
		{"capped by us", time.Hour, func(time.Duration) time.Duration { return 24 * time.Hour }, 1},
		{"capped by the issuer", time.Hour, func(at time.Duration) time.Duration { return time.Hour - at - time.Second }, 1},
		{"capped by the issuer, of which we do not know", 0, func(at time.Duration) time.Duration { return time.Hour - at }, 2},
		{"the last one is shorter", time.Hour, func(time.Duration) time.Duration { return 45 * time.Minute }, 2},
	} {
		synctest.Test(t, func(t *testing.T) {
			begin := time.Now()
			i := &exchanger{answer: func(string, int) answer { return answer{lifetime: tc.lifetime(time.Since(begin))} }}
			x := openExchange(t, i, minRemaining(10*time.Second))
			subject := "opaque"
			if tc.subject > 0 {
				subject = expiring(tc.subject)
			}
			for time.Since(begin) < time.Hour-2*time.Second {
				if f := wantFor(t, x, subject, map[bool]Lookup{true: Miss, false: Hit}[time.Since(begin) == 0]); f != nil {
					t.Fatalf("%s: %v", tc.name, f)
				}
				time.Sleep(time.Second)
				synctest.Wait()
			}
			if i.count() != tc.calls {
				t.Errorf("%s: want %d calls in an hour, got %d: %v", tc.name, tc.calls, i.count(), i.at)
			}
		})
	}
}

func TestNothingKeepsASubjectToken(t *testing.T) {
	x := openExchange(t, new(exchanger), func(_ *Options, s *Settings) { // one that notes no subjects
		s.Exchange = func(string) Source { return always(answer{lifetime: time.Hour}) }
	})
	var gone atomic.Bool
	func() {
		text := []byte(strings.Repeat("canary-subject-token", 10))
		runtime.AddCleanup(&text[0], func(*atomic.Bool) { gone.Store(true) }, &gone)
		s := x.Subject(unsafe.String(&text[0], len(text)))
		if _, _, err := s.Get(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
			if strings.Contains(fmt.Sprintf(verb, s), "canary") || strings.Contains(fmt.Sprintf(verb, *s), "canary") {
				t.Errorf("%s prints the subject token", verb)
			}
		}
	}()
	for range 100 {
		if runtime.GC(); gone.Load() {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if !gone.Load() {
		t.Error("after the request something still holds the subject token")
	}
	if x.cache.subjects.order.Len() != 1 {
		t.Error("the subject's place is gone")
	}
}
