package main

import (
	"cmp"
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sidepass/sidepass/check"
	"github.com/sidepass/sidepass/config"
	"github.com/sidepass/sidepass/proxy"
	"github.com/sidepass/sidepass/proxy/pattern"
)

// inbound checks the app and the rules.
func (c *checker) inbound(ctx context.Context, g *check.Group) {
	in := c.generation.loaded.Config.Inbound
	if !c.offline {
		keys, where := c.apps()
		for i := range keys {
			c.contact(ctx, g, keys[i], where[i], "", "")
		}
	}
	if t := c.generation.tls; t != nil {
		listenerCertificate(g, t.Certificates[0].Leaf, time.Now())
	}
	if in.Mode == "audit" {
		g.Warn("mode", nil, "set mode: enforce when the log shows that only what should be refused would be", "mode is audit: requests without a good token go on to the app")
	}
	if in.Rules == nil {
		g.OK("rule", nil, "there are no rules: every request needs a valid token, and no more")
		return
	}
	c.rules(g, in)
}

func listenerCertificate(g *check.Group, c *x509.Certificate, now time.Time) {
	ends := c.NotAfter
	facts := check.Facts{"certificate_not_after": ends.UTC().Format(time.RFC3339)}
	switch {
	case !now.Before(ends):
		g.Fail("certificate", facts, "renew inbound.tls.cert_file: no caller accepts it", "the listener's certificate ended on %s", ends.UTC().Format(time.DateOnly))
	case endsSoon(c, now):
		g.Warn("certificate", facts, "renew inbound.tls.cert_file", "the listener's certificate ends on %s", ends.UTC().Format(time.DateOnly))
	default:
		g.OK("certificate", facts, "the listener's certificate is valid until %s", ends.UTC().Format(time.DateOnly))
	}
}

// rules lists the patterns, those that go before others first, and says of each rule that needs it why it never matches, and
// what it opens.
func (c *checker) rules(g *check.Group, in *config.Inbound) {
	type row struct {
		pattern string
		rule    config.Rule
	}
	var rows []row
	var patterns []string
	for _, r := range in.Rules {
		for _, p := range r.Match {
			rows, patterns = append(rows, row{p, r}), append(patterns, p)
		}
	}
	slices.SortFunc(rows, func(a, b row) int { return pattern.Order(a.pattern, b.pattern) })
	for _, r := range rows {
		wants := demands(r.rule, len(in.Trust) > 1)
		facts := check.Facts{"rule": r.rule.Name, "pattern": r.pattern, "needs": wants}
		says := r.pattern + ": " + wants
		if r.rule.Name != r.pattern {
			says += " (rule " + r.rule.Name + ")"
		}
		if r.rule.Mode == "audit" && in.Mode != "audit" && !r.rule.Anonymous() {
			g.Warn("rule", facts, "set its mode to enforce when the log shows that only what should be refused would be", "%s, but its mode is audit: requests without that go on", says)
			continue
		}
		g.OK("rule", facts, "%s", says)
	}
	for _, p := range patterns {
		doubtful(g, p)
	}
	for _, r := range in.Rules {
		if taken := c.takenBy(r, patterns); taken != "" {
			g.Warn("unreachable", check.Facts{"rule": r.Name}, "remove the rule, or make room for it; docs/rules.md says which pattern goes before which", "the rule %s never matches: %s", r.Name, taken)
		}
	}
	for _, r := range in.Rules {
		if r.Anonymous() {
			opened(g, r)
		}
	}
}

// doubtful warns of a pattern that hardly means what it says.
func doubtful(g *check.Group, p string) {
	for _, d := range pattern.Doubts(p) {
		g.Warn("pattern", check.Facts{"pattern": p}, d.Do, "%s", d.Says)
	}
}

// demands says what a rule asks of a request. Whose token it is matters where several issuers are trusted.
func demands(r config.Rule, several bool) string {
	if r.Anonymous() {
		return "open to anyone"
	}
	var words []string
	add := func(what string, list []string) {
		if len(list) > 0 {
			words = append(words, what+" "+strings.Join(list, " "))
		}
	}
	add("scopes", r.Scopes)
	add("any scope of", r.AnyScope)
	add("clients", r.Clients)
	var claims []string
	for _, claim := range r.Claims {
		claims = append(claims, claim.String())
	}
	add("claims", claims)
	if several {
		add("issuers", r.Issuers)
	}
	return strings.Join(append([]string{"a token"}, words...), ", ")
}

// takenBy says what becomes of the requests that a rule is for, where none of them reaches it. It asks the gate about examples that
// stand for all of them; "" is a rule that gets some.
func (c *checker) takenBy(r config.Rule, patterns []string) string {
	var takers []string
	for _, p := range r.Match {
		for _, e := range pattern.Examples(p, patterns) {
			target, _ := proxy.ParseTarget(e.Method, e.Path)
			v := c.generation.inbound.Admit(context.Background(), &proxy.Request{Method: e.Method, Target: target, Host: "localhost", Header: fields{}, Listener: inboundListener})
			taker := "the rule " + v.Note.Rule + " goes before it"
			switch {
			case v.Note.Rule == r.Name && v.Action != proxy.Answer:
				return ""
			case v.Action == proxy.Answer:
				taker = "sidepass answers it itself (inbound.resource)"
			case v.Reason == proxy.AmbiguousPath, v.Reason == proxy.MethodNotAllowed:
				taker = fmt.Sprintf("what it is for is refused before the rules, as %s", v.Reason)
			case v.Reason == proxy.NoRule, v.Note.Rule == "unmatched":
				continue // a slash more or less, which falls under no rule
			}
			if !slices.Contains(takers, taker) {
				takers = append(takers, taker)
			}
		}
	}
	return cmp.Or(strings.Join(takers, ", "), "no request falls under it")
}

// opened says what an anonymous rule opens, and warns of more than a look at some paths.
func opened(g *check.Group, r config.Rule) {
	for _, p := range r.Match {
		facts := check.Facts{"rule": r.Name, "pattern": p}
		method, path, found := strings.Cut(p, " ")
		if !found {
			method, path = "", p
		}
		path = strings.TrimSpace(path)
		switch tree := strings.HasSuffix(path, "/") || strings.HasSuffix(path, "...}"); {
		case tree && strings.Count(path, "/") == 1:
			g.Warn("anonymous", facts, "open only the paths that need it", "the rule %s opens every path that no other rule has to anyone, without a token: %s", r.Name, p)
		case method == "":
			g.Warn("anonymous", facts, "write the methods that need it, for instance GET "+path, "the rule %s opens %s to anyone, without a token, with every method", r.Name, p)
		case method != "GET" && method != "HEAD" && method != "OPTIONS":
			g.Warn("anonymous", facts, "let the rule need a token, unless anyone may change something there", "the rule %s opens %s to anyone, without a token", r.Name, p)
		default:
			g.OK("anonymous", facts, "the rule %s opens %s to anyone, without a token", r.Name, p)
		}
	}
}
