package main

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/sidepass/sidepass/config"
	"github.com/sidepass/sidepass/proxy"
	"github.com/sidepass/sidepass/proxy/admin"
	"github.com/sidepass/sidepass/proxy/engine"
)

// remember keeps a request that was refused, or would have been, for the status page.
func (s *sidecar) remember(direction string, r *engine.Record) {
	decision := proxy.Deny
	if r.Note.Decision == proxy.WouldDeny {
		decision = proxy.WouldDeny
	}
	refusal := admin.Refusal{
		Time: time.Now(), Instance: r.Instance, Direction: direction, Decision: string(decision), Reason: string(r.Reason),
		Detail: cmp.Or(r.Detail, r.Reason.Sentence()), Status: r.Status, Rule: r.Note.Rule, Issuer: r.Note.Issuer, Client: r.Note.Client,
		Method: r.Method, Host: r.Host, Path: r.Path, Remote: r.Remote, Upstream: r.Upstream, Steps: admin.StepsOf(r.Note.Account),
	}
	if g := s.current.Load(); direction == outboundListener && g.loaded.Config.Outbound != nil && s.recent.Wanted() {
		refusal.Steps = outboundSteps(g.loaded.Config.Outbound, r)
	}
	s.recent.Add(refusal)
}

// outboundSteps tell how far a request of the app came.
func outboundSteps(c *config.Outbound, r *engine.Record) []admin.RefusalStep {
	problem := cmp.Or(r.Detail, r.Reason.Sentence())
	steps := []admin.RefusalStep{{Name: "request", Said: strings.Join([]string{r.Method, r.Host + r.Path, "on listener", r.Listener}, " ")}}
	i := slices.IndexFunc(c.Routes, func(rc config.Route) bool { return rc.Name == r.Note.Rule })
	if i < 0 {
		if r.Reason != proxy.NoRoute {
			steps[0].Problem = problem
			return steps
		}
		return append(steps, admin.RefusalStep{Name: "route", Said: "host " + r.Host, Required: "a route that covers it: " + routeNames(c), Problem: problem})
	}
	rc := c.Routes[i]
	steps = append(steps, admin.RefusalStep{Name: "route", Said: rc.Name, Required: because(rc)})
	token := admin.RefusalStep{Name: "token", Required: asked(rc)}
	switch r.Reason {
	case proxy.TokenRefused, proxy.TokenUnavailable, proxy.NoSubjectToken, proxy.SubjectRefused:
		token.Problem = problem
		return append(steps, token)
	case proxy.UpstreamUnreachable, proxy.UpstreamTimeout, proxy.UpstreamTLS, proxy.UpstreamProtocol:
		return append(steps, token, admin.RefusalStep{Name: "upstream", Said: r.Upstream, Problem: problem})
	}
	steps[1].Problem = problem
	return steps
}

// asked is what a route's token is asked for with, in the configuration's words.
func asked(rc config.Route) string {
	words := []string{"grant " + rc.Grant, "of issuer " + rc.Issuer}
	for _, p := range []struct {
		name   string
		values []string
	}{{"audience", rc.Audience}, {"resource", rc.Resource}, {"scopes", rc.Scopes}} {
		if len(p.values) > 0 {
			words = append(words, "for "+p.name+" "+strings.Join(p.values, " "))
		}
	}
	return strings.Join(words, ", ")
}

// routeNames are the hosts, prefixes and listeners that there are routes for.
func routeNames(c *config.Outbound) string {
	var names []string
	for _, rc := range c.Routes {
		names = append(names, cmp.Or(rc.Host, rc.Prefix, rc.Name))
	}
	if len(names) == 0 {
		return "there is none"
	}
	return strings.Join(names, " ")
}
