package tokencache

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

// fleet is a shared level in memory that keeps the rules: a lease of two seconds, and nothing from who has lost it.
type fleet struct {
	mu     sync.Mutex
	token  *Token
	holdup *Holdup
	until  time.Time // of the holdup
	lease  *fleetLease
	takes  int
	forgot int
}

type fleetLease struct {
	fleet *fleet
	until time.Time
}

const fleetLeaseTime = 2 * time.Second

func (f *fleet) Take(_ context.Context, q Question) (Turn, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.takes++
	now := time.Now()
	switch {
	case f.token != nil && q.Fit(f.token):
		t := *f.token // each replica has its own
		return Turn{Token: &t}, nil
	case f.holdup != nil && now.Before(f.until) && f.holdup.Credentials == q.Credentials:
		h := *f.holdup
		failure := *h.Failure
		failure.RetryAfter = f.until.Sub(now)
		h.Failure = &failure
		return Turn{Holdup: &h}, nil
	case f.lease != nil && now.Before(f.lease.until):
		return Turn{}, nil
	}
	f.lease = &fleetLease{f, now.Add(fleetLeaseTime)}
	return Turn{Lease: f.lease}, nil
}

func (f *fleet) Forget(_ context.Context, _ Key, t *Token) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.token != nil && f.token.Authorization() == t.Authorization() {
		f.token = nil
		f.forgot++
	}
}

func (l *fleetLease) Keep(ctx context.Context) {
	for {
		select {
		case <-time.After(fleetLeaseTime / 4):
			l.fleet.mu.Lock()
			if l.fleet.lease == l && time.Now().Before(l.until) {
				l.until = time.Now().Add(fleetLeaseTime)
			}
			l.fleet.mu.Unlock()
		case <-ctx.Done():
			return
		}
	}
}

func (l *fleetLease) End(t *Token, h *Holdup) {
	l.fleet.mu.Lock()
	defer l.fleet.mu.Unlock()
	if l.fleet.lease != l || !time.Now().Before(l.until) {
		return
	}
	l.fleet.lease = nil
	if t != nil {
		l.fleet.token, l.fleet.holdup = t, nil
	} else if h != nil {
		l.fleet.holdup, l.fleet.until = h, time.Now().Add(h.Failure.RetryAfter)
	}
}

// replicas are n processes that share what they have through f, and ask src.
func replicas(t *testing.T, n int, f Shared, src Source, change ...func(*Settings)) []*Entry {
	t.Helper()
	var out []*Entry
	for i := range n {
		draw := rand.New(rand.NewPCG(uint64(i), 7)) // its own draws, the same each time
		var mu sync.Mutex
		out = append(out, open(t, src, func(o *Options, s *Settings) {
			o.Rand = func() float64 { mu.Lock(); defer mu.Unlock(); return draw.Float64() }
			s.Shared = f
			for _, c := range change {
				c(s)
			}
		}))
	}
	return out
}

func all(es []*Entry, f func(*Entry)) {
	var wg sync.WaitGroup
	for _, e := range es {
		wg.Go(func() { f(e) })
	}
	wg.Wait()
}

// get is Get for a goroutine that cannot end the test.
func get(t *testing.T, e *Entry) (string, Lookup) {
	tok, l, err := e.Get(t.Context())
	if err != nil {
		t.Errorf("no token: %v", err)
		return "", l
	}
	return tok.Reveal(), l
}
