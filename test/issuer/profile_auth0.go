package issuer

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// auth0 is a tenant with the default "Auth0 profile" of tokens. A request without `audience` gets an opaque token, good for
// /userinfo alone.
func auth0() profile {
	return profile{
		issuer: "/",
		discovery: map[string]string{
			"/.well-known/openid-configuration":       "/",
			"/.well-known/oauth-authorization-server": "/",
		},
		jwks:  "/.well-known/jwks.json",
		token: "/oauth/token",

		methods:  []string{"client_secret_basic", "client_secret_post", "client_secret_json", "private_key_jwt", "tls_client_auth"},
		rawBasic: true, // its secrets have nothing that encoding changes
		assertion: assertionRules{
			algorithms: []string{"RS256", "RS384", "PS256"},
			audience:   []string{"issuer"},
			longest:    5 * time.Minute,
			skew:       10 * time.Second,
			needsJTI:   true,
			onceJTI:    true,
		},

		target: auth0Target,

		lifetime:  24 * time.Hour,
		typ:       "JWT",
		claims:    auth0Claims,
		tokenType: "Bearer",

		keys: keyShape{usual: 2, x5c: true, x5t: true}, // the second is the next one

		errors: map[cause]said{
			unknownClient:    {status: 401, code: "access_denied", text: "Unauthorized"},
			wrongSecret:      {status: 401, code: "access_denied", text: "Unauthorized"},
			wrongMethod:      {status: 401, code: "access_denied", text: "Unauthorized"},
			otherGrant:       {status: 403, code: "unauthorized_client", text: "Grant type '{}' not allowed for the client."},
			unknownTarget:    {status: 403, code: "access_denied", text: "Service not enabled within domain: {}"},
			targetNotGranted: {status: 403, code: "access_denied", text: `Client is not authorized to access "{}". You need to create a "client-grant" associated to this API.`},
			scopeNotGranted:  {status: 403, code: "access_denied", text: "Client has not been granted scopes: {}"},
			manyTargets:      {status: 400, code: "invalid_request", text: "audience must be one string"},
			limited:          {status: 429, code: "too_many_requests", text: "Client quota exceeded"},
		},

		limit: auth0Limit,
	}
}

func auth0Target(p *provider, app App, form url.Values) (grant, *denial) {
	name := form.Get("audience")
	if len(form["audience"]) > 1 {
		return grant{}, &denial{manyTargets, "audience"}
	}
	if name == "" {
		return grant{opaque: true}, nil
	}
	api, known := p.api(name)
	if !known {
		return grant{}, &denial{unknownTarget, name}
	}
	if !may(app.APIs, name) {
		return grant{}, &denial{targetNotGranted, name}
	}
	g := grant{apis: []API{api}, scopes: of(app.Scopes, api.Scopes), roles: of(app.Roles, api.Roles)}
	if narrower := asked(form); len(narrower) > 0 {
		for _, one := range narrower {
			if !may(g.scopes, one) || g.scopes == nil {
				return grant{}, &denial{scopeNotGranted, one}
			}
		}
		g.scopes = narrower
	}
	return g, nil
}

// auth0Claims follow the API's token_dialect; those in _authz have permissions.
func auth0Claims(p *provider, app App, g grant) (header, claims map[string]any) {
	claims = map[string]any{"sub": app.ID + "@clients", "aud": audience(g.ids())}
	if len(g.scopes) > 0 {
		claims["scope"] = strings.Join(g.scopes, " ")
	}
	dialect := ""
	if len(g.apis) > 0 {
		dialect = g.apis[0].Format
	}
	if strings.HasPrefix(dialect, "rfc9068_profile") {
		header = map[string]any{"typ": "at+jwt"}
		claims["client_id"] = app.ID
	} else {
		claims["azp"], claims["gty"] = app.ID, "client-credentials"
		claims["client_id"], claims["jti"] = nil, nil
	}
	if strings.HasSuffix(dialect, "_authz") {
		claims["permissions"] = append([]string{}, g.roles...)
	}
	return header, claims
}

// auth0Limit: the tenant's rate in every answer, and the client's quota where there is one. The reset of the rate is a point
// in time, that of the quota is a number of seconds.
func auth0Limit(h http.Header, l limit) {
	h.Set("X-RateLimit-Limit", "30")
	h.Set("X-RateLimit-Remaining", "29")
	h.Set("X-RateLimit-Reset", strconv.FormatInt(time.Now().Add(time.Second).Unix(), 10))
	if !l.exact {
		return
	}
	seconds := int(l.reset / time.Second)
	h.Set("Auth0-Client-Quota-Limit", fmt.Sprintf("b=per_hour;q=%d;r=%d;t=%d", l.max, l.left, seconds))
	if l.left == 0 {
		h.Set("Retry-After", strconv.Itoa(seconds))
	}
}
