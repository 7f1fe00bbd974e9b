package tokencache

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// answer is what a scripted issuer does with one call.
type answer struct {
	takes    time.Duration
	lifetime time.Duration // of the token; 0 with err nil is no token at all
	err      error
	panics   any
}

// issuer is a Source that follows a script and counts.
type issuer struct {
	answer func(n int) answer // n counts from 1

	calls    atomic.Int32
	inFlight atomic.Int32
	most     atomic.Int32
	mu       sync.Mutex
	at       []time.Duration // when each call came, since the first
	first    time.Time
}

func (i *issuer) Token(ctx context.Context) (*Token, error) {
	n := int(i.calls.Add(1))
	i.most.Store(max(i.most.Load(), i.inFlight.Add(1)))
	defer i.inFlight.Add(-1)
	i.mu.Lock()
	if i.first.IsZero() {
		i.first = time.Now()
	}
	i.at = append(i.at, time.Since(i.first))
	i.mu.Unlock()
	a := i.answer(n)
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
	return NewToken(fmt.Sprintf("token-%d", n), "", time.Now(), a.lifetime), nil
}

func (i *issuer) times() []time.Duration {
	i.mu.Lock()
	defer i.mu.Unlock()
	return append([]time.Duration(nil), i.at...)
}

// always is an issuer that does the same each time.
func always(a answer) *issuer { return &issuer{answer: func(int) answer { return a }} }

// script is an issuer that goes through its answers and stays at the last one.
func script(as ...answer) *issuer {
	return &issuer{answer: func(n int) answer { return as[min(n, len(as))-1] }}
}

func failing(kind Kind, result string) answer {
	return answer{err: &Failure{Kind: kind, Result: result, Detail: "scripted"}}
}

// latest makes each random point the latest and each random step the longest.
func latest() float64 { return 1 }

// open is a cache with one entry that asks src, closed at the end of the test.
func open(t *testing.T, src Source, change ...func(*Options, *Settings)) *Entry {
	t.Helper()
	o, s := Options{Rand: latest}, Settings{Source: src, Labels: Labels{Issuer: "idp", Grant: "client_credentials", Routes: []string{"orders"}}}
	for _, f := range change {
		f(&o, &s)
	}
	c := New(o)
	t.Cleanup(c.Close)
	e := c.Entry(Key{})
	e.Use(s)
	return e
}

func minRemaining(d time.Duration) func(*Options, *Settings) {
	return func(_ *Options, s *Settings) { s.MinRemaining = d }
}

// want gets a token and fails the test unless the token and the lookup are these. A token of "" means a failure.
func want(t *testing.T, e *Entry, token string, lookup Lookup) *Failure {
	t.Helper()
	tok, l, err := e.Get(t.Context())
	got := ""
	if err == nil {
		got = tok.Reveal()
	}
	if got != token || l != lookup {
		t.Fatalf("Get: want %q %s, got %q %s (%v)", token, lookup, got, l, err)
	}
	if err == nil {
		return nil
	}
	f, ok := err.(*Failure)
	if !ok {
		t.Fatalf("Get: want a *Failure, got %T: %v", err, err)
	}
	return f
}

func wantCalls(t *testing.T, i *issuer, n int32, why string) {
	t.Helper()
	if got := i.calls.Load(); got != n {
		t.Fatalf("%s: want %d calls to the issuer, got %d", why, n, got)
	}
}
