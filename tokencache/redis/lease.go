package redis

import (
	"context"
	"time"

	"github.com/sidepass/sidepass/tokencache"
	"github.com/sidepass/sidepass/tokencache/seal"
)

// lease implements [tokencache.Lease]. Its id is the fence: the server takes nothing from a holder whose id is no longer there.
type lease struct {
	cache  *Cache
	keys   *seal.Keys
	key    tokencache.Key
	places places
	id     string
	here   time.Time // a reading of our clock, when the server's
	server time.Time // had passed this
}

// Keep implements [tokencache.Lease].
func (l *lease) Keep(ctx context.Context) {
	again := time.NewTicker(leaseTime / 4)
	defer again.Stop()
	for {
		select {
		case <-again.C:
			if kept, err := l.cache.eval(ctx, keep, l.places.all(), l.id, leaseTime.Milliseconds()); err == nil && kept == int64(0) {
				return // it has lapsed
			}
		case <-ctx.Done():
			return
		}
	}
}

// End implements [tokencache.Lease].
func (l *lease) End(t *tokencache.Token, h *tokencache.Holdup) {
	now := time.Now()
	token, backoff, lasts := "", "", time.Duration(0)
	switch {
	case t != nil:
		if lasts = t.Expiry.Sub(now); lasts >= time.Millisecond {
			token = sealToken(l.keys, l.key, t, lifeOf(t.Obtained, t.Expiry.Sub(t.Obtained), l.here, l.server))
		}
	case h != nil:
		if lasts = h.Failure.RetryAfter; lasts >= time.Millisecond {
			backoff = sealHoldup(l.keys, l.key, h, lifeOf(now, lasts, l.here, l.server))
		}
	}
	l.cache.evalAnyway(end, l.places.all(), l.id, token, backoff, lasts.Milliseconds())
}
