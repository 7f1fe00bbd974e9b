// Package redis is the second level of the token cache: the replicas of a service share their tokens, whose turn it is to ask for
// one, and what holds them back, through a Redis server. It implements [tokencache.Shared].
//
// What is kept under a key has three names in one hash slot, sidepass:1:{NAME}:token, …:lease and …:backoff, where NAME is an HMAC
// of the key that tells nothing of it. Tokens and back-offs are sealed and bound to their key: the server cannot read them, nor
// move them to another name. Everything there ends by itself.
//
// The server is not trusted to be there, quick or honest. Whatever goes wrong, the replica goes on by itself: see [Cache.Run].
package redis

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"

	"github.com/sidepass/sidepass/redisurl"
	"github.com/sidepass/sidepass/tokencache/seal"
)

const (
	callTime = 500 * time.Millisecond // for one call, with connecting: what a request without any token may wait
	slow     = 50 * time.Millisecond  // a server that never answers the probe sooner is not used
)

// Options of a Cache.
type Options struct {
	// URL is the server's, or the servers': see [redisurl.Parse]. It may hold a password, which comes out nowhere.
	URL string
	// Keys seal and name. Required.
	Keys     *seal.Keys
	Observer Observer
}

// Observer is told what happens; each function is optional.
type Observer struct {
	// Changed: the server can be used from now on, or it cannot and why says why not. It is also told once at the beginning,
	// and never called by two goroutines at once. It must not call the Cache.
	Changed func(up bool, why string)
}

// Cache is the shared level. It is safe for concurrent use.
type Cache struct {
	observer Observer
	client   redis.UniversalClient
	keys     atomic.Pointer[seal.Keys]

	mu    sync.Mutex // held while the observer is told
	state atomic.Pointer[Status]
}

// New is a cache over the server that o names. It connects when it is used first, and starts nothing: have Run run, and Close it.
func New(o Options) (*Cache, error) {
	u, err := redisurl.Parse(o.URL)
	if err != nil {
		return nil, err
	}
	if o.Keys == nil {
		return nil, errors.New("there are no keys to seal with")
	}
	logging.Disable() // it writes to standard error; what matters is what Changed is told
	u.DialTimeout, u.ReadTimeout, u.WriteTimeout, u.PoolTimeout, u.ContextTimeoutEnabled = callTime, callTime, callTime, callTime, true
	u.DialerRetries, u.MaxRetries, u.MinRetryBackoff, u.MaxRetryBackoff = 1, 1, -1, -1
	u.PoolSize, u.PipelinePoolSize = 4, -1 // one flight a token is all that uses it
	u.ReadBufferSize, u.WriteBufferSize = 8<<10, 8<<10
	c := &Cache{observer: o.Observer, client: redis.NewUniversalClient(u)}
	c.SetKeys(o.Keys)
	return c, nil
}

// SetKeys changes the keys from now on.
func (c *Cache) SetKeys(k *seal.Keys) { c.keys.Store(k) }

// Ping asks the server for a sign of life and changes nothing there. Its error is a sentence without a secret.
func (c *Cache) Ping(ctx context.Context) error {
	call, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	if err := c.client.Ping(call).Err(); err != nil {
		return errors.New(reason(err))
	}
	return nil
}

// Close closes the connections. What is under way fails.
func (c *Cache) Close() error { return c.client.Close() }

// eval runs a script. A failure that is not the caller's turns the server away until a probe succeeds.
func (c *Cache) eval(ctx context.Context, s *redis.Script, keys []string, args ...any) (any, error) {
	if st := c.state.Load(); st != nil && !st.Up {
		return nil, errDown
	}
	call, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	reply, err := s.Run(call, c.client, keys, args...).Result()
	if err == nil {
		return reply, nil
	}
	if ctx.Err() == nil {
		c.changed(false, reason(err))
	}
	return nil, errors.New("the shared cache cannot be used: " + reason(err)) // what the server said may be anything
}

// evalAnyway is eval for what has to be done although the process is stopping.
func (c *Cache) evalAnyway(s *redis.Script, keys []string, args ...any) {
	_, _ = c.eval(context.Background(), s, keys, args...)
}
