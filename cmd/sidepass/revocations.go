package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/sidepass/sidepass/config"
	"github.com/sidepass/sidepass/proxy/revocation"
	revocationredis "github.com/sidepass/sidepass/proxy/revocation/redis"
	"github.com/sidepass/sidepass/proxy/verify"
)

// revocationFile and revocationRedis are the configuration's keys.
const (
	revocationFile  = "inbound.revocation_file"
	revocationRedis = "inbound.revocation_redis_url"
)

// firstLook is how long the first requests under a configuration wait for the list of a server.
const firstLook = 2 * time.Second

// revokedKey names a list of revoked tokens by the key that configures it and its value. It is never shown: a URL may hold a password.
type revokedKey struct{ key, value string }

// revokedSource is a list that follows where it comes from.
type revokedSource interface {
	verify.Revocations
	Reload(context.Context) error
	Run(context.Context) error
}

// revokedFile is a list from a file.
type revokedFile struct{ *revocation.File }

func (f revokedFile) Reload(context.Context) error { return f.File.Reload() }

// revokedBy asks several lists.
type revokedBy []verify.Revocations

// Check says that a token is revoked if one of the lists says so. That it is not can only be known by all of them.
func (r revokedBy) Check(f revocation.Facts) (revoked, available bool) {
	available = true
	for _, list := range r {
		is, known := list.Check(f)
		if is && known {
			return true, true
		}
		available = available && known
	}
	return false, available
}

// buildRevocations are the configuration's lists; those that are followed already stay. nil is none.
func (p *process) buildRevocations(g *generation, ic *config.Inbound) (verify.Revocations, error) {
	g.revoked = map[revokedKey]revokedSource{}
	var all revokedBy
	use := func(k revokedKey, follow func() (revokedSource, error)) error {
		if k.value == "" {
			return nil
		}
		source := p.revoked[k]
		if source == nil {
			var err error
			if source, err = follow(); err != nil {
				return fmt.Errorf("%s: %w", k.key, err)
			}
		}
		g.revoked[k] = source
		all = append(all, source)
		return nil
	}
	file, server := revokedKey{revocationFile, ic.RevocationFile}, revokedKey{revocationRedis, ic.RevocationRedisURL.Reveal()}
	if err := use(file, func() (revokedSource, error) {
		observe, _ := p.observe.revocation(file)
		return revokedFile{revocation.NewFile(revocation.Options{Path: file.value, Observer: observe})}, nil
	}); err != nil {
		return nil, err
	}
	if err := use(server, func() (revokedSource, error) {
		_, observe := p.observe.revocation(server)
		return revocationredis.New(revocationredis.Options{URL: server.value, Last: p.lastFeed(), Observer: observe})
	}); err != nil {
		return nil, err
	}
	if all == nil {
		return nil, nil
	}
	return all, nil
}

// lastFeed is the feed that is followed: with a new password its list is still the list.
func (p *process) lastFeed() *revocationredis.Feed {
	for _, source := range p.revoked {
		if feed, ok := source.(*revocationredis.Feed); ok {
			return feed
		}
	}
	return nil
}

// loadRevocations reads a list that is new before the first request is held against it, and keeps it as its source is. A list
// that cannot be read is reported by its observer, and refuses tokens until it can.
func (s *sidecar) loadRevocations(g *generation) {
	s.synced.expect(g.revoked)
	for key, stop := range s.revocations {
		if g.revoked[key] == nil {
			stop()
			delete(s.revocations, key)
			delete(s.process.revoked, key)
		}
	}
	for key, source := range g.revoked {
		if s.revocations[key] != nil {
			continue
		}
		ctx, stop := context.WithCancel(s.keysCtx)
		s.revocations[key], s.process.revoked[key] = stop, source
		soon, cancel := context.WithTimeout(ctx, firstLook)
		_ = source.Reload(soon)
		cancel()
		s.group.Go(func() error { return source.Run(ctx) })
	}
}

// revocationObservers hang a list on the log and the metrics; which of the two is used depends on the list.
func (s *sidecar) revocationObservers(k revokedKey) (revocation.Observer, revocationredis.Observer) {
	log, m := s.o.Log, s.metrics
	current := func(at time.Time) { s.synced.note(k, at, m.RevocationSync) }
	file := revocation.Observer{
		Loaded: func(r revocation.Reading) {
			if r.Broken == 0 {
				log.Info("revocations loaded", zap.Int("entries", r.Entries))
				return
			}
			m.FileReloadFailure(revocationFile)
			log.Error("lines of the revocation file are broken; those already in force stay until it is whole", zap.Int("entries", r.Entries), zap.Int("broken", r.Broken), zap.Strings("problems", r.Problems))
		},
		Failed: func(err error) {
			m.FileReloadFailure(revocationFile)
			log.Error("the revocation file cannot be read; the last list stays", zap.Error(err))
		},
		Current: current,
	}
	server := revocationredis.Observer{
		Loaded: func(r revocation.Reading) {
			if r.Broken == 0 {
				log.Info("shared revocations loaded", zap.Int("entries", r.Entries))
				return
			}
			log.Error("shared revocations cannot be understood and have no effect; write them by `sidepass revoke`", zap.Int("entries", r.Entries), zap.Int("broken", r.Broken))
		},
		Failed: func(err error) { log.Error("shared revocations", zap.Error(err)) },
		Lost: func() {
			log.Error("the revocation server has lost what it had; what this sidecar knows stays in force until it ends, also if it is taken back, but others may not know it. Let the server keep its data on disk")
		},
		Current: current,
	}
	return file, server
}

// synced is when each list was last known to be current. The metric is as old as the oldest of them.
type synced struct {
	mu sync.Mutex
	at map[revokedKey]time.Time
}

// expect says which lists there are.
func (s *synced) expect(lists map[revokedKey]revokedSource) {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.at
	s.at = map[revokedKey]time.Time{}
	for key := range lists {
		s.at[key] = was[key]
	}
}

func (s *synced) note(k revokedKey, at time.Time, metric func(time.Time)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, expected := s.at[k]; !expected {
		return
	}
	s.at[k] = at
	oldest := at
	for _, other := range s.at {
		if other.Before(oldest) {
			oldest = other
		}
	}
	if !oldest.IsZero() {
		metric(oldest)
	}
}
