package fleet

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sidepass/sidepass/tokencache"
)

// leaseTime is how long a lease lasts that is not kept, as in tokencache/redis.
const leaseTime = 2 * time.Second

// level is what the fleet's replicas share: tokencache/redis without the wire and the seal, and by the same rules (TestTheLevelIsLikeRedis).
// It answers at once.
type level struct {
	begin time.Time
	calls series

	mu     sync.Mutex
	places map[tokencache.Key]*place
}

// place is what is kept under one key.
type place struct {
	mu     sync.Mutex
	token  *tokencache.Token
	holdup *tokencache.Holdup
	until  time.Time // of the holdup
	lease  *lease
}

func (l *level) place(key tokencache.Key) *place {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.places[key]
	if p == nil {
		if l.places == nil {
			l.places = map[tokencache.Key]*place{}
		}
		p = &place{}
		l.places[key] = p
	}
	return p
}

// seat is a replica's connection to the level. It implements [tokencache.Shared].
type seat struct {
	level *level
	dead  atomic.Bool // the process has crashed: nothing comes from it any more
}

var errDead = errors.New("the process is gone")

func (s *seat) Take(_ context.Context, q tokencache.Question) (tokencache.Turn, error) {
	if s.dead.Load() {
		return tokencache.Turn{}, errDead
	}
	s.level.calls.count(time.Since(s.level.begin))
	p := s.level.place(q.Key)
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if p.token != nil && now.Before(p.token.Expiry) {
		if t := *p.token; q.Fit(&t) {
			return tokencache.Turn{Token: &t}, nil
		}
	}
	if p.holdup != nil && now.Before(p.until) && p.holdup.Credentials == q.Credentials {
		h, f := *p.holdup, *p.holdup.Failure
		f.RetryAfter = p.until.Sub(now)
		h.Failure = &f
		return tokencache.Turn{Holdup: &h}, nil
	}
	if p.lease != nil && now.Before(p.lease.until) {
		return tokencache.Turn{}, nil
	}
	p.lease = &lease{seat: s, place: p, until: now.Add(leaseTime)}
	return tokencache.Turn{Lease: p.lease}, nil
}

// Forget has nothing to do: no upstream refuses a token.
func (s *seat) Forget(context.Context, tokencache.Key, *tokencache.Token) {}

// lease implements [tokencache.Lease].
type lease struct {
	seat  *seat
	place *place
	until time.Time
}

// Keep has nothing to do: an attempt is over long before the lease would lapse.
func (l *lease) Keep(ctx context.Context) { <-ctx.Done() }

func (l *lease) End(t *tokencache.Token, h *tokencache.Holdup) {
	p := l.place
	p.mu.Lock()
	defer p.mu.Unlock()
	if l.seat.dead.Load() || !time.Now().Before(l.until) {
		return
	}
	p.lease = nil
	switch {
	case t != nil:
		p.token, p.holdup = t, nil
	case h != nil && h.Failure.RetryAfter > 0:
		p.holdup, p.until = h, time.Now().Add(h.Failure.RetryAfter)
	}
}
