package issuer_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/sidepass/sidepass/test/issuer"
)

// How each provider says no, and what it does not say no to.
func TestProfileRefusals(t *testing.T) {
	for _, c := range []struct {
		profile issuer.Profile
		name    string
		form    string
		change  func(*http.Request)
		tenant  func(*issuer.Tenant)
		status  int
		code    string
		text    string // a part of the description, "-" where there is none
	}{
		{issuer.Auth0, "wrong secret", "audience=orders", basic("caller", "canary"), nil, 401, "access_denied", "Unauthorized"},
		{issuer.Auth0, "unknown client", "audience=orders", basic("nobody", "canary"), nil, 401, "access_denied", "Unauthorized"},
		{issuer.Auth0, "unknown audience", "audience=https://unknown", nil, nil, 403, "access_denied", "Service not enabled within domain: https://unknown"},
		{issuer.Auth0, "no client grant", "audience=stock", nil, nil, 403, "access_denied", "client-grant"},
		{issuer.Auth0, "a scope beyond the grant", "audience=orders&scope=write:orders", nil, nil, 403, "access_denied", "not been granted scopes: write:orders"},
		{issuer.Auth0, "two audiences", "audience=orders&audience=stock", nil, nil, 400, "invalid_request", ""},

		{issuer.Okta, "wrong secret", "scope=read:orders", basic("caller", "canary"), nil, 401, "invalid_client", "client secret"},
		{issuer.Okta, "no scope", "audience=orders", nil, nil, 400, "invalid_scope", "'scope' must be provided"},
		{issuer.Okta, "unknown scope", "scope=unknown", nil, nil, 400, "invalid_scope", "not configured"},
		{issuer.Okta, "a scope beyond the policy", "scope=write:orders", nil, nil, 400, "access_denied", "Policy evaluation failed"},

		{issuer.EntraV2, "wrong secret", "scope=orders/.default", basic("caller", "canary"), nil, 401, "invalid_client", "AADSTS7000215"},
		{issuer.EntraV2, "unknown client", "scope=orders/.default", basic("nobody", "canary"), nil, 400, "unauthorized_client", "AADSTS700016"},
		{issuer.EntraV2, "no scope", "", nil, nil, 400, "invalid_request", "AADSTS900144"},
		{issuer.EntraV2, "without /.default", "scope=orders/Orders.Read", nil, nil, 400, "invalid_scope", "AADSTS1002012"},
		{issuer.EntraV2, "two APIs", "scope=orders/.default+stock/.default", nil, nil, 400, "invalid_scope", "AADSTS70011"},
		{issuer.EntraV2, "resource", "resource=orders", nil, nil, 400, "invalid_request", "AADSTS901002"},
		{issuer.EntraV2, "unknown API", "scope=unknown/.default", nil, nil, 400, "invalid_resource", "AADSTS500011"},
		{issuer.EntraV1, "no resource", "scope=orders/.default", nil, nil, 400, "invalid_request", "'resource'"},

		{issuer.Keycloak, "wrong secret", "", basic("caller", "canary"), nil, 401, "unauthorized_client", "Invalid client"},
		{issuer.Keycloak, "unknown client", "", basic("nobody", "canary"), nil, 401, "invalid_client", "Invalid client"},
		{issuer.Keycloak, "unknown scope", "scope=unknown", nil, nil, 400, "invalid_scope", "Invalid scopes: unknown"},
		{issuer.Keycloak, "audience is not read", "audience=unknown", nil, nil, 200, "", ""},

		{issuer.Cognito, "wrong secret", "", basic("caller", "canary"), nil, 400, "invalid_client", "-"},
		{issuer.Cognito, "unknown scope", "scope=orders/unknown", nil, nil, 400, "invalid_grant", "-"},
		{issuer.Cognito, "a scope beyond the client's", "scope=orders/write:orders", nil, nil, 400, "invalid_grant", "-"},
		{issuer.Cognito, "no scope to give", "", nil, func(t *issuer.Tenant) { t.Apps[0].Scopes = []string{} }, 400, "invalid_scope", "-"},

		{issuer.Hydra, "post, registered for basic", "audience=orders", nil, nil, 401, "invalid_client", "'client_secret_post' was requested"},
		{issuer.Hydra, "its twin", "audience=orders", basic("caller", secret), nil, 200, "", ""},
		{issuer.Hydra, "basic that is not form-encoded", "audience=orders", func(r *http.Request) { r.SetBasicAuth("caller", secret) }, nil, 401, "invalid_client", ""},
		{issuer.Hydra, "an audience that is not allowed", "audience=https://ordersx", basic("caller", secret), nil, 400, "invalid_request", "'https://ordersx' has not been whitelisted"},
		{issuer.Hydra, "a scope that is not allowed", "scope=write:orders", basic("caller", secret), nil, 400, "invalid_scope", "not allowed to request scope 'write:orders'"},

		{issuer.ZITADEL, "wrong secret", "", basic("caller", "canary"), nil, 401, "invalid_client", "invalid secret"},
		{issuer.ZITADEL, "an unknown scope is left out", "scope=unknown", nil, nil, 200, "", ""},

		{issuer.Duende, "wrong secret", "", basic("caller", "canary"), nil, 400, "invalid_client", "-"},
		{issuer.Duende, "unknown scope", "scope=unknown", nil, nil, 400, "invalid_scope", "-"},
		{issuer.Duende, "a scope beyond the client's", "scope=write:orders", nil, nil, 400, "invalid_scope", "-"},

		{issuer.PingOne, "post, registered for basic", "scope=read:orders", nil, nil, 401, "invalid_client", "Unsupported authentication method"},
		{issuer.PingOne, "its twin", "scope=read:orders", basic("caller", secret), nil, 401, "invalid_client", "Invalid client credentials"}, // form-encoded, and not decoded
		{issuer.PingOne, "basic that is not form-encoded", "scope=read:orders", func(r *http.Request) { r.SetBasicAuth("caller", secret) }, nil, 200, "", ""},
		{issuer.PingOne, "scopes of two resources", "scope=read:orders+read:stock", func(r *http.Request) { r.SetBasicAuth("caller", secret) },
			func(t *issuer.Tenant) { t.Apps[0].Scopes = nil }, 400, "invalid_scope", "multiple resources"},
		{issuer.PingOne, "no scope", "", func(r *http.Request) { r.SetBasicAuth("caller", secret) }, nil, 400, "invalid_scope", "At least one scope"},
	} {
		t.Run(string(c.profile)+" "+c.name, func(t *testing.T) {
			s := startProfile(t, c.profile, c.tenant)
			var got reply
			if c.change == nil {
				got = ask(t, s, c.form)
			} else {
				got = post(t, s.TokenURL(), "grant_type=client_credentials&"+c.form, header("Authorization"), c.change)
			}
			equal(t, "status", got.status, c.status)
			if c.status == 200 {
				return
			}
			equal(t, "error", got.json["error"], c.code)
			equal(t, "access_token", got.json["access_token"], nil)
			description, said := got.json["error_description"].(string)
			if c.text == "-" {
				equal(t, "a description", said, false)
			} else if !strings.Contains(description, c.text) {
				t.Errorf("the description is %q, want %q in it", description, c.text)
			}
			noSecret(t, got)
		})
	}
}

func TestProfileErrorBodies(t *testing.T) {
	t.Run("Entra has numbers", func(t *testing.T) {
		got := ask(t, startProfile(t, issuer.EntraV2, nil), "scope=unknown/.default")
		equal(t, "error_codes", got.json["error_codes"], []any{500011.0})
		for _, name := range []string{"timestamp", "trace_id", "correlation_id", "error_uri"} {
			if got.json[name] == nil {
				t.Errorf("there is no %s", name)
			}
		}
	})
	t.Run("Hydra has a hint", func(t *testing.T) {
		got := ask(t, startProfile(t, issuer.Hydra, nil), "")
		equal(t, "status_code", got.json["status_code"], 401.0)
		if hint, _ := got.json["error_hint"].(string); !strings.Contains(hint, "token_endpoint_auth_method") {
			t.Error(got.body)
		}
	})
	t.Run("Okta names an unknown client in another shape", func(t *testing.T) {
		got := post(t, startProfile(t, issuer.Okta, nil).TokenURL(), "grant_type=client_credentials", header("Authorization"), basic("nobody", "canary"))
		equal(t, "status", got.status, 401)
		equal(t, "error", got.json["error"], nil)
		equal(t, "errorCode", got.json["errorCode"], "invalid_client")
	})
}

// The grant and the form of a request, where providers are as the RFC or nearly so.
func TestProfileRequests(t *testing.T) {
	s := startProfile(t, issuer.Auth0, nil)
	asJSON := func(members map[string]any) func(*http.Request) {
		return func(r *http.Request) {
			b, err := json.Marshal(members)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", "application/json")
			r.Header.Del("Authorization")
			body(string(b))(r)
		}
	}
	whole := map[string]any{"grant_type": "client_credentials", "client_id": "caller", "client_secret": secret, "audience": "orders"}
	for _, c := range []struct {
		name   string
		url    string
		form   string
		change func(*http.Request)
		status int
		code   string
	}{
		{"JSON", s.TokenURL(), "", asJSON(whole), 200, ""},
		{"JSON with a list", s.TokenURL(), "", asJSON(map[string]any{"grant_type": "client_credentials", "client_id": "caller", "client_secret": secret, "audience": []string{"orders", "stock"}}), 400, "invalid_request"},
		{"not JSON", s.TokenURL(), "", func(r *http.Request) { asJSON(nil)(r); body("{")(r) }, 400, "invalid_request"},
		{"JSON elsewhere", startProfile(t, issuer.Okta, nil).TokenURL(), "", asJSON(whole), 400, "invalid_request"},
		{"no grant_type", s.TokenURL(), "client_id=caller&client_secret=" + url.QueryEscape(secret), nil, 400, "invalid_request"},
		{"another grant", s.TokenURL(), "grant_type=password&client_id=caller&client_secret=" + url.QueryEscape(secret), nil, 403, "unauthorized_client"},
		{"a parameter twice", s.TokenURL(), "grant_type=client_credentials&scope=a&scope=b", nil, 400, "invalid_request"},
		{"basic and post", s.TokenURL(), "grant_type=client_credentials&client_id=caller&client_secret=" + url.QueryEscape(secret),
			func(r *http.Request) { r.SetBasicAuth("caller", secret) }, 400, "invalid_request"},
		{"nobody", s.TokenURL(), "grant_type=client_credentials", nil, 401, "access_denied"},
		{"GET", s.TokenURL(), "", func(r *http.Request) { r.Method = "GET" }, 405, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.change == nil {
				c.change = func(*http.Request) {}
			}
			got := post(t, c.url, c.form, header("Authorization"), c.change)
			equal(t, "status", got.status, c.status)
			if c.code != "" {
				equal(t, "error", got.json["error"], c.code)
			}
			noSecret(t, got)
		})
	}
}
