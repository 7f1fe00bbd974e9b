package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sidepass/sidepass/config"
	"github.com/sidepass/sidepass/proxy"
	"github.com/sidepass/sidepass/proxy/admin"
	"github.com/sidepass/sidepass/proxy/jwks"
	"github.com/sidepass/sidepass/tokencache"
)

// status is what the status page and /api/status show.
func (s *sidecar) status() admin.Status {
	g, now := s.current.Load(), time.Now()
	c := g.loaded.Config
	version, commit := buildInfo()
	st := admin.Status{Version: version, Commit: commit, Started: s.started, Missing: s.missing(), Listeners: s.addresses()}
	if s.health.Draining() {
		st.Missing = append(st.Missing, "the sidecar is shutting down")
	}
	st.Ready = len(st.Missing) == 0
	st.Outbound, st.Inbound = c.Outbound != nil, c.Inbound != nil
	st.Traffic, st.Refusals = s.history.Traffic(), s.recent.List()
	if waiting := s.restart.Load(); waiting != nil {
		st.RestartRequired = *waiting
	}
	if g.shared != nil {
		shared := g.shared.cache.Status()
		st.Shared = &admin.SharedStatus{Up: shared.Up, Since: shared.Since, LastError: shared.Why}
	}
	for _, r := range g.routes {
		e := r.status(now)
		rs := admin.RouteStatus{Name: r.config.Name, Issuer: r.config.Issuer, Grant: r.config.Grant, Audience: r.config.Audience, Scopes: r.config.Scopes, LastSuccess: e.LastSuccess, RefreshAt: e.Due, RetryAt: e.RetryAt}
		rs.Obtained, rs.Cached, rs.Saved = e.Counts.Obtained, e.Counts.Cached, e.Counts.Saved()
		if e.Token != nil {
			rs.ObtainedAt, rs.ExpiresAt, rs.Granted = e.Token.Obtained, e.Token.Expiry, strings.Fields(e.Token.Scope)
		}
		if e.Failure != nil {
			rs.LastError, rs.LastFailure = e.Failure.Detail, e.LastFailure
		}
		st.Routes = append(st.Routes, rs)
	}
	for _, i := range c.Issuers {
		is := admin.IssuerStatus{Name: i.Name, URL: i.URL.String()}
		for _, t := range g.trusted {
			if t.config.Name == i.Name {
				k := t.keys.Status()
				is.Trusted, is.Keys, is.LastRefresh, is.NextRefresh = true, k.Keys, k.Loaded, k.Next
				if k.Keys > 0 {
					is.KeyNames = keyNames(t.keys.Snapshot())
				}
				if is.Introspected = t.keyless(); k.Err != nil && !is.Introspected {
					is.LastError = k.Err.Error()
				}
			}
		}
		st.Issuers = append(st.Issuers, is)
	}
	if c.Inbound != nil {
		for _, r := range c.Inbound.Rules {
			st.Rules = append(st.Rules, admin.RuleStatus{Name: r.Name, Match: r.Match, Needs: needs(r), Mode: r.Mode})
		}
	}
	return st
}

// keyNames are the key IDs and algorithms of a set.
func keyNames(set *jwks.Set) []string {
	if set == nil {
		return nil
	}
	var out []string
	for _, k := range set.Keys {
		if len(out) == admin.MaxKeyNames {
			break
		}
		out = append(out, cmp.Or(k.ID, "(no kid)")+" "+strings.Join(k.Algorithms, "/"))
	}
	return out
}

// needs says what a rule asks for, in the configuration's words.
func needs(r config.Rule) []string {
	if r.Anonymous() {
		return []string{"anonymous"}
	}
	var out []string
	add := func(key string, values []string) {
		if len(values) > 0 {
			out = append(out, key+": "+strings.Join(values, " "))
		}
	}
	add("scopes", r.Scopes)
	add("any_scope", r.AnyScope)
	add("clients", r.Clients)
	for _, c := range r.Claims {
		add("claims", []string{c.String()})
	}
	if len(out) == 0 {
		out = []string{"token"}
	}
	return out
}

// token serves the token API from the cache.
func (s *sidecar) token(ctx context.Context, name string) (admin.TokenAnswer, error) {
	for _, r := range s.current.Load().routes {
		if r.config.Name != name {
			continue
		}
		if r.exchange != nil {
			return admin.TokenAnswer{}, &admin.TokenError{Reason: proxy.NoSubjectToken, Detail: "This route exchanges its caller's token; there is none to hand out here."}
		}
		t, lookup, err := r.entry.Get(ctx)
		s.metrics.TokenCacheLookup(name, string(lookup))
		if err != nil {
			return admin.TokenAnswer{}, tokenError(name, err)
		}
		scope := t.Scope
		if scope == "" {
			scope = strings.Join(r.config.Scopes, " ")
		}
		return admin.TokenAnswer{AccessToken: t.Reveal, Type: t.Scheme, ExpiresAt: t.Expiry, Scope: scope}, nil
	}
	return admin.TokenAnswer{}, &admin.TokenError{Reason: proxy.NoRoute}
}

func tokenError(route string, err error) error {
	var f *tokencache.Failure
	if !errors.As(err, &f) {
		return &admin.TokenError{Reason: proxy.TokenUnavailable, RetryAfter: time.Second}
	}
	e := &admin.TokenError{Reason: proxy.TokenUnavailable, Detail: fmt.Sprintf("No access token for route %s: %s", route, f.Detail), RetryAfter: f.RetryAfter}
	if f.Kind == tokencache.Refused {
		e.Reason = proxy.TokenRefused
	}
	return e
}
