package issuer

import (
	"net/url"
	"slices"
	"time"
)

// duende is Duende IdentityServer with its defaults. A scope that belongs to no API resource (an API without ID) puts
// nothing into `aud`.
func duende() profile {
	return profile{
		issuer:     "",
		discovery:  map[string]string{"/.well-known/openid-configuration": ""},
		jwks:       "/.well-known/openid-configuration/jwks",
		token:      "/connect/token",
		introspect: "/connect/introspect",

		methods: []string{"client_secret_basic", "client_secret_post", "private_key_jwt"},
		assertion: assertionRules{
			algorithms: []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"},
			audience:   []string{"issuer", "token_endpoint"},
			needsJTI:   true,
			onceJTI:    true,
		},

		target: duendeTarget,

		lifetime: time.Hour,
		typ:      "at+jwt",
		claims: func(_ *provider, app App, g grant) (header, claims map[string]any) {
			return nil, map[string]any{"sub": nil, "client_id": app.ID, "aud": audience(g.ids()), "nbf": time.Now().Unix(), "scope": g.scopes}
		},
		tokenType: "Bearer",

		keys: keyShape{usual: 1},

		errors: map[cause]said{ // all 400, and without a word of explanation
			unknownClient:   {status: 400, code: "invalid_client"},
			wrongSecret:     {status: 400, code: "invalid_client"},
			wrongMethod:     {status: 400, code: "invalid_client"},
			twoMethods:      {status: 400, code: "invalid_client"},
			badAssertion:    {status: 400, code: "invalid_client"},
			noGrantType:     {status: 400, code: "unsupported_grant_type"},
			otherGrant:      {status: 400, code: "unsupported_grant_type"},
			unknownScope:    {status: 400, code: "invalid_scope"},
			scopeNotGranted: {status: 400, code: "invalid_scope"},
			noTarget:        {status: 400, code: "invalid_scope"},
		},
	}
}

func duendeTarget(p *provider, app App, form url.Values) (grant, *denial) {
	g := grant{scopes: asked(form)}
	if len(g.scopes) == 0 {
		for _, api := range p.tenant.APIs {
			g.scopes = append(g.scopes, of(app.Scopes, api.Scopes)...)
		}
	}
	if len(g.scopes) == 0 {
		return grant{}, &denial{noTarget, "scope"}
	}
	for _, one := range g.scopes {
		api, known := p.scoped(one)
		if !known {
			return grant{}, &denial{unknownScope, one}
		}
		if !may(app.Scopes, one) {
			return grant{}, &denial{scopeNotGranted, one}
		}
		if api.ID != "" && !slices.Contains(g.ids(), api.ID) {
			g.apis = append(g.apis, api)
		}
	}
	return g, nil
}
