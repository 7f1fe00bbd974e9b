package issuer

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// hydra is Ory Hydra with strategies.access_token: jwt; an App that is Opaque has its default strategy instead. It knows no
// APIs: App.APIs are the client's allowed audiences, and nil is none of them.
func hydra() profile {
	return profile{
		issuer: "",
		discovery: map[string]string{
			"/.well-known/openid-configuration":       "",
			"/.well-known/oauth-authorization-server": "",
		},
		jwks:  "/.well-known/jwks.json",
		token: "/oauth2/token",

		methods:   []string{"client_secret_basic", "client_secret_post", "private_key_jwt"},
		oneMethod: true, // client_secret_basic unless the client says otherwise
		assertion: assertionRules{
			algorithms: []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"},
			audience:   []string{"token_endpoint"},
			needsJTI:   true,
			onceJTI:    true,
		},

		target: hydraTarget,

		lifetime: time.Hour,
		typ:      "JWT",
		claims: func(_ *provider, app App, g grant) (header, claims map[string]any) {
			return nil, map[string]any{"sub": app.ID, "client_id": app.ID, "aud": append([]string{}, g.ids()...), "ext": map[string]any{},
				"nbf": time.Now().Unix(), "scp": append([]string{}, g.scopes...)}
		},
		tokenType: "bearer",
		opaque:    "ory_at_",

		keys: keyShape{usual: 2}, // for access tokens and for ID tokens

		errors: map[cause]said{
			unknownClient:    {status: 401, code: "invalid_client", text: "The requested OAuth 2.0 Client does not exist."},
			wrongSecret:      {status: 401, code: "invalid_client"},
			wrongMethod:      {status: 401, code: "invalid_client", text: "The OAuth 2.0 Client supports another client authentication method, but method '{}' was requested. You must configure the OAuth 2.0 client's 'token_endpoint_auth_method' value to accept '{}'."},
			badAssertion:     {status: 401, code: "invalid_client", text: "Unable to verify the integrity of the 'client_assertion' value: {}."},
			targetNotGranted: {status: 400, code: "invalid_request", text: "Requested audience '{}' has not been whitelisted by the OAuth 2.0 Client."},
			scopeNotGranted:  {status: 400, code: "invalid_scope", text: "The OAuth 2.0 Client is not allowed to request scope '{}'."},
			limited:          {status: 429, code: "too_many_requests", text: "rate limit exceeded"},
		},
		errorBody: hydraError,

		// Ory Network's; the reset is a number of seconds.
		limit: func(h http.Header, l limit) {
			h.Set("X-RateLimit-Limit", strconv.Itoa(l.max)+", "+strconv.Itoa(l.max)+";w=1, 300;w=60")
			h.Set("X-RateLimit-Remaining", strconv.Itoa(l.left))
			h.Set("X-RateLimit-Reset", strconv.Itoa(int(min(l.reset, time.Minute)/time.Second)))
		},
	}
}

// hydraTarget takes audiences as several parameters or as one with spaces. An allowed audience is allowed with any path
// below it too.
func hydraTarget(_ *provider, app App, form url.Values) (grant, *denial) {
	g := grant{scopes: asked(form)}
	for _, one := range g.scopes {
		if !may(app.Scopes, one) {
			return grant{}, &denial{scopeNotGranted, one}
		}
	}
	wanted := form["audience"]
	if len(wanted) == 1 {
		wanted = strings.Fields(wanted[0])
	}
	for _, one := range wanted {
		if !slices.ContainsFunc(app.APIs, func(allowed string) bool {
			return one == allowed || strings.HasPrefix(one, strings.TrimSuffix(allowed, "/")+"/")
		}) {
			return grant{}, &denial{targetNotGranted, one}
		}
		g.apis = append(g.apis, API{ID: one})
	}
	return g, nil
}

// hydraError has its own members beside the RFC's.
func hydraError(_ *provider, e said) map[string]any {
	general := map[string]string{
		"invalid_client":  "Client authentication failed (e.g., unknown client, no client authentication included, or unsupported authentication method).",
		"invalid_request": "The request is missing a required parameter, includes an invalid parameter value, includes a parameter more than once, or is otherwise malformed.",
		"invalid_scope":   "The requested scope is invalid, unknown, or malformed.",
	}[e.code]
	return map[string]any{"error": e.code, "error_description": strings.TrimSpace(general + " " + e.text),
		"error_hint": e.text, "error_debug": "", "status_code": e.status}
}
