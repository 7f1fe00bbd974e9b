// Package source obtains access tokens from an issuer's token endpoint: a grant and a client authentication, over
// golang.org/x/oauth2.
//
// x/oauth2 writes the request. A RoundTripper beneath it does what x/oauth2 cannot: other ways to send the secret, and an answer
// that is checked and normalised, or turned into a tokencache.Failure, before x/oauth2 sees it.
package source

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/sidepass/sidepass/tokencache"
)

// How a client shows its secret (RFC 6749, section 2.3.1).
const (
	Basic    = "client_secret_basic"     // Authorization header, id and secret form-encoded first
	Post     = "client_secret_post"      // form fields
	JSON     = "client_secret_json"      // members of a JSON body, which then holds the other parameters too
	BasicRaw = "client_secret_basic_raw" // Authorization header, for servers that do not decode
)

// Options of a Source for the client_credentials grant (RFC 6749, section 4.4).
type Options struct {
	// TokenEndpoint says where to ask, at each attempt. The text of its errors may be shown.
	TokenEndpoint func(context.Context) (string, error)
	ClientID      string
	AuthMethod    string        // one of the constants
	Secret        func() string // read at each attempt
	// What is asked for. Each audience and resource is one parameter, in this order; what is empty is not sent.
	Audience []string
	Resource []string
	Scopes   []string
	Params   []tokencache.Param
	// HTTPClient is from issuerhttp: it bounds the call and follows no redirect.
	HTTPClient *http.Client
	// DefaultLifetime of a token whose answer does not say; default 5 min.
	DefaultLifetime time.Duration
	Observer        Observer
}

// Observer is told what an issuer's answers say beside the token. Functions are optional.
type Observer struct {
	// Answered: the header fields of an answer, whatever its status, and when they came. h must not be changed or kept.
	Answered func(h http.Header, at time.Time)
}

// Source is a tokencache.Source. It is safe for concurrent use.
type Source struct {
	options Options
	form    url.Values // all parameters but grant_type and the client's
	target  string     // what is asked for, in words
}

// New is a source. The error says which option cannot be used.
func New(o Options) (*Source, error) {
	if o.DefaultLifetime <= 0 {
		o.DefaultLifetime = 5 * time.Minute
	}
	form := url.Values{}
	add := func(name, value string) {
		if value != "" {
			form.Add(name, value)
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
		switch {
		case p.Name == "grant_type" || strings.HasPrefix(p.Name, "client_") || strings.HasPrefix(p.Name, "assertion"):
			problems = append(problems, fmt.Errorf("token_params may not set %s", p.Name))
		case p.Name == "scope" && form.Has("scope"):
			problems = append(problems, errors.New("token_params may not set scope where scopes are configured"))
		}
		add(p.Name, p.Value)
	}
	if !slices.Contains([]string{Basic, Post, JSON, BasicRaw}, o.AuthMethod) {
		problems = append(problems, fmt.Errorf("auth_method %q is none of those that send a secret", o.AuthMethod))
	}
	if o.AuthMethod == BasicRaw && strings.Contains(o.ClientID, ":") {
		problems = append(problems, errors.New("a client id with a colon cannot be sent by client_secret_basic_raw (RFC 7617, section 2)"))
	}
	return &Source{options: o, form: form, target: target(o)}, errors.Join(problems...)
}

// target names what is asked for, so that a refusal says for what access is to be granted.
func target(o Options) string {
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

// Token asks the token endpoint once. The error is a *tokencache.Failure, or ctx's.
func (s *Source) Token(ctx context.Context) (*tokencache.Token, error) {
	secret := s.options.Secret()
	endpoint, err := s.options.TokenEndpoint(ctx)
	if err != nil {
		return nil, notAsked(err, secretsOf(s.options.ClientID, secret))
	}
	w := &wire{source: s, secret: secret, base: s.options.HTTPClient.Transport}
	client := *s.options.HTTPClient
	client.Transport = w
	style := oauth2.AuthStyleInHeader
	if s.options.AuthMethod == Post || s.options.AuthMethod == JSON {
		style = oauth2.AuthStyleInParams
	}
	request := clientcredentials.Config{
		ClientID:       s.options.ClientID,
		ClientSecret:   secret,
		TokenURL:       endpoint,
		AuthStyle:      style,
		EndpointParams: s.form,
	}
	token, err := request.Token(context.WithValue(ctx, oauth2.HTTPClient, &client))
	if err != nil {
		return nil, asked(err)
	}
	return tokencache.NewToken(token.AccessToken, w.grant.scope, w.received, w.grant.lifetime), nil
}
