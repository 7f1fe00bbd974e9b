package issuer

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// cognito is a user pool. Its tokens name no audience: an API, a "resource server", is only the first part of its scopes.
func cognito() profile {
	const pool = "/eu-central-1_Example01"
	return profile{
		issuer:    pool,
		discovery: map[string]string{pool + "/.well-known/openid-configuration": pool},
		jwks:      pool + "/.well-known/jwks.json",
		token:     "/oauth2/token",
		elsewhere: true, // at the pool's domain

		methods:  []string{"client_secret_basic", "client_secret_post"},
		rawBasic: true, // its secrets have nothing that encoding changes

		target: cognitoTarget,

		lifetime: time.Hour,
		claims: func(_ *provider, app App, g grant) (header, claims map[string]any) {
			return nil, map[string]any{"sub": app.ID, "client_id": app.ID, "token_use": "access", "version": 2,
				"auth_time": time.Now().Unix(), "scope": strings.Join(g.scopes, " ")}
		},
		tokenType: "Bearer",
		answer:    func(_ *provider, _ grant, _, answer map[string]any) { delete(answer, "scope") },

		keys: keyShape{usual: 2}, // one for access tokens, one for ID tokens

		errors: map[cause]said{ // all 400, and without a word of explanation
			unknownClient:   {status: 400, code: "invalid_client"},
			wrongSecret:     {status: 400, code: "invalid_client"},
			wrongMethod:     {status: 400, code: "invalid_client"},
			twoMethods:      {status: 400, code: "invalid_request"},
			noGrantType:     {status: 400, code: "invalid_request"},
			otherGrant:      {status: 400, code: "unauthorized_client"},
			noTarget:        {status: 400, code: "invalid_scope"},
			unknownScope:    {status: 400, code: "invalid_grant"},
			scopeNotGranted: {status: 400, code: "invalid_grant"},
			limited:         {status: 429, code: "TooManyRequestsException"},
		},

		limit: func(http.Header, limit) {}, // nothing is said of it beforehand, nor how long it lasts
	}
}

func cognitoTarget(p *provider, app App, form url.Values) (grant, *denial) {
	var all []string
	for _, api := range p.tenant.APIs {
		for _, s := range api.Scopes {
			all = append(all, api.ID+"/"+s)
		}
	}
	g := grant{scopes: asked(form)}
	for _, one := range g.scopes {
		if !slices.Contains(all, one) {
			return grant{}, &denial{unknownScope, one}
		}
		if !may(app.Scopes, one) {
			return grant{}, &denial{scopeNotGranted, one}
		}
	}
	if len(g.scopes) == 0 {
		g.scopes = of(app.Scopes, all)
	}
	if len(g.scopes) == 0 {
		return grant{}, &denial{noTarget, "scope"}
	}
	return g, nil
}
