// Package tokencache keeps one access token for each Key and obtains it at most once at a time.
//
// A token is fresh, due, stale or dead. While it is fresh, asking for it is an atomic load. When it is due, the caller
// gets it and a flight for the next one starts in the background; nothing is refreshed that nobody asks for. When it
// is stale or dead the caller waits for the flight, and a failed flight begins a back-off in which the issuer is left
// alone and callers are answered at once.
//
// The flight belongs to the cache and the wait to the caller: a caller that gives up ends its own wait and nothing else.
//
// An Entry is the token of a route. An Exchange is the tokens of a route that exchanges its callers' tokens: a bounded
// number of entries, one a subject, that share what they learn of the issuer.
package tokencache

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// Source obtains a token by one attempt on the wire. Token may be called by several entries at once. It returns soon
// after ctx ends, which has the values of the context of the caller that began to wait for it, and none where nobody waits. An
// error that is not a *Failure counts as a failure without a known reason, and its text is not shown.
type Source interface {
	Token(ctx context.Context) (*Token, error)
}

// Labels say where an entry counts in metrics and logs. They come from the configuration.
type Labels struct {
	Issuer string
	Grant  string
	Routes []string // all that use the token; a token request counts under the first
}

// Observer is told what happens; each function is optional. They are called without a lock held, from the flights'
// goroutines, and before the flight's waiters are released.
type Observer struct {
	// Requesting: one attempt on the wire begins, with the context that is returned: ctx with more values. ctx is as in [Source].
	Requesting func(ctx context.Context, l Labels) context.Context
	// Requested: it has ended. ctx is what Requesting returned; result is ResultOK or the failure's.
	Requested func(ctx context.Context, l Labels, result string, took time.Duration)
	// Stored: there is a new token.
	Stored func(l Labels, t *Token)
	// Taken: there is a token that another replica obtained.
	Taken func(l Labels, t *Token)
	// Failed: a flight ended without a token. f.RetryAfter is the back-off that begins.
	Failed func(l Labels, f *Failure)
	// Panicked: a Source panicked. The stack holds no values.
	Panicked func(l Labels, stack []byte)
}

// Options of a Cache. The zero value is usable.
type Options struct {
	Observer   Observer
	Rand       func() float64 // in [0,1), safe for concurrent use; default math/rand/v2
	MaxEntries int            // how many exchanged tokens are kept, of all exchanges together; default 10000
}

// Cache holds the entries and owns their flights. It is safe for concurrent use, and outlives reloads of the configuration.
type Cache struct {
	observer Observer
	rand     func() float64
	ctx      context.Context // of every flight
	cancel   context.CancelFunc
	flights  sync.WaitGroup

	mu        sync.Mutex
	closed    bool
	entries   map[Key]*Entry
	exchanges map[Key]*Exchange
	subjects  recency // the exchanges' entries
}

// New is an empty cache. It starts nothing; Close it nevertheless.
func New(o Options) *Cache {
	if o.Rand == nil {
		o.Rand = rand.Float64
	}
	if o.MaxEntries <= 0 {
		o.MaxEntries = 10000
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &Cache{observer: o.Observer, rand: o.Rand, ctx: ctx, cancel: cancel,
		entries: map[Key]*Entry{}, exchanges: map[Key]*Exchange{}, subjects: newRecency(o.MaxEntries)}
}

// Entry returns the entry of a key, and makes it if there is none. A route keeps what it gets here. A new entry has
// no token and no source; Use gives it one.
func (c *Cache) Entry(key Key) *Entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entries[key]
	if e == nil {
		e = &Entry{cache: c, key: key, settings: new(atomic.Pointer[Settings]), counts: new(counts)}
		c.entries[key] = e
	}
	return e
}

// Exchange returns the exchange of a key, and makes it if there is none. A route keeps what it gets here. A new exchange
// has no source; Use gives it one. The key is that of everything but the subject token.
func (c *Cache) Exchange(key Key) *Exchange {
	c.mu.Lock()
	defer c.mu.Unlock()
	x := c.exchanges[key]
	if x == nil {
		x = &Exchange{cache: c, key: key}
		c.exchanges[key] = x
	}
	return x
}

// SetMaxEntries changes how many exchanged tokens are kept. Who is using one that goes may go on using it.
func (c *Cache) SetMaxEntries(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.subjects.limit = max(1, n)
	c.subjects.trim()
}

// Retain forgets every entry and exchange but those of keys. Who still holds a forgotten one may go on using it.
func (c *Cache) Retain(keys []Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	entries, exchanges := map[Key]*Entry{}, map[Key]*Exchange{}
	for _, k := range keys {
		if e := c.entries[k]; e != nil {
			entries[k] = e
		}
		if x := c.exchanges[k]; x != nil {
			exchanges[k] = x
		}
	}
	c.entries, c.exchanges = entries, exchanges
	c.subjects.removeIf(func(e *Entry) bool { return exchanges[e.exchange.key] != e.exchange })
}

// Close cancels the flights and waits for them. From then on tokens that are there are still returned, and no new
// ones are obtained. It may be called more than once.
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
