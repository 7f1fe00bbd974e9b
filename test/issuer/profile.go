package issuer

import (
	"crypto"
	"crypto/x509"
	"net/http"
	"net/url"
	"time"
)

// Profile is an identity provider that a Server can behave like: how it takes token requests, what its tokens and its key set
// look like, how it says no. What it does not do for client_credentials is not there.
type Profile string

// The profiles. The table of each is in the file of its name.
const (
	Auth0    Profile = "auth0"
	Cognito  Profile = "cognito"
	Duende   Profile = "duende"
	EntraV1  Profile = "entra-v1"
	EntraV2  Profile = "entra-v2"
	Hydra    Profile = "hydra"
	Keycloak Profile = "keycloak"
	Okta     Profile = "okta" // a custom authorization server
	PingOne  Profile = "pingone"
	SPIRE    Profile = "spire" // keys and Mint alone: it has no token endpoint
	ZITADEL  Profile = "zitadel"
)

// Tenant is what an administrator has set up at a provider.
type Tenant struct {
	APIs []API
	Apps []App

	// Keys sign and are published, the first signs. Empty: new RSA keys, as many as the provider publishes. Tests share
	// some, since RSA keys take a moment to make.
	Keys []*Key

	// OtherKeys are published before Keys, each as it is: JSON of a key that nobody can verify with, or of none at all.
	OtherKeys []string

	// Lifetime of a token, at least a second. Zero: the provider's usual one.
	Lifetime time.Duration

	// Quota is how many tokens an application gets in an hour before the provider says that its limit is reached. Zero: any
	// number. Only for providers that have a limit.
	Quota int
}

// API is a service that tokens can be for.
type API struct {
	// ID is its name there: Auth0's API identifier, Entra's Application ID URI, Keycloak's client id, Cognito's resource
	// server identifier, ZITADEL's project id, Okta's audience, Duende's and PingOne's resource. Hydra has none.
	ID string

	// AppID is Entra's Application (client) ID, what `aud` is in v2.0 tokens.
	AppID string

	// Scopes that can be asked for. In Keycloak, the client scopes that have an audience mapper for this client.
	Scopes []string

	// Roles are Entra's app roles, Keycloak's client roles, ZITADEL's project roles, and Auth0's permissions.
	Roles []string

	// Format of its tokens where it can choose: Auth0's token_dialect (access_token, access_token_authz, rfc9068_profile,
	// rfc9068_profile_authz), Entra's requestedAccessTokenVersion (1, 2). Empty: the provider's default.
	Format string
}

// App is a confidential client.
type App struct {
	ID     string
	Secret string

	// Method is the one that it is registered for, where the provider keeps to it. Empty: client_secret_basic with a
	// Secret, else what it has.
	Method string

	// APIs, Scopes and Roles that it was granted. Nil: all. In Hydra, APIs are its allowed audiences, and nil is none.
	APIs, Scopes, Roles []string

	// Keys verify its assertions: private_key_jwt. Entra wants Certificates.
	Keys []crypto.PublicKey

	// Certificates are those of its assertions at Entra, and those that it shows in tls_client_auth elsewhere.
	Certificates []*x509.Certificate

	// Federated are those whose tokens it may show instead of a secret.
	Federated []Federated

	// Opaque tokens instead of JWTs: Hydra's default strategy, ZITADEL's "Bearer".
	Opaque bool
}

// Federated is a token of somebody else that stands for a client: all of it must match.
type Federated struct {
	Issuer, Subject, Audience string
	Keys                      []*Key
}

// profile is the table of a provider: what sets it apart from the RFCs.
type profile struct {
	// Where things are, each after the origin. Discovery: path → the issuer that the document names.
	issuer                  string
	discovery               map[string]string
	jwks, token, introspect string
	elsewhere               bool // the token endpoint is at another host than the issuer

	// Client authentication.
	methods   []string // those of RFC 7591 and RFC 8414, client_secret_json and federated
	oneMethod bool     // a client may use only the one that it is registered for
	rawBasic  bool     // id and secret are not form-decoded
	assertion assertionRules

	// The target: what a request is for and which parameters say so.
	target func(p *provider, app App, form url.Values) (grant, *denial)

	// Tokens and answers.
	lifetime  time.Duration
	typ       string // in the header; "" is absent
	oddHeader string // format of a header that is not written like any other's; gets alg and kid
	claims    func(p *provider, app App, g grant) (header, claims map[string]any)
	tokenType string // as it is spelled
	answer    func(p *provider, g grant, claims, answer map[string]any)
	opaque    string // what opaque tokens begin with

	keys keyShape

	// Refusals: those that differ from RFC 6749's, and the members beside error and error_description.
	errors    map[cause]said
	errorBody func(p *provider, e said) map[string]any

	// Limits. Nil where none is known.
	limit func(h http.Header, l limit)
}

// grant is what a request gets.
type grant struct {
	apis          []API
	scopes, roles []string
	opaque        bool // whatever the application has
}

// table is the provider's; false when there is no such profile.
func (p Profile) table() (profile, bool) {
	tables := map[Profile]func() profile{
		Auth0: auth0, Cognito: cognito, Duende: duende, EntraV1: entraV1, EntraV2: entraV2, Hydra: hydra,
		Keycloak: keycloak, Okta: okta, PingOne: pingOne, SPIRE: spire, ZITADEL: zitadel,
	}
	table, ok := tables[p]
	if !ok {
		return profile{}, false
	}
	return table(), true
}
