package issuer

import (
	"net/http"
	"net/url"
	"strings"
	"time"
)

// The environment and organization of the PingOne profile.
const (
	pingOneEnv = "11112222-3333-4444-5555-666677778888"
	pingOneOrg = "99990000-aaaa-bbbb-cccc-ddddeeeeffff"
)

// pingOne is an environment. The scopes of a request must be of one resource.
func pingOne() profile {
	const as = "/" + pingOneEnv + "/as"
	return profile{
		issuer:     as,
		discovery:  map[string]string{as + "/.well-known/openid-configuration": as},
		jwks:       as + "/jwks",
		token:      as + "/token",
		introspect: as + "/introspect",

		methods:   []string{"client_secret_basic", "client_secret_post", "client_secret_jwt", "private_key_jwt"},
		oneMethod: true,
		rawBasic:  true, // its secrets have nothing that encoding changes
		assertion: assertionRules{
			algorithms: []string{"HS256", "HS384", "HS512", "RS256", "RS384", "RS512"},
			audience:   []string{"issuer", "token_endpoint"},
			onceJTI:    true,
		},

		target: pingOneTarget,

		lifetime: time.Hour,
		typ:      "JWT",
		claims: func(_ *provider, app App, g grant) (header, claims map[string]any) {
			return nil, map[string]any{"sub": app.ID, "client_id": app.ID, "aud": g.ids(), "scope": strings.Join(g.scopes, " "),
				"env": pingOneEnv, "org": pingOneOrg}
		},
		tokenType: "Bearer",

		keys: keyShape{usual: 1, x5c: true},

		errors: map[cause]said{
			unknownClient:   {status: 401, code: "invalid_client", text: "Request denied: Invalid client credentials"},
			wrongSecret:     {status: 401, code: "invalid_client", text: "Request denied: Invalid client credentials"},
			wrongMethod:     {status: 401, code: "invalid_client", text: "Request denied: Unsupported authentication method"},
			noTarget:        {status: 400, code: "invalid_scope", text: "At least one scope must be granted"},
			unknownScope:    {status: 400, code: "invalid_scope", text: "At least one scope must be granted"},
			scopeNotGranted: {status: 400, code: "invalid_scope", text: "At least one scope must be granted"},
			manyTargets:     {status: 400, code: "invalid_scope", text: "May not request scopes for multiple resources"},
			limited:         {status: 429, code: "too_many_requests", text: "The request could not be completed because the rate limit was exceeded."},
		},

		limit: func(http.Header, limit) {}, // nothing is known to be said of it beforehand
	}
}

// pingOneTarget leaves out what was not granted, and refuses what leaves nothing.
func pingOneTarget(p *provider, app App, form url.Values) (grant, *denial) {
	var g grant
	for _, one := range asked(form) {
		api, known := p.scoped(one)
		switch {
		case !known || !may(app.Scopes, one):
			continue
		case len(g.apis) == 0:
			g.apis = []API{api}
		case g.apis[0].ID != api.ID:
			return grant{}, &denial{manyTargets, form.Get("scope")}
		}
		g.scopes = append(g.scopes, one)
	}
	if len(g.scopes) == 0 {
		return grant{}, &denial{noTarget, "scope"}
	}
	return g, nil
}
