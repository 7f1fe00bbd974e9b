package issuer

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// entraTenant is the tenant's id, which is in all paths.
const entraTenant = "aaaabbbb-0000-cccc-1111-dddd2222eeee"

// entraV2 is Entra ID at its v2.0 endpoints: the API is named by one scope that ends in /.default. The version of a token is
// the API's choice: with Format 1 it comes from https://sts.windows.net/.
func entraV2() profile {
	p := entra()
	p.issuer = "/" + entraTenant + "/v2.0"
	p.discovery = map[string]string{
		"/" + entraTenant + "/v2.0/.well-known/openid-configuration": p.issuer,
		"/common/v2.0/.well-known/openid-configuration":              "/{tenantid}/v2.0", // a template, as it stands
	}
	p.jwks = "/" + entraTenant + "/discovery/v2.0/keys"
	p.token = "/" + entraTenant + "/oauth2/v2.0/token"
	p.keys.issuer = "/{tenantid}/v2.0"

	p.target = func(p *provider, app App, form url.Values) (grant, *denial) {
		if form.Has("resource") {
			return grant{}, &denial{refusedParameter, "resource"}
		}
		scopes := asked(form)
		if len(scopes) == 0 {
			return grant{}, &denial{noTarget, "scope"}
		}
		if len(scopes) > 1 {
			return grant{}, &denial{manyTargets, strings.Join(scopes, " ")}
		}
		name, isDefault := strings.CutSuffix(scopes[0], "/.default")
		if !isDefault {
			return grant{}, &denial{unknownScope, name}
		}
		return entraGrant(p, app, name)
	}
	p.answer = func(_ *provider, _ grant, _, answer map[string]any) {
		delete(answer, "scope")
		answer["ext_expires_in"] = answer["expires_in"]
	}
	return p
}

// entraV1 is Entra ID at its v1.0 endpoints: the API is named by `resource`, numbers are strings, and the tokens' issuer
// is another host than the token endpoint.
func entraV1() profile {
	p := entra()
	p.issuer = "/" + entraTenant + "/"
	p.discovery = map[string]string{"/" + entraTenant + "/.well-known/openid-configuration": p.issuer}
	p.jwks = "/" + entraTenant + "/discovery/keys"
	p.token = "/" + entraTenant + "/oauth2/token"
	p.elsewhere = true
	p.keys.kidIsX5t = true

	p.target = func(p *provider, app App, form url.Values) (grant, *denial) {
		name := form.Get("resource")
		if name == "" {
			return grant{}, &denial{noTarget, "resource"}
		}
		return entraGrant(p, app, name)
	}
	p.answer = func(_ *provider, g grant, claims, answer map[string]any) {
		delete(answer, "scope")
		lifetime := fmt.Sprint(answer["expires_in"])
		answer["expires_in"], answer["ext_expires_in"] = lifetime, lifetime
		answer["expires_on"], answer["not_before"] = fmt.Sprint(claims["exp"]), fmt.Sprint(claims["nbf"])
		answer["resource"] = g.ids()[0]
	}
	return p
}

// entra is what both have.
func entra() profile {
	return profile{
		methods:  []string{"client_secret_basic", "client_secret_post", "private_key_jwt", "federated"},
		rawBasic: true, // its secrets have nothing that encoding changes
		assertion: assertionRules{
			algorithms:    []string{"PS256", "RS256"},
			audience:      []string{"token_endpoint", "issuer"},
			byThumbprint:  true,
			needsClientID: true,
		},

		lifetime:  3599 * time.Second,
		typ:       "JWT",
		claims:    entraClaims,
		tokenType: "Bearer",

		keys: keyShape{usual: 1, noAlg: true, x5c: true, x5t: true, more: map[string]string{"cloud_instance_name": "microsoftonline.com"}},

		errors: map[cause]said{
			unknownClient:    {status: 400, code: "unauthorized_client", number: 700016, text: "Application with identifier '{}' was not found in the directory 'Contoso'."},
			wrongSecret:      {status: 401, code: "invalid_client", number: 7000215, text: "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID, for a secret added to app '{}'."},
			wrongMethod:      {status: 401, code: "invalid_client", number: 7000218, text: "The request body must contain the following parameter: 'client_assertion' or 'client_secret'."},
			badAssertion:     {status: 401, code: "invalid_client", number: 700027, text: "The certificate with identifier used to sign the client assertion is not registered on application, or the assertion is invalid: {}."},
			badFederation:    {status: 401, code: "invalid_client", number: 700213, text: "No matching federated identity record found for presented assertion: {}."},
			noGrantType:      {status: 400, code: "invalid_request", number: 900144, text: "The request body must contain the following parameter: '{}'."},
			otherGrant:       {status: 400, code: "unsupported_grant_type", number: 70003, text: "The app requested an unsupported grant type '{}'."},
			noTarget:         {status: 400, code: "invalid_request", number: 900144, text: "The request body must contain the following parameter: '{}'."},
			unknownScope:     {status: 400, code: "invalid_scope", number: 1002012, text: "The provided value for scope {} is not valid. Client credential flows must have a scope value with /.default suffixed to the resource identifier (application ID URI)."},
			manyTargets:      {status: 400, code: "invalid_scope", number: 70011, text: "The provided value for the input parameter 'scope' is not valid. The scope {} is not valid."},
			unknownTarget:    {status: 400, code: "invalid_resource", number: 500011, text: "The resource principal named {} was not found in the tenant named Contoso."},
			refusedParameter: {status: 400, code: "invalid_request", number: 901002, text: "The '{}' request parameter is not supported."},
			limited:          {status: 429, code: "temporarily_unavailable", number: 90055, text: "TenantThrottlingError - There are too many incoming requests."},
		},
		errorBody: entraError,

		limit: func(h http.Header, l limit) {
			if l.left == 0 {
				h.Set("Retry-After", strconv.Itoa(int(min(l.reset, time.Minute)/time.Second)))
			}
		},
	}
}

// entraGrant finds the API by either of its names. Any application of the tenant gets a token for it, be it without roles.
func entraGrant(p *provider, app App, name string) (grant, *denial) {
	for _, api := range p.tenant.APIs {
		if name == api.ID || name == api.AppID {
			return grant{apis: []API{api}, roles: of(app.Roles, api.Roles)}, nil
		}
	}
	return grant{}, &denial{unknownTarget, name}
}

func entraClaims(p *provider, app App, g grant) (header, claims map[string]any) {
	api, now := g.apis[0], time.Now().Unix()
	claims = map[string]any{"client_id": nil, "jti": nil, "nbf": now, "tid": entraTenant,
		"oid": "5f6e7d8c-9b0a-1c2d-3e4f-5a6b7c8d9e0f", "sub": "5f6e7d8c-9b0a-1c2d-3e4f-5a6b7c8d9e0f", "aio": "E2ZgYBA", "rh": "0.AAAA", "uti": "u-t-i"}
	if len(g.roles) > 0 {
		claims["roles"] = g.roles
	}
	kind := "1" // a secret
	if app.Secret == "" {
		kind = "2" // a certificate, or somebody else's token
	}
	if api.Format == "2" || api.Format == "" && strings.HasSuffix(p.issuer, "/v2.0") {
		claims["ver"], claims["aud"], claims["azp"], claims["azpacr"] = "2.0", api.AppID, app.ID, kind
		return nil, claims
	}
	claims["ver"], claims["aud"], claims["appid"], claims["appidacr"] = "1.0", api.ID, app.ID, kind
	if strings.HasSuffix(p.issuer, "/v2.0") {
		claims["iss"] = "https://sts.windows.net/" + entraTenant + "/"
	}
	claims["idp"] = claims["iss"]
	if claims["idp"] == nil {
		claims["idp"] = p.server.Issuer()
	}
	return map[string]any{"x5t": p.kid(p.server.signingKey())}, claims
}

// entraError has numbers for programs and ids for Microsoft.
func entraError(p *provider, e said) map[string]any {
	const trace, correlation = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9", "f9e8d7c6-b5a4-9382-7160-5f4e3d2c1b0a"
	now := time.Now().UTC().Format("2006-01-02 15:04:05Z")
	body := map[string]any{"error": e.code, "timestamp": now, "trace_id": trace, "correlation_id": correlation, "error_codes": []int{}}
	text := e.text
	if e.number != 0 {
		text = fmt.Sprintf("AADSTS%d: %s", e.number, text)
		body["error_codes"] = []int{e.number}
		body["error_uri"] = fmt.Sprintf("https://login.microsoftonline.com/error?code=%d", e.number)
	}
	body["error_description"] = fmt.Sprintf("%s Trace ID: %s Correlation ID: %s Timestamp: %s", text, trace, correlation, now)
	return body
}
