// Package source obtains access tokens from an issuer's token endpoint: a grant and a client authentication, over
// golang.org/x/oauth2.
//
// x/oauth2 writes the request. A RoundTripper beneath it does what x/oauth2 cannot: other ways to send the secret, a DPoP proof, and
// an answer that is checked and normalised, or turned into a tokencache.Failure, before x/oauth2 sees it.
package source

import (
	"context"
	"errors"
	"net/http"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/sidepass/sidepass/proxy/dpop"
	"github.com/sidepass/sidepass/tokencache"
	"github.com/sidepass/sidepass/tokencache/source/assertion"
)

// Options of a Source.
type Options struct {
	// TokenEndpoint says where to ask, for each token; for tls_client_auth and certificate-bound tokens that is the
	// issuer's mtls_endpoint_aliases (RFC 8705, section 5). The text of its errors may be shown.
	TokenEndpoint func(context.Context) (string, error)
	ClientID      string
	AuthMethod    string // one of the constants

	// The client's credentials are read at each attempt, those that AuthMethod needs. The text of errors may be shown.
	Secret    func() string                  // client_secret_basic, _basic_raw, _post and _json
	Key       func() (*assertion.Key, error) // private_key_jwt and client_secret_jwt
	Assertion func() (string, error)         // federated; white space around it is removed
	// AssertionAudience is the aud of what Key signs; by default the token endpoint.
	AssertionAudience string
	// Reread reads the credentials anew, at once, and says whether they changed; the client certificate of HTTPClient is one of
	// them. It is called when the issuer refuses the client, and if there was a change the call is made once more. nil: there is
	// never a change. It may be called by several callers of Token at once.
	Reread func() bool

	Grant string // one of the constants; default ClientCredentials
	// What is asked for. Each audience and resource is one parameter, in this order; what is empty is not sent.
	Audience []string
	Resource []string
	Scopes   []string
	Params   []tokencache.Param

	// DPoP, where it is not nil, signs a proof for each token request, and no token is good that is not bound to it (RFC 9449,
	// section 5). Nonces keeps what the issuer wants to see in the proof; sources of one issuer may share it. By default the source
	// has its own.
	DPoP   *dpop.Key
	Nonces *dpop.Nonces

	// HTTPClient is from issuerhttp: it bounds the call and follows no redirect. For tls_client_auth it shows the certificate.
	HTTPClient *http.Client
	// DefaultLifetime of a token whose answer does not say; default 5 min.
	DefaultLifetime time.Duration
	Observer        Observer
}

// Observer is told what an issuer's answers say beside the token. Functions are optional.
type Observer struct {
	// Again: an attempt on the wire has ended and another follows at once, so that the caller of Token does not hear of it. The
	// issuer wanted a nonce in the DPoP proof, or refused credentials of which there are newer ones. result is the failure's.
	Again func(result string, took time.Duration)
	// Narrowed: a token has fewer scopes than were asked for. What was granted is printable ASCII, as long as it is.
	Narrowed func(asked, granted []string)
	// Quota: so many token requests are left, as an answer says. bucket is one of Buckets.
	Quota func(bucket string, remaining float64)
	// Skew: the issuer's clock is ahead of ours by so many whole seconds, as the Date of an answer says.
	Skew func(ahead time.Duration)
}

// Source is a tokencache.Source for the client_credentials grant, and makes sources for the grants that need a subject. It is
// safe for concurrent use and cannot be printed.
type Source struct {
	// A function, for package fmt prints no more of one than its address, and token_params may hold secrets.
	asker func() *asker
}

// asker asks one token endpoint for one thing. It does not change.
type asker struct {
	options *Options
	form    *form
}

// New is a source. The error says which options cannot be used.
func New(o Options) (*Source, error) {
	if o.DefaultLifetime <= 0 {
		o.DefaultLifetime = 5 * time.Minute
	}
	if o.Grant == "" {
		o.Grant = ClientCredentials
	}
	if o.Nonces == nil {
		o.Nonces = &dpop.Nonces{}
	}
	f, err := newForm(&o)
	if err = errors.Join(err, checkMethod(&o)); err != nil {
		return nil, err
	}
	a := &asker{options: &o, form: f}
	return &Source{asker: func() *asker { return a }}, nil
}

// Token gets a token for the client itself. The error is a *tokencache.Failure, or ctx's.
func (s *Source) Token(ctx context.Context) (*tokencache.Token, error) {
	return s.asker().token(ctx, "")
}

// For is a source of tokens for a subject token, with the grants token_exchange and on_behalf_of. It is safe for concurrent use and
// cannot be printed.
func (s *Source) For(subject string) tokencache.Source { return exchange{source: s, subject: &subject} }

type exchange struct {
	source  *Source
	subject *string // a pointer, for package fmt prints no more of it than its address
}

// Token exchanges the subject token. The error is a *tokencache.Failure, or ctx's.
func (e exchange) Token(ctx context.Context) (*tokencache.Token, error) {
	return e.source.asker().token(ctx, *e.subject)
}

// token asks the token endpoint, and once more at once where something is to be done about the refusal: for each reason once.
func (s *asker) token(ctx context.Context, subject string) (*tokencache.Token, error) {
	o := s.options
	if (subject == "") != (o.Grant == ClientCredentials) {
		return nil, &tokencache.Failure{Kind: tokencache.Refused, Result: tokencache.ResultOther, Detail: "the grant " + o.Grant + " and a subject token do not go together; this is a mistake in sidepass"}
	}
	endpoint, err := o.TokenEndpoint(ctx)
	if err != nil {
		return nil, notAsked(err, s.hide(shown{}, subject))
	}
	nonce, reread := o.DPoP != nil, o.Reread != nil
	for {
		began := time.Now()
		t, w, err := s.ask(ctx, endpoint, subject)
		var f *tokencache.Failure
		switch {
		case err == nil || !errors.As(err, &f):
			return t, err
		case nonce && w.wantsNonce:
			nonce = false
		case reread && w.clientRefused && o.Reread():
			reread = false
		default:
			return nil, err
		}
		if observe := o.Observer.Again; observe != nil {
			observe(f.Result, time.Since(began))
		}
	}
}

// ask asks the token endpoint once. w says more about a failure.
func (s *asker) ask(ctx context.Context, endpoint, subject string) (*tokencache.Token, *wire, error) {
	o := s.options
	w := &wire{asker: s, base: o.HTTPClient.Transport}
	var err error
	if w.shown, err = s.credentials(endpoint); err != nil {
		return nil, w, unusable(err, s.hide(shown{}, subject))
	}
	w.hide = s.hide(w.shown, subject)
	if o.DPoP != nil {
		w.nonce = o.Nonces.Newest(endpoint)
		if w.proof, err = o.DPoP.Proof(http.MethodPost, endpoint, "", w.nonce, time.Now()); err != nil {
			return nil, w, unusable(err, w.hide)
		}
		w.hide.add(w.proof)
	}
	client := *o.HTTPClient
	client.Transport = w
	style := oauth2.AuthStyleInParams
	if o.AuthMethod == Basic || o.AuthMethod == BasicRaw {
		style = oauth2.AuthStyleInHeader
	}
	request := clientcredentials.Config{
		ClientID:       o.ClientID,
		ClientSecret:   w.shown.secret,
		TokenURL:       endpoint,
		AuthStyle:      style,
		EndpointParams: s.form.with(subject, w.shown.assertion),
	}
	token, err := request.Token(context.WithValue(ctx, oauth2.HTTPClient, &client))
	if err != nil {
		return nil, w, asked(err)
	}
	if o.DPoP != nil {
		return tokencache.NewDPoPToken(token.AccessToken, w.grant.scope, w.received, w.grant.lifetime), w, nil
	}
	return tokencache.NewToken(token.AccessToken, w.grant.scope, w.received, w.grant.lifetime), w, nil
}

// hide is what no sentence may show of an attempt.
func (s *asker) hide(c shown, subject string) secrets {
	var all secrets
	if c.secret == "" && s.options.Secret != nil {
		c.secret = s.options.Secret()
	}
	all.addSecret(s.options.ClientID, c.secret)
	all.add(c.assertion)
	all.add(subject)
	for _, p := range s.options.Params {
		if len(p.Value) >= 8 { // what is shorter is no secret, and in any sentence
			all.add(p.Value)
		}
	}
	return all
}
