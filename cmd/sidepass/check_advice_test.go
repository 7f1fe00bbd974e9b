package main

import (
	"bytes"
	"flag"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/sidepass/sidepass/test/issuer"
)

var update = flag.Bool("update", false, "write testdata/check anew")

// checks runs the command on a configuration. {dir} in it is the folder it is in.
func checks(t *testing.T, yaml string, args ...string) (code int, out, errs string) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "sidepass.yaml")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(yaml, "{dir}", dir)), 0o600); err != nil {
		t.Fatal(err)
	}
	var o, e bytes.Buffer
	code = execute(append([]string{"check", "--config", file}, args...), streams{strings.NewReader(""), &o, &e}, nil)
	clean := func(b *bytes.Buffer) string { return strings.ReplaceAll(b.String(), dir, "DIR") }
	return code, clean(&o), clean(&e)
}

// steady replaces what differs from run to run.
func steady(text string) string {
	for _, r := range []struct{ from, to string }{
		{`127\.0\.0\.1:\d+`, "HOST"}, {`Timestamp: [^)]*`, "Timestamp: NOW"}, {`obtained in [\d.]+m?s`, "obtained in TIME"}, {`"took_seconds": [\d.e-]+`, `"took_seconds": 0.1`},
		{`[^\n]*its clock and ours[^\n]*\n`, ""}} {
		text = regexp.MustCompile(r.from).ReplaceAllString(text, r.to)
	}
	return text
}

// golden holds text against a file in testdata/check.
func golden(t *testing.T, name, text string) {
	t.Helper()
	file := filepath.Join("testdata", "check", name)
	if *update {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if text != string(want) {
		t.Errorf("%s is not what was found; `go test ./cmd/sidepass -run %s -update` writes it anew:\n%s", file, t.Name(), text)
	}
}

// entraSays is an error of Entra ID.
func entraSays(code string, number int, text string) string {
	return fmt.Sprintf(`{"error":%q,"error_description":"AADSTS%d: %s","error_codes":[%d],"trace_id":"e6c1f2a0-0000-4000-8000-00000000abcd"}`, code, number, text, number)
}

// What providers say when they refuse, and what the check makes of it: the whole is one page, to be read.
func TestCheckAdvice(t *testing.T) {
	idp, err := issuer.Start(issuer.Options{Algorithms: []string{"ES256"}, Clients: []issuer.Client{{ID: "svc", Secret: "canary-secret"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer idp.Close()
	const hour = "b=per_hour;q=10;r=0;t=3540,b=per_day;q=50;r=40;t=43200"
	var page strings.Builder
	for _, tc := range []struct {
		name   string
		status int
		body   string
		header []string
	}{
		{"Auth0: wrong secret", 401, `{"error":"access_denied","error_description":"Unauthorized"}`, nil},
		{"Auth0: wrong secret, 403", 403, `{"error":"access_denied","error_description":"Unauthorized"}`, nil},
		{"Auth0: no such audience", 403, `{"error":"access_denied","error_description":"Service not enabled within domain: https://orders-api"}`, nil},
		{"Auth0: no client grant", 403, `{"error":"access_denied","error_description":"Client is not authorized to access \"https://orders-api\". You need to create a \"client-grant\" associated to this API. See: https://auth0.com/docs/api/v2#!/Client_Grants/post_client_grants"}`, nil},
		{"Auth0: application type", 403, `{"error":"unauthorized_client","error_description":"Grant type 'client_credentials' not allowed for the client."}`, nil},
		{"Auth0: quota", 429, `{"error":"too_many_requests","error_description":"Client quota exceeded"}`, []string{"Auth0-Client-Quota-Limit", hour}},
		{"Auth0: rate limit", 429, `{"error":"too_many_requests","error_description":"Rate limit exceeded."}`, []string{"X-RateLimit-Reset", "90"}},
		{"Auth0: limit of the tenant", 429, `{"error":"too_many_requests","error_description":"Global limit has been reached"}`, []string{"Retry-After", "30"}},
		{"Okta: scope", 400, `{"error":"invalid_scope","error_description":"One or more scopes are not configured for the authorization server resource."}`, nil},
		{"Okta: client", 401, `{"error":"invalid_client","error_description":"The client secret supplied for a confidential client is invalid."}`, nil},
		{"Okta: policy", 400, `{"error":"access_denied","error_description":"Policy evaluation failed for this request, please check the policy configurations."}`, nil},
		{"Okta: no policy", 403, `{"error":"no_matching_policy"}`, nil},
		{"Okta: limit", 429, `{"errorCode":"E0000047","errorSummary":"API call exceeded rate limit due to too many requests."}`, []string{"X-Rate-Limit-Reset", "30"}},
		{"Entra ID: scope without /.default", 400, entraSays("invalid_scope", 70011, "The provided value for the input parameter 'scope' is not valid."), nil},
		{"Entra ID: no such API", 400, entraSays("invalid_resource", 500011, "The resource principal named api://orders was not found in the tenant."), nil},
		{"Entra ID: wrong secret", 401, entraSays("invalid_client", 7000215, "Invalid client secret provided."), nil},
		{"Entra ID: secret expired", 401, entraSays("invalid_client", 7000222, "The provided client secret keys are expired."), nil},
		{"Entra ID: assertion", 401, entraSays("invalid_client", 50012, "Authentication failed."), nil},
		{"Entra ID: certificate", 401, entraSays("invalid_client", 700027, "Client assertion failed signature validation."), nil},
		{"Entra ID: throttled", 400, entraSays("invalid_request", 90055, "TenantThrottlingError"), nil},
		{"Entra ID: transient", 400, entraSays("invalid_grant", 90024, "RequestBudgetExceededError"), nil},
		{"Entra ID: busy", 503, `{"error":"temporarily_unavailable"}`, nil},
		{"Keycloak: client", 401, `{"error":"invalid_client","error_description":"Invalid client or Invalid client credentials"}`, nil},
		{"Keycloak: client, older", 401, `{"error":"unauthorized_client","error_description":"Invalid client or Invalid client credentials"}`, nil},
		{"Cognito: client", 400, `{"error":"invalid_client"}`, nil},
		{"Cognito: flow", 400, `{"error":"unauthorized_client"}`, nil},
		{"Cognito: scope", 400, `{"error":"invalid_grant"}`, nil},
		{"Cognito: limit", 400, `{"__type":"TooManyRequestsException","message":"Rate exceeded"}`, nil},
		{"Hydra: client", 401, `{"error":"invalid_client","error_description":"Client authentication failed.","error_hint":"The OAuth 2.0 Client supports client authentication method 'client_secret_post', but method 'client_secret_basic' was requested. You must configure the OAuth 2.0 client's 'token_endpoint_auth_method' value to accept 'client_secret_basic'.","status_code":401}`, nil},
		{"Hydra: scope", 400, `{"error":"invalid_scope","error_description":"The requested scope is invalid, unknown, or malformed. The OAuth 2.0 Client is not allowed to request scope 'read:orders'."}`, nil},
		{"Hydra: audience", 400, `{"error":"invalid_request","error_description":"The request is malformed.","error_hint":"Requested audience 'https://orders-api' has not been whitelisted by the OAuth 2.0 Client."}`, nil},
		{"oidc-provider: resource", 400, `{"error":"invalid_target","error_description":"resource indicator is missing, or unknown"}`, nil},
		{"oidc-provider: client", 401, `{"error":"invalid_client","error_description":"client authentication failed"}`, nil},
		{"oidc-provider: nonce", 400, `{"error":"use_dpop_nonce","error_description":"nonce is required in the DPoP proof"}`, nil},
		{"Duende: client", 400, `{"error":"invalid_client"}`, nil},
		{"anybody: a code misused for a limit", 401, `{"error":"unauthorized_client","error_description":"Rate limit exceeded"}`, []string{"Retry-After", "60"}},
		{"anybody: a firewall", 403, `<html>blocked</html>`, []string{"Content-Type", "text/html"}},
	} {
		idp.SetResponse(issuer.Token, issuer.Respond(tc.status, tc.body, tc.header...))
		code, out, _ := checks(t, ordersAt(idp, `secret: canary-secret`, `audience: ["https://orders-api"], scopes: ["read:orders"]`), "--route", "orders")
		if code != 1 {
			t.Errorf("%s: exit code %d", tc.name, code)
		}
		fmt.Fprintf(&page, "%s\n%s\n", tc.name, tokenLines(t, out))
	}
	golden(t, "advice.golden", page.String())
}

// Providers as they are set up wrongly, to the token's audience and scopes.
func TestCheckProviders(t *testing.T) {
	key, err := issuer.NewKey("ES256")
	if err != nil {
		t.Fatal(err)
	}
	var page strings.Builder
	for _, tc := range []struct {
		name    string
		profile issuer.Profile
		app     func(*issuer.App)
		client  string
		route   string
	}{
		{"Auth0, as it should be", issuer.Auth0, nil, "", `audience: [orders], scopes: ["read:orders"]`},
		{"Auth0, the API is not granted", issuer.Auth0, func(a *issuer.App) { a.APIs = []string{"stock"} }, "", `audience: [orders]`},
		{"Auth0, no such API", issuer.Auth0, nil, "", `audience: ["https://orders"]`},
		{"Auth0, no audience", issuer.Auth0, nil, "", `{}`},
		{"Auth0, wrong secret", issuer.Auth0, func(a *issuer.App) { a.Secret = "another" }, "", `audience: [orders]`},
		{"Entra ID, as it should be", issuer.EntraV2, nil, "", `scopes: [orders/.default]`},
		{"Entra ID, by audience", issuer.EntraV2, nil, "", `audience: [orders], scopes: [orders/.default]`},
		{"Entra ID, by resource", issuer.EntraV2, nil, "", `resource: ["https://orders"], scopes: [orders/.default]`},
		{"Entra ID, a scope of its own", issuer.EntraV2, nil, "", `scopes: ["read:orders"]`},
		{"Keycloak, as it should be", issuer.Keycloak, nil, "", `scopes: ["read:orders"]`},
		{"Keycloak, by audience", issuer.Keycloak, func(a *issuer.App) { a.Roles = []string{} }, "", `audience: [orders]`},
		{"Keycloak, no such scope", issuer.Keycloak, nil, "", `scopes: ["write:orders"]`},
		{"Okta, as it should be", issuer.Okta, nil, "", `scopes: ["read:orders"]`},
		{"Okta, another audience", issuer.Okta, nil, "", `audience: ["https://orders"], scopes: ["read:orders"]`},
		{"Okta, no scope", issuer.Okta, nil, "", `audience: [orders]`},
		{"Cognito, as it should be", issuer.Cognito, nil, "", `scopes: ["orders/read:orders"]`},
		{"Cognito, by audience", issuer.Cognito, nil, "", `audience: [orders], scopes: ["orders/read:orders"]`},
		{"Hydra, audience not allowed", issuer.Hydra, nil, "", `audience: [orders]`},
		{"Hydra, another method", issuer.Hydra, nil, "auth_method: client_secret_post", `scopes: ["read:orders"]`},
		{"PingOne, no scope", issuer.PingOne, nil, "", `audience: [orders]`},
		{"ZITADEL, by audience", issuer.ZITADEL, nil, "", `audience: [orders]`},
		{"Duende, wrong secret", issuer.Duende, func(a *issuer.App) { a.Secret = "another" }, "", `scopes: ["read:orders"]`},
	} {
		app := issuer.App{ID: "svc", Secret: "canary-secret"}
		if tc.app != nil {
			tc.app(&app)
		}
		idp, err := issuer.StartProfile(tc.profile, issuer.Tenant{Keys: []*issuer.Key{key}, Apps: []issuer.App{app},
			APIs: []issuer.API{{ID: "orders", AppID: "11111111-2222-3333-4444-555555555555", Scopes: []string{"read:orders"}, Roles: []string{"Orders.Read"}}, {ID: "stock"}}})
		if err != nil {
			t.Fatal(err)
		}
		client := "secret: canary-secret"
		if tc.client != "" {
			client += ", " + tc.client
		}
		_, out, errs := checks(t, ordersAt(idp, client, strings.Trim(tc.route, "{}")), "--route", "orders")
		if errs != "" {
			t.Fatalf("%s: %s", tc.name, errs)
		}
		fmt.Fprintf(&page, "%s\n%s\n", tc.name, tokenLines(t, out))
		_ = idp.Close()
	}
	golden(t, "providers.golden", page.String())
}

// ordersAt is a configuration with one route.
func ordersAt(idp *issuer.Server, client, route string) string {
	if route != "" {
		route = ", " + route
	}
	host, _ := url.Parse(idp.URL())
	return fmt.Sprintf("issuers: [{name: idp, url: %q, client: {id: svc, %s}}]\noutbound: {routes: [{name: orders, host: orders.internal, upstream: \"http://%s\"%s}]}\n", idp.Issuer(), client, host.Host, route)
}

// tokenLines are those of the route orders but for its upstream's.
func tokenLines(t *testing.T, out string) string {
	t.Helper()
	_, lines, ok := strings.Cut(steady(out), "\nroute orders\n")
	if !ok || strings.Contains(out, "canary") {
		t.Fatalf("no route, or a secret:\n%s", out)
	}
	lines, _, _ = strings.Cut(lines, "\n\n")
	return strings.Replace(lines, "\n  ✓ http://HOST can be reached", "", 1) + "\n"
}
