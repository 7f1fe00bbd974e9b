package issuer

import (
	"crypto/rand"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"
)

// okta is the custom authorization server "default" of an org. The tenant's first API is what the authorization server is
// for: every token has its ID as `aud`.
func okta() profile {
	errorCode := func(e said) map[string]any { // the management API's shape, which the token endpoint has at times
		return map[string]any{"errorCode": e.code, "errorSummary": e.text, "errorLink": e.code, "errorId": "oae-0123456789", "errorCauses": []any{}}
	}
	return profile{
		issuer: "/oauth2/default",
		discovery: map[string]string{
			"/oauth2/default/.well-known/oauth-authorization-server": "/oauth2/default", // not where RFC 8414 has it
			"/oauth2/default/.well-known/openid-configuration":       "/oauth2/default",
		},
		jwks:       "/oauth2/default/v1/keys",
		token:      "/oauth2/default/v1/token",
		introspect: "/oauth2/default/v1/introspect",

		methods:  []string{"client_secret_basic", "client_secret_post", "client_secret_jwt", "private_key_jwt"},
		rawBasic: true, // its secrets have nothing that encoding changes
		assertion: assertionRules{
			algorithms: []string{"HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "ES256", "ES384", "ES512"},
			audience:   []string{"token_endpoint"},
			longest:    time.Hour,
			onceJTI:    true,
		},

		target: oktaTarget,

		lifetime: time.Hour,
		claims: func(p *provider, app App, g grant) (header, claims map[string]any) {
			return nil, map[string]any{"ver": 1, "jti": "AT." + rand.Text(), "aud": g.apis[0].ID,
				"cid": app.ID, "client_id": nil, "sub": app.ID, "scp": g.scopes}
		},
		tokenType: "Bearer",

		keys: keyShape{usual: 1, cacheControl: "max-age=5184000, must-revalidate"},

		errors: map[cause]said{
			unknownClient:   {status: 401, code: "invalid_client", text: "Invalid value for 'client_id' parameter.", body: errorCode},
			wrongSecret:     {status: 401, code: "invalid_client", text: "The client secret supplied for a confidential client is invalid."},
			badAssertion:    {status: 401, code: "invalid_client", text: "The client_assertion is invalid: {}."},
			noTarget:        {status: 400, code: "invalid_scope", text: "The authorization server resource does not have any configured default scopes, '{}' must be provided."},
			unknownScope:    {status: 400, code: "invalid_scope", text: "One or more scopes are not configured for the authorization server resource."},
			scopeNotGranted: {status: 400, code: "access_denied", text: "Policy evaluation failed for this request, please check the policy configurations."},
			limited:         {status: 429, code: "E0000047", text: "API call exceeded rate limit due to too many requests.", body: errorCode},
		},

		limit: func(h http.Header, l limit) {
			h.Set("X-Rate-Limit-Limit", strconv.Itoa(l.max))
			h.Set("X-Rate-Limit-Remaining", strconv.Itoa(l.left))
			h.Set("X-Rate-Limit-Reset", strconv.FormatInt(time.Now().Add(min(l.reset, time.Minute)).Unix(), 10))
		},
	}
}

func oktaTarget(p *provider, app App, form url.Values) (grant, *denial) {
	if len(p.tenant.APIs) == 0 {
		return grant{}, &denial{noTarget, "scope"}
	}
	g := grant{apis: p.tenant.APIs[:1], scopes: asked(form)}
	if len(g.scopes) == 0 {
		return grant{}, &denial{noTarget, "scope"}
	}
	for _, one := range g.scopes {
		if !slices.Contains(g.apis[0].Scopes, one) {
			return grant{}, &denial{unknownScope, one}
		}
		if !may(app.Scopes, one) {
			return grant{}, &denial{scopeNotGranted, one}
		}
	}
	return g, nil
}
