package issuer

import (
	"net/http"
	"strings"
)

// cause is why a request is refused, whatever a provider calls it.
type cause int

const (
	unknownClient    cause = 1 + iota
	wrongSecret            // or another certificate
	wrongMethod            // not one that is accepted, or not the client's
	twoMethods             // at once
	badAssertion           // its reason
	badFederation          // somebody else's token is not one that stands for the client: the reason
	noGrantType            // the parameter's name
	otherGrant             // its name
	noTarget               // no parameter says what the token is for: the one that should
	manyTargets            // it is for several, and must be for one
	unknownTarget          // there is no such API
	targetNotGranted       // the client may not have a token for it
	unknownScope           // there is no such scope, or not in this form
	scopeNotGranted        // the client may not have it
	refusedParameter       // one that must not be there
	limited                // too many tokens
)

// denial is a cause, and what it is about: a client id, an audience, a scope.
type denial struct {
	cause cause
	what  string
}

// said is how a provider says it. A {} in text stands for what it is about.
type said struct {
	status int
	code   string
	text   string
	number int // Entra's
	// body is the whole answer, where it is not the provider's usual one.
	body func(e said) map[string]any
}

// rfc6749 is how the RFCs have it (RFC 6749 section 5.2, RFC 8707 section 2).
func rfc6749() map[cause]said {
	return map[cause]said{
		unknownClient:    {status: 401, code: "invalid_client"},
		wrongSecret:      {status: 401, code: "invalid_client"},
		wrongMethod:      {status: 401, code: "invalid_client", text: "{} is not how this client authenticates"},
		twoMethods:       {status: 400, code: "invalid_request", text: "more than one way to authenticate: {}"},
		badAssertion:     {status: 401, code: "invalid_client", text: "the client assertion is refused: {}"},
		badFederation:    {status: 401, code: "invalid_client", text: "the client assertion is refused: {}"},
		noGrantType:      {status: 400, code: "invalid_request", text: "{} is missing"},
		otherGrant:       {status: 400, code: "unsupported_grant_type"},
		noTarget:         {status: 400, code: "invalid_request", text: "{} is missing"},
		manyTargets:      {status: 400, code: "invalid_target", text: "one at a time: {}"},
		unknownTarget:    {status: 400, code: "invalid_target", text: "{} is unknown"},
		targetNotGranted: {status: 400, code: "invalid_target", text: "{} is not granted"},
		unknownScope:     {status: 400, code: "invalid_scope", text: "{} is unknown"},
		scopeNotGranted:  {status: 400, code: "invalid_scope", text: "{} is not granted"},
		refusedParameter: {status: 400, code: "invalid_request", text: "{} is not supported"},
		limited:          {status: 429, code: "too_many_requests", text: "too many requests"},
	}
}

// deny answers in the provider's words.
func (p *provider) deny(w http.ResponseWriter, d *denial) {
	e, ok := p.errors[d.cause]
	if !ok {
		e = rfc6749()[d.cause]
	}
	e.text = strings.ReplaceAll(e.text, "{}", d.what)
	body := map[string]any{"error": e.code}
	switch {
	case e.body != nil:
		body = e.body(e)
	case p.errorBody != nil:
		body = p.errorBody(p, e)
	case e.text != "":
		body["error_description"] = e.text
	}
	answer(w, e.status, body)
}
