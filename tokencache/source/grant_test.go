package source

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/sidepass/sidepass/tokencache"
)

const (
	canarySubject = "eyJhbGciOiJSUzI1NiJ9.canary-subject-payload.canary-subject-signature"
	goodExchange  = `{"access_token":"canary-token","issued_token_type":"urn:ietf:params:oauth:token-type:access_token","token_type":"Bearer","expires_in":300}`
)

// exchanged gets a token for the canary subject.
func exchanged(t *testing.T, o Options) (*tokencache.Token, error) {
	t.Helper()
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	tok, err := s.For(canarySubject).Token(t.Context())
	if err != nil {
		f := failure(t, err)
		if text := fmt.Sprintf("%+v %#v %q", *f, f, f); strings.Contains(text, "canary-subject") {
			t.Errorf("the failure shows the subject token: %s", text)
		}
	}
	return tok, err
}

func TestFormOfAnExchange(t *testing.T) {
	e := serve(t, says(200, goodExchange))
	for name, tc := range map[string]struct {
		change func(*Options)
		want   url.Values
	}{
		"token_exchange": {func(o *Options) {
			o.Grant, o.Audience, o.Scopes = TokenExchange, []string{"https://orders-api"}, []string{"read", "write"}
		}, url.Values{
			"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}, "subject_token": {canarySubject},
			"subject_token_type": {"urn:ietf:params:oauth:token-type:access_token"}, "audience": {"https://orders-api"}, "scope": {"read write"},
		}},
		"several targets, and params": {func(o *Options) {
			o.Grant, o.Audience, o.Resource = TokenExchange, []string{"b", "a"}, []string{"https://r2", "https://r1"}
			o.Params = []tokencache.Param{{Name: "requested_token_type", Value: accessTokenType}, {Name: "organization", Value: "org"}}
		}, url.Values{
			"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}, "subject_token": {canarySubject},
			"subject_token_type": {"urn:ietf:params:oauth:token-type:access_token"}, "audience": {"b", "a"}, "resource": {"https://r2", "https://r1"},
			"requested_token_type": {"urn:ietf:params:oauth:token-type:access_token"}, "organization": {"org"},
		}},
		"a type of their own, as at Auth0": {func(o *Options) {
			o.Grant, o.Params = TokenExchange, []tokencache.Param{{Name: "subject_token_type", Value: "urn:acme:token"}}
		}, url.Values{
			"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}, "subject_token": {canarySubject}, "subject_token_type": {"urn:acme:token"},
		}},
		"on_behalf_of": {func(o *Options) { o.Grant, o.Scopes = OnBehalfOf, []string{"api://orders/.default"} }, url.Values{
			"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "assertion": {canarySubject}, "requested_token_use": {"on_behalf_of"}, "scope": {"api://orders/.default"},
		}},
		"on_behalf_of with the client's own assertion": {func(o *Options) {
			o.Grant, o.AuthMethod, o.Assertion = OnBehalfOf, Federated, func() (string, error) { return "a.b.c", nil }
		}, url.Values{
			"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "assertion": {canarySubject}, "requested_token_use": {"on_behalf_of"}, "client_id": {clientID},
			"client_assertion": {"a.b.c"}, "client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t, e.URL)
			tc.change(&o)
			tok, err := exchanged(t, o)
			if err != nil || tok.Reveal() != canaryToken || tok.Scheme != "Bearer" {
				t.Fatal(err)
			}
			if got := formOf(t, e); fmt.Sprint(got) != fmt.Sprint(tc.want) {
				t.Errorf("want %v, got %v", tc.want, got)
			}
			if want := tc.want.Get("client_id") == ""; (e.header.Get("Authorization") != "") != want {
				t.Errorf("want the client's own authentication, got %q", e.header.Get("Authorization"))
			}
		})
	}
}

func TestGrantsThatCannotBeAskedFor(t *testing.T) {
	param := func(grant, name, value string) func(*Options) {
		return func(o *Options) { o.Grant, o.Params = grant, []tokencache.Param{{Name: name, Value: value}} }
	}
	for name, tc := range map[string]struct {
		change func(*Options)
		say    string // "" is a usable twin
	}{
		"token_exchange":                {func(o *Options) { o.Grant = TokenExchange }, ""},
		"on_behalf_of":                  {func(o *Options) { o.Grant = OnBehalfOf }, ""},
		"a grant of others":             {func(o *Options) { o.Grant = "password" }, `"password"`},
		"another subject":               {param(TokenExchange, "subject_token", "x"), "subject_token"},
		"another subject's type":        {param(TokenExchange, "subject_token_type", "urn:acme:token"), ""},
		"another use":                   {param(OnBehalfOf, "requested_token_use", "x"), "requested_token_use"},
		"another assertion":             {param(OnBehalfOf, "assertion", "x"), "assertion"},
		"what is no subject elsewhere":  {param(ClientCredentials, "subject_token", "x"), ""},
		"a JWT":                         {param(TokenExchange, "requested_token_type", jwtType), ""},
		"an ID token for an upstream":   {param(TokenExchange, "requested_token_type", "urn:ietf:params:oauth:token-type:id_token"), "requested_token_type"},
		"a type where there is no such": {param(ClientCredentials, "requested_token_type", "x"), ""},
		"a key that is missing":         {func(o *Options) { o.AuthMethod = PrivateKeyJWT }, "needs a key"},
		"a secret's key, missing":       {func(o *Options) { o.AuthMethod = SecretJWT }, "needs a key"},
		"an assertion, missing":         {func(o *Options) { o.AuthMethod = Federated }, "needs an assertion"},
		"a secret, missing":             {func(o *Options) { o.Secret = nil }, "needs a secret"},
		"no secret needed":              {func(o *Options) { o.AuthMethod, o.Secret = TLS, nil }, ""},
	} {
		o := options(t, "http://127.0.0.1:1")
		tc.change(&o)
		_, err := New(o)
		if (err == nil) != (tc.say == "") || err != nil && !strings.Contains(err.Error(), tc.say) {
			t.Errorf("%s: want an error about %q, got %v", name, tc.say, err)
		}
	}
}

// A grant and a subject that do not go together never reach the issuer: a request for the client itself in a user's place would.
func TestGrantAndSubjectGoTogether(t *testing.T) {
	e := serve(t, says(200, goodExchange))
	for grant, ask := range map[string]func(*Source) tokencache.Source{
		ClientCredentials: func(s *Source) tokencache.Source { return s.For(canarySubject) },
		TokenExchange:     func(s *Source) tokencache.Source { return s },
		OnBehalfOf:        func(s *Source) tokencache.Source { return s.For("") },
	} {
		o := options(t, e.URL)
		o.Grant = grant
		s, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		_, err = ask(s).Token(t.Context())
		if f := failure(t, err); f.Kind != tokencache.Refused || f.Subject {
			t.Errorf("%s: got %+v", grant, f)
		}
	}
	if e.calls != 0 {
		t.Errorf("want no call, got %d", e.calls)
	}
}

func TestWhatAnExchangeIssued(t *testing.T) {
	answer := func(issued, tokenType string) string {
		m := map[string]any{"access_token": canaryToken, "token_type": tokenType, "expires_in": 300}
		if issued != "" {
			m["issued_token_type"] = json.RawMessage(issued)
		}
		text, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	const urn = `"urn:ietf:params:oauth:token-type:`
	for name, tc := range map[string]struct {
		grant, requested string
		body             string
		say              string // "" is a good token
	}{
		"an access token":               {TokenExchange, "", answer(urn+`access_token"`, "Bearer"), ""},
		"a JWT":                         {TokenExchange, "", answer(urn+`jwt"`, "Bearer"), ""},
		"not said, as by old Keycloak":  {TokenExchange, "", answer("", "Bearer"), ""},
		"null":                          {TokenExchange, "", answer("null", "bearer"), ""},
		"N_A":                           {TokenExchange, "", answer(urn+`access_token"`, "N_A"), "N_A"},
		"n_a, not said":                 {TokenExchange, "", answer("", "n_a"), "N_A"},
		"an ID token":                   {TokenExchange, "", answer(urn+`id_token"`, "Bearer"), "issued_token_type"},
		"an ID token, N_A":              {TokenExchange, "", answer(urn+`id_token"`, "N_A"), "N_A"},
		"a refresh token":               {TokenExchange, "", answer(urn+`refresh_token"`, "Bearer"), "issued_token_type"},
		"a transaction token":           {TokenExchange, "", answer(urn+`txn_token"`, "Bearer"), "issued_token_type"},
		"a type of their own":           {TokenExchange, "", answer(`"access_token"`, "Bearer"), "issued_token_type"},
		"in another case":               {TokenExchange, "", answer(strings.ToUpper(urn)+`ACCESS_TOKEN"`, "Bearer"), "issued_token_type"},
		"empty":                         {TokenExchange, "", answer(`""`, "Bearer"), "issued_token_type"},
		"a number":                      {TokenExchange, "", answer(`7`, "Bearer"), "issued_token_type"},
		"what was asked for":            {TokenExchange, jwtType, answer(urn+`jwt"`, "Bearer"), ""},
		"not what was asked for":        {TokenExchange, jwtType, answer(urn+`access_token"`, "Bearer"), "which token_params ask for"},
		"asked for and not said":        {TokenExchange, jwtType, answer("", "Bearer"), ""},
		"on_behalf_of":                  {OnBehalfOf, "", answer("", "Bearer"), ""},
		"on_behalf_of has no such type": {OnBehalfOf, "", answer(`"x"`, "Bearer"), ""},
		"on_behalf_of, N_A":             {OnBehalfOf, "", answer("", "N_A"), "N_A"},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t, serve(t, says(200, tc.body)).URL)
			if o.Grant = tc.grant; tc.requested != "" {
				o.Params = []tokencache.Param{{Name: "requested_token_type", Value: tc.requested}}
			}
			tok, err := exchanged(t, o)
			if tc.say == "" {
				if err != nil || tok.Authorization() != "Bearer "+canaryToken {
					t.Errorf("want the token, got %v", err)
				}
				return
			}
			if f := failure(t, err); f.Result != tokencache.ResultInvalidResponse || f.Subject || !strings.Contains(f.Detail, tc.say) {
				t.Errorf("want invalid_response about %q, got %+v", tc.say, f)
			}
		})
	}
}

func TestRefusalsOfTheSubject(t *testing.T) {
	const capolids = `{"access_token":{"capolids":{"essential":true,"values":["c1"]}}}`
	body := func(code, claims string) string {
		text, err := json.Marshal(map[string]any{"error": code, "error_description": "got " + canarySubject, "claims": claims})
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	for name, tc := range map[string]struct {
		grant   string
		status  int
		body    string
		kind    tokencache.Kind
		subject bool
		claims  string
	}{
		"invalid_request":                {TokenExchange, 400, body("invalid_request", ""), tokencache.Refused, true, ""},
		"invalid_grant":                  {TokenExchange, 400, body("invalid_grant", ""), tokencache.Refused, true, ""},
		"invalid_grant with 401":         {TokenExchange, 401, body("invalid_grant", ""), tokencache.Refused, true, ""},
		"interaction_required":           {OnBehalfOf, 400, body("interaction_required", capolids), tokencache.Refused, true, capolids},
		"invalid_grant with claims":      {OnBehalfOf, 400, body("invalid_grant", capolids), tokencache.Refused, true, capolids},
		"claims beyond ASCII":            {OnBehalfOf, 400, body("interaction_required", `{"ä":1}`), tokencache.Refused, true, `{"ä":1}`},
		"claims that are no JSON":        {OnBehalfOf, 400, body("interaction_required", `{"a`), tokencache.Refused, true, ""},
		"claims that are no object":      {OnBehalfOf, 400, body("interaction_required", `"a"`), tokencache.Refused, true, ""},
		"claims with the subject token":  {OnBehalfOf, 400, body("interaction_required", `{"a":"`+canarySubject+`"}`), tokencache.Refused, true, ""},
		"claims without end":             {OnBehalfOf, 400, body("interaction_required", `{"a":"`+strings.Repeat("x", maxChallenge)+`"}`), tokencache.Refused, true, ""},
		"claims of a client's refusal":   {OnBehalfOf, 401, body("invalid_client", capolids), tokencache.Refused, false, ""},
		"invalid_target":                 {TokenExchange, 400, body("invalid_target", ""), tokencache.Refused, false, ""},
		"invalid_client":                 {TokenExchange, 401, body("invalid_client", ""), tokencache.Refused, false, ""},
		"unauthorized_client":            {TokenExchange, 400, body("unauthorized_client", ""), tokencache.Refused, false, ""},
		"access_denied":                  {TokenExchange, 403, body("access_denied", ""), tokencache.Refused, false, ""},
		"no code":                        {TokenExchange, 400, `{}`, tokencache.Refused, false, ""},
		"a failure is nobody's":          {TokenExchange, 500, body("invalid_grant", ""), tokencache.Unavailable, false, ""},
		"a limit is nobody's":            {TokenExchange, 429, body("invalid_request", capolids), tokencache.Throttled, false, ""},
		"the client's own invalid_grant": {ClientCredentials, 400, body("invalid_grant", capolids), tokencache.Refused, false, ""},
		"the client's invalid_request":   {ClientCredentials, 400, body("invalid_request", ""), tokencache.Refused, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t, serve(t, says(tc.status, tc.body)).URL)
			var err error
			if o.Grant = tc.grant; o.Grant == ClientCredentials {
				_, err = token(t, o)
			} else {
				_, err = exchanged(t, o)
			}
			if f := failure(t, err); f.Kind != tc.kind || f.Subject != tc.subject || f.Claims != tc.claims {
				t.Errorf("want %s, subject %t, claims %q, got %+v", tc.kind, tc.subject, tc.claims, f)
			}
		})
	}
}

// Whoever asks gets the token for its own subject, whatever else goes on.
func TestSubjectsAreNotMixed(t *testing.T) {
	e := serve(t, nil)
	e.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		says(200, `{"access_token":"for-`+r.PostFormValue("subject_token")+`","token_type":"Bearer","expires_in":300}`)(w, r)
	})
	o := options(t, e.URL)
	o.Grant = TokenExchange
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 8 {
		subject := fmt.Sprintf("subject-%d", i)
		wg.Go(func() {
			of := s.For(subject)
			for range 20 {
				if tok, err := of.Token(t.Context()); err != nil || tok.Reveal() != "for-"+subject {
					t.Errorf("%s: got another's token, or %v", subject, err)
				}
			}
		})
	}
	wg.Wait()
}
