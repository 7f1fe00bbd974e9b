package e2e

import (
	"net/url"
	"strings"
	"testing"

	"github.com/sidepass/sidepass/test/issuer"
)

// The ids of Entra's and PingOne's applications and of ZITADEL's projects.
const (
	entraTenantID = "aaaabbbb-0000-cccc-1111-dddd2222eeee"
	shopAppID     = "00001111-aaaa-2222-bbbb-3333cccc4444"
	ordersAppID   = "11112222-bbbb-3333-cccc-4444dddd5555"
	legacyAppID   = "22223333-cccc-4444-dddd-5555eeee6666"
	projectID     = "290000000000000002"
	zitadelRoles  = "/urn:zitadel:iam:org:project:roles/"
	zitadelOrg    = "/280000000000000001=example.zitadel.cloud"
)

// The configurations for providers without an example. CLIENT, ISSUER and SECRET-FILE are filled in.
const (
	minimalIssuer = "\nissuers:\n  - {name: idp, url: ISSUER, client: {id: CLIENT, auth_method: client_secret_basic, secret_file: SECRET-FILE}}\n"
	minimalCaller = minimalIssuer + "\noutbound:\n  routes:\n    - name: orders\n      host: orders.internal\n      upstream: https://orders.example.com\n"
	minimalCallee = minimalIssuer + "\ninbound:\n  upstream: http://127.0.0.1:8080\n"
)

func minimalNames(client string) func(*issuer.Server) []string {
	return func(s *issuer.Server) []string { return []string{"ISSUER", s.Issuer(), "CLIENT", client} }
}

// providers are all of them. Each case is a mistake that is often made with it, and its twin where one is not obvious.
func providers() []provider {
	return []provider{
		auth0Provider(), oktaProvider(), entraV2Provider(), entraV1Provider(), keycloakProvider(), cognitoProvider(),
		hydraProvider(), zitadelProvider(), duendeProvider(), pingOneProvider(),
	}
}

func auth0Provider() provider {
	return provider{
		profile: issuer.Auth0, example: "auth0.yaml", secret: secret,
		tenant: issuer.Tenant{
			APIs: []issuer.API{{ID: "https://orders-api", Scopes: []string{"read:orders", "write:orders"}}, {ID: "https://stock-api", Scopes: []string{"read:stock"}}},
			Apps: []issuer.App{{ID: "auth0Client01", Secret: secret, APIs: []string{"https://orders-api"}, Scopes: []string{"read:orders"}}},
		},
		names: func(s *issuer.Server) []string {
			return []string{"https://YOUR-TENANT.eu.auth0.com/", s.Issuer(), "YOUR-CLIENT-ID", "auth0Client01"}
		},
		called: []string{"https://shop-api", "https://orders-api", "read:carts", "read:orders", "/carts", "/orders"},
		caseOf: []providerCase{
			{"no-scope-is-all", `audience: ["https://orders-api"]`, 200, "", nil},
			{"unknown-audience", `audience: ["https://unknown-api"]`, 502, "token_refused",
				[]string{"access_denied", "Service not enabled within domain: https://unknown-api", "create the API in Auth0", "audience https://unknown-api"}},
			{"no-client-grant", `audience: ["https://stock-api"]`, 502, "token_refused", []string{"access_denied", "authorize the application for the API", "https://stock-api"}},
			{"scope-not-granted", `audience: ["https://orders-api"], scopes: ["write:orders"]`, 502, "token_refused", []string{"access_denied", "grant the application these scopes", "write:orders"}},
			{"no-audience", `scopes: ["read:orders"]`, 401, "malformed_token", nil}, // the token is opaque
			{"resource-is-not-read", `resource: ["https://orders-api"]`, 401, "malformed_token", nil},
		},
		also: func(t *testing.T, w *providerWorld) {
			t.Run("the slash at the end of the issuer counts", func(t *testing.T) {
				want(t, w.bearer(t, w.iss.Mint(map[string]any{"iss": strings.TrimSuffix(w.iss.Issuer(), "/"), "aud": "https://orders-api", "scope": "read:orders"})), 401, "untrusted_issuer")
			})
		},
	}
}

func oktaProvider() provider {
	return provider{
		profile: issuer.Okta, example: "okta.yaml", secret: plainSecret,
		tenant: issuer.Tenant{
			APIs: []issuer.API{{ID: "api://default", Scopes: []string{"orders.read", "carts.read", "orders.write"}}},
			Apps: []issuer.App{{ID: "0oaClient01", Secret: plainSecret, Scopes: []string{"orders.read", "carts.read"}}},
		},
		names: func(s *issuer.Server) []string {
			return []string{"https://YOUR-ORG.okta.com/oauth2/default", s.Issuer(), "YOUR-CLIENT-ID", "0oaClient01"}
		},
		called: []string{"carts.read", "orders.read", "/carts", "/orders"},
		caseOf: []providerCase{
			{"no-scope", `audience: ["api://default"]`, 502, "token_refused", []string{"invalid_scope", "'scope' must be provided", "add the scopes to the authorization server in Okta"}},
			{"unknown-scope", "scopes: [orders.delete]", 502, "token_refused", []string{"invalid_scope", "add the scopes to the authorization server in Okta", "scopes orders.delete"}},
			{"no-policy", "scopes: [orders.write]", 502, "token_refused", []string{"access_denied", "add an access policy"}},
			{"another-scope", "scopes: [carts.read]", 403, "insufficient_scope", nil},
		},
		also: func(t *testing.T, w *providerWorld) {
			// Okta answers this one in the shape of its management API.
			t.Run("unknown client", func(t *testing.T) {
				s := startBeside(t, outboundYAML(w.iss, "", `name: orders, host: orders.internal, upstream: "http://127.0.0.1:1", scopes: [orders.read]`))
				a := get(t, s.proxied(), "http://orders.internal/")
				want(t, a, 502, "token_refused")
				for _, text := range []string{"invalid_client", "'client_id'", "check the client's id"} {
					if !strings.Contains(problemOf(a).Detail, text) {
						t.Errorf("the answer does not say %q: %s", text, problemOf(a).Detail)
					}
				}
			})
		},
	}
}

func entraV2Provider() provider {
	orders, legacy := "api://"+ordersAppID, "api://"+legacyAppID
	return provider{
		profile: issuer.EntraV2, example: "entra-id.yaml", secret: plainSecret,
		tenant: issuer.Tenant{
			APIs: []issuer.API{{ID: orders, AppID: ordersAppID, Roles: []string{"Orders.Read"}}, {ID: legacy, AppID: legacyAppID, Roles: []string{"Orders.Read"}, Format: "1"}},
			Apps: []issuer.App{{ID: shopAppID, Secret: plainSecret}},
		},
		names: func(s *issuer.Server) []string {
			return []string{"https://login.microsoftonline.com", s.URL(), "YOUR-TENANT-ID", entraTenantID, "YOUR-ORDERS-APP-ID", ordersAppID, "YOUR-SHOP-APP-ID", shopAppID}
		},
		called: []string{"audiences: [YOUR-SHOP-APP-ID]", "audiences: [" + ordersAppID + "]", "Carts.Read", "Orders.Read", "/carts", "/orders"},
		caseOf: []providerCase{
			{"without-default", `scopes: ["` + orders + `/Orders.Read"]`, 502, "token_refused", []string{"invalid_scope", "AADSTS1002012", "have to be one API's App ID URI followed by /.default"}},
			{"guid-for-uri", `scopes: ["` + ordersAppID + `/.default"]`, 200, "", nil},
			{"resource", `resource: ["` + orders + `"]`, 502, "token_refused", []string{"invalid_request", "AADSTS901002", "leave resource out"}},
			{"audience", `audience: ["` + orders + `"]`, 502, "token_refused", []string{"AADSTS900144", "'scope'"}},
			{"unknown-api", `scopes: ["api://unknown/.default"]`, 502, "token_refused", []string{"AADSTS500011", "does not know the API", "api://unknown"}},
			{"two-apis", `scopes: ["` + orders + `/.default", "` + legacy + `/.default"]`, 502, "token_refused", []string{"AADSTS70011", "have to be one API's"}},
			{"version-1-tokens", `scopes: ["` + legacy + `/.default"]`, 401, "untrusted_issuer", nil},
		},
		also: func(t *testing.T, w *providerWorld) {
			token := func(changes map[string]any) string {
				claims := map[string]any{"aud": ordersAppID, "azp": shopAppID, "tid": entraTenantID}
				for name, v := range changes {
					claims[name] = v
				}
				return w.iss.Mint(claims)
			}
			t.Run("an application without a role is known and may do nothing", func(t *testing.T) {
				want(t, w.bearer(t, token(nil)), 403, "insufficient_scope")
				want(t, w.bearer(t, token(map[string]any{"roles": []string{"Orders.Read"}})), 200, "")
			})
			t.Run("a key is tied to its tenant", func(t *testing.T) {
				want(t, w.bearer(t, token(map[string]any{"tid": "another", "roles": []string{"Orders.Read"}})), 401, "unknown_key")
			})
			t.Run("common is no issuer", func(t *testing.T) {
				s := startBeside(t, strings.ReplaceAll(outboundYAML(w.iss, "", "name: orders, host: orders.internal, upstream: \"http://127.0.0.1:1\", scopes: [\"x/.default\"]"),
					w.iss.Issuer(), w.iss.URL()+"/common/v2.0"))
				a := get(t, s.proxied(), "http://orders.internal/")
				want(t, a, 503, "token_unavailable")
				if !strings.Contains(problemOf(a).Detail, "{tenantid}") {
					t.Errorf("the answer does not say what the metadata say: %s", a.body)
				}
			})
		},
	}
}

func entraV1Provider() provider {
	orders := "api://" + ordersAppID
	return provider{
		profile: issuer.EntraV1, secret: plainSecret,
		tenant: issuer.Tenant{
			APIs: []issuer.API{{ID: orders, AppID: ordersAppID, Roles: []string{"Orders.Read"}}},
			Apps: []issuer.App{{ID: shopAppID, Secret: plainSecret}},
		},
		caller: minimalCaller + "      resource: [\"" + orders + "\"]\n",
		callee: minimalCallee + "  trust:\n    - {audiences: [\"" + orders + "\"], scope_claims: [roles]}\n  claim_headers: [appid=X-Caller]\n" +
			"  rules:\n    - {match: [\"GET /orders/{id}\"], scopes: [Orders.Read]}\n",
		names: minimalNames(shopAppID),
		caseOf: []providerCase{
			{"scope-for-resource", `scopes: ["` + orders + `/.default"]`, 502, "token_refused", []string{"invalid_request", "'resource'", "at the v1 endpoint set resource"}},
			{"unknown-api", `resource: ["api://unknown"]`, 502, "token_refused", []string{"AADSTS500011", "does not know the API", "api://unknown"}},
		},
		also: func(t *testing.T, w *providerWorld) {
			t.Run("a lifetime that is a string", func(t *testing.T) {
				expiry := w.caller.metric("sidepass_token_expiry_timestamp_seconds", `route="orders"`)
				if left := expiry - float64(w.iss.TokenCalls()[0].Time.Unix()); left < 3500 || left > 3610 {
					t.Errorf("the token lives for %v s, want 3599", left)
				}
			})
		},
	}
}

func keycloakProvider() provider {
	return provider{
		profile: issuer.Keycloak, example: "keycloak.yaml", secret: secret,
		tenant: issuer.Tenant{
			APIs: []issuer.API{{ID: "orders", Scopes: []string{"orders-audience"}, Roles: []string{"orders-read", "orders-write"}}},
			Apps: []issuer.App{{ID: "shop", Secret: secret, Roles: []string{"orders-read"}}, {ID: "stranger", Secret: secret, Roles: []string{}}},
		},
		names: func(s *issuer.Server) []string {
			return []string{"https://keycloak.example.com/realms/YOUR-REALM", s.Issuer()}
		},
		called: []string{"audiences: [shop]", "audiences: [orders]", "/resource_access/shop/roles", "/resource_access/orders/roles", "carts-read", "orders-read", "/carts", "/orders"},
		caseOf: []providerCase{
			{"unknown-scope", "scopes: [no-such-scope]", 502, "token_refused", []string{"invalid_scope", "Invalid scopes: no-such-scope", "Client scopes in Keycloak"}},
		},
		also: func(t *testing.T, w *providerWorld) {
			// A client that has no role at orders: only an audience mapper brings orders into its tokens.
			s := startBeside(t, strings.NewReplacer("{dir}/secret", w.secretFile, "id: svc", "id: stranger").Replace(outboundYAML(w.iss, "",
				`name: ignored, host: ignored.internal, upstream: "http://`+w.own.address["in"]+`", audience: [orders]`,
				`name: mapped, host: mapped.internal, upstream: "http://`+w.own.address["in"]+`", scopes: [orders-audience]`)))
			t.Run("audience is ignored without a mapper", func(t *testing.T) {
				a := get(t, s.proxied(), "http://ignored.internal/orders/1")
				want(t, a, 401, "")
				same(t, "code", problemOf(a).Code, "wrong_audience")
			})
			t.Run("and its twin, with one", func(t *testing.T) {
				a := get(t, s.proxied(), "http://mapped.internal/orders/1")
				want(t, a, 403, "")
				same(t, "code", problemOf(a).Code, "insufficient_scope")
			})
			t.Run("an ID token is none", func(t *testing.T) {
				access := map[string]any{"orders": map[string]any{"roles": []string{"orders-read"}}}
				want(t, w.bearer(t, w.iss.Mint(map[string]any{"aud": "orders", "typ": "ID", "resource_access": access})), 401, "missing_claim")
				want(t, w.bearer(t, w.iss.Mint(map[string]any{"aud": "orders", "typ": "Bearer", "resource_access": access})), 200, "")
			})
		},
	}
}

func cognitoProvider() provider {
	return provider{
		profile: issuer.Cognito, example: "cognito.yaml", secret: plainSecret,
		tenant: issuer.Tenant{
			APIs: []issuer.API{{ID: "orders", Scopes: []string{"read", "write"}}, {ID: "shop", Scopes: []string{"carts.read"}}},
			Apps: []issuer.App{{ID: "cognitoclient01", Secret: plainSecret, Scopes: []string{"orders/read", "shop/carts.read"}}},
		},
		names: func(s *issuer.Server) []string {
			return []string{"https://cognito-idp.YOUR-REGION.amazonaws.com/YOUR-POOL-ID", s.Issuer(),
				"https://YOUR-PREFIX.auth.YOUR-REGION.amazoncognito.com/oauth2/token", s.TokenURL(),
				"YOUR-CLIENT-ID", "cognitoclient01", "YOUR-CALLERS-CLIENT-ID", "cognitoclient01"}
		},
		called: []string{"shop/carts.read", "orders/read", "/carts", "/orders"},
		caseOf: []providerCase{
			{"bare-scope", "scopes: [read]", 502, "token_refused", []string{"invalid_grant", "scopes read", "at Cognito a scope is written RESOURCE_SERVER/SCOPE"}},
			{"scope-not-allowed", "scopes: [orders/write]", 502, "token_refused", []string{"invalid_grant", "scopes orders/write"}},
			{"another-scope", "scopes: [shop/carts.read]", 403, "insufficient_scope", nil},
			{"no-scope-is-all", "audience: [ignored]", 200, "", nil},
		},
		also: func(t *testing.T, w *providerWorld) {
			token := func(changes map[string]any) string {
				claims := map[string]any{"client_id": "cognitoclient01", "token_use": "access", "scope": "orders/read"}
				for name, v := range changes {
					claims[name] = v
				}
				return w.iss.Mint(claims)
			}
			t.Run("an ID token is none", func(t *testing.T) {
				want(t, w.bearer(t, token(map[string]any{"token_use": "id"})), 401, "missing_claim")
				want(t, w.bearer(t, token(nil)), 200, "")
			})
			t.Run("the clients stand for the audience", func(t *testing.T) {
				want(t, w.bearer(t, token(map[string]any{"client_id": "another"})), 403, "client_not_allowed")
			})
			t.Run("tokens are asked for at another host", func(t *testing.T) {
				u, err := url.Parse(w.iss.TokenURL())
				if err != nil || strings.HasPrefix(w.iss.Issuer(), "http://"+u.Host) {
					t.Errorf("%s and %s are at one host", w.iss.Issuer(), u)
				}
			})
		},
	}
}

func hydraProvider() provider {
	client := func(name, more string) string {
		return "  - {name: " + name + ", url: ISSUER, client: {id: " + name + ", secret_file: SECRET-FILE" + more + "}}\n"
	}
	return provider{
		profile: issuer.Hydra, secret: secret,
		tenant: issuer.Tenant{Apps: []issuer.App{
			{ID: "shop", Secret: secret, APIs: []string{"https://orders"}, Scopes: []string{"orders.read"}},
			{ID: "opaque", Secret: secret, APIs: []string{"https://orders"}, Opaque: true},
			{ID: "post", Secret: secret},
			{ID: "raw", Secret: secret},
		}},
		caller: strings.Replace(minimalCaller, minimalIssuer, minimalIssuer+client("opaque", "")+client("post", ", auth_method: client_secret_post")+
			client("raw", ", auth_method: client_secret_basic_raw"), 1) +
			"      issuer: idp\n      audience: [\"https://orders\"]\n      scopes: [orders.read]\n",
		callee: minimalCallee + "  trust:\n    - {audiences: [\"https://orders\"], scope_claims: [scp]}\n  claim_headers: [client_id=X-Caller]\n" +
			"  rules:\n    - {match: [\"GET /orders/{id}\"], scopes: [orders.read]}\n",
		names: minimalNames("shop"),
		caseOf: []providerCase{
			{"audience-not-allowed", `issuer: idp, audience: ["https://stock"]`, 502, "token_refused", []string{"invalid_request", "add the audience to the client's audience list in Hydra", "https://stock"}},
			{"no-audience", "issuer: idp, scopes: [orders.read]", 401, "wrong_audience", nil}, // its aud is an empty list
			{"scope-not-allowed", `issuer: idp, audience: ["https://orders"], scopes: [orders.write]`, 502, "token_refused", []string{"invalid_scope", "orders.write"}},
			{"opaque-strategy", `issuer: opaque, audience: ["https://orders"]`, 401, "malformed_token", nil},
			{"post-not-registered", "issuer: post", 502, "token_refused", []string{"invalid_client", "token_endpoint_auth_method in Hydra"}},
			{"secret-not-encoded", "issuer: raw", 502, "token_refused", []string{"invalid_client", "token_endpoint_auth_method in Hydra"}},
		},
	}
}

func zitadelProvider() provider {
	const audience, roles = "urn:zitadel:iam:org:project:id:" + projectID + ":aud", "urn:zitadel:iam:org:projects:roles"
	return provider{
		profile: issuer.ZITADEL, secret: secret,
		tenant: issuer.Tenant{
			APIs: []issuer.API{{ID: projectID, Roles: []string{"orders.read", "orders.write"}}},
			Apps: []issuer.App{{ID: "shop", Secret: secret, Roles: []string{"orders.read"}}},
		},
		caller: minimalCaller + "      scopes: [openid, \"" + audience + "\", \"" + roles + "\"]\n",
		callee: minimalCallee + "  trust:\n    - {audiences: [\"" + projectID + "\"]}\n  claim_headers: [client_id=X-Caller]\n" +
			"  rules:\n    - {match: [\"GET /orders/{id}\"], claims: [\"" + zitadelRoles + "orders.read" + zitadelOrg + "\"]}\n" +
			"    - {match: [\"PUT /orders/{id}\"], claims: [\"" + zitadelRoles + "orders.write" + zitadelOrg + "\"]}\n",
		names: minimalNames("shop"),
		caseOf: []providerCase{
			{"no-project-scope", "scopes: [openid]", 401, "wrong_audience", nil},
			{"unknown-project", `scopes: [openid, "urn:zitadel:iam:org:project:id:1:aud"]`, 401, "wrong_audience", nil},
			{"roles-not-asked-for", `scopes: ["` + audience + `"]`, 403, "claim_mismatch", nil},
		},
		also: func(t *testing.T, w *providerWorld) {
			t.Run("a role that it has not", func(t *testing.T) {
				a := do(t, w.caller.proxied(), "PUT", "http://orders.internal/orders/1", nil)
				want(t, a, 403, "")
				same(t, "code", problemOf(a).Code, "claim_mismatch")
			})
			t.Run("a scope that is left out in silence is counted", func(t *testing.T) {
				same(t, "as asked", w.caller.metric("sidepass_scope_narrowed_total", `route="orders"`), 0)
				if n := w.caller.metric("sidepass_scope_narrowed_total", `route="unknown-project"`); n < 1 {
					t.Errorf("it is counted %v times", n)
				}
			})
		},
	}
}

func duendeProvider() provider {
	return provider{
		profile: issuer.Duende, secret: secret,
		tenant: issuer.Tenant{
			APIs: []issuer.API{{ID: "orders", Scopes: []string{"orders.read", "orders.write"}}, {Scopes: []string{"audit"}}},
			Apps: []issuer.App{{ID: "shop", Secret: secret, Scopes: []string{"orders.read", "audit"}}},
		},
		caller: minimalCaller + "      scopes: [orders.read]\n",
		callee: minimalCallee + "  trust:\n    - {audiences: [orders], profile: jwt}\n  claim_headers: [client_id=X-Caller]\n" +
			"  rules:\n    - {match: [\"GET /orders/{id}\"], scopes: [orders.read]}\n",
		names: minimalNames("shop"),
		caseOf: []providerCase{
			{"unknown-scope", "scopes: [orders.delete]", 502, "token_refused", []string{"invalid_scope", "scopes orders.delete", "check the scopes"}},
			{"scope-without-api", "scopes: [audit]", 401, "wrong_audience", nil}, // no aud at all
			{"no-scope-is-all", "audience: [ignored]", 200, "", nil},
		},
	}
}

func pingOneProvider() provider {
	return provider{
		profile: issuer.PingOne, secret: plainSecret,
		tenant: issuer.Tenant{
			APIs: []issuer.API{{ID: "https://orders", Scopes: []string{"orders:read"}}, {ID: "https://stock", Scopes: []string{"stock:read"}}},
			Apps: []issuer.App{{ID: "shop", Secret: plainSecret}, {ID: "post", Secret: plainSecret, Method: "client_secret_post"}},
		},
		caller: strings.Replace(minimalCaller, minimalIssuer, minimalIssuer+"  - {name: post, url: ISSUER, client: {id: post, secret_file: SECRET-FILE}}\n", 1) +
			"      issuer: idp\n      scopes: [\"orders:read\"]\n",
		callee: minimalCallee + "  trust:\n    - {audiences: [\"https://orders\"]}\n  claim_headers: [client_id=X-Caller]\n" +
			"  rules:\n    - {match: [\"GET /orders/{id}\"], scopes: [\"orders:read\"]}\n",
		names: minimalNames("shop"),
		caseOf: []providerCase{
			{"two-resources", `issuer: idp, scopes: ["orders:read", "stock:read"]`, 502, "token_refused", []string{"invalid_scope", "multiple resources"}},
			{"no-scope", "issuer: idp", 502, "token_refused", []string{"invalid_scope", "no audience, resource or scope is configured"}},
			{"another-resource", `issuer: idp, scopes: ["stock:read"]`, 401, "wrong_audience", nil},
			{"other-method", `issuer: post, scopes: ["orders:read"]`, 502, "token_refused", []string{"invalid_client", "Unsupported authentication method", "Token Endpoint Authentication Method in PingOne"}},
		},
	}
}
