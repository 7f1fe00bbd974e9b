package config

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

func (v *validator) inbound(in *Inbound) {
	if in.Trust == nil {
		v.problem("inbound.trust", "is missing", "add at least one entry: whose tokens are accepted, and for which audiences")
	}
	trusted := v.trust(in.Trust)
	if in.Leeway > 5*time.Minute {
		v.problem("inbound.leeway", "is more than 5m", "write a duration from 0s to 5m")
	}
	v.claimHeaders(in.ClaimHeaders)
	v.tls(in.TLS)
	v.noCredentials("inbound.resource", in.Resource)
	v.redisURL("inbound.revocation_redis_url", in.RevocationRedisURL)
	names := make([]string, len(in.Rules))
	for i := range in.Rules {
		rule, path := &in.Rules[i], elementPath("inbound.rules", i)
		if rule.Name == "" && len(rule.Match) > 0 {
			rule.Name = rule.Match[0]
		}
		if names[i] = rule.Name; rule.Name == "unmatched" {
			v.problem(path+".name", shown(rule.Name)+" is what the metrics call requests without a rule", "choose another name")
		}
		if rule.Mode == "" {
			rule.Mode = in.Mode
		}
		v.rule(rule, path, trusted)
	}
	v.names("rule", names, func(i int) string { return elementPath("inbound.rules", i) })
	v.patterns(in.Rules)
}

// trust checks the entries and returns their issuers' names.
func (v *validator) trust(entries []Trust) (trusted []string) {
	urls := map[string]int{}
	introspecting := -1
	for i := range entries {
		t, path := &entries[i], elementPath("inbound.trust", i)
		issuer := v.issuer(&t.Issuer, path+".issuer")
		if t.Issuer != "" {
			trusted = append(trusted, t.Issuer)
		}
		if issuer >= 0 {
			url := v.cfg.Issuers[issuer].URL.String()
			if first, again := urls[url]; again && url != "" {
				v.problem(path+".issuer", "the URL "+url+" is already trusted by "+v.where(elementPath("inbound.trust", first)), "make one entry of the two: one trust a URL")
			} else {
				urls[url] = i
			}
		}
		switch {
		case t.Audiences != nil:
		case !t.AllowMissingAudience:
			v.problem(path+".audiences", "is missing", "write what a token for this service has in aud; for a server that sends none, allow_missing_audience: true and clients")
		case t.Clients == nil:
			v.problem(path+".clients", "is missing: allow_missing_audience needs it", "write the clients whose tokens are accepted")
		}
		for j, claim := range t.ScopeClaims {
			if err := checkClaim(claim); err != nil {
				v.problem(elementPath(path+".scope_claims", j), err.Error(), "write a claim's name, or a JSON Pointer such as /realm_access/roles")
			}
		}
		if !t.Introspect {
			continue
		}
		if introspecting >= 0 {
			v.problem(path+".introspect", "is on in "+v.where(elementPath("inbound.trust", introspecting)+".introspect")+" too", "an opaque token does not say whose it is: ask one issuer at most")
		}
		introspecting = i
		if issuer >= 0 {
			v.needsClient(issuer, "introspection asks as this client")
		}
	}
	return trusted
}

func (v *validator) claimHeaders(headers []ClaimHeader) {
	first := map[string]int{}
	for i, h := range headers {
		if j, again := first[headerKey(h.Header)]; again && h.Header != "" {
			v.problem(elementPath("inbound.claim_headers", i), "the header "+h.Header+" is set already by "+v.where(elementPath("inbound.claim_headers", j)), "give each claim a header of its own")
		} else {
			first[headerKey(h.Header)] = i
		}
	}
}

func (v *validator) tls(t TLS) {
	const path = "inbound.tls"
	switch {
	case t.CertFile == "" && t.KeyFile != "":
		v.problem(path+".cert_file", "is missing: cert_file and key_file belong together", "give both, or none")
	case t.CertFile != "" && t.KeyFile == "":
		v.problem(path+".key_file", "is missing: cert_file and key_file belong together", "give both, or none")
	case t.CertFile == "" && (t.ClientAuth != "none" || t.ClientCAFile != ""):
		v.problem(path+".cert_file", "is missing: client certificates need TLS", "give cert_file and key_file")
	}
	if t.ClientAuth == "require" && t.ClientCAFile == "" {
		v.problem(path+".client_ca_file", "is missing: client_auth: require needs it", "give the file of the certificate authority that issues the clients' certificates")
	}
	if t.ClientAuth == "none" && t.ClientCAFile != "" {
		v.problem(path+".client_auth", "is none, but client_ca_file is set", "write client_auth: require (or request), or remove client_ca_file")
	}
}

func (v *validator) rule(r *Rule, path string, trusted []string) {
	if r.Match == nil {
		v.problem(path+".match", "is missing", `write net/http.ServeMux patterns: ["GET /orders/{id}"]`)
	}
	if v.problems.fails(path + ".allow") {
		return
	}
	if r.Anonymous() {
		for _, guard := range []struct {
			key string
			set bool
		}{{"scopes", r.Scopes != nil}, {"any_scope", r.AnyScope != nil}, {"clients", r.Clients != nil}, {"claims", r.Claims != nil}, {"issuers", r.Issuers != nil}} {
			if guard.set {
				v.problem(path+"."+guard.key, "has no effect with allow: anonymous", "remove one of the two")
			}
		}
		return
	}
	for i, name := range r.Issuers {
		switch {
		case len(trusted) == 0: // reported already
		case name == "*" && len(r.Issuers) > 1:
			v.problem(elementPath(path+".issuers", i), "* is among other names", `write ["*"] alone, or the names`)
		case name != "*" && name != "" && !slices.Contains(trusted, name):
			hint := "the trusted issuers are " + strings.Join(trusted, ", ")
			if near := nearest(name, trusted); near != "" {
				hint = "did you mean `" + near + "`?"
			}
			v.problem(elementPath(path+".issuers", i), shown(name)+" is not a trusted issuer", hint)
		}
	}
	if r.Issuers == nil && len(trusted) > 1 {
		v.problem(path+".issuers", "is missing: more than one issuer is trusted", `write whose tokens the rule takes: `+alternatives(trusted)+`, or ["*"] for any`)
	}
	if r.Issuers == nil || slices.Equal(r.Issuers, []string{"*"}) {
		r.Issuers = slices.Clone(trusted)
	}
}

// patterns refuses what ServeMux would: malformed patterns, and two of which neither is more specific.
func (v *validator) patterns(rules []Rule) {
	type placed struct{ pattern, path string }
	var seen []placed
	for i, r := range rules {
		for j, pattern := range r.Match {
			path := elementPath(elementPath("inbound.rules", i)+".match", j)
			if pattern == "" {
				continue
			}
			if err := checkPattern(pattern); err != nil {
				v.problem(path, err.Error(), `write a net/http.ServeMux pattern: "GET /orders/{id}", "/files/"`)
				continue
			}
			if hasHost(pattern) {
				v.problem(path, shown(pattern)+" names a host", "write the method and the path only: the rule holds for every host")
				continue
			}
			for _, other := range seen {
				if conflict(pattern, other.pattern) {
					v.problem(path, fmt.Sprintf("%s conflicts with %s of %s: both match some requests, and neither is more specific", shown(pattern), shown(other.pattern), v.where(other.path)), "make one of them more specific, or remove it")
				}
			}
			seen = append(seen, placed{pattern, path})
		}
	}
}
