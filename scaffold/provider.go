package scaffold

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// Provider is an authorization server that there is a template for.
type Provider struct {
	Name  string // as on the command line
	Title string

	// Issuer says what to ask for in place of the issuer identifier, and Tenant an example of it.
	Issuer, Tenant string
	// SecretFile, Audience, RouteAudience, Scope and RouteScope are what stands in the file until something else is known; "" is nothing.
	SecretFile                                 string
	Audience, RouteAudience, Scope, RouteScope string
	// AudienceIs says what our audience is there.
	AudienceIs string
	// NeedsScopes says that a token for our audience proves nothing without a scope.
	NeedsScopes bool
	// NeedsCallers says that callers have to be named.
	NeedsCallers bool
	Caller       string // what stands for them
	// NeedsRouteScopes says that the API is named by scopes in the token request, and RouteAudience by nothing.
	NeedsRouteScopes bool
	// TokenEndpoint is what stands for the token endpoint where it has to be said.
	TokenEndpoint string
	// InboundOnly is why there is no outbound; "" where there is.
	InboundOnly string

	identifier func(answer string) (string, error)
}

// Providers are all of them, in the order in which they are offered.
func Providers() []Provider {
	return []Provider{
		{
			Name: "auth0", Title: "Auth0", Issuer: "Your tenant's domain, or your custom domain", Tenant: "YOUR-TENANT.eu.auth0.com",
			SecretFile: "/run/secrets/auth0-client-secret", Audience: "https://YOUR-API", RouteAudience: "https://YOUR-OTHER-API",
			AudienceIs: "the identifier of this service's API", identifier: auth0,
		},
		{
			Name: "entra-id", Title: "Microsoft Entra ID", Issuer: "Your tenant's id, a GUID", Tenant: "YOUR-TENANT-ID",
			SecretFile: "/run/secrets/entra-client-secret", Audience: "YOUR-APP-ID", RouteAudience: "api://YOUR-OTHER-APP-ID", Scope: "YOUR-APP-ROLE",
			AudienceIs: "this service's Application (client) ID", NeedsScopes: true, identifier: entra,
		},
		{
			Name: "okta", Title: "Okta", Issuer: "The authorization server's Issuer URI", Tenant: "https://YOUR-ORG.okta.com/oauth2/default",
			SecretFile: "/run/secrets/okta-client-secret", Audience: "api://default", RouteScope: "YOUR-SCOPE",
			AudienceIs: "the Audience of the authorization server", NeedsRouteScopes: true, identifier: okta,
		},
		{
			Name: "keycloak", Title: "Keycloak", Issuer: "The realm's issuer", Tenant: "https://keycloak.example.com/realms/YOUR-REALM",
			SecretFile: "/run/secrets/keycloak-client-secret", Audience: "YOUR-CLIENT-ID", RouteScope: "YOUR-CLIENT-SCOPE",
			AudienceIs: "this service's client id", NeedsRouteScopes: true, identifier: keycloak,
		},
		{
			Name: "cognito", Title: "Amazon Cognito", Issuer: "The user pool's id, or its issuer URL", Tenant: "https://cognito-idp.YOUR-REGION.amazonaws.com/YOUR-POOL-ID",
			SecretFile: "/run/secrets/cognito-client-secret", Audience: "YOUR-RESOURCE-SERVER", Scope: "YOUR-RESOURCE-SERVER/read", RouteScope: "YOUR-OTHER-RESOURCE-SERVER/read",
			AudienceIs: "the identifier of this service's resource server", NeedsScopes: true, NeedsCallers: true, Caller: "YOUR-CALLERS-CLIENT-ID", NeedsRouteScopes: true,
			TokenEndpoint: "https://YOUR-PREFIX.auth.YOUR-REGION.amazoncognito.com/oauth2/token", identifier: cognito,
		},
		{
			Name: "kubernetes", Title: "Kubernetes service accounts", Issuer: "The cluster's issuer", Tenant: "https://kubernetes.default.svc.cluster.local",
			Audience: "YOUR-SERVICE", AudienceIs: "the audience of the callers' token volumes", NeedsCallers: true, Caller: "system:serviceaccount:YOUR-NAMESPACE:YOUR-CALLER",
			InboundOnly: "Kubernetes gives pods their tokens itself and has no endpoint to ask for one, so it goes with inbound alone; for outbound choose the server that issues tokens for the service that is called",
			identifier:  identifier,
		},
		{
			Name: "other", Title: "Another authorization server", Issuer: "The issuer identifier", Tenant: "https://YOUR-ISSUER.example.com",
			SecretFile: "/run/secrets/client-secret", Audience: "https://YOUR-API", RouteAudience: "https://YOUR-OTHER-API",
			AudienceIs: "what `aud` says in tokens for this service", identifier: identifier,
		},
	}
}

// provider is the one of that name, or nil.
func provider(name string) *Provider {
	for _, p := range Providers() {
		if p.Name == name {
			return &p
		}
	}
	return nil
}

// Placeholder begins everything that stands for what was not answered.
const Placeholder = "YOUR-"

var (
	domain  = regexp.MustCompile(`^[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+$`)
	guid    = regexp.MustCompile(`^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$`)
	poolID  = regexp.MustCompile(`^([a-z]{2}(?:-[a-z]+)+-[0-9])_[A-Za-z0-9]+$`)
	isURL   = regexp.MustCompile(`^[a-z]+://`)
	inRealm = regexp.MustCompile(`/realms/[^/]+$`)
)

func auth0(answer string) (string, error) {
	if domain.MatchString(answer) {
		answer = "https://" + answer
	}
	url, err := identifier(answer)
	if err != nil {
		return "", fmt.Errorf("%w; a domain will do, such as acme.eu.auth0.com", err)
	}
	return strings.TrimSuffix(url, "/") + "/", nil // Auth0 puts it into iss
}

func entra(answer string) (string, error) {
	switch {
	case guid.MatchString(answer) || strings.HasPrefix(answer, Placeholder):
		return "https://login.microsoftonline.com/" + answer + "/v2.0", nil
	case !isURL.MatchString(answer):
		return "", errors.New("the tenant's id is a GUID such as 6a6e5a1c-8a5a-4a3c-9d3b-0d1f2e3c4b5a; tokens do not name the tenant by its domain")
	}
	return withoutSlash(answer)
}

func okta(answer string) (string, error) {
	if domain.MatchString(answer) {
		answer = "https://" + answer + "/oauth2/default"
	}
	url, err := withoutSlash(answer)
	if err == nil && !strings.Contains(url, "/oauth2/") {
		err = fmt.Errorf("%s is the org authorization server, whose tokens nobody else can check; a custom one has /oauth2/ in its Issuer URI, such as %s/oauth2/default", url, url)
	}
	return url, err
}

func keycloak(answer string) (string, error) {
	url, err := withoutSlash(answer)
	if err == nil && !inRealm.MatchString(url) {
		err = fmt.Errorf("%s does not end in /realms/ and a realm, as Keycloak's issuers do", url)
	}
	return url, err
}

func cognito(answer string) (string, error) {
	if m := poolID.FindStringSubmatch(answer); m != nil {
		return "https://cognito-idp." + m[1] + ".amazonaws.com/" + answer, nil
	}
	url, err := withoutSlash(answer)
	if err != nil {
		return "", fmt.Errorf("%w; the user pool's id will do, such as eu-west-1_AbCdEf123", err)
	}
	return url, nil
}

func withoutSlash(answer string) (string, error) {
	url, err := identifier(answer)
	return strings.TrimSuffix(url, "/"), err
}
