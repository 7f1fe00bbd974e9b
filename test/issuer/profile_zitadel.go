package issuer

import (
	"net/url"
	"slices"
	"strings"
	"time"
)

// The organization of the ZITADEL profile, as its roles name it.
const (
	zitadelOrg    = "280000000000000001"
	zitadelDomain = "example.zitadel.cloud"
)

// zitadel is an instance with service users. A project is named by a reserved scope; scopes that it does not know it leaves
// out in silence. Roles are an object, and come only when a scope asks for them. An App that is Opaque has the token type
// "Bearer" instead of "JWT".
func zitadel() profile {
	return profile{
		issuer:     "",
		discovery:  map[string]string{"/.well-known/openid-configuration": ""},
		jwks:       "/oauth/v2/keys",
		token:      "/oauth/v2/token",
		introspect: "/oauth/v2/introspect",

		methods: []string{"client_secret_basic", "client_secret_post", "private_key_jwt"},
		assertion: assertionRules{
			algorithms: []string{"RS256"},
			audience:   []string{"issuer"},
			longest:    time.Hour,
			needsKid:   true,
		},

		target: zitadelTarget,

		lifetime:  12*time.Hour - time.Second,
		typ:       "JWT",
		claims:    zitadelClaims,
		tokenType: "Bearer",

		keys: keyShape{usual: 1},

		errors: map[cause]said{
			unknownClient: {status: 401, code: "invalid_client", text: "no active client not found"},
			wrongSecret:   {status: 401, code: "invalid_client", text: "invalid secret"},
			badAssertion:  {status: 401, code: "invalid_client", text: "assertion invalid: {}"},
			otherGrant:    {status: 400, code: "unsupported_grant_type", text: "{} not supported"},
		},
	}
}

const zitadelRoles = "urn:zitadel:iam:org:projects:roles"

func zitadelTarget(p *provider, app App, form url.Values) (grant, *denial) {
	g := grant{roles: app.Roles}
	for _, one := range asked(form) {
		id, isProject := strings.CutPrefix(one, "urn:zitadel:iam:org:project:id:")
		id, isAudience := strings.CutSuffix(id, ":aud")
		api, known := p.api(id)
		switch {
		case isProject && isAudience && known:
			g.apis = append(g.apis, api)
		case one != zitadelRoles && one != "openid" && one != "profile":
			continue
		}
		g.scopes = append(g.scopes, one)
	}
	return g, nil
}

func zitadelClaims(_ *provider, app App, g grant) (header, claims map[string]any) {
	claims = map[string]any{"sub": "310000000000000007", "client_id": app.ID, "nbf": time.Now().Unix(), "aud": append([]string{app.ID}, g.ids()...)}
	if !slices.Contains(g.scopes, zitadelRoles) {
		return nil, claims
	}
	all := map[string]any{}
	for _, api := range g.apis {
		its := map[string]any{}
		for _, role := range of(g.roles, api.Roles) {
			its[role] = map[string]string{zitadelOrg: zitadelDomain}
			all[role] = its[role]
		}
		claims["urn:zitadel:iam:org:project:"+api.ID+":roles"] = its
	}
	claims["urn:zitadel:iam:org:project:roles"] = all
	return nil, claims
}
