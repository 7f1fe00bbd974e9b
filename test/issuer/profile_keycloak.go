package issuer

import (
	"net/url"
	"slices"
	"strings"
	"time"
)

// keycloak is the realm "demo". It does not read `audience`: a token is for the clients that the audience mappers of its
// client scopes name, for those whose roles the service account has ("audience resolve"), and for account.
func keycloak() profile {
	const realm, protocol = "/realms/demo", "/realms/demo/protocol/openid-connect"
	return profile{
		issuer:     realm,
		discovery:  map[string]string{realm + "/.well-known/openid-configuration": realm},
		jwks:       protocol + "/certs",
		token:      protocol + "/token",
		introspect: protocol + "/token/introspect",

		methods: []string{"client_secret_basic", "client_secret_post", "client_secret_jwt", "private_key_jwt", "tls_client_auth", "federated"},
		assertion: assertionRules{
			algorithms: []string{"HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"},
			audience:   []string{"issuer", "token_endpoint"},
			longest:    time.Minute,
			onceJTI:    true,
		},

		target: keycloakTarget,

		lifetime:  5 * time.Minute,
		typ:       "JWT",
		oddHeader: `{"alg":"%s","typ" : "JWT","kid" : "%s"}`,
		claims:    keycloakClaims,
		tokenType: "Bearer",
		answer: func(_ *provider, _ grant, _, answer map[string]any) {
			answer["refresh_expires_in"], answer["not-before-policy"] = 0, 0
		},

		// A realm has a key for encryption beside the one that signs.
		keys: keyShape{usual: 1, x5c: true, x5t: true, x5tS256: true, others: []string{keycloakEncryptionKey}},

		errors: map[cause]said{
			unknownClient: {status: 401, code: "invalid_client", text: "Invalid client or Invalid client credentials"},
			wrongSecret:   {status: 401, code: "unauthorized_client", text: "Invalid client or Invalid client credentials"},
			wrongMethod:   {status: 401, code: "unauthorized_client", text: "Invalid client or Invalid client credentials"},
			badAssertion:  {status: 401, code: "invalid_client", text: "Client authentication with signed JWT failed: {}"},
			noGrantType:   {status: 400, code: "invalid_request", text: "Missing form parameter: {}"},
			otherGrant:    {status: 400, code: "unsupported_grant_type", text: "Unsupported grant_type"},
			unknownScope:  {status: 400, code: "invalid_scope", text: "Invalid scopes: {}"},
		},
	}
}

func keycloakTarget(p *provider, app App, form url.Values) (grant, *denial) {
	g := grant{scopes: []string{"email", "profile"}, roles: app.Roles}
	for _, one := range asked(form) {
		api, known := p.scoped(one)
		if !known && one != "openid" && !slices.Contains(g.scopes, one) || known && !may(app.Scopes, one) {
			return grant{}, &denial{unknownScope, form.Get("scope")}
		}
		if !slices.Contains(g.scopes, one) {
			g.scopes = append(g.scopes, one)
		}
		if known && !slices.Contains(g.ids(), api.ID) {
			g.apis = append(g.apis, api)
		}
	}
	for _, api := range p.tenant.APIs {
		if len(of(app.Roles, api.Roles)) > 0 && !slices.Contains(g.ids(), api.ID) {
			g.apis = append(g.apis, api)
		}
	}
	return g, nil
}

func keycloakClaims(_ *provider, app App, g grant) (header, claims map[string]any) {
	access := map[string]any{"account": map[string]any{"roles": []string{"manage-account", "manage-account-links", "view-profile"}}}
	for _, api := range g.apis {
		if roles := of(g.roles, api.Roles); len(roles) > 0 {
			access[api.ID] = map[string]any{"roles": roles}
		}
	}
	return nil, map[string]any{"typ": "Bearer", "azp": app.ID, "client_id": app.ID, "acr": "1",
		"sub": "0d1e2f3a-4b5c-6d7e-8f90-a1b2c3d4e5f6", "aud": audience(append(g.ids(), "account")),
		"preferred_username": "service-account-" + app.ID, "email_verified": false, "clientHost": "127.0.0.1", "clientAddress": "127.0.0.1",
		"realm_access":    map[string]any{"roles": []string{"default-roles-demo", "offline_access", "uma_authorization"}},
		"resource_access": access, "scope": strings.Join(g.scopes, " ")}
}

// keycloakEncryptionKey is an RSA key for encrypting to the realm; nobody has its private part.
const keycloakEncryptionKey = `{"kid":"enc-0123456789","kty":"RSA","alg":"RSA-OAEP","use":"enc","e":"AQAB","n":"vjk7fOuwg-V2PGp0tVkcLQwdfPiNe7TBzVSd-D0n0e8L_Au988lFiE2RyFmFDWw1Q2IdQ-GZ309GZQwK0Ehkq_lm1DWVgzy2xPSK4I8Kx7sRbQVsMzQwnirqLcSU-iV4SFJKmGOd0uavl_OkLItERLdc9cUy4p5EDiFNr7tet7pYfdtg9EAhRfw9rs4zAszP6qCzA0ULe0I4bXFqqtPdhGVoXdKssr4GYM07NrQPtmfKhdXcEOzohSha0LECWS5nbWQodURPISiCguz_CatOwGq2RkDIYbd46B8gCLSRU7Tingvz1enDRZvbNCNBEfF0S-vchZu-vaNr6djkNTd8tw"}`
