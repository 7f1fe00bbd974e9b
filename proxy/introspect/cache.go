package introspect

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/sidepass/sidepass/proxy/verify"
)

// Bounds of the cache.
const (
	defaultEntries = 10_000
	entryBytes     = 2 << 10 // an answer that holds on to more counts as several entries
)

// Cache keeps issuers' answers about tokens, and owns the questions that are on their way. It is bounded, safe for
// concurrent use, and outlives reloads of the configuration. A token's text is not kept, only its SHA-256.
type Cache struct {
	active   *otter.Cache[entryKey, *answer]
	inactive *otter.Cache[entryKey, *answer] // apart: made-up tokens drive out no real ones

	ctx     context.Context // of every question
	cancel  context.CancelFunc
	flights sync.WaitGroup
	mu      sync.Mutex
	closed  bool
}

// entryKey says what a token was asked about whom.
type entryKey struct{ server, token digest }

// answer is what an issuer said about a token.
type answer struct {
	active bool
	text   string    // of an active token
	until  time.Time // it is not used from then on
	judged atomic.Pointer[judged]
}

// judged is what one configuration's verifier made of an answer. It is immutable.
type judged struct {
	by    *verify.Verifier
	token *verify.Token
}

// NewCache returns a cache for so many answers about active tokens, of up to 2 KiB in memory each, larger ones counting as
// several, and as many about inactive ones. 0 is 10,000. Close it.
func NewCache(entries int) (*Cache, error) {
	if entries <= 0 {
		entries = defaultEntries
	}
	now := func(f func()) { f() } // upkeep happens in who causes it
	active, err := otter.New(&otter.Options[entryKey, *answer]{
		MaximumWeight: uint64(entries),
		// The claims' places take about as much memory as their text.
		Weigher:  func(_ entryKey, a *answer) uint32 { return 1 + uint32(2*len(a.text)/entryBytes) },
		Executor: now,
	})
	if err != nil {
		return nil, err
	}
	inactive, err := otter.New(&otter.Options[entryKey, *answer]{MaximumSize: entries, Executor: now})
	if err != nil {
		return nil, err
	}
	c := &Cache{active: active, inactive: inactive}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c, nil
}

// Len is about how many answers about active tokens the cache holds.
func (c *Cache) Len() int { return c.active.EstimatedSize() }

// Close cancels the questions that are on their way and waits for them. From then on known answers are still used, and no
// questions asked. It may be called more than once.
func (c *Cache) Close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.cancel()
	c.flights.Wait()
}

// launch runs a flight, unless the cache is closed.
func (c *Cache) launch(fly func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.flights.Go(fly)
	return true
}

// get returns the answer that may be used now, or nil.
func (c *Cache) get(k entryKey, now time.Time) *answer {
	for _, from := range [...]*otter.Cache[entryKey, *answer]{c.active, c.inactive} {
		if a, ok := from.GetIfPresent(k); ok {
			if now.Before(a.until) {
				return a
			}
			from.Invalidate(k)
		}
	}
	return nil
}

// put keeps an answer as long as it may be used.
func (c *Cache) put(k entryKey, a *answer, now time.Time) {
	switch {
	case !now.Before(a.until):
	case a.active:
		c.active.Set(k, a)
	default:
		c.inactive.Set(k, a)
	}
}
