package admin

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sidepass/sidepass/proxy"
)

// Labels are the label values that a configuration allows.
type Labels struct {
	// Outbound and Inbound are nil where the direction is not run.
	Outbound *OutboundLabels
	Inbound  *InboundLabels
	// Files are the configuration keys of the watched files.
	Files []string
	// Certificates are the names of the certificates whose end is reported.
	Certificates []string
	// Shared says that there is a shared token cache, Revocations that there is a source of revocations.
	Shared, Revocations bool
}

// OutboundLabels are the outbound direction's. The routes "unmatched" and "connect" are always there besides.
type OutboundLabels struct {
	Routes []Route
}

// Route is an outbound route as far as metrics know it.
type Route struct {
	Name string
	// Issuer is the configured name of the issuer that its tokens come from.
	Issuer string
	// Grant is the configuration's word: client_credentials, token_exchange, on_behalf_of.
	Grant string
}

// InboundLabels are the inbound direction's. The rule "unmatched" is always there besides.
type InboundLabels struct {
	// Issuers are the configured names of the trusted issuers.
	Issuers []string
	// Rules is empty where the configuration has none; the rule is "default" then.
	Rules []Rule
	// Audit says that the direction as a whole is in audit mode.
	Audit bool
}

// Rule is an inbound rule as far as metrics know it.
type Rule struct {
	Name string
	// Issuers are those of [InboundLabels] whose tokens it takes, each by its name; none for an anonymous rule.
	Issuers []string
	// Audit says that the rule is in audit mode, by its own word or the direction's.
	Audit bool
}

const (
	unmatched   = "unmatched"
	connect     = "connect"
	defaultRule = "default"
)

// names is the sets of label values that are counted.
type names struct {
	routes              map[string]Route
	rules               map[string]bool
	tokenIssuers        map[string]bool
	keyIssuers          map[string]bool
	files, certificates map[string]bool
	shared, revocations bool
}

// issuer says whether any direction knows the issuer.
func (n *names) issuer(name string) bool { return n.tokenIssuers[name] || n.keyIssuers[name] }

// routeSeries is what the request path needs of one route.
type routeSeries struct {
	name     string
	duration prometheus.Observer
	requests memo[outboundKey]
	// One for each result; shared is nil where there is no shared cache.
	hit, miss, stale, shared prometheus.Counter
}

type outboundKey struct {
	status int
	reason proxy.Reason
}

// ruleSeries is what the request path needs of one rule.
type ruleSeries struct {
	name     string
	duration prometheus.Observer
	requests memo[inboundKey]
}

type inboundKey struct {
	issuer   string
	decision proxy.Decision
	reason   proxy.Reason
}

// Describe names the label values of the configuration that is about to be used. Series that can be told from it exist
// from now on, at zero; series of what the last configuration had and this one has not are deleted; all others keep
// their values. Call it before the first event of the new configuration, at start and at each reload. A request that
// still runs under an old configuration and names what is gone is not counted.
func (m *Metrics) Describe(l Labels) {
	m.mu.Lock()
	defer m.mu.Unlock()
	old := m.names
	m.names = l.names()
	m.forget(&old)

	routes := map[string]*routeSeries{}
	for name, r := range m.names.routes {
		routes[name] = m.describeRoute(name, r)
	}
	if u := routes[unmatched]; u != nil {
		routes[""] = u
	}
	m.routes.Store(&routes)

	rules := map[string]*ruleSeries{}
	if l.Inbound != nil {
		m.describeInbound(l.Inbound, rules)
	}
	m.rules.Store(&rules)

	for name := range m.names.tokenIssuers {
		m.tokenDuration.WithLabelValues(name)
	}
	for name := range m.names.keyIssuers {
		m.jwksRefreshes.WithLabelValues(name, resultOK)
		m.jwksRefreshes.WithLabelValues(name, resultError)
		m.jwksKeys.WithLabelValues(name)
	}
	for key := range m.names.files {
		m.fileFailures.WithLabelValues(key)
	}
	if l.Shared {
		m.sharedUp.WithLabelValues()
	}
}

func (l *Labels) names() names {
	n := names{
		routes: map[string]Route{}, rules: map[string]bool{},
		tokenIssuers: map[string]bool{}, keyIssuers: map[string]bool{},
		files: set(l.Files), certificates: set(l.Certificates),
		shared: l.Shared, revocations: l.Revocations,
	}
	if l.Outbound != nil {
		n.routes[unmatched], n.routes[connect] = Route{Name: unmatched}, Route{Name: connect}
		for _, r := range l.Outbound.Routes {
			n.routes[r.Name] = r
			n.tokenIssuers[r.Issuer] = true
		}
	}
	if l.Inbound != nil {
		n.rules[unmatched] = true
		for _, r := range l.Inbound.rules() {
			n.rules[r.Name] = true
		}
		n.keyIssuers = set(l.Inbound.Issuers)
	}
	return n
}

// rules is the rules with the one that stands for their absence.
func (l *InboundLabels) rules() []Rule {
	if len(l.Rules) == 0 {
		return []Rule{{Name: defaultRule, Issuers: l.Issuers, Audit: l.Audit}}
	}
	return l.Rules
}

func (m *Metrics) describeRoute(name string, r Route) *routeSeries {
	s := &routeSeries{name: name, duration: m.outboundDuration.WithLabelValues(name)}
	if r.Issuer == "" { // unmatched, connect: never a token
		return s
	}
	s.requests.put(outboundKey{200, proxy.OK}, m.outbound.WithLabelValues(name, "200", string(proxy.OK)))
	s.hit = m.tokenLookups.WithLabelValues(name, "hit")
	s.miss = m.tokenLookups.WithLabelValues(name, "miss")
	s.stale = m.tokenLookups.WithLabelValues(name, "stale")
	if m.names.shared {
		s.shared = m.tokenLookups.WithLabelValues(name, "shared")
	}
	m.tokenRequests.WithLabelValues(r.Issuer, name, r.Grant, resultOK)
	for _, action := range upstreamActions {
		m.upstream401.WithLabelValues(name, action)
	}
	m.scopeNarrowed.WithLabelValues(name)
	return s
}

func (m *Metrics) describeInbound(l *InboundLabels, rules map[string]*ruleSeries) {
	add := func(name string, audit bool) *ruleSeries {
		s := &ruleSeries{name: name, duration: m.inboundDuration.WithLabelValues(name)}
		rules[name] = s
		value := 0.0
		if audit {
			value = 1
		}
		m.inboundAudit.WithLabelValues(name).Set(value)
		return s
	}
	rules[""] = add(unmatched, l.Audit)
	for _, r := range l.rules() {
		s := add(r.Name, r.Audit)
		issuers := r.Issuers
		if len(issuers) == 0 {
			issuers = []string{""}
		}
		for _, issuer := range issuers {
			m.inboundCounter(s, inboundKey{issuer, proxy.Allow, proxy.OK})
		}
	}
}

// inboundCounter makes the counter of a combination and remembers it. The caller holds mu.
func (m *Metrics) inboundCounter(s *ruleSeries, k inboundKey) prometheus.Counter {
	c := m.inbound.WithLabelValues(s.name, k.issuer, string(k.decision), string(k.reason))
	s.requests.put(k, c)
	return c
}

// vector is a family of series.
type vector interface {
	DeletePartialMatch(prometheus.Labels) int
}

// forget deletes the series of what was and is no more.
func (m *Metrics) forget(old *names) {
	now := &m.names
	for name, r := range old.routes {
		switch is, ok := now.routes[name]; {
		case !ok:
			drop("route", name, m.tokenRequests, m.tokenLookups, m.tokenExpiry, m.tokenLastSuccess,
				m.outbound, m.outboundDuration, m.upstream401, m.scopeNarrowed)
		case is != r: // its tokens are others now, or none that are reported
			drop("route", name, m.tokenExpiry, m.tokenLastSuccess)
		}
	}
	gone(old.rules, now.rules, "rule", m.inbound, m.inboundDuration, m.inboundAudit)
	gone(old.tokenIssuers, now.tokenIssuers, "issuer", m.tokenRequests, m.tokenDuration, m.tokenQuota)
	gone(old.keyIssuers, now.keyIssuers, "issuer", m.inbound, m.jwksRefreshes, m.jwksKeys, m.jwksLastSuccess)
	for _, issuers := range []map[string]bool{old.tokenIssuers, old.keyIssuers} {
		for name := range issuers {
			if !now.issuer(name) {
				drop("issuer", name, m.clockSkew)
			}
		}
	}
	gone(old.files, now.files, "file", m.fileFailures)
	gone(old.certificates, now.certificates, "name", m.certNotAfter)
	if !now.shared {
		m.sharedUp.Reset()
		drop("result", "shared", m.tokenLookups)
	}
	if !now.revocations {
		m.revocationLastSync.Reset()
	}
}

func gone(old, now map[string]bool, label string, from ...vector) {
	for value := range old {
		if !now[value] {
			drop(label, value, from...)
		}
	}
}

func drop(label, value string, from ...vector) {
	for _, v := range from {
		v.DeletePartialMatch(prometheus.Labels{label: value})
	}
}

func set(values []string) map[string]bool {
	out := make(map[string]bool, len(values))
	for _, v := range values {
		out[v] = true
	}
	return out
}
