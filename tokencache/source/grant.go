package source

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
)

// The grants.
const (
	ClientCredentials = "client_credentials" // RFC 6749, section 4.4
	TokenExchange     = "token_exchange"     // RFC 8693
	OnBehalfOf        = "on_behalf_of"       // RFC 7523, section 2.1, as Entra ID has it
)

// The URNs of RFC 8693 (section 3) and of RFC 7523.
const (
	exchangeGrant   = "urn:ietf:params:oauth:grant-type:token-exchange"
	jwtBearerGrant  = "urn:ietf:params:oauth:grant-type:jwt-bearer"
	accessTokenType = "urn:ietf:params:oauth:token-type:access_token"
	jwtType         = "urn:ietf:params:oauth:token-type:jwt"
)

// form is the form of a token request: all but what an attempt or a subject puts into it.
type form struct {
	values  url.Values
	subject string   // the parameter of the subject token; "" for client_credentials
	scopes  []string // that are asked for
	target  string   // what is asked for, in words
}

func newForm(o *Options) (*form, error) {
	f := &form{values: url.Values{}, target: target(o)}
	own := map[string]string{} // parameters that the grant sends itself
	switch o.Grant {
	case ClientCredentials:
		own["grant_type"] = "client_credentials"
	case TokenExchange:
		own["grant_type"], own["subject_token_type"], f.subject = exchangeGrant, accessTokenType, "subject_token"
	case OnBehalfOf:
		own["grant_type"], own["requested_token_use"], f.subject = jwtBearerGrant, "on_behalf_of", "assertion"
	default:
		return nil, fmt.Errorf("grant %q is not known", o.Grant)
	}
	for name, value := range own {
		f.values.Set(name, value)
	}
	add := func(name, value string) {
		if value != "" {
			f.values.Add(name, value)
		}
	}
	for _, a := range o.Audience {
		add("audience", a)
	}
	for _, r := range o.Resource {
		add("resource", r)
	}
	add("scope", strings.Join(o.Scopes, " "))
	var problems []error
	for _, p := range o.Params {
		switch _, ours := own[p.Name]; {
		case p.Name == "subject_token_type" && ours && p.Value != "": // Auth0 knows none of the RFC's types, only its tenants' own
			f.values.Del(p.Name)
		case ours, p.Name == f.subject, p.Name == "grant_type", strings.HasPrefix(p.Name, "client_"), strings.HasPrefix(p.Name, "assertion"):
			problems = append(problems, fmt.Errorf("token_params may not set %s", p.Name))
		case p.Name == "scope" && f.values.Has("scope"):
			problems = append(problems, errors.New("token_params may not set scope where scopes are configured"))
		case p.Name == "requested_token_type" && o.Grant == TokenExchange && p.Value != accessTokenType && p.Value != jwtType:
			problems = append(problems, fmt.Errorf("token_params may set requested_token_type to %s or %s: no other type can be sent to an upstream", accessTokenType, jwtType))
		}
		add(p.Name, p.Value)
	}
	f.scopes = strings.Fields(f.values.Get("scope"))
	return f, errors.Join(problems...)
}

// with is the form of one attempt. A subject and an assertion that are "" are not there.
func (f *form) with(subject, assertion string) url.Values {
	values := maps.Clone(f.values)
	if subject != "" {
		values.Set(f.subject, subject)
	}
	if assertion != "" {
		values.Set("client_assertion_type", clientAssertion)
		values.Set("client_assertion", assertion)
	}
	return values
}

// target names what is asked for, so that a refusal says for what access is to be granted.
func target(o *Options) string {
	var words []string
	for _, w := range []struct {
		name   string
		values []string
	}{{"audience", o.Audience}, {"resource", o.Resource}, {"scopes", o.Scopes}} {
		if len(w.values) > 0 {
			words = append(words, w.name+" "+strings.Join(w.values, " "))
		}
	}
	if words == nil {
		return "no audience, resource or scope is configured"
	}
	return strings.Join(words, ", ")
}

// Missing are the scopes that were asked for and not granted. Order and repetition do not matter. A scope …/.default stands for
// whatever the client was given, and is answered with that (Entra ID).
func Missing(asked, granted []string) []string {
	var out []string
	for _, scope := range asked {
		if !slices.Contains(granted, scope) && scope != ".default" && !strings.HasSuffix(scope, "/.default") {
			out = append(out, scope)
		}
	}
	return out
}
