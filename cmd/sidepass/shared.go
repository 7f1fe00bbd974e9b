package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/sidepass/sidepass/config"
	"github.com/sidepass/sidepass/redisurl"
	"github.com/sidepass/sidepass/tokencache/redis"
)

// sharedTokens is the level of the token cache that the replicas have in common. It belongs to the process as long as the URL
// stays the same; new keys do not need a new one.
type sharedTokens struct {
	url   string
	cache *redis.Cache
	stop  context.CancelFunc // ends Run and closes it; nil before the first generation that uses it is installed
}

// buildShared gives the generation its shared level, where the configuration asks for one and the command is one that shares.
func (p *process) buildShared(g *generation, loaded *config.Loaded) error {
	if !sharesTokens(loaded.Config) {
		return nil
	}
	url, err := p.sharedURL(loaded)
	if err != nil {
		return err
	}
	if !p.shares {
		if _, err := redisurl.Parse(url); err != nil { // what a sidecar would not start with
			return fmt.Errorf("tokens.shared: %w", err)
		}
		return nil
	}
	keys, _, err := p.sealingKeys(loaded)
	if err != nil {
		return err
	}
	g.shared = p.shared
	if p.shared == nil || p.shared.url != url {
		cache, err := redis.New(redis.Options{URL: url, Keys: keys, Observer: p.observe.shared})
		if err != nil {
			return fmt.Errorf("tokens.shared: %w", err)
		}
		g.shared = &sharedTokens{url: url, cache: cache}
	}
	g.activate = append(g.activate, func() { g.shared.cache.SetKeys(keys) })
	return nil
}

// sharedURL is the server's URL, which is not shown.
func (p *process) sharedURL(loaded *config.Loaded) (string, error) {
	s := loaded.Config.Tokens.Shared
	if s.RedisURLFile == "" {
		return s.RedisURL.Reveal(), nil
	}
	text, err := p.files.read(loaded, s.RedisURLFile)
	if err != nil {
		return "", fmt.Errorf("tokens.shared.redis_url_file: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

// sharesTokens says whether there are tokens to share, and somewhere to.
func sharesTokens(c *config.Config) bool { return c.Outbound != nil && c.Tokens.Shared.Enabled() }

// abandonShared closes what was made for a generation that cannot be built.
func (p *process) abandonShared(g *generation) {
	if g.shared != nil && g.shared != p.shared {
		_ = g.shared.cache.Close()
	}
}

// runShared starts the generation's shared level and ends the one before. What the old one was asked last may fail, and is then
// not shared.
func (s *sidecar) runShared(g *generation) {
	old := s.process.shared
	s.process.shared = g.shared
	if old != nil && old != g.shared {
		old.stop()
	}
	if g.shared == nil || g.shared.stop != nil {
		return
	}
	ctx, stop := context.WithCancel(context.Background()) // it outlives the token cache, which gives back its leases at the end
	g.shared.stop = stop
	s.group.Go(func() error {
		defer g.shared.cache.Close()
		return g.shared.cache.Run(ctx)
	})
}
