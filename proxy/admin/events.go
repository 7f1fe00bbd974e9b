package admin

import (
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sidepass/sidepass/proxy"
)

// Words of the label result.
const (
	resultOK         = "ok"
	resultError      = "error"
	resultOtherError = "other_error"
)

// tokenResults is what a token request can end with: our own words, and the error codes of the IANA registry "OAuth
// Extensions Error" with those of RFC 6749 that a token endpoint can send. A server's own inventions are other_error.
var tokenResults = []string{
	resultOK, resultOtherError, "timeout", "unreachable", "throttled", "invalid_response",
	// RFC 6749, sections 4.1.2.1 and 5.2
	"invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type", "invalid_scope",
	"access_denied", "server_error", "temporarily_unavailable",
	"invalid_token", "insufficient_scope", // RFC 6750
	"interaction_required", "login_required", "account_selection_required", "consent_required", // OpenID Connect Core
	"authorization_pending", "slow_down", "expired_token", // RFC 8628
	"invalid_target",                       // RFC 8707
	"unsupported_pop_key",                  // RFC 9200
	"incompatible_ace_profiles",            // RFC 9200
	"invalid_authorization_details",        // RFC 9396
	"invalid_dpop_proof", "use_dpop_nonce", // RFC 9449
	"insufficient_user_authentication",                 // RFC 9470
	"need_info", "request_denied", "request_submitted", // UMA 2.0
}

var upstreamActions = []string{"replayed", "dropped", "suppressed"}

// Outbound counts a request of the app that has ended. route may be "unmatched" or "connect"; "" is "unmatched".
// status is what the app got; outside 100 to 999, as when it got none, the label is "0". reason is "ok" or the code of
// our own answer. trace is the id of a trace that shows such a request, for an exemplar; "" for none.
func (m *Metrics) Outbound(route string, status int, reason proxy.Reason, d time.Duration, trace string) {
	s := (*m.routes.Load())[route]
	if s == nil {
		return
	}
	observe(s.duration, d, trace)
	if c := s.requests.get(outboundKey{status, reason}); c != nil {
		c.Inc()
		return
	}
	m.firstOutbound(route, outboundKey{status, reason})
}

func (m *Metrics) firstOutbound(route string, k outboundKey) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := (*m.routes.Load())[route] // a reload may have come in between
	if s == nil {
		return
	}
	if k.status < 100 || k.status > 999 {
		k.status = 0
	}
	k.reason = m.reason(k.reason)
	c := m.outbound.WithLabelValues(s.name, strconv.Itoa(k.status), string(k.reason))
	s.requests.put(k, c)
	c.Inc()
}

// Inbound counts a request to the app that has ended. rule may be "default" or "unmatched"; "" is "unmatched". issuer
// is "" where no token was judged. reason is "ok" or the gate's code. trace is as in [Metrics.Outbound].
func (m *Metrics) Inbound(rule, issuer string, decision proxy.Decision, reason proxy.Reason, d time.Duration, trace string) {
	s := (*m.rules.Load())[rule]
	if s == nil {
		return
	}
	observe(s.duration, d, trace)
	if c := s.requests.get(inboundKey{issuer, decision, reason}); c != nil {
		c.Inc()
		return
	}
	m.firstInbound(rule, inboundKey{issuer, decision, reason})
}

func (m *Metrics) firstInbound(rule string, k inboundKey) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := (*m.rules.Load())[rule]
	if s == nil {
		return
	}
	if !m.names.keyIssuers[k.issuer] {
		k.issuer = ""
	}
	k.reason = m.reason(k.reason)
	switch k.decision {
	case proxy.Allow, proxy.Deny, proxy.WouldDeny:
	default: // refused before the gate was asked
		k.decision = proxy.Deny
	}
	m.inboundCounter(s, k).Inc()
}

// reason is r, or internal_error for a word that is not in the table of answers.
func (m *Metrics) reason(r proxy.Reason) proxy.Reason {
	if m.reasons[r] {
		return r
	}
	return proxy.InternalError
}

// TokenCacheLookup counts a look-up in the token cache: hit, stale, shared, or else miss.
func (m *Metrics) TokenCacheLookup(route, result string) {
	s := (*m.routes.Load())[route]
	if s == nil || s.hit == nil {
		return
	}
	switch result {
	case "hit":
		s.hit.Inc()
	case "stale":
		s.stale.Inc()
	case "shared":
		if s.shared != nil {
			s.shared.Inc()
		}
	default:
		s.miss.Inc()
	}
}

// VerifiedTokenLookup counts a look-up in the cache of verified tokens.
func (m *Metrics) VerifiedTokenLookup(hit bool) {
	if hit {
		m.verifiedHit.Inc()
	} else {
		m.verifiedMiss.Inc()
	}
}

// Engine counts a request by the engine that carried it: the lean one, or net/http.
func (m *Metrics) Engine(lean bool) {
	if lean {
		m.lean.Inc()
		return
	}
	m.std.Inc()
}

// TokenRequest counts a request for a token under the first route that uses its key. result is "ok", an OAuth error
// code, "timeout", "unreachable", "throttled" or "invalid_response"; anything else is "other_error". d is how long the
// request took; 0 says that none was sent, so that no duration is observed. trace is as in [Metrics.Outbound].
func (m *Metrics) TokenRequest(issuer, route, grant, result string, d time.Duration, trace string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.names.tokenIssuers[issuer] || !m.route(route) {
		return
	}
	if !slices.Contains(tokenResults, result) {
		result = resultOtherError
	}
	m.tokenRequests.WithLabelValues(issuer, route, grant, result).Inc()
	if d > 0 {
		observe(m.tokenDuration.WithLabelValues(issuer), d, trace)
	}
}

// TokenObtained notes that a token was obtained for the route.
func (m *Metrics) TokenObtained(route string, at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.route(route) {
		m.tokenLastSuccess.WithLabelValues(route).Set(seconds(at))
	}
}

// TokenExpiry notes when the route's cached token expires; the zero time says that it has none any more. Not for
// exchanged tokens.
func (m *Metrics) TokenExpiry(route string, at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if at.IsZero() {
		m.tokenExpiry.DeleteLabelValues(route)
	} else if m.route(route) {
		m.tokenExpiry.WithLabelValues(route).Set(seconds(at))
	}
}

// QuotaRemaining notes what the authorization server says is left. bucket is a word of the caller's fixed list, never
// the server's own.
func (m *Metrics) QuotaRemaining(issuer, bucket string, remaining float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.names.tokenIssuers[issuer] {
		m.tokenQuota.WithLabelValues(issuer, bucket).Set(remaining)
	}
}

// Upstream401 counts an answer that refused the token: replayed, dropped or suppressed.
func (m *Metrics) Upstream401(route, action string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.route(route) && slices.Contains(upstreamActions, action) {
		m.upstream401.WithLabelValues(route, action).Inc()
	}
}

// ScopeNarrowed counts a token with fewer scopes than the route asks for.
func (m *Metrics) ScopeNarrowed(route string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.route(route) {
		m.scopeNarrowed.WithLabelValues(route).Inc()
	}
}

// JWKSRefresh counts an attempt to load an issuer's keys.
func (m *Metrics) JWKSRefresh(issuer string, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.names.keyIssuers[issuer] {
		m.jwksRefreshes.WithLabelValues(issuer, outcome(ok)).Inc()
	}
}

// JWKSNone notes that the issuer has no keys at all: theirs are then no metrics either, lest somebody be woken for them.
func (m *Metrics) JWKSNone(issuer string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.jwksKeys.DeleteLabelValues(issuer)
	m.jwksLastSuccess.DeleteLabelValues(issuer)
}

// JWKSKeys notes how many usable keys the issuer has and when they were loaded; with the zero time, never.
func (m *Metrics) JWKSKeys(issuer string, keys int, at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.names.keyIssuers[issuer] {
		return
	}
	m.jwksKeys.WithLabelValues(issuer).Set(float64(keys))
	if !at.IsZero() {
		m.jwksLastSuccess.WithLabelValues(issuer).Set(seconds(at))
	}
}

// ClockSkew notes how far the issuer's clock is ahead of ours.
func (m *Metrics) ClockSkew(issuer string, ahead time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.names.issuer(issuer) {
		m.clockSkew.WithLabelValues(issuer).Set(ahead.Seconds())
	}
}

// ConfigLoaded notes that the configuration in use was loaded. A start is no reload, but sets the time too.
func (m *Metrics) ConfigLoaded(at time.Time) { m.configLastSuccess.WithLabelValues().Set(seconds(at)) }

// ConfigReload counts an attempt to reload the configuration, and notes its time if it was a success.
func (m *Metrics) ConfigReload(ok bool, at time.Time) {
	m.configReloads.WithLabelValues(outcome(ok)).Inc()
	if ok {
		m.ConfigLoaded(at)
	}
}

// FileReloadFailure counts a watched file that was unusable; key is its configuration key.
func (m *Metrics) FileReloadFailure(key string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.names.files[key] {
		m.fileFailures.WithLabelValues(key).Inc()
	}
}

// CertificateNotAfter notes when a certificate ceases to be valid.
func (m *Metrics) CertificateNotAfter(name string, at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.names.certificates[name] {
		m.certNotAfter.WithLabelValues(name).Set(seconds(at))
	}
}

// SharedUp notes whether the shared token cache can be reached.
func (m *Metrics) SharedUp(up bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.names.shared {
		return
	}
	value := 0.0
	if up {
		value = 1
	}
	m.sharedUp.WithLabelValues().Set(value)
}

// RevocationSync notes when the list of revocations was last known to be current.
func (m *Metrics) RevocationSync(at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.names.revocations {
		m.revocationLastSync.WithLabelValues().Set(seconds(at))
	}
}

// observe adds a duration to a histogram, with a trace as the exemplar where there is one.
func observe(o prometheus.Observer, d time.Duration, trace string) {
	if e, ok := o.(prometheus.ExemplarObserver); ok && trace != "" {
		e.ObserveWithExemplar(d.Seconds(), prometheus.Labels{"trace_id": trace})
		return
	}
	o.Observe(d.Seconds())
}

// route says whether the route is one that tokens are obtained for. The caller holds mu.
func (m *Metrics) route(name string) bool { return m.names.routes[name].Issuer != "" }

func outcome(ok bool) string {
	if ok {
		return resultOK
	}
	return resultError
}

// seconds is Unix time with its fraction.
func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1e3 }
