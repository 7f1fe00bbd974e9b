package source

import "strings"

// advice says what to do about a refusal, in the provider's own terms where it can be told which provider it is. credentials says
// that it is about what the client proves itself with.
func (s *asker) advice(a answer, code string) (text string, credentials bool) {
	about := " (" + s.form.target + ")"
	for _, n := range a.aadsts() {
		switch do := entra(n); {
		case do != "" && code == "invalid_client": // whatever it asks for
			return do, true
		case do != "":
			return do + about, false
		}
	}
	description := strings.ToLower("(" + a.text("error_description") + ") (" + a.text("error_hint") + ")")
	for _, w := range wordings() {
		switch {
		case w.code != "" && w.code != code, !strings.Contains(description, strings.ToLower(w.says)):
		case w.credentials:
			return w.do, true
		default:
			return w.do + about, false
		}
	}
	return s.general(code, about), false
}

// wording is what a provider says in its own words where the code alone says too little, or something else.
type wording struct {
	code        string // "" for any
	says        string // in the description, which is in brackets; case does not matter
	do          string
	credentials bool
}

func wordings() []wording {
	return []wording{
		// Auth0
		{code: "access_denied", says: "(Unauthorized)", credentials: true, do: "in this way Auth0 says that the client's secret is wrong: check the client's id and secret"},
		{says: "Service not enabled within domain", do: "the tenant has no API with this identifier: correct audience, or create the API in Auth0"},
		{says: "Client is not authorized to access", do: "authorize the application for the API: in Auth0 under Applications, APIs, Machine to Machine Applications"},
		{says: "Client has not been granted scopes", do: "grant the application these scopes of the API: in Auth0 under Applications, APIs, Machine to Machine Applications"},
		{code: "unauthorized_client", says: "not allowed for the client", do: "allow the application the grant: in Auth0 under Applications, Advanced Settings, Grant Types; its type has to be Machine to Machine"},
		// Keycloak
		{says: "Invalid client or Invalid client credentials", credentials: true, do: "check the client's id and credentials, and its Client authenticator in Keycloak"},
		{code: "unauthorized_client", says: "service account", do: "switch on Service accounts roles for the client in Keycloak"},
		{code: "invalid_scope", says: "Invalid scopes:", do: "add the scopes to the client under Client scopes in Keycloak, or leave them out"},
		{says: "Requested audience not available", do: "give the client a client scope with an audience mapper for this audience in Keycloak"},
		// Okta
		{code: "invalid_scope", says: "authorization server resource", do: "add the scopes to the authorization server in Okta, under Security, API"},
		{code: "access_denied", says: "policy evaluation failed", do: "add an access policy with a rule for this client, grant and scopes to the authorization server in Okta"},
		{code: "invalid_client", says: "The client_assertion is invalid", credentials: true, do: "register the client's public key in Okta under General, Client Credentials, and set assertion_audience: token_endpoint"},
		{code: "no_matching_policy", do: "add an access policy with a rule for this client, grant and scopes to the authorization server in Okta"},
		{says: "Client authentication with signed JWT failed", credentials: true, do: "register the client's key in Keycloak under Credentials, Signed JWT, and set assertion_audience as it wants it"},
		// Ory Hydra
		{code: "invalid_client", says: "token_endpoint_auth_method", credentials: true, do: "set auth_method to the client's token_endpoint_auth_method in Hydra"},
		{code: "invalid_scope", says: "not allowed to request scope", do: "add the scope to the client's scope in Hydra"},
		{says: "whitelisted", do: "add the audience to the client's audience list in Hydra"},
		// PingOne
		{code: "invalid_scope", says: "scopes for multiple resources", do: "ask for the scopes of one resource only: in PingOne a token is for one"},
		{code: "invalid_scope", says: "At least one scope must be granted", do: "give the application the scopes in PingOne, under Resources, and name them in scopes"},
		{code: "invalid_client", says: "Request denied: Unsupported authentication method", credentials: true, do: "set auth_method to the application's Token Endpoint Authentication Method in PingOne"},
	}
}

// entra is what to do about an error of Entra ID, by its number; "" where the number is not known here.
func entra(number int) string {
	switch number {
	case 70011, 1002012:
		return "at Entra ID's v2 endpoint scopes have to be one API's App ID URI followed by /.default"
	case 901002:
		return "at Entra ID's v2 endpoint leave resource out, and set scopes to the API's App ID URI followed by /.default"
	case 500011, 650057:
		return "this tenant of Entra ID does not know the API: check the App ID URI, and that the API's enterprise application is there"
	case 501051:
		return "assign the application a role of the API in Entra ID, with admin consent"
	case 700016:
		return "this tenant of Entra ID does not know the application: check the client's id, and the tenant in the issuer's url"
	case 90002:
		return "Entra ID does not know the tenant in the issuer's url"
	case 9001023, 50194:
		return "name the tenant in the issuer's url: with /common, /organizations and /consumers Entra ID gives applications no token"
	case 900144:
		return "name the API: at Entra ID's v2 endpoint set scopes to its App ID URI followed by /.default, at the v1 endpoint set resource to its App ID URI"
	case 7000218:
		return "Entra ID takes this client with a secret or an assertion: set auth_method to client_secret_post or private_key_jwt, and what it needs"
	case 7000215:
		return "the client secret is wrong: take the secret's value in Entra ID, not its id"
	case 7000222:
		return "the client secret has expired: create a new one in Entra ID under Certificates & secrets"
	case 700027, 50012:
		return "Entra ID does not accept the assertion's signature: register the certificate of assertion_cert_file with the application, and give its key in private_key_file"
	case 700024:
		return "the assertion is not in its time: set this machine's clock"
	case 70021, 700211, 700212, 700213:
		return "no federated credential of the application in Entra ID has the assertion's issuer, subject and audience"
	case 50013:
		return "Entra ID does not accept the caller's token: its audience has to be this application, in this tenant"
	case 500133:
		return "the caller's token has expired: let the caller get a new one"
	case 65001:
		return "let an administrator consent in Entra ID to what this application asks of the API for the user"
	case 50076, 50079, 50158, 53003:
		return "Conditional Access in Entra ID wants more of the user: the caller has to sign in again with the claims in this answer"
	}
	return ""
}

// throttling says that a number of Entra ID means that we ask too often.
func throttling(number int) bool { return number == 90055 || number == 50196 }

// transient says that a number of Entra ID means a failure of its own.
func transient(number int) bool { return number == 90024 || number == 90033 }

// general is what to do about an error code, whoever gives it.
func (s *asker) general(code, about string) string {
	grant := s.options.Grant
	if grant != ClientCredentials && subjectCode(code) {
		return "the issuer does not accept the caller's token, or not for this client and target: let the caller get a new one whose audience is this client" + about
	}
	switch code {
	case "invalid_client":
		return "check the client's id and " + s.proof() + ", and that it is registered for " + s.options.AuthMethod
	case "access_denied":
		return "grant the application access to the API" + about + ", and check the client's " + s.proof()
	case "unauthorized_client":
		return "allow the application the " + grant + " grant and access to the API; at Cognito in the app client's Login pages" + about
	case "invalid_scope", "insufficient_scope":
		return "check the scopes, and that they are granted to the application" + about
	case "invalid_target", "invalid_resource":
		return "check that audience and resource name an API that the issuer knows" + about
	case "unsupported_grant_type":
		return "the issuer does not know the " + grant + " grant at this token_endpoint"
	case "invalid_grant":
		return "check the scopes, and that the application may have them; at Cognito a scope is written RESOURCE_SERVER/SCOPE" + about
	case "invalid_request":
		return "check audience, resource, scopes and token_params against what the issuer wants" + about
	case "invalid_dpop_proof", "use_dpop_nonce":
		if s.options.DPoP == nil {
			return "the issuer binds this client's tokens to a key (RFC 9449): set dpop: true"
		}
		return "the issuer does not accept the DPoP proof: set this machine's clock, and write token_endpoint as the issuer does"
	case "":
		return "it gave no OAuth error code: check token_endpoint and what stands before the issuer"
	}
	return "look the code up in the issuer's documentation" + about
}
