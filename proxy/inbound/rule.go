package inbound

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sidepass/sidepass/proxy"
	"github.com/sidepass/sidepass/proxy/pattern"
	"github.com/sidepass/sidepass/proxy/verify"
)

// Rule says what a request needs that one of its patterns matches. A demand that is nil asks for nothing; one that is
// there but empty is an error of [New], so that a list that was lost on the way opens no door.
type Rule struct {
	// Name is the rule's label; it is required.
	Name string
	// Match holds patterns as [pattern] describes them; at least one.
	Match []string
	// Anonymous lets requests through without a token; one that they carry is not judged. It excludes every demand.
	Anonymous bool
	// Issuers are names of trusted issuers, of which the token comes from one; ["*"] is any. Needed with more than one trusted issuer.
	Issuers []string
	// Clients are those that may make the request.
	Clients []string
	// Scopes are needed, all of them.
	Scopes []string
	// AnyScope holds scopes of which at least one is needed.
	AnyScope []string
	// Claims are needed. Those of the same name are alternatives; of an array one element has to have the value.
	Claims []verify.ClaimValue
	// Upstream takes the place of the gate's; nil keeps it.
	Upstream proxy.Upstream
	// Mode is the rule's own; "" is the gate's.
	Mode Mode
}

// rule is a rule as requests are held against it.
type rule struct {
	name      string
	unmatched bool // what a request falls under that no rule matches
	anonymous bool
	audit     bool
	issuers   []string // nil is any
	clients   []string
	scopes    []string
	anyScope  []string
	claims    []demand
	upstream  proxy.Upstream
}

// demand is a claim and the values that it may have.
type demand struct {
	claim  string
	values []string
}

func compileRules(o *Options) (*pattern.Matcher[*rule], []error) {
	var (
		errs    []error
		entries []pattern.Entry[*rule]
	)
	if len(o.Rules) == 0 {
		errs = append(errs, errors.New("inbound: the list of rules is there but empty; remove it, or add a rule"))
	}
	for i := range o.Rules {
		r := &o.Rules[i]
		for _, problem := range r.problems(o.Issuers) {
			errs = append(errs, fmt.Errorf("inbound: rule %q: %s", r.Name, problem))
		}
		compiled := r.compile(o.Mode)
		for _, p := range r.Match {
			entries = append(entries, pattern.Entry[*rule]{Pattern: p, Value: compiled})
		}
	}
	m, err := pattern.Compile(entries)
	if err != nil {
		errs = append(errs, fmt.Errorf("inbound: rules: %w", err))
	}
	return m, errs
}

func (r *Rule) problems(trusted []Issuer) (out []string) {
	if r.Name == "" {
		out = append(out, "it has no name")
	}
	if len(r.Match) == 0 {
		out = append(out, "it has no pattern to match")
	}
	if !r.Mode.known() {
		out = append(out, fmt.Sprintf("mode %q is neither enforce nor audit", r.Mode))
	}
	demands := []struct {
		name string
		list []string
	}{{"issuers", r.Issuers}, {"clients", r.Clients}, {"scopes", r.Scopes}, {"any_scope", r.AnyScope}, {"claims", claimNames(r.Claims)}}
	for _, d := range demands {
		switch {
		case d.list == nil:
		case r.Anonymous:
			out = append(out, d.name+" would be without effect in an anonymous rule; remove one of the two")
		case len(d.list) == 0 || slices.Contains(d.list, ""):
			out = append(out, d.name+" is there but empty, or has an empty element")
		}
	}
	for _, name := range r.Issuers {
		if name != "*" && !slices.ContainsFunc(trusted, func(i Issuer) bool { return i.Name == name }) {
			out = append(out, fmt.Sprintf("issuer %q is not one that is trusted", name))
		}
	}
	if r.Issuers == nil && !r.Anonymous && len(trusted) > 1 {
		out = append(out, "it has to name its issuers, since more than one is trusted")
	}
	return out
}

// claimNames keeps nil apart from empty.
func claimNames(claims []verify.ClaimValue) []string {
	if claims == nil {
		return nil
	}
	names := make([]string, len(claims))
	for i, c := range claims {
		names[i] = c.Claim
	}
	return names
}

func (r *Rule) compile(mode Mode) *rule {
	if r.Mode != "" {
		mode = r.Mode
	}
	out := &rule{
		name:      r.Name,
		anonymous: r.Anonymous,
		audit:     mode == Audit,
		issuers:   slices.Clone(r.Issuers),
		clients:   slices.Clone(r.Clients),
		scopes:    slices.Clone(r.Scopes),
		anyScope:  slices.Clone(r.AnyScope),
		upstream:  r.Upstream,
	}
	if slices.Contains(r.Issuers, "*") {
		out.issuers = nil
	}
	for _, c := range r.Claims {
		i := slices.IndexFunc(out.claims, func(d demand) bool { return d.claim == c.Claim })
		if i < 0 {
			i = len(out.claims)
			out.claims = append(out.claims, demand{claim: c.Claim})
		}
		out.claims[i].values = append(out.claims[i].values, c.Value)
	}
	return out
}

// rule finds the rule of a request.
func (g *Gate) rule(method, path string, odd oddity) (*rule, *refusal) {
	if g.rules == nil {
		return g.fallback, nil
	}
	if odd == 0 {
		return g.match(method, path), nil
	}
	rl := g.match(method, collapsed(path))
	for _, other := range otherReadings(path, odd) {
		alt := g.match(method, other)
		if alt.unmatched { // many servers take a path with and without a slash at its end for the same
			if bare, slash := strings.CutSuffix(other, "/"); slash {
				alt = g.match(method, bare)
			} else {
				alt = g.match(method, other+"/")
			}
		}
		if alt != rl && !alt.unmatched {
			return nil, &refusal{reason: proxy.AmbiguousPath, detail: "The path falls under different rules, depending on how a server reads its encoded slashes and semicolons."}
		}
	}
	return rl, nil
}

func (g *Gate) match(method, path string) *rule {
	if rl, ok := g.rules.Match(method, path); ok {
		return rl
	}
	return g.fallback
}

// judge holds a verified token against the rule.
func (rl *rule) judge(tok *verify.Token) *refusal {
	switch {
	case rl.unmatched:
		return &refusal{reason: proxy.NoRule}
	case rl.issuers != nil && !slices.Contains(rl.issuers, tok.IssuerName):
		return &refusal{reason: proxy.ClaimMismatch, detail: "Tokens of this issuer are not accepted for this request."}
	case rl.clients != nil && !slices.Contains(rl.clients, tok.Client):
		return &refusal{reason: proxy.ClientNotAllowed}
	}
	for _, s := range rl.scopes {
		if !tok.HasScope(s) {
			return &refusal{reason: proxy.InsufficientScope, scope: strings.Join(rl.scopes, " ")}
		}
	}
	if rl.anyScope != nil && !slices.ContainsFunc(rl.anyScope, tok.HasScope) {
		return &refusal{reason: proxy.InsufficientScope, scope: strings.Join(rl.anyScope, " "), detail: "The token needs one of the scopes that this request takes."}
	}
	for i := range rl.claims {
		if !rl.claims[i].met(tok) {
			return &refusal{reason: proxy.ClaimMismatch}
		}
	}
	return nil
}

func (d *demand) met(tok *verify.Token) bool {
	for _, value := range d.values {
		if tok.HasClaim(d.claim, value) {
			return true
		}
	}
	return false
}
