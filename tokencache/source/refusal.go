package source

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sidepass/sidepass/proxy/issuerhttp"
	"github.com/sidepass/sidepass/tokencache"
)

// answer is one of a token endpoint, good or bad.
type answer struct {
	status   int
	header   http.Header
	received time.Time
	host     string
	members  map[string]json.RawMessage
	problem  string // why there are no members
}

func (a answer) text(name string) string { return text(a.members, name) }

// code is the OAuth error code (RFC 6749, section 5.2), "" when there is none.
func (a answer) code() string { return a.text("error") }

// refusal is the failure that an answer amounts to which says no, whatever its status: some servers say it with 200.
func (s *Source) refusal(a answer, hide secrets) *tokencache.Failure {
	code, result := a.code(), a.code()
	if !registered(code) {
		code, result = hide.from(code, 64), tokencache.ResultOther
	}
	f := &tokencache.Failure{Code: code, Result: result}
	wait, waits := retryAfter(a.header, a.received)
	if a.status == http.StatusTooManyRequests && !waits {
		wait = rateLimitReset(a.header, a.received)
	}
	f.RetryAfter = wait

	said := fmt.Sprintf("%d %s", a.status, code)
	if d := hide.from(a.text("error_description"), 200); d != "" {
		said = fmt.Sprintf("%s (%s)", said, d)
	}
	said = strings.TrimSpace(said)
	switch {
	case a.status == http.StatusTooManyRequests || a.status == http.StatusServiceUnavailable && waits:
		f.Kind, f.Result = tokencache.Throttled, tokencache.ResultThrottled
		f.Detail = fmt.Sprintf("%s limits our token requests: %s; use fewer replicas or longer lifetimes, or raise the limit", a.host, said)
	case a.status >= 500 || a.status == http.StatusRequestTimeout || a.status == http.StatusTooEarly,
		code == "temporarily_unavailable", code == "slow_down":
		f.Kind = tokencache.Unavailable
		f.Detail = fmt.Sprintf("%s is failing: it answered the token request with %s", a.host, said)
	case a.status/100 == 4 || code != "":
		f.Kind = tokencache.Refused
		f.Detail = fmt.Sprintf("%s refused the token request: %s; %s", a.host, said, s.advice(code))
	default:
		f.Kind, f.Result = tokencache.Unavailable, tokencache.ResultInvalidResponse
		f.Detail = fmt.Sprintf("%s answered the token request with %s, which is neither a token nor a refusal; check token_endpoint", a.host, said)
	}
	return f
}

// advice says what to do about an error code.
func (s *Source) advice(code string) string {
	switch code {
	case "invalid_client":
		return "check the client's id and secret, and that it is registered for " + s.options.AuthMethod
	case "access_denied":
		return "grant the application access to the API (" + s.target + "), and check the client's secret"
	case "unauthorized_client":
		return "allow the application the client_credentials grant and access to the API (" + s.target + ")"
	case "invalid_scope", "insufficient_scope":
		return "check the scopes, and that they are granted to the application (" + s.target + ")"
	case "invalid_target":
		return "check that audience and resource name an API that the issuer knows (" + s.target + ")"
	case "unsupported_grant_type":
		return "the issuer does not know the client_credentials grant at this token_endpoint"
	case "invalid_request", "invalid_grant":
		return "check audience, resource, scopes and token_params against what the issuer wants (" + s.target + ")"
	case "":
		return "it gave no OAuth error code: check token_endpoint and what stands before the issuer"
	}
	return "look the code up in the issuer's documentation (" + s.target + ")"
}

// registered says that an error code is in the IANA registry "OAuth Extensions Error" or in RFC 6749, and may be a metric's label.
func registered(code string) bool {
	switch code {
	case "invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type", "invalid_scope",
		"access_denied", "server_error", "temporarily_unavailable", // RFC 6749
		"invalid_token", "insufficient_scope", // RFC 6750
		"interaction_required", "login_required", "account_selection_required", "consent_required", // OpenID Connect Core
		"authorization_pending", "slow_down", "expired_token", // RFC 8628
		"invalid_target",                                   // RFC 8707
		"unsupported_pop_key", "incompatible_ace_profiles", // RFC 9200
		"invalid_authorization_details",        // RFC 9396
		"invalid_dpop_proof", "use_dpop_nonce", // RFC 9449
		"insufficient_user_authentication",                 // RFC 9470
		"need_info", "request_denied", "request_submitted": // UMA 2.0
		return true
	}
	return false
}

// retryAfter reads Retry-After, seconds or a date (RFC 9110, section 10.2.3); ok is false when there is none. A date is measured
// against the answer's own Date, so that a wrong clock does not count.
func retryAfter(h http.Header, received time.Time) (wait time.Duration, ok bool) {
	v := h.Get("Retry-After")
	if v != "" && strings.Trim(v, "0123456789") == "" {
		return seconds(v), true
	}
	at, err := http.ParseTime(v)
	if err != nil {
		return 0, false
	}
	return max(0, at.Sub(issuerNow(h, received))), true
}

// rateLimitReset reads X-RateLimit-Reset, a point in time at Auth0 and Okta and a number of seconds at Ory.
func rateLimitReset(h http.Header, received time.Time) time.Duration {
	for _, name := range []string{"X-Ratelimit-Reset", "X-Rate-Limit-Reset"} {
		v := h.Get(name)
		if v == "" || strings.Trim(v, "0123456789") != "" {
			continue
		}
		if n, err := strconv.ParseInt(v, 10, 64); err == nil && n > timestamp {
			return max(0, time.Unix(n, 0).Sub(issuerNow(h, received)))
		}
		return seconds(v)
	}
	return 0
}

// seconds is a string of digits, up to a day.
func seconds(digits string) time.Duration {
	const day = 24 * 60 * 60
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil {
		n = day // more than fits
	}
	return time.Duration(min(n, day)) * time.Second
}

func issuerNow(h http.Header, received time.Time) time.Time {
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		return date
	}
	return received
}

// secrets are texts that must not be in a sentence.
type secrets []string

// secretsOf are a client's secret in the spellings in which it goes over the wire, and other texts.
func secretsOf(id, secret string, others ...string) secrets {
	all := secrets(others)
	if secret != "" {
		escapedID, escaped := url.QueryEscape(id), url.QueryEscape(secret)
		all = append(all, secret, escaped, base64.StdEncoding.EncodeToString([]byte(id+":"+secret)),
			base64.StdEncoding.EncodeToString([]byte(escapedID+":"+escaped)))
	}
	return slices.DeleteFunc(all, func(s string) bool { return s == "" })
}

// from is a text from elsewhere that may be shown; "" when a secret is in it.
func (s secrets) from(text string, limit int) string {
	for _, secret := range s {
		if strings.Contains(text, secret) {
			return ""
		}
	}
	return issuerhttp.Printable(text, limit)
}

// asked is the error of a call that was made.
func asked(err error) error {
	var f *tokencache.Failure
	if errors.As(err, &f) {
		return f
	}
	if err := called(err); err != nil {
		return err
	}
	// Whatever else x/oauth2 or the standard library says may quote the request or the answer.
	return &tokencache.Failure{Kind: tokencache.Unavailable, Result: tokencache.ResultOther, Detail: "the token request could not be made; check token_endpoint"}
}

// notAsked is the error of looking for the token endpoint.
func notAsked(err error, hide secrets) error {
	if err := called(err); err != nil {
		return err
	}
	return invalid("the token endpoint is not known: " + hide.from(err.Error(), 400))
}

// called turns the error of an issuerhttp call into a failure; nil when it is none.
func called(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	var e *issuerhttp.Error
	if !errors.As(err, &e) {
		return nil
	}
	f := &tokencache.Failure{Kind: tokencache.Unavailable, Result: tokencache.ResultUnreachable, Detail: e.Detail}
	switch e.Kind {
	case issuerhttp.Broken:
		f.Broken = true
	case issuerhttp.Timeout:
		f.Result = tokencache.ResultTimeout
	case issuerhttp.Unusable:
		f.Result = tokencache.ResultInvalidResponse
	}
	return f
}

func invalid(detail string) *tokencache.Failure {
	return &tokencache.Failure{Kind: tokencache.Unavailable, Result: tokencache.ResultInvalidResponse, Detail: detail}
}
