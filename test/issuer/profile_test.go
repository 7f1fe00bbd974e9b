package issuer_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sidepass/sidepass/test/issuer"
)

// rsaKeys are what most providers sign with: made once, since that takes a moment.
var rsaKeys = sync.OnceValue(func() []*issuer.Key {
	var keys []*issuer.Key
	for range 2 {
		k, err := issuer.NewKey("RS256")
		if err != nil {
			panic(err)
		}
		keys = append(keys, k)
	}
	return keys
})

// ordersApp may have what a tenant of startProfile has, but for Orders.Write.
var ordersApp = issuer.App{ID: "caller", Secret: secret, Scopes: []string{"read:orders", "orders/read:orders"}, Roles: []string{"Orders.Read"},
	APIs: []string{"orders", "https://orders"}}

func startProfile(t *testing.T, p issuer.Profile, change func(*issuer.Tenant)) *issuer.Server {
	t.Helper()
	tenant := issuer.Tenant{
		APIs: []issuer.API{
			{ID: "orders", AppID: "orders-app", Scopes: []string{"read:orders", "write:orders"}, Roles: []string{"Orders.Read", "Orders.Write"}},
			{ID: "stock", AppID: "stock-app", Scopes: []string{"read:stock"}, Roles: []string{"Stock.Read"}},
		},
		Apps: []issuer.App{ordersApp},
		Keys: rsaKeys(),
	}
	if change != nil {
		change(&tenant)
	}
	s, err := issuer.StartProfile(p, tenant)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// ask sends a form to a provider's token endpoint as the caller, with client_secret_post.
func ask(t *testing.T, s *issuer.Server, form string, changes ...func(*http.Request)) reply {
	t.Helper()
	return post(t, s.TokenURL(), "grant_type=client_credentials&client_id=caller&client_secret="+url.QueryEscape(secret)+"&"+form,
		append([]func(*http.Request){header("Authorization")}, changes...)...)
}

const (
	entraTenant = "aaaabbbb-0000-cccc-1111-dddd2222eeee"
	pingOneEnv  = "11112222-3333-4444-5555-666677778888"
)

// Where things are, what names the target, and what comes of it. "*" is any value that is there, nil one that is not.
func TestProfiles(t *testing.T) {
	type members map[string]any
	for _, c := range []struct {
		profile               issuer.Profile
		form                  string
		change                func(*issuer.Tenant)
		issuer, jwks, token   string
		header, claims, reply members
	}{
		{profile: issuer.Auth0, form: "audience=orders&scope=read:orders", issuer: "/", jwks: "/.well-known/jwks.json", token: "/oauth/token",
			header: members{"typ": "JWT", "alg": "RS256"},
			claims: members{"sub": "caller@clients", "aud": "orders", "azp": "caller", "gty": "client-credentials", "scope": "read:orders", "jti": nil, "client_id": nil, "permissions": nil},
			reply:  members{"token_type": "Bearer", "expires_in": 86400.0, "scope": "read:orders"}},
		{profile: issuer.Auth0, form: "audience=orders", issuer: "/", jwks: "/.well-known/jwks.json", token: "/oauth/token",
			change: func(t *issuer.Tenant) { t.APIs[0].Format = "rfc9068_profile_authz" },
			header: members{"typ": "at+jwt"},
			claims: members{"client_id": "caller", "azp": nil, "gty": nil, "jti": "*", "permissions": []any{"Orders.Read"}, "scope": "read:orders"}},
		{profile: issuer.Okta, form: "scope=read:orders&audience=ignored", issuer: "/oauth2/default", jwks: "/oauth2/default/v1/keys", token: "/oauth2/default/v1/token",
			header: members{"typ": nil, "kid": "*"},
			claims: members{"aud": "orders", "cid": "caller", "sub": "caller", "scp": []any{"read:orders"}, "scope": nil, "client_id": nil, "ver": 1.0},
			reply:  members{"token_type": "Bearer", "expires_in": 3600.0, "scope": "read:orders"}},
		{profile: issuer.EntraV2, form: "scope=orders/.default", issuer: "/" + entraTenant + "/v2.0",
			jwks: "/" + entraTenant + "/discovery/v2.0/keys", token: "/" + entraTenant + "/oauth2/v2.0/token",
			header: members{"typ": "JWT", "x5t": nil},
			claims: members{"aud": "orders-app", "azp": "caller", "azpacr": "1", "roles": []any{"Orders.Read"}, "ver": "2.0", "tid": entraTenant, "appid": nil, "scp": nil, "jti": nil},
			reply:  members{"token_type": "Bearer", "expires_in": 3599.0, "ext_expires_in": 3599.0, "scope": nil}},
		{profile: issuer.EntraV2, form: "scope=stock-app/.default", issuer: "/" + entraTenant + "/v2.0",
			jwks: "/" + entraTenant + "/discovery/v2.0/keys", token: "/" + entraTenant + "/oauth2/v2.0/token",
			claims: members{"aud": "stock-app", "roles": nil}},
		{profile: issuer.EntraV2, form: "scope=orders/.default", issuer: "https://sts.windows.net/" + entraTenant + "/",
			jwks: "/" + entraTenant + "/discovery/v2.0/keys", token: "/" + entraTenant + "/oauth2/v2.0/token",
			change: func(t *issuer.Tenant) { t.APIs[0].Format = "1" },
			header: members{"x5t": "*"},
			claims: members{"aud": "orders", "appid": "caller", "azp": nil, "ver": "1.0"}},
		{profile: issuer.EntraV1, form: "resource=orders", issuer: "/" + entraTenant + "/",
			jwks: "/" + entraTenant + "/discovery/keys", token: "/" + entraTenant + "/oauth2/token",
			header: members{"x5t": "*"},
			claims: members{"aud": "orders", "appid": "caller", "appidacr": "1", "roles": []any{"Orders.Read"}, "ver": "1.0", "azp": nil},
			reply:  members{"expires_in": "3599", "ext_expires_in": "3599", "expires_on": "*", "not_before": "*", "resource": "orders"}},
		{profile: issuer.Keycloak, form: "scope=read:orders&audience=stock", issuer: "/realms/demo",
			jwks: "/realms/demo/protocol/openid-connect/certs", token: "/realms/demo/protocol/openid-connect/token",
			header: members{"typ": "JWT"},
			claims: members{"aud": []any{"orders", "account"}, "azp": "caller", "typ": "Bearer", "scope": "email profile read:orders",
				"resource_access": map[string]any{"orders": map[string]any{"roles": []any{"Orders.Read"}},
					"account": map[string]any{"roles": []any{"manage-account", "manage-account-links", "view-profile"}}}},
			reply: members{"expires_in": 300.0, "refresh_expires_in": 0.0, "not-before-policy": 0.0, "scope": "email profile read:orders"}},
		{profile: issuer.Keycloak, form: "audience=orders", issuer: "/realms/demo",
			jwks: "/realms/demo/protocol/openid-connect/certs", token: "/realms/demo/protocol/openid-connect/token",
			change: func(t *issuer.Tenant) { t.Apps[0].Roles = []string{} },
			claims: members{"aud": "account"}},
		{profile: issuer.Cognito, form: "scope=orders/read:orders", issuer: "/eu-central-1_Example01", jwks: "/eu-central-1_Example01/.well-known/jwks.json", token: "/oauth2/token",
			header: members{"typ": nil},
			claims: members{"aud": nil, "client_id": "caller", "sub": "caller", "token_use": "access", "version": 2.0, "scope": "orders/read:orders"},
			reply:  members{"token_type": "Bearer", "expires_in": 3600.0, "scope": nil}},
		{profile: issuer.Cognito, form: "", issuer: "/eu-central-1_Example01", jwks: "/eu-central-1_Example01/.well-known/jwks.json", token: "/oauth2/token",
			claims: members{"scope": "orders/read:orders"}},
		{profile: issuer.Hydra, form: "audience=https://orders/eu+orders&scope=read:orders", jwks: "/.well-known/jwks.json", token: "/oauth2/token",
			change: func(t *issuer.Tenant) { t.Apps[0].Method = "client_secret_post" },
			header: members{"typ": "JWT"},
			claims: members{"aud": []any{"https://orders/eu", "orders"}, "client_id": "caller", "scp": []any{"read:orders"}, "scope": nil, "nbf": "*", "ext": map[string]any{}},
			reply:  members{"token_type": "bearer", "expires_in": 3600.0, "scope": "read:orders"}},
		{profile: issuer.Hydra, form: "", jwks: "/.well-known/jwks.json", token: "/oauth2/token",
			change: func(t *issuer.Tenant) { t.Apps[0].Method = "client_secret_post" },
			claims: members{"aud": []any{}, "scp": []any{}}},
		{profile: issuer.ZITADEL, form: "scope=openid+unknown+urn:zitadel:iam:org:project:id:orders:aud+urn:zitadel:iam:org:projects:roles", jwks: "/oauth/v2/keys", token: "/oauth/v2/token",
			header: members{"typ": "JWT"},
			claims: members{"aud": []any{"caller", "orders"}, "client_id": "caller", "scope": nil,
				"urn:zitadel:iam:org:project:roles": map[string]any{"Orders.Read": map[string]any{"280000000000000001": "example.zitadel.cloud"}}},
			reply: members{"expires_in": 43199.0, "scope": "openid urn:zitadel:iam:org:project:id:orders:aud urn:zitadel:iam:org:projects:roles"}},
		{profile: issuer.ZITADEL, form: "scope=openid", jwks: "/oauth/v2/keys", token: "/oauth/v2/token",
			claims: members{"aud": []any{"caller"}, "urn:zitadel:iam:org:project:roles": nil}},
		{profile: issuer.Duende, form: "scope=read:orders", jwks: "/.well-known/openid-configuration/jwks", token: "/connect/token",
			header: members{"typ": "at+jwt"},
			claims: members{"aud": "orders", "client_id": "caller", "sub": nil, "scope": []any{"read:orders"}, "jti": "*"},
			reply:  members{"token_type": "Bearer", "expires_in": 3600.0, "scope": "read:orders"}},
		{profile: issuer.Duende, form: "", jwks: "/.well-known/openid-configuration/jwks", token: "/connect/token",
			change: func(t *issuer.Tenant) { t.APIs[0].ID, t.Apps[0].Scopes = "", nil },
			claims: members{"aud": "stock", "scope": []any{"read:orders", "write:orders", "read:stock"}}},
		{profile: issuer.Duende, form: "scope=read:orders", jwks: "/.well-known/openid-configuration/jwks", token: "/connect/token",
			change: func(t *issuer.Tenant) { t.APIs[0].ID = "" },
			claims: members{"aud": nil}},
		{profile: issuer.PingOne, form: "scope=read:orders+write:orders", issuer: "/" + pingOneEnv + "/as", jwks: "/" + pingOneEnv + "/as/jwks", token: "/" + pingOneEnv + "/as/token",
			change: func(t *issuer.Tenant) { t.Apps[0].Method = "client_secret_post" },
			header: members{"typ": "JWT"},
			claims: members{"aud": []any{"orders"}, "client_id": "caller", "scope": "read:orders", "env": pingOneEnv, "org": "*"},
			reply:  members{"token_type": "Bearer", "scope": "read:orders"}},
	} {
		t.Run(string(c.profile)+" "+c.form, func(t *testing.T) {
			s := startProfile(t, c.profile, c.change)
			got := ask(t, s, c.form)
			if got.status != 200 {
				t.Fatalf("%d %s", got.status, got.body)
			}
			noSecret(t, got)
			token := got.json["access_token"].(string)
			iss := c.issuer
			if !strings.HasPrefix(iss, "https:") {
				iss = s.URL() + iss
				equal(t, "Issuer", s.Issuer(), iss)
			}
			equal(t, "TokenURL", strings.HasSuffix(s.TokenURL(), c.token), true)
			equal(t, "iss", part(t, token, 1)["iss"], iss)
			for what, pair := range map[string][2]members{"header": {part(t, token, 0), c.header}, "claim": {part(t, token, 1), c.claims}, "answer": {got.json, c.reply}} {
				for name, want := range pair[1] {
					if want == "*" && pair[0][name] != nil {
						continue
					}
					equal(t, what+" "+name, pair[0][name], want)
				}
			}
			set := get(t, s.URL()+c.jwks)
			if kid, _ := part(t, token, 0)["kid"].(string); !strings.Contains(set.body, `"kid":"`+kid+`"`) {
				t.Errorf("the token's key %q is not in the set", kid)
			}
		})
	}
}

func TestProfileOpaque(t *testing.T) {
	for _, c := range []struct {
		profile       issuer.Profile
		prefix, form  string
		change        func(*issuer.Tenant)
		introspection string
	}{
		{issuer.Hydra, "ory_at_", "audience=orders", func(t *issuer.Tenant) { t.Apps[0].Opaque, t.Apps[0].Method = true, "client_secret_post" }, ""},
		{issuer.ZITADEL, "", "scope=openid", func(t *issuer.Tenant) { t.Apps[0].Opaque = true }, "/oauth/v2/introspect"},
		{issuer.Auth0, "", "resource=orders", nil, ""}, // without audience
	} {
		t.Run(string(c.profile), func(t *testing.T) {
			s := startProfile(t, c.profile, c.change)
			got := ask(t, s, c.form)
			token, _ := got.json["access_token"].(string)
			if got.status != 200 || !strings.HasPrefix(token, c.prefix) || strings.Contains(token, ".") {
				t.Fatalf("%d %s", got.status, got.body)
			}
			if c.introspection != "" {
				said := post(t, s.URL()+c.introspection, "token="+token, basic("caller", secret))
				equal(t, "active", said.json["active"], true)
				equal(t, "client_id", said.json["client_id"], "caller")
			}
		})
	}
}

// Metadata name what a client needs, at each place where the provider has them.
func TestProfileMetadata(t *testing.T) {
	const openid = "/.well-known/openid-configuration"
	for _, c := range []struct {
		profile      issuer.Profile
		path, issuer string
		methods      []any
	}{
		{issuer.Auth0, openid, "/", []any{"client_secret_basic", "client_secret_post", "private_key_jwt", "tls_client_auth"}},
		{issuer.Okta, "/oauth2/default" + openid, "/oauth2/default", []any{"client_secret_basic", "client_secret_post", "client_secret_jwt", "private_key_jwt"}},
		{issuer.Okta, "/oauth2/default/.well-known/oauth-authorization-server", "/oauth2/default", nil},
		{issuer.EntraV2, "/" + entraTenant + "/v2.0" + openid, "/" + entraTenant + "/v2.0", []any{"client_secret_basic", "client_secret_post", "private_key_jwt"}},
		{issuer.EntraV2, "/common/v2.0" + openid, "/{tenantid}/v2.0", nil},
		{issuer.EntraV1, "/" + entraTenant + openid, "/" + entraTenant + "/", nil},
		{issuer.Keycloak, "/realms/demo" + openid, "/realms/demo", nil},
		{issuer.Cognito, "/eu-central-1_Example01" + openid, "/eu-central-1_Example01", []any{"client_secret_basic", "client_secret_post"}},
		{issuer.Hydra, openid, "", nil},
		{issuer.ZITADEL, openid, "", nil},
		{issuer.Duende, openid, "", nil},
		{issuer.PingOne, "/" + pingOneEnv + "/as" + openid, "/" + pingOneEnv + "/as", nil},
		{issuer.SPIRE, openid, "", nil},
	} {
		t.Run(string(c.profile)+c.path, func(t *testing.T) {
			s := startProfile(t, c.profile, nil)
			got := get(t, s.URL()+c.path)
			equal(t, "issuer", got.json["issuer"], s.URL()+c.issuer)
			equal(t, "jwks", get(t, got.json["jwks_uri"].(string)).status, 200)
			if endpoint := got.json["token_endpoint"]; s.TokenURL() == "" {
				equal(t, "token_endpoint", endpoint, nil)
			} else {
				equal(t, "token_endpoint", endpoint, s.TokenURL())
			}
			if c.methods != nil {
				equal(t, "methods", got.json["token_endpoint_auth_methods_supported"], c.methods)
			}
			equal(t, "calls", s.Calls(issuer.Discovery), 1)
		})
	}
	t.Run("RFC 8414's place is empty at Okta", func(t *testing.T) {
		s := startProfile(t, issuer.Okta, nil)
		equal(t, "status", get(t, s.URL()+"/.well-known/oauth-authorization-server/oauth2/default").status, 404)
	})
	t.Run("a token endpoint at another host is at no other", func(t *testing.T) {
		for _, p := range []issuer.Profile{issuer.Cognito, issuer.EntraV1} {
			s := startProfile(t, p, nil)
			u, _ := url.Parse(s.TokenURL())
			if "http://"+u.Host == s.URL() {
				t.Errorf("%s: both are at %s", p, u.Host)
			}
			equal(t, "at the issuer", post(t, s.URL()+u.Path, "").status, 404)
			equal(t, "keys there", get(t, "http://"+u.Host+"/"+entraTenant+"/discovery/keys").status, 404)
		}
	})
}

// What is odd about each key set.
func TestProfileKeys(t *testing.T) {
	for _, c := range []struct {
		profile issuer.Profile
		path    string
		cache   string
		keys    int
		has     []string // members of the key that signs
		lacks   []string
	}{
		{issuer.Auth0, "/.well-known/jwks.json", "", 2, []string{"alg", "use", "x5c", "x5t"}, []string{"issuer"}},
		{issuer.Okta, "/oauth2/default/v1/keys", "max-age=5184000, must-revalidate", 2, []string{"alg", "use"}, []string{"x5c", "x5t"}},
		{issuer.EntraV2, "/" + entraTenant + "/discovery/v2.0/keys", "", 2, []string{"use", "x5c", "x5t", "issuer", "cloud_instance_name"}, []string{"alg"}},
		{issuer.EntraV1, "/" + entraTenant + "/discovery/keys", "", 2, []string{"use", "x5c", "x5t"}, []string{"alg", "issuer"}},
		{issuer.Keycloak, "/realms/demo/protocol/openid-connect/certs", "", 3, []string{"alg", "use", "x5c", "x5t", "x5t#S256"}, nil},
		{issuer.PingOne, "/" + pingOneEnv + "/as/jwks", "", 2, []string{"alg", "x5c"}, nil},
		{issuer.SPIRE, "/keys", "no-cache, no-store", 2, []string{"alg"}, []string{"use"}},
	} {
		t.Run(string(c.profile), func(t *testing.T) {
			s := startProfile(t, c.profile, nil)
			got := get(t, s.URL()+c.path)
			equal(t, "Cache-Control", got.header.Get("Cache-Control"), c.cache)
			var set struct{ Keys []map[string]any }
			if err := json.Unmarshal([]byte(got.body), &set); err != nil {
				t.Fatal(err)
			}
			equal(t, "keys", len(set.Keys), c.keys)
			kid := part(t, s.Mint(nil), 0)["kid"]
			i := slices.IndexFunc(set.Keys, func(k map[string]any) bool { return k["kid"] == kid })
			if i < 0 {
				t.Fatalf("there is no key %v", kid)
			}
			for _, name := range c.has {
				if set.Keys[i][name] == nil {
					t.Errorf("the key has no %s", name)
				}
			}
			for _, name := range c.lacks {
				if set.Keys[i][name] != nil {
					t.Errorf("the key has %s", name)
				}
			}
			if c.profile == issuer.EntraV1 {
				equal(t, "x5t", set.Keys[i]["x5t"], kid)
			}
			if c.profile == issuer.EntraV2 {
				equal(t, "issuer", set.Keys[i]["issuer"], s.URL()+"/{tenantid}/v2.0")
			}
		})
	}
	t.Run("a key for encryption, and others", func(t *testing.T) {
		s := startProfile(t, issuer.Keycloak, func(t *issuer.Tenant) { t.OtherKeys = []string{`{"kty":"AKP","kid":"pq"}`, `null`} })
		body := get(t, s.URL()+"/realms/demo/protocol/openid-connect/certs").body
		if !strings.Contains(body, `"use":"enc"`) || !strings.Contains(body, `{"kty":"AKP","kid":"pq"},null,`) {
			t.Error(body)
		}
	})
	t.Run("Keycloak's header is written in its own way", func(t *testing.T) {
		s := startProfile(t, issuer.Keycloak, nil)
		text, _, _ := strings.Cut(ask(t, s, "").json["access_token"].(string), ".")
		b, err := base64.RawURLEncoding.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "header", string(b), `{"alg":"RS256","typ" : "JWT","kid" : "`+rsaKeys()[0].ID()+`"}`)
	})
}

// Limits are told in the provider's own headers, and refused in its own words.
func TestProfileLimits(t *testing.T) {
	seconds := func(v string) time.Duration { d, _ := time.ParseDuration(v + "s"); return d }
	epoch := func(v string) time.Duration { return seconds(v) - time.Duration(time.Now().Unix())*time.Second }
	for _, c := range []struct {
		profile   issuer.Profile
		form      string
		remaining string // header → value after the first token
		value     string
		code      string // its error
		reset     string // header of the refusal
		in        func(string) time.Duration
		from, to  time.Duration
	}{
		{issuer.Auth0, "audience=orders", "Auth0-Client-Quota-Limit", "b=per_hour;q=1;r=0;t=3599", "too_many_requests", "Retry-After", seconds, 59 * time.Minute, time.Hour},
		{issuer.Auth0, "audience=orders", "X-RateLimit-Remaining", "29", "too_many_requests", "X-RateLimit-Reset", epoch, -time.Second, 2 * time.Second},
		{issuer.Okta, "scope=read:orders", "X-Rate-Limit-Remaining", "0", "", "X-Rate-Limit-Reset", epoch, 58 * time.Second, 61 * time.Second},
		{issuer.EntraV2, "scope=orders/.default", "", "", "temporarily_unavailable", "Retry-After", seconds, 59 * time.Second, time.Minute},
		{issuer.Hydra, "audience=orders", "X-RateLimit-Limit", "1, 1;w=1, 300;w=60", "too_many_requests", "X-RateLimit-Reset", seconds, 59 * time.Second, time.Minute},
		{issuer.Cognito, "", "", "", "TooManyRequestsException", "", seconds, 0, 0},
	} {
		t.Run(string(c.profile)+" "+c.remaining, func(t *testing.T) {
			s := startProfile(t, c.profile, func(t *issuer.Tenant) {
				t.Quota = 1
				if c.profile == issuer.Hydra {
					t.Apps[0].Method = "client_secret_post"
				}
			})
			first := ask(t, s, c.form)
			equal(t, "status", first.status, 200)
			if c.remaining != "" {
				equal(t, c.remaining, first.header.Get(c.remaining), c.value)
			}
			second := ask(t, s, c.form)
			equal(t, "status", second.status, 429)
			if c.code != "" {
				equal(t, "error", second.json["error"], c.code)
			} else {
				equal(t, "errorCode", second.json["errorCode"], "E0000047")
			}
			if got := c.in(second.header.Get(c.reset)); got < c.from || got > c.to {
				t.Errorf("%s: %q is in %v", c.reset, second.header.Get(c.reset), got)
			}
		})
	}
}

func TestTenantIsChecked(t *testing.T) {
	for _, c := range []struct {
		name, reason string
		profile      issuer.Profile
		tenant       issuer.Tenant
	}{
		{"unknown profile", "no profile", "dex", issuer.Tenant{}},
		{"no credentials", "a way to authenticate", issuer.Okta, issuer.Tenant{Apps: []issuer.App{{ID: "a"}}}},
		{"no ID", "needs an ID", issuer.Okta, issuer.Tenant{Apps: []issuer.App{{Secret: "canary"}}}},
		{"twice", "twice", issuer.Okta, issuer.Tenant{Apps: []issuer.App{{ID: "a", Secret: "canary"}, {ID: "a", Secret: "canary"}}}},
		{"a limit that does not exist", "leave Quota out", issuer.Keycloak, issuer.Tenant{Quota: 1}},
		{"lifetime", "shorter than a second", issuer.Okta, issuer.Tenant{Keys: rsaKeys(), Lifetime: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := issuer.StartProfile(c.profile, c.tenant)
			if s != nil || err == nil || !strings.Contains(err.Error(), c.reason) {
				t.Fatalf("got %v, want a reason with %q", err, c.reason)
			}
			if strings.Contains(err.Error(), "canary") {
				t.Error("the error repeats a secret")
			}
		})
	}
}
