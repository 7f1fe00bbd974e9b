package main

import (
	"context"
	"fmt"
	"time"

	"github.com/sidepass/sidepass/config"
)

// setReadiness says what the probes ask. What they check follows a reload; which directions there are does not.
func (s *sidecar) setReadiness(c *config.Config) {
	if c.Inbound != nil {
		s.health.Inbound = s.inboundMissing
	}
	if c.Outbound != nil {
		s.health.Outbound = s.outboundMissing
	}
	s.health.Ready = s.missing
}

// missing is the lax check: an outage of the authorization server must not take every pod out.
func (s *sidecar) missing() []string {
	if !s.serving.Load() {
		return []string{"the sidecar is starting"}
	}
	var out []string
	if s.health.Inbound != nil {
		out = s.keysNeverLoaded()
	}
	s.awaited.Range(func(route, _ any) bool {
		out = append(out, fmt.Sprintf("the first token of route %s is being fetched", route))
		return true
	})
	return out
}

// keysNeverLoaded is what the lax check asks: keys that have grown stale in an outage are the strict one's.
func (s *sidecar) keysNeverLoaded() []string {
	return s.current.Load().keysMissing(func(t *trusted) bool { return !t.keys.Status().Loaded.IsZero() || t.keyless() })
}

func (s *sidecar) inboundMissing() []string {
	return s.current.Load().keysMissing(func(t *trusted) bool { return t.keys.Ready() || t.keyless() && t.asked.Ready() })
}

// keyless says that the issuer has no keys that could be loaded: it is asked about each token.
func (t *trusted) keyless() bool { return t.asked != nil && t.keys.Status().None }

// keysMissing wants the keys of at least one trusted issuer, or one that has none and can be asked.
func (g *generation) keysMissing(there func(*trusted) bool) []string {
	var out []string
	for _, t := range g.trusted {
		switch {
		case there(t):
			return nil
		case t.keyless():
			out = append(out, fmt.Sprintf("issuer %s cannot be asked about tokens", t.config.Name))
		default:
			out = append(out, fmt.Sprintf("there are no usable keys of issuer %s", t.config.Name))
		}
	}
	return out
}

// outboundMissing wants a token of each prefetched route now, or no need of one. It says no more of a failure than the
// metric does, since anybody on the network may ask; and it has a token asked for again once a back-off is over: without
// requests, which may be waiting for this very probe, nothing else would.
func (s *sidecar) outboundMissing() []string {
	g := s.current.Load()
	if !g.loaded.Config.Tokens.Prefetch {
		return nil
	}
	var out []string
	now := time.Now()
	for _, r := range g.routes {
		if r.exchange != nil {
			continue // it has nothing to prefetch
		}
		st := r.status(now)
		if st.Ready() {
			continue
		}
		why := "it has not been fetched yet"
		if st.Failure != nil {
			why = st.Failure.Result
		}
		out = append(out, fmt.Sprintf("no token for route %s: %s", r.config.Name, why))
		_, _, _ = r.entry.Get(ended()) // begins an attempt where one may be made, and waits for nothing
	}
	return out
}

// ended is a context that is over.
func ended() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}
