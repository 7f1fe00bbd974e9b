package admin

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"time"

	"github.com/sidepass/sidepass/proxy"
)

// TokenAnswer is a token that the token API hands out.
type TokenAnswer struct {
	// AccessToken yields the token. It is a function so that printing the answer does not print the token.
	AccessToken func() string
	// Type is the token_type, "Bearer" as a rule.
	Type string
	// ExpiresAt is when the token expires; the zero time says that nobody knows.
	ExpiresAt time.Time
	// Scope is what was granted, or asked for where the server did not say; "" is left out.
	Scope string
}

// TokenError is why there is no token. It holds no secret: Detail is sent to the caller.
type TokenError struct {
	// Reason is no_route for a route that is not configured, otherwise token_refused, token_unavailable and their like.
	Reason proxy.Reason
	// Detail is one sentence: what happened and what to do; "" is the reason's own.
	Detail string
	// RetryAfter goes with a reason whose status is 503.
	RetryAfter time.Duration
}

func (e *TokenError) Error() string {
	if e.Detail == "" {
		return string(e.Reason)
	}
	return string(e.Reason) + ": " + e.Detail
}

// tokenResponse is the answer of RFC 6749, section 5.1.
type tokenResponse struct {
	AccessToken string `json:"access_token"`
	TokenType   string `json:"token_type"`
	ExpiresIn   *int64 `json:"expires_in,omitempty"`
	Scope       string `json:"scope,omitempty"`
}

// OAuth error codes of the token API (RFC 6749, sections 4.1.2.1 and 5.2).
const (
	invalidRequest         = "invalid_request"
	unsupportedGrantType   = "unsupported_grant_type"
	serverError            = "server_error"
	temporarilyUnavailable = "temporarily_unavailable"
)

// token is the token API. No browser gets through: it adds Origin or Sec-Fetch-Site where a script or form made it
// send the request, and the header that GET needs takes a script.
func (a *handler) token(w http.ResponseWriter, r *http.Request) {
	if !a.Observer.allowed(w, r, http.MethodGet, http.MethodPost) {
		return
	}
	if len(r.Header["Origin"]) > 0 || len(r.Header["Sec-Fetch-Site"]) > 0 {
		a.Observer.refuse(w, r, proxy.Verdict{Reason: proxy.CrossSite, Detail: "The token API is not for browsers: a request with Origin or Sec-Fetch-Site gets nothing."})
		return
	}
	refuse := a.refuseOAuth
	if r.Method == http.MethodGet {
		refuse = func(w http.ResponseWriter, r *http.Request, _ string, v proxy.Verdict) { a.Observer.refuse(w, r, v) }
		if v := r.Header["Sidepass-Token-Api"]; len(v) != 1 || v[0] != "1" {
			a.Observer.refuse(w, r, proxy.Verdict{Reason: proxy.CrossSite, Detail: "Send the header Sidepass-Token-API: 1, which shows that no page made a browser send this."})
			return
		}
	} else if code, problem := clientCredentials(w, r); code != "" {
		refuse(w, r, code, proxy.Verdict{Reason: proxy.MalformedRequest, Detail: problem})
		return
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if routes := query["route"]; err != nil || len(routes) != 1 || routes[0] == "" {
		refuse(w, r, invalidRequest, proxy.Verdict{Reason: proxy.MalformedRequest, Detail: "Name one route: /token?route=NAME."})
		return
	}
	answer, err := a.Token(r.Context(), query.Get("route"))
	if err != nil {
		code, v := tokenVerdict(err)
		refuse(w, r, code, v)
		return
	}
	response := tokenResponse{AccessToken: answer.AccessToken(), TokenType: answer.Type, Scope: answer.Scope}
	if !answer.ExpiresAt.IsZero() {
		left := max(0, int64(time.Until(answer.ExpiresAt)/time.Second))
		response.ExpiresIn = &left
	}
	w.Header().Set("Pragma", "no-cache") // RFC 6749, section 5.1
	document(w, http.StatusOK, response)
}

// clientCredentials checks the body of an access token request (RFC 6749, section 4.4.2), and returns an error code and
// a sentence if it is none. Beyond grant_type nothing is looked at: which client, audience and scope it is about stands
// in the route's configuration, and the answer says which scope the token has.
func clientCredentials(w http.ResponseWriter, r *http.Request) (code, problem string) {
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != "application/x-www-form-urlencoded" {
		return invalidRequest, "Send the request as application/x-www-form-urlencoded."
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<10))
	if err != nil {
		return invalidRequest, "The body could not be read, or is larger than 64 KiB."
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return invalidRequest, "The body is not form-encoded."
	}
	for _, values := range form {
		if len(values) > 1 { // RFC 6749, section 3.2
			return invalidRequest, "A parameter is there more than once."
		}
	}
	switch form.Get("grant_type") {
	case "client_credentials":
		return "", ""
	case "":
		return invalidRequest, "grant_type is missing; it has to be client_credentials."
	}
	return unsupportedGrantType, "grant_type has to be client_credentials."
}

// tokenVerdict turns the error of Options.Token into an answer.
func tokenVerdict(err error) (code string, v proxy.Verdict) {
	var e *TokenError
	if !errors.As(err, &e) {
		return serverError, proxy.Verdict{Reason: proxy.InternalError}
	}
	v = proxy.Verdict{Reason: e.Reason, Detail: e.Detail, RetryAfter: e.RetryAfter}
	if v.Reason == proxy.NoRoute && v.Detail == "" {
		v.Detail = "No route of that name is configured."
	}
	switch status := e.Reason.Status(); {
	case status == http.StatusServiceUnavailable:
		code = temporarilyUnavailable
	case status < 500:
		code = invalidRequest
	default:
		code = serverError
	}
	return code, v
}

// refuseOAuth is an error response of RFC 6749, section 5.2: the problem document with that section's members, its
// media type, and 400 for whatever is the request's fault.
func (a *handler) refuseOAuth(w http.ResponseWriter, r *http.Request, code string, v proxy.Verdict) {
	reply := a.Observer.refusal(w.Header(), r, v)
	w.Header().Del("Www-Authenticate")
	var body map[string]any
	_ = json.Unmarshal(reply.Body, &body) // it is ours
	if reply.Status < 500 {
		reply.Status = http.StatusBadRequest
		body["status"] = reply.Status
	}
	body["error"] = code
	body["error_description"] = proxy.Describable(body["detail"].(string))
	document(w, reply.Status, body)
}
