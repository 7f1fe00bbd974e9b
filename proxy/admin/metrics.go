package admin

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/sidepass/sidepass/proxy"
)

// Buckets in seconds: a request through a sidecar is either very quick or waits for its upstream, a token request
// always crosses a network.
var (
	requestBuckets = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
	tokenBuckets   = []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
)

// Build is what sidepass_build_info says of the binary.
type Build struct {
	Version, Commit, GoVersion string
}

// Metric describes one metric of ours.
type Metric struct {
	Name string
	// Type is "counter", "gauge" or "histogram".
	Type   string
	Help   string
	Labels []string
}

// Metrics holds every metric of the sidecar in a registry of its own. Its methods are events, safe for concurrent use.
//
// Label values come from the configuration only: [Metrics.Describe] names them, and an event that names another route,
// rule, issuer, file or certificate is not counted. Words of a closed set (result, action, reason) that are not in it
// are counted under the set's catch-all. Outbound, Inbound, TokenCacheLookup and VerifiedTokenLookup are for the
// request path: they take no lock and allocate nothing once a combination of labels has been seen.
type Metrics struct {
	registry *prometheus.Registry
	list     []Metric
	reasons  map[proxy.Reason]bool

	routes atomic.Pointer[map[string]*routeSeries]
	rules  atomic.Pointer[map[string]*ruleSeries]

	mu    sync.Mutex // guards names, and every creation and removal of a series whose labels are in names
	names names

	tokenRequests    *prometheus.CounterVec
	tokenDuration    *prometheus.HistogramVec
	tokenLookups     *prometheus.CounterVec
	tokenExpiry      *prometheus.GaugeVec
	tokenLastSuccess *prometheus.GaugeVec
	tokenQuota       *prometheus.GaugeVec
	outbound         *prometheus.CounterVec
	outboundDuration *prometheus.HistogramVec
	upstream401      *prometheus.CounterVec
	scopeNarrowed    *prometheus.CounterVec
	inbound          *prometheus.CounterVec
	inboundDuration  *prometheus.HistogramVec
	inboundAudit     *prometheus.GaugeVec
	jwksRefreshes    *prometheus.CounterVec
	jwksKeys         *prometheus.GaugeVec
	jwksLastSuccess  *prometheus.GaugeVec
	configReloads    *prometheus.CounterVec
	fileFailures     *prometheus.CounterVec
	certNotAfter     *prometheus.GaugeVec
	clockSkew        *prometheus.GaugeVec

	verifiedHit, verifiedMiss prometheus.Counter
	lean, std                 prometheus.Counter

	// Gauges without labels are vectors all the same, so that they can be absent.
	configLastSuccess  *prometheus.GaugeVec
	sharedUp           *prometheus.GaugeVec
	revocationLastSync *prometheus.GaugeVec
}

// NewMetrics returns the metrics with nothing described yet.
func NewMetrics(b Build) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), reasons: map[proxy.Reason]bool{proxy.OK: true}}
	for _, r := range proxy.Reasons() {
		m.reasons[r] = true
	}
	m.routes.Store(&map[string]*routeSeries{})
	m.rules.Store(&map[string]*ruleSeries{})

	m.tokenRequests = m.counter("sidepass_token_requests_total", "Requests to an authorization server's token endpoint, by how they ended.", "issuer", "route", "grant", "result")
	m.tokenDuration = m.histogram("sidepass_token_request_duration_seconds", "Time that a request to the token endpoint took.", tokenBuckets, "issuer")
	m.tokenLookups = m.counter("sidepass_token_cache_lookups_total", "Look-ups in the token cache, by what they found.", "route", "result")
	m.tokenExpiry = m.gauge("sidepass_token_expiry_timestamp_seconds", "When the route's cached token expires, in Unix time; absent until there is one.", "route")
	m.tokenLastSuccess = m.gauge("sidepass_token_last_success_timestamp_seconds", "When a token was last obtained for the route, in Unix time; absent until then.", "route")
	m.tokenQuota = m.gauge("sidepass_token_quota_remaining", "Token requests left in a quota or rate limit, as the authorization server last said.", "issuer", "bucket")
	m.outbound = m.counter("sidepass_outbound_requests_total", "Requests of the app, by route, status and reason.", "route", "code", "reason")
	m.outboundDuration = m.histogram("sidepass_outbound_request_duration_seconds", "Time from the request's head to the end of its answer, outbound.", requestBuckets, "route")
	m.upstream401 = m.counter("sidepass_upstream_401_total", "Answers of an upstream that refused the token, by what was done.", "route", "action")
	m.scopeNarrowed = m.counter("sidepass_scope_narrowed_total", "Tokens that were issued with fewer scopes than the route asks for.", "route")
	m.inbound = m.counter("sidepass_inbound_requests_total", "Requests to the app, by rule, issuer, decision and reason.", "rule", "issuer", "decision", "reason")
	m.inboundDuration = m.histogram("sidepass_inbound_request_duration_seconds", "Time from the request's head to the end of its answer, inbound.", requestBuckets, "rule")
	m.inboundAudit = m.gauge("sidepass_inbound_audit", "1 where nothing is enforced: the rule is in audit mode.", "rule")
	verified := m.counter("sidepass_verified_token_cache_lookups_total", "Look-ups in the cache of verified tokens, by what they found.", "result")
	m.verifiedHit, m.verifiedMiss = verified.WithLabelValues("hit"), verified.WithLabelValues("miss")
	engines := m.counter("sidepass_engine_requests_total", "Requests by what carried them to the upstream: the lean engine for HTTP/1.1, or net/http for everything else.", "engine")
	m.lean, m.std = engines.WithLabelValues("lean"), engines.WithLabelValues("std")
	m.jwksRefreshes = m.counter("sidepass_jwks_refreshes_total", "Attempts to load an issuer's keys, by how they ended.", "issuer", "result")
	m.jwksKeys = m.gauge("sidepass_jwks_keys", "Usable keys of the issuer; 0 until they have been loaded.", "issuer")
	m.jwksLastSuccess = m.gauge("sidepass_jwks_last_success_timestamp_seconds", "When the issuer's keys were last loaded, in Unix time; absent until then.", "issuer")
	m.clockSkew = m.gauge("sidepass_clock_skew_seconds", "How far the issuer's clock is ahead of ours, from the Date of its answers.", "issuer")
	m.configReloads = m.counter("sidepass_config_reloads_total", "Attempts to reload the configuration, by how they ended.", "result")
	m.configReloads.WithLabelValues(resultOK)
	m.configReloads.WithLabelValues(resultError)
	m.configLastSuccess = m.gauge("sidepass_config_last_reload_success_timestamp_seconds", "When the configuration was last loaded, in Unix time.")
	m.fileFailures = m.counter("sidepass_file_reload_failures_total", "Times that a watched file was unusable and its last good content was kept, by configuration key.", "file")
	m.certNotAfter = m.gauge("sidepass_certificate_not_after_timestamp_seconds", "When the certificate ceases to be valid, in Unix time.", "name")
	m.sharedUp = m.gauge("sidepass_shared_up", "Whether the shared token cache can be reached; absent where there is none.")
	m.revocationLastSync = m.gauge("sidepass_revocation_last_sync_timestamp_seconds", "When the list of revocations was last known to be current, in Unix time; absent until then.")
	m.gauge("sidepass_build_info", "Always 1; the labels say which build this is.", "version", "commit", "goversion").
		WithLabelValues(b.Version, b.Commit, b.GoVersion).Set(1)

	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// List returns every metric of ours, sorted by name; go_* and process_* are the client library's and not in it.
func (m *Metrics) List() []Metric {
	return slices.SortedFunc(slices.Values(m.list), func(a, b Metric) int { return strings.Compare(a.Name, b.Name) })
}

func (m *Metrics) counter(name, help string, labels ...string) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	m.register(v, Metric{name, "counter", help, labels})
	return v
}

func (m *Metrics) gauge(name, help string, labels ...string) *prometheus.GaugeVec {
	v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	m.register(v, Metric{name, "gauge", help, labels})
	return v
}

func (m *Metrics) histogram(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	v := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
	m.register(v, Metric{name, "histogram", help, labels})
	return v
}

func (m *Metrics) register(c prometheus.Collector, d Metric) {
	m.registry.MustRegister(c)
	m.list = append(m.list, d)
}

// memo remembers the counters of one family that share a route or a rule. Reading takes no lock; put is called under
// Metrics.mu. It is bounded by what its keys can be: words of closed sets, and statuses.
type memo[K comparable] struct {
	p atomic.Pointer[map[K]prometheus.Counter]
}

func (t *memo[K]) get(k K) prometheus.Counter {
	if p := t.p.Load(); p != nil {
		return (*p)[k]
	}
	return nil
}

func (t *memo[K]) put(k K, c prometheus.Counter) {
	next := map[K]prometheus.Counter{}
	if p := t.p.Load(); p != nil {
		next = maps.Clone(*p)
	}
	next[k] = c
	t.p.Store(&next)
}
