package main

import (
	"context"
	"strings"

	"github.com/sidepass/sidepass/check"
	"github.com/sidepass/sidepass/tokencache/redis"
)

// sharedCache asks the server that shares tokens for a sign of life. Nothing is written there.
func (c *checker) sharedCache(ctx context.Context, g *check.Group) {
	const do = "check tokens.shared and what this machine may reach; until then each replica asks for tokens of its own"
	url, err := c.process.sharedURL(c.generation.loaded)
	if err != nil {
		g.Warn("reachable", nil, do, "%v", err)
		return
	}
	keys, _, err := c.process.sealingKeys(c.generation.loaded)
	if err != nil {
		g.Warn("reachable", nil, do, "%v", err)
		return
	}
	cache, err := redis.New(redis.Options{URL: url, Keys: keys})
	if err != nil {
		g.Warn("reachable", nil, do, "tokens.shared: %v", err)
		return
	}
	defer cache.Close()
	if err := cache.Ping(ctx); err != nil {
		if !c.outOfTime(ctx, g, "reachable", "the call to the shared cache") {
			g.Warn("reachable", nil, do, "the shared cache cannot be used: %v", err)
		}
		return
	}
	g.OK("reachable", nil, "the shared cache answers")
}

// revocations reads each list of revoked tokens once.
func (c *checker) revocations(ctx context.Context, g *check.Group) {
	for _, key := range []string{revocationFile, revocationRedis} {
		for k, list := range c.generation.revoked {
			if k.key != key {
				continue
			}
			err := list.Reload(ctx)
			over, end := context.WithCancel(context.Background())
			end()
			_ = list.Run(over) // which closes what the list has open
			c.heard.mu.Lock()
			read := c.heard.revoked[key]
			c.heard.mu.Unlock()
			facts := check.Facts{"key": key, "entries": read.Entries, "broken": read.Broken}
			switch {
			case err == nil && read.Broken > 0:
				why := strings.Join(append([]string{""}, read.Problems...), "; ")
				g.Warn("list", facts, "correct it: what cannot be understood revokes nothing", "%s can be read, but not %s of it%s", key, many(read.Broken, "line"), why)
			case err == nil:
				g.OK("list", facts, "%s can be read; it has %d in force", key, read.Entries)
			case !c.outOfTime(ctx, g, "list", "reading "+key):
				says, do := lastAdvice(err.Error(), "check "+key+"; as long as it was never read every token is refused (revocations_unavailable)")
				g.Fail("list", check.Facts{"key": key}, do, "%s: %s", key, says)
			}
		}
	}
}
