package source

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sidepass/sidepass/tokencache"
)

// What providers really answer, whether it is worth asking again, and what the reader is told: in the provider's own terms.
func TestWhatProvidersSay(t *testing.T) {
	const refused, throttled, unavailable = tokencache.Refused, tokencache.Throttled, tokencache.Unavailable
	entra := func(code, numbers, description string) string {
		return `{"error":"` + code + `","error_description":"` + description + ` Trace ID: 0b1 Correlation ID: c2","error_codes":[` + numbers + `],"timestamp":"2026-11-01 10:00:00Z",` +
			`"trace_id":"e6c1f2a0-0000-4000-8000-00000000abcd","correlation_id":"c2","error_uri":"https://login.microsoftonline.com/error?code=` + numbers + `"}`
	}
	for name, tc := range map[string]struct {
		grant  string // default client_credentials
		status int
		header []string
		body   string
		kind   tokencache.Kind
		result string
		wait   time.Duration
		say    []string // the code, and what to do
	}{
		"Auth0, wrong secret, 401": {status: 401, body: `{"error":"access_denied","error_description":"Unauthorized"}`, kind: refused, result: "access_denied", say: []string{"access_denied", "client's secret is wrong"}},
		"Auth0, wrong secret, 403": {status: 403, body: `{"error":"access_denied","error_description":"Unauthorized"}`, kind: refused, result: "access_denied", say: []string{"client's secret is wrong"}},
		"Auth0, no such audience": {status: 403, body: `{"error":"access_denied","error_description":"Service not enabled within domain: https://orders-api"}`, kind: refused, result: "access_denied",
			say: []string{"access_denied", "no API with this identifier", "audience https://orders-api"}},
		"Auth0, no client grant": {status: 403, body: `{"error":"access_denied","error_description":"Client is not authorized to access \"https://orders-api\". You need to create a \"client-grant\" associated to this API."}`, kind: refused, result: "access_denied",
			say: []string{"access_denied", "authorize the application for the API", "Machine to Machine"}},
		"Auth0, application type": {status: 403, body: `{"error":"unauthorized_client","error_description":"Grant type 'client_credentials' not allowed for the client."}`, kind: refused, result: "unauthorized_client",
			say: []string{"unauthorized_client", "Grant Types"}},
		"Auth0, scopes": {status: 403, body: `{"error":"access_denied","error_description":"Client has not been granted scopes: write"}`, kind: refused, result: "access_denied", say: []string{"grant the application these scopes"}},
		"Auth0, quota used up": {status: 429, header: []string{"Auth0-Client-Quota-Limit", "b=per_hour;q=10;r=0;t=3540,b=per_day;q=50;r=40;t=43200"}, body: `{"error":"too_many_requests","error_description":"Client quota exceeded"}`,
			kind: throttled, result: "throttled", wait: 59 * time.Minute, say: []string{"too_many_requests", "Client quota exceeded", "fewer replicas"}},
		"Auth0, rate limit": {status: 429, header: []string{"x-ratelimit-reset", "90"}, body: `{"error":"too_many_requests","error_description":"Rate limit exceeded."}`, kind: throttled, result: "throttled", wait: 90 * time.Second, say: []string{"429 too_many_requests"}},
		"Auth0, tenant's limit": {status: 429, header: []string{"Retry-After", "3"}, body: `{"error":"too_many_requests","error_description":"Global limit has been reached"}`, kind: throttled, result: "throttled",
			wait: 3 * time.Second, say: []string{"Global limit"}},
		"Auth0, description of another": {status: 403, body: `{"error":"access_denied","error_description":"Unauthorized scope"}`, kind: refused, result: "access_denied", say: []string{"grant the application access to the API"}},

		"Okta, scope": {status: 400, body: `{"error":"invalid_scope","error_description":"One or more scopes are not configured for the authorization server resource."}`, kind: refused, result: "invalid_scope",
			say: []string{"invalid_scope", "add the scopes to the authorization server in Okta"}},
		"Okta, client": {status: 401, body: `{"error":"invalid_client","error_description":"The client secret supplied for a confidential client is invalid."}`, kind: refused, result: "invalid_client", say: []string{"invalid_client", "client's id and secret"}},
		"Okta, policy": {status: 400, body: `{"error":"access_denied","error_description":"Policy evaluation failed for this request, please check the policy configurations."}`, kind: refused, result: "access_denied",
			say: []string{"access_denied", "access policy"}},
		"Okta, no policy": {status: 403, body: `{"error":"no_matching_policy"}`, kind: refused, result: "other_error", say: []string{"no_matching_policy", "access policy"}},
		"Okta, limit": {status: 429, header: []string{"X-Rate-Limit-Limit", "0", "X-Rate-Limit-Remaining", "0", "X-Rate-Limit-Reset", "30"}, body: `{"errorCode":"E0000047","errorSummary":"API call exceeded rate limit due to too many requests."}`,
			kind: throttled, result: "throttled", wait: 30 * time.Second, say: []string{"E0000047", "API call exceeded"}},
		"Okta, proof missing": {status: 400, body: `{"error":"invalid_dpop_proof","error_description":"The DPoP proof JWT header is missing."}`, kind: refused, result: "invalid_dpop_proof", say: []string{"dpop: true"}},

		"Entra, scope without .default": {status: 400, body: entra("invalid_scope", "70011", "AADSTS70011: The provided request must include a 'scope' input parameter."), kind: refused, result: "invalid_scope",
			say: []string{"AADSTS70011", "/.default"}},
		"Entra, scope, newer number": {status: 400, body: entra("invalid_scope", "1002012", "AADSTS1002012: The provided value for scope is not valid."), kind: refused, result: "invalid_scope", say: []string{"AADSTS1002012", "/.default"}},
		"Entra, no such API": {status: 400, body: entra("invalid_resource", "500011", "AADSTS500011: The resource principal named api://x was not found in the tenant."), kind: refused, result: "other_error",
			say: []string{"invalid_resource", "AADSTS500011", "App ID URI"}},
		"Entra, wrong secret":     {status: 401, body: entra("invalid_client", "7000215", "AADSTS7000215: Invalid client secret provided."), kind: refused, result: "invalid_client", say: []string{"AADSTS7000215", "value in Entra ID, not its id"}},
		"Entra, expired secret":   {status: 401, body: entra("invalid_client", "7000222", "AADSTS7000222: The provided client secret keys are expired."), kind: refused, result: "invalid_client", say: []string{"AADSTS7000222", "expired: create a new one"}},
		"Entra, signature":        {status: 401, body: entra("invalid_client", "700027", "AADSTS700027: Client assertion failed signature validation."), kind: refused, result: "invalid_client", say: []string{"AADSTS700027", "assertion_cert_file"}},
		"Entra, certificate":      {status: 401, body: entra("invalid_client", "50012", "AADSTS50012: Authentication failed."), kind: refused, result: "invalid_client", say: []string{"AADSTS50012", "certificate"}},
		"Entra, time":             {status: 401, body: entra("invalid_client", "700024", "AADSTS700024: Client assertion is not within its valid time range."), kind: refused, result: "invalid_client", say: []string{"clock"}},
		"Entra, federation":       {status: 401, body: entra("invalid_client", "700213", "AADSTS700213: No matching federated identity record found."), kind: refused, result: "invalid_client", say: []string{"federated credential"}},
		"Entra, application":      {status: 400, body: entra("unauthorized_client", "700016", "AADSTS700016: Application was not found in the directory."), kind: refused, result: "unauthorized_client", say: []string{"client's id, and the tenant"}},
		"Entra, /common":          {status: 400, body: entra("invalid_request", "9001023", "AADSTS9001023: The grant type is not supported over the /common or /consumers endpoints."), kind: refused, result: "invalid_request", say: []string{"name the tenant"}},
		"Entra, resource at v2":   {status: 400, body: entra("invalid_request", "901002", "AADSTS901002: The 'resource' request parameter is not supported."), kind: refused, result: "invalid_request", say: []string{"leave resource out"}},
		"Entra, throttled":        {status: 400, body: entra("invalid_request", "90055", "AADSTS90055: TenantThrottlingError"), kind: throttled, result: "throttled", say: []string{"AADSTS90055", "limits"}},
		"Entra, transient":        {status: 400, body: entra("invalid_grant", "90024", "AADSTS90024: RequestBudgetExceededError"), kind: unavailable, result: "invalid_grant", say: []string{"AADSTS90024", "failing"}},
		"Entra, busy":             {status: 503, body: entra("temporarily_unavailable", "90033", "AADSTS90033"), kind: unavailable, result: "temporarily_unavailable", say: []string{"failing"}},
		"Entra, 429":              {status: 429, header: []string{"Retry-After", "20"}, body: `{"error":"temporarily_unavailable"}`, kind: throttled, result: "throttled", wait: 20 * time.Second, say: []string{"limits"}},
		"Entra, number in text":   {status: 401, body: `{"error":"invalid_client","error_description":"AADSTS7000222: expired."}`, kind: refused, result: "invalid_client", say: []string{"create a new one"}},
		"Entra, number alone":     {status: 400, body: `{"error":"invalid_scope","error_codes":[70011]}`, kind: refused, result: "invalid_scope", say: []string{"400 invalid_scope, AADSTS70011;", "/.default"}},
		"Entra, trace":            {status: 400, body: entra("invalid_scope", "70011", "AADSTS70011."), kind: refused, result: "invalid_scope", say: []string{"trace_id e6c1f2a0-0000-4000-8000-00000000abcd"}},
		"Entra, unknown number":   {status: 400, body: entra("invalid_scope", "12345", "AADSTS12345"), kind: refused, result: "invalid_scope", say: []string{"check the scopes"}},
		"Entra, user must act":    {grant: OnBehalfOf, status: 400, body: entra("interaction_required", "50076", "AADSTS50076: you must use multi-factor authentication."), kind: refused, result: "interaction_required", say: []string{"AADSTS50076", "sign in again with the claims"}},
		"Entra, caller's token":   {grant: OnBehalfOf, status: 400, body: entra("invalid_grant", "50013", "AADSTS50013: Assertion failed signature validation."), kind: refused, result: "invalid_grant", say: []string{"its audience has to be this application"}},
		"Entra, consent":          {grant: OnBehalfOf, status: 400, body: entra("invalid_grant", "65001", "AADSTS65001: The user or administrator has not consented."), kind: refused, result: "invalid_grant", say: []string{"consent"}},
		"Keycloak, secret":        {status: 401, body: `{"error":"invalid_client","error_description":"Invalid client or Invalid client credentials"}`, kind: refused, result: "invalid_client", say: []string{"invalid_client", "client's id and credentials"}},
		"Keycloak, secret, older": {status: 401, body: `{"error":"unauthorized_client","error_description":"Invalid client or Invalid client credentials"}`, kind: refused, result: "unauthorized_client", say: []string{"unauthorized_client", "client's id and credentials"}},
		"Keycloak, no service account": {status: 401, body: `{"error":"unauthorized_client","error_description":"Client not enabled to retrieve service account"}`, kind: refused, result: "unauthorized_client",
			say: []string{"unauthorized_client", "Service accounts roles"}},
		"Keycloak, scope": {status: 400, body: `{"error":"invalid_scope","error_description":"Invalid scopes: read"}`, kind: refused, result: "invalid_scope", say: []string{"Client scopes"}},
		"Keycloak, audience of an exchange": {grant: TokenExchange, status: 400, body: `{"error":"invalid_request","error_description":"Requested audience not available: orders"}`, kind: refused, result: "invalid_request",
			say: []string{"audience mapper"}},

		"Cognito, client":            {status: 400, body: `{"error":"invalid_client"}`, kind: refused, result: "invalid_client", say: []string{"client's id and secret", "registered for client_secret_basic"}},
		"Cognito, not allowed":       {status: 400, body: `{"error":"unauthorized_client"}`, kind: refused, result: "unauthorized_client", say: []string{"client_credentials grant"}},
		"Cognito, scope":             {status: 400, body: `{"error":"invalid_grant"}`, kind: refused, result: "invalid_grant", say: []string{"invalid_grant", "RESOURCE_SERVER/SCOPE"}},
		"Cognito, limit":             {status: 429, body: `{"message":"Too Many Requests"}`, kind: throttled, result: "throttled", say: []string{"429", "limits"}},
		"Cognito, limit, 400":        {status: 400, body: `{"__type":"com.amazonaws#TooManyRequestsException","message":"Rate exceeded"}`, kind: throttled, result: "throttled", say: []string{"TooManyRequestsException"}},
		"Cognito, limit as an error": {status: 400, body: `{"error":"TooManyRequestsException"}`, kind: throttled, result: "throttled", say: []string{"limits"}},

		"Hydra, client": {status: 401, body: `{"error":"invalid_client","error_description":"Client authentication failed.","error_hint":"The OAuth 2.0 Client supports client authentication method 'client_secret_post'.","status_code":401}`,
			kind: refused, result: "invalid_client", say: []string{"supports client authentication method 'client_secret_post'", "registered for client_secret_basic"}},
		"Hydra, scope": {status: 400, body: `{"error":"invalid_scope","error_description":"The requested scope is invalid.","error_debug":"x"}`, kind: refused, result: "invalid_scope", say: []string{"check the scopes"}},
		"Hydra, audience": {status: 400, body: `{"error":"invalid_request","error_description":"The request is malformed.","error_hint":"Requested audience 'https://orders-api' has not been whitelisted by the OAuth 2.0 Client."}`,
			kind: refused, result: "invalid_request", say: []string{"has not been whitelisted", "audience list in Hydra"}},

		"Hydra, method": {status: 401, body: `{"error":"invalid_client","error_description":"Client authentication failed.","error_hint":"You must configure the OAuth 2.0 client's 'token_endpoint_auth_method' value to accept 'client_secret_basic'."}`,
			kind: refused, result: "invalid_client", say: []string{"set auth_method to the client's token_endpoint_auth_method"}},
		"Hydra, scope of another": {status: 400, body: `{"error":"invalid_scope","error_description":"The OAuth 2.0 Client is not allowed to request scope 'write'."}`, kind: refused, result: "invalid_scope", say: []string{"the client's scope in Hydra"}},

		"PingOne, two resources": {status: 400, body: `{"error":"invalid_scope","error_description":"May not request scopes for multiple resources"}`, kind: refused, result: "invalid_scope", say: []string{"scopes of one resource"}},
		"PingOne, no scope":      {status: 400, body: `{"error":"invalid_scope","error_description":"At least one scope must be granted"}`, kind: refused, result: "invalid_scope", say: []string{"in PingOne, under Resources"}},
		"PingOne, method":        {status: 401, body: `{"error":"invalid_client","error_description":"Request denied: Unsupported authentication method"}`, kind: refused, result: "invalid_client", say: []string{"Token Endpoint Authentication Method"}},
		"Okta, assertion":        {status: 401, body: `{"error":"invalid_client","error_description":"The client_assertion is invalid: its aud."}`, kind: refused, result: "invalid_client", say: []string{"assertion_audience: token_endpoint"}},
		"Keycloak, assertion":    {status: 401, body: `{"error":"invalid_client","error_description":"Client authentication with signed JWT failed: Unable to load public key"}`, kind: refused, result: "invalid_client", say: []string{"Signed JWT"}},
		"Entra, no scope":        {status: 400, body: entra("invalid_request", "900144", "AADSTS900144: The request body must contain the following parameter: 'scope'."), kind: refused, result: "invalid_request", say: []string{"/.default"}},
		"Entra, no secret":       {status: 401, body: entra("invalid_client", "7000218", "AADSTS7000218: The request body must contain the following parameter: 'client_assertion' or 'client_secret'."), kind: refused, result: "invalid_client", say: []string{"client_secret_post or private_key_jwt"}},

		"oidc-provider, target":  {status: 400, body: `{"error":"invalid_target","error_description":"resource indicator is missing, or unknown"}`, kind: refused, result: "invalid_target", say: []string{"invalid_target", "audience and resource name an API"}},
		"oidc-provider, client":  {status: 401, body: `{"error":"invalid_client","error_description":"client authentication failed"}`, kind: refused, result: "invalid_client", say: []string{"client's id and secret"}},
		"oidc-provider, nonce":   {status: 400, body: `{"error":"use_dpop_nonce","error_description":"nonce is required in the DPoP proof"}`, kind: refused, result: "use_dpop_nonce", say: []string{"dpop: true"}},
		"Duende, client":         {status: 400, body: `{"error":"invalid_client"}`, kind: refused, result: "invalid_client", say: []string{"client's id and secret"}},
		"Duende, grant":          {grant: TokenExchange, status: 400, body: `{"error":"unsupported_grant_type"}`, kind: refused, result: "unsupported_grant_type", say: []string{"token_exchange grant"}},
		"a code that is misused": {status: 401, header: []string{"Retry-After", "60"}, body: `{"error":"unauthorized_client","error_description":"Rate limit exceeded"}`, kind: throttled, result: "throttled", wait: time.Minute, say: []string{"unauthorized_client", "now"}},
		"the same without time":  {status: 401, header: []string{"Retry-After", "0"}, body: `{"error":"unauthorized_client"}`, kind: refused, result: "unauthorized_client", say: []string{"unauthorized_client"}},
		"a firewall":             {status: 403, header: []string{"Content-Type", "text/html"}, body: `<html>blocked</html>`, kind: refused, result: "other_error", say: []string{"what stands before the issuer"}},
		"a gateway":              {status: 502, header: []string{"Content-Type", "text/html"}, body: `<html>bad gateway</html>`, kind: unavailable, result: "other_error", say: []string{"failing"}},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t, serve(t, func(w http.ResponseWriter, r *http.Request) { says(tc.status, tc.body, tc.header...)(w, r) }).URL)
			o.Audience, o.Scopes = []string{"https://orders-api"}, []string{"read", "write"}
			var err error
			if o.Grant = tc.grant; tc.grant == "" {
				_, err = token(t, o)
			} else {
				_, err = exchanged(t, o)
			}
			f := failure(t, err)
			if f.Kind != tc.kind || f.Result != tc.result || f.RetryAfter != tc.wait {
				t.Errorf("want %s %s after %s, got %+v", tc.kind, tc.result, tc.wait, f)
			}
			if says := f.Kind == refused || f.Kind == throttled; says != (f.Advice != "") || says && !strings.HasSuffix(f.Detail, "; "+f.Advice) {
				t.Errorf("the advice %q is not the end of %q", f.Advice, f.Detail)
			}
			for _, say := range tc.say {
				if !strings.Contains(f.Detail, say) {
					t.Errorf("want %q in %q", say, f.Detail)
				}
			}
		})
	}
}
