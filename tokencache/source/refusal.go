package source

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sidepass/sidepass/proxy/issuerhttp"
	"github.com/sidepass/sidepass/tokencache"
)

const maxChallenge = 8 << 10

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

// name is what the issuer calls its error: the OAuth error code, or where there is none, that of Okta's or AWS's other answers.
func (a answer) name() string {
	kind := a.text("__type")
	return cmp.Or(a.code(), a.text("errorCode"), kind[strings.LastIndexByte(kind, '#')+1:])
}

// aadsts are the numbers that Entra ID gives its errors, the most telling first. Its texts change, these do not.
func (a answer) aadsts() (numbers []int) {
	if json.Unmarshal(a.members["error_codes"], &numbers) == nil && len(numbers) > 0 {
		return numbers
	}
	_, rest, ok := strings.Cut(a.text("error_description"), "AADSTS")
	if !ok {
		return nil
	}
	end := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(rest)
	}
	if n, err := strconv.Atoi(rest[:end]); err == nil {
		return []int{n}
	}
	return nil
}

// refusal is the failure that an answer amounts to which says no, whatever its status: some servers say it with 200.
// client says that the issuer does not accept what the client proves itself with.
func (s *asker) refusal(a answer, hide secrets) (f *tokencache.Failure, client bool) {
	code, result := hide.from(a.name(), 64), a.code()
	if !registered(result) {
		result = tokencache.ResultOther
	}
	f = &tokencache.Failure{Code: code, Result: result, Answered: true}
	wait, waits := retryAfter(a.header, a.received)
	limited := a.status == http.StatusTooManyRequests || a.status == http.StatusServiceUnavailable && waits || slices.ContainsFunc(a.aadsts(), throttling) ||
		code == "TooManyRequestsException" // AWS, with 400
	if limited && !waits {
		wait = patience(a.header, a.received)
	}
	f.RetryAfter = wait

	said := a.said(code, hide)
	nonce := code == "use_dpop_nonce" && s.options.DPoP != nil // it will be in the next proof
	switch {
	case limited:
		f.Kind, f.Result = tokencache.Throttled, tokencache.ResultThrottled
		f.Advice = "use fewer replicas or longer lifetimes, or raise the limit"
		f.Detail = fmt.Sprintf("%s limits our token requests: %s; %s", a.host, said, f.Advice)
	case a.status >= 500 || a.status == http.StatusRequestTimeout || a.status == http.StatusTooEarly, nonce,
		code == "server_error", code == "temporarily_unavailable", code == "slow_down", slices.ContainsFunc(a.aadsts(), transient):
		f.Kind = tokencache.Unavailable
		f.Detail = fmt.Sprintf("%s is failing: it answered the token request with %s", a.host, said)
	case a.status/100 == 4 && wait > 0: // there are servers that limit with any code: who names a time does not mean for ever
		f.Kind, f.Result = tokencache.Throttled, tokencache.ResultThrottled
		f.Advice = "use fewer replicas or longer lifetimes, or raise the limit"
		f.Detail = fmt.Sprintf("%s does not want to be asked for a token now: %s; %s", a.host, said, f.Advice)
	case a.status/100 == 4 || a.code() != "":
		f.Kind = tokencache.Refused
		f.Subject = s.options.Grant != ClientCredentials && subjectCode(code)
		if f.Subject {
			f.Claims = challenge(a, hide)
		}
		var credentials bool
		f.Advice, credentials = s.advice(a, code)
		client = credentials || code == "invalid_client" || a.status == http.StatusUnauthorized
		f.Detail = fmt.Sprintf("%s refused the token request: %s; %s", a.host, said, f.Advice)
	default:
		f.Kind, f.Result = tokencache.Unavailable, tokencache.ResultInvalidResponse
		f.Detail = fmt.Sprintf("%s answered the token request with %s, which is neither a token nor a refusal; check token_endpoint", a.host, said)
	}
	return f, client
}

// said is an answer in words: its status and code, and what else is in it that may be shown.
func (a answer) said(code string, hide secrets) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d", a.status)
	if code != "" {
		b.WriteString(" " + code)
	}
	description := hide.from(a.text("error_description"), 200)
	if numbers := a.aadsts(); len(numbers) > 0 && !strings.Contains(description, "AADSTS") {
		fmt.Fprintf(&b, ", AADSTS%d", numbers[0])
	}
	for _, name := range []string{"error_hint", "errorSummary"} { // Hydra and Okta
		if more := hide.from(a.text(name), 200); more != "" && !strings.Contains(description, more) {
			description = strings.TrimSpace(description + " " + more)
		}
	}
	if description != "" {
		b.WriteString(" (" + description + ")")
	}
	if id := hide.from(a.text("trace_id"), 64); id != "" && !strings.Contains(description, id) {
		b.WriteString(", trace_id " + id) // which Microsoft's support asks for
	}
	return b.String()
}

// subjectCode says that in an exchange a code is about the subject token (RFC 8693, section 2.2.2; RFC 7523, section 3.1) or about
// what its owner has to do.
func subjectCode(code string) bool {
	return code == "invalid_request" || code == "invalid_grant" || code == "interaction_required"
}

// challenge is what the owner of the subject token has to satisfy: a JSON object, which is passed on unread. "" for none.
func challenge(a answer, hide secrets) string {
	claims := a.text("claims")
	if len(claims) > maxChallenge || !strings.HasPrefix(claims, "{") || !json.Valid([]byte(claims)) || hide.in(claims) {
		return ""
	}
	return claims
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

// unusable is the error of reading, or making, what the client proves itself with.
func unusable(err error, hide secrets) *tokencache.Failure {
	return &tokencache.Failure{Kind: tokencache.Unavailable, Result: tokencache.ResultOther, Detail: "the client cannot prove who it is: " + hide.from(err.Error(), 400)}
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
