package main

import (
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
		out = s.inboundMissing()
	}
	s.awaited.Range(func(route, _ any) bool {
		out = append(out, fmt.Sprintf("the first token of route %s is being fetched", route))
		return true
	})
	return out
}

func (s *sidecar) inboundMissing() []string { return s.current.Load().keysMissing() }

// keysMissing wants the keys of at least one trusted issuer.
func (g *generation) keysMissing() []string {
	var out []string
	for _, t := range g.trusted {
		if t.keys.Ready() {
			return nil
		}
		out = append(out, fmt.Sprintf("no keys of issuer %s could be loaded yet", t.config.Name))
	}
	return out
}

// outboundMissing wants a token of each prefetched route now, or no need of one.
func (s *sidecar) outboundMissing() []string {
	g := s.current.Load()
	if !g.loaded.Config.Tokens.Prefetch {
		return nil
	}
	var out []string
	now := time.Now()
	for _, r := range g.routes {
		if st := r.entry.Status(now); !st.Ready() {
			why := "it has not been fetched yet"
			if st.Failure != nil {
				why = st.Failure.Detail
			}
			out = append(out, fmt.Sprintf("no token for route %s: %s", r.config.Name, why))
		}
	}
	return out
}
