package main

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/sidepass/sidepass/check"
	"github.com/sidepass/sidepass/config"
	"github.com/sidepass/sidepass/test/issuer"
	"github.com/sidepass/sidepass/test/upstream"
)

func startIssuer(t *testing.T, change ...func(*issuer.Options)) *issuer.Server {
	t.Helper()
	o := issuer.Options{Algorithms: []string{"ES256"}, Clients: []issuer.Client{{ID: "svc", Secret: "canary-secret"}}}
	for _, f := range change {
		f(&o)
	}
	s, err := issuer.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// Everything that can be checked, all of it well; and what the check leaves behind: nothing. All the addresses that it configures are
// taken, as they are beside a running sidecar.
func TestCheckHealthy(t *testing.T) {
	idp := startIssuer(t)
	app, err := upstream.Start(upstream.Options{TLS: true})
	if err != nil {
		t.Fatal(err)
	}
	defer app.Close()
	redis := miniredis.RunT(t)
	redis.RequireAuth("canary-password")
	var taken []string
	for range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		taken = append(taken, l.Addr().String())
	}
	dir := t.TempDir()
	for file, text := range map[string]string{
		"secret": "canary-secret\n", "ca.pem": string(app.CAPEM()), "key": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n",
		"redis": "redis://:canary-password@" + redis.Addr() + "/0", "revoked": `{"jti":"a"}` + "\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	yaml := strings.NewReplacer("{idp}", idp.Issuer(), "{app}", strings.TrimPrefix(app.URL(), "https://"), "{files}", dir, "{out}", taken[0], "{in}", taken[1], "{metrics}", taken[2], "{redis}", redis.Addr()).Replace(`
issuers: [{name: idp, url: "{idp}", client: {id: svc, secret_file: "{files}/secret"}}]
outbound:
  listen: {out}
  routes:
    - {name: orders, host: orders.internal, upstream: "https://{app}", ca_file: "{files}/ca.pem", audience: ["https://orders-api"], scopes: ["read:orders"]}
    - {name: same, prefix: /same, upstream: "https://{app}", ca_file: "{files}/ca.pem", audience: ["https://orders-api"], scopes: ["read:orders"]}
    - {name: theirs, prefix: /theirs, upstream: "https://{app}", ca_file: "{files}/ca.pem", grant: token_exchange, audience: ["https://orders-api"]}
    - {name: any, host: "*.internal", audience: ["https://stock-api"]}
inbound:
  listen: {in}
  upstream: http://{app}
  trust: [{audiences: ["https://service-b"]}]
  revocation_file: "{files}/revoked"
  revocation_redis_url: "redis://:canary-password@{redis}/0"
  rules:
    - {match: ["GET /orders/{id}"], scopes: ["read:orders"]}
    - {match: [/orders/], any_scope: [admin, ops], clients: [svc-a], claims: ["department=finance"]}
    - {match: [GET /healthz], allow: anonymous}
metrics: {listen: "{metrics}"}
admin: {listen: "off"}
tokens: {state_dir: "{files}/state", encryption_key_file: "{files}/key", shared: {redis_url_file: "{files}/redis"}}
`)
	code, out, errs := checks(t, yaml)
	if code != 0 || errs != "" {
		t.Errorf("exit code %d: %s", code, errs)
	}
	page := steady(strings.ReplaceAll(out, dir, "DIR"))
	page = strings.NewReplacer(time.Now().Add(24*time.Hour).UTC().Format(time.DateOnly), "DAY", time.Now().UTC().Format(time.DateOnly), "DAY").Replace(page)
	golden(t, "healthy.golden", page)

	code, out, _ = checks(t, yaml, "--output", "json")
	var r check.Report
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != 0 || r.Result != "ok" {
		t.Fatalf("exit code %d, %v: %s", code, err, out)
	}
	documented(t, r)
	for _, secret := range []string{"canary", "AAAAAAAA", "eyJ", "Basic "} {
		if strings.Contains(page+out, secret) {
			t.Errorf("%s is shown", secret)
		}
	}
	for _, g := range r.Groups {
		for _, l := range g.Lines {
			if l.Check == "" || l.Says == "" || (l.Do == "") == (l.Status == check.Warning || l.Status == check.Failed) {
				t.Errorf("%s: %+v", g.Kind, l)
			}
		}
	}

	if got := idp.Calls(issuer.Token); got != 2*2 { // two runs, of two tokens each: two of the routes share one
		t.Errorf("%d token requests", got)
	}
	if _, err := os.Stat(filepath.Join(dir, "state")); !os.IsNotExist(err) {
		t.Errorf("tokens.state_dir was made: %v", err)
	}
	if keys := redis.Keys(); len(keys) != 0 {
		t.Errorf("there is something in Redis: %q", keys)
	}
	if got := app.Count(); got != 0 {
		t.Errorf("the upstream got %d requests", got)
	}
}

// documented holds every word of a report against docs/check.md.
func documented(t *testing.T, r check.Report) {
	t.Helper()
	page, err := os.ReadFile("../../docs/check.md")
	if err != nil {
		t.Fatal(err)
	}
	known := func(word string) {
		if !strings.Contains(string(page), "`"+word+"`") {
			t.Errorf("docs/check.md does not tell of `%s`", word)
		}
	}
	for _, g := range r.Groups {
		known(g.Kind)
		for _, l := range g.Lines {
			known(l.Check)
			known(string(l.Status))
			for name := range l.Facts {
				if l.Check != "limits" { // those are buckets
					known(name)
				}
			}
		}
	}
	known(r.Result)
}

// Start with a configuration that is well and break one thing.
func TestCheckFindings(t *testing.T) {
	idp := startIssuer(t)
	minted := func(claims map[string]any, more string) issuer.Response {
		return issuer.Respond(200, fmt.Sprintf(`{"access_token":%q,"token_type":"Bearer","expires_in":300%s}`, idp.Mint(claims), more))
	}
	dated := func(ahead time.Duration) issuer.Response {
		return func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Date", time.Now().Add(ahead).UTC().Format(http.TimeFormat))
			return false
		}
	}
	redis := miniredis.RunT(t)
	dead := "127.0.0.1:1"
	route := `{name: orders, prefix: /orders, upstream: "http://{idp}", audience: ["https://orders-api"], scopes: ["read:orders", "write:orders"]}`
	out := `issuers: [{name: idp, url: "http://{idp}", client: {id: svc, secret: canary-secret}}]` + "\noutbound: {routes: [" + route + "]}\n"
	in := `issuers: [{name: idp, url: "http://{idp}"}]` + "\n" + `inbound: {upstream: "http://{idp}", trust: [{audiences: [a]}]}` + "\n"
	opaque := `issuers: [{name: idp, url: "http://{idp}", client: {id: svc, secret: canary-secret}}]` + "\n" + `inbound: {upstream: "http://{idp}", trust: [{audiences: [a], introspect: true}]}` + "\n"
	for _, tc := range []struct {
		name     string
		yaml     string
		from, to string // what is replaced in it
		endpoint issuer.Endpoint
		response issuer.Response
		offline  bool
		code     int
		line     check.Line // its word and status; Says is a part of it, and Do
	}{
		{name: "outbound is well", yaml: out, line: check.Line{Check: "token", Status: check.OK}},
		{name: "inbound is well", yaml: in, line: check.Line{Check: "keys", Status: check.OK, Says: "1 usable key: ES256 1"}},
		{name: "the issuer is down", yaml: out, from: `url: "http://{idp}"`, to: `url: "http://` + dead + `"`, code: 1, line: check.Line{Check: "reachable", Status: check.Failed, Says: dead, Do: "check issuers[0].url, and"}},
		{name: "no metadata", yaml: out, endpoint: issuer.Discovery, response: issuer.Respond(404, "no"), code: 1,
			line: check.Line{Check: "metadata", Status: check.Failed, Says: "/.well-known/openid-configuration answered 404", Do: "or configure token_endpoint"}},
		{name: "another issuer", yaml: out, endpoint: issuer.Discovery, response: issuer.Respond(200, `{"issuer":"https://other.example"}`), code: 1,
			line: check.Line{Check: "metadata", Status: check.Failed, Says: `calls itself "https://other.example"`, Do: "correct the issuer's url"}},
		{name: "an issuer's routes", yaml: out, endpoint: issuer.Discovery, response: issuer.Respond(200, `{"issuer":"https://other.example"}`), code: 1,
			line: check.Line{Check: "token", Status: check.Skipped, Says: "no token was asked for: see issuer idp"}},
		{name: "a slash", yaml: out, from: `url: "http://{idp}"`, to: `url: "http://{idp}/"`, code: 1, line: check.Line{Check: "metadata", Status: check.Failed, Says: "a slash at the end included", Do: "write url: http://127.0.0.1:"}},
		{name: "no access token", yaml: out, endpoint: issuer.Token, response: issuer.Respond(200, `{"token_type":"Bearer"}`), code: 1,
			line: check.Line{Check: "token", Status: check.Failed, Says: "it has no access_token", Do: "see what the issuer answers there, and that issuers[0].token_endpoint"}},
		{name: "keys that fail", yaml: in, endpoint: issuer.JWKS, response: issuer.Respond(500, ""), code: 1, line: check.Line{Check: "keys", Status: check.Failed, Says: ", where the key set is, answered 500", Do: "set issuers[0].jwks_uri"}},
		{name: "opaque tokens only", yaml: opaque, endpoint: issuer.Discovery, response: issuer.Respond(200, fmt.Sprintf(`{"issuer":%q,"introspection_endpoint":%q}`, idp.Issuer(), idp.Issuer()+"/introspect")),
			line: check.Line{Check: "keys", Status: check.Skipped, Says: "the issuer has no keys"}},
		{name: "opaque tokens only, and nowhere to ask", yaml: opaque, endpoint: issuer.Discovery, response: issuer.Respond(200, fmt.Sprintf(`{"issuer":%q}`, idp.Issuer())), code: 1,
			line: check.Line{Check: "keys", Status: check.Failed, Says: "names no jwks_uri"}},
		{name: "opaque tokens only, without metadata", yaml: opaque, from: `client:`, to: `introspection_endpoint: "http://{idp}/introspect", client:`, endpoint: issuer.Discovery, response: issuer.Respond(404, ""),
			line: check.Line{Check: "metadata", Status: check.Skipped, Says: "publishes no metadata"}},
		{name: "opaque tokens only, metadata that fail", yaml: opaque, from: `client:`, to: `introspection_endpoint: "http://{idp}/introspect", client:`, endpoint: issuer.Discovery, response: issuer.Respond(500, ""), code: 1,
			line: check.Line{Check: "metadata", Status: check.Failed, Says: "answered 500"}},
		{name: "the metadata are not needed", yaml: out, from: `client:`, to: `token_endpoint: "http://{idp}/token", client:`, endpoint: issuer.Discovery, response: issuer.Respond(500, ""),
			line: check.Line{Check: "metadata", Status: check.Skipped, Says: "names the endpoints"}},
		{name: "the metadata are of RFC 8414", yaml: out, endpoint: issuer.Discovery, response: func(w http.ResponseWriter, r *http.Request) bool {
			if strings.Contains(r.URL.Path, "openid") {
				http.NotFound(w, r)
				return true
			}
			return false
		}, line: check.Line{Check: "metadata", Status: check.OK, Says: "/.well-known/oauth-authorization-server"}},
		{name: "the clock is off", yaml: in, endpoint: issuer.JWKS, response: func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Date", time.Now().Add(-20*time.Second).UTC().Format(http.TimeFormat))
			return false
		}, line: check.Line{Check: "clock", Status: check.Warning, Says: "behind ours", Do: "NTP"}},
		{name: "the clock is far off", yaml: in, endpoint: issuer.JWKS, response: func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Date", time.Now().Add(50*time.Second).UTC().Format(http.TimeFormat))
			return false
		}, code: 1, line: check.Line{Check: "clock", Status: check.Failed, Says: "more than inbound.leeway 30s", Do: "NTP"}},
		{name: "the clock is behind", yaml: in, endpoint: issuer.JWKS, response: dated(-320 * time.Second), line: check.Line{Check: "clock", Status: check.Warning, Says: "behind ours", Do: "NTP"}},
		{name: "the clock is far behind", yaml: in, endpoint: issuer.JWKS, response: dated(-340 * time.Second), code: 1,
			line: check.Line{Check: "clock", Status: check.Failed, Says: "behind ours, more than inbound.leeway 30s and the 5m0s that its tokens live", Do: "NTP"}},
		{name: "another iss", yaml: out, endpoint: issuer.Token, response: minted(map[string]any{"aud": "https://orders-api", "iss": "https://other.example"}, ""),
			line: check.Line{Check: "issued_by", Status: check.Warning, Says: "iss is https://other.example, and the issuer's url is http://127.0.0.1:", Do: "https://other.example"}},
		{name: "over already", yaml: out, endpoint: issuer.Token, response: minted(map[string]any{"aud": "https://orders-api", "exp": 1700000000}, ""),
			line: check.Line{Check: "lifetime", Status: check.Warning, Says: "exp, 2023-11-14T22:13:20Z, is over, though the issuer gives it 5m0s (expires_in)", Do: "clock"}},
		{name: "a short life", yaml: out, endpoint: issuer.Token, response: issuer.Respond(200, `{"access_token":"opaque-token","token_type":"Bearer","expires_in":19}`),
			line: check.Line{Check: "lifetime", Status: check.Warning, Says: "lives for 19s, less than twice tokens.min_remaining 10s: that is a token request every 10s", Do: "tokens.min_remaining"}},
		{name: "a cache on the way is no clock", yaml: in, endpoint: issuer.JWKS, response: func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Date", time.Now().Add(-500*time.Second).UTC().Format(http.TimeFormat))
			w.Header().Set("Age", "500")
			return false
		}, line: check.Line{Check: "clock", Status: check.OK}},
		{name: "no keys", yaml: in, endpoint: issuer.JWKS, response: issuer.Respond(200, `{"keys":[{"kty":"RSA","use":"enc"}]}`), code: 1, line: check.Line{Check: "keys", Status: check.Failed, Says: "no usable key", Do: "jwks_uri"}},
		{name: "no keys, which nobody needs", yaml: out, endpoint: issuer.JWKS, response: issuer.Respond(500, ""), line: check.Line{Check: "keys", Status: check.Warning, Says: "answered 500", Do: "nothing here needs it"}},
		{name: "keys for another algorithm", yaml: in, from: "audiences: [a]", to: "audiences: [a], algorithms: [RS256]", code: 1, line: check.Line{Check: "keys", Status: check.Failed, Says: "that inbound.trust accepts: RS256", Do: "inbound.trust"}},
		{name: "quota", yaml: out, endpoint: issuer.Token, response: func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Auth0-Client-Quota-Limit", "b=per_hour;q=10;r=0;t=3540")
			return false
		}, line: check.Line{Check: "limits", Status: check.Warning, Says: "client_per_hour 0", Do: "fewer replicas"}},
		{name: "quota left", yaml: out, endpoint: issuer.Token, response: func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Auth0-Client-Quota-Limit", "b=per_hour;q=10;r=7;t=3540")
			return false
		}, line: check.Line{Check: "limits", Status: check.OK, Says: "client_per_hour 7"}},
		{name: "another audience", yaml: out, endpoint: issuer.Token, response: minted(map[string]any{"aud": "https://somebody-else"}, ""), code: 1,
			line: check.Line{Check: "audience", Status: check.Failed, Says: "asked for audience https://orders-api, but the token is for https://somebody-else", Do: "https://orders-api"}},
		{name: "fewer scopes", yaml: out, endpoint: issuer.Token, response: minted(map[string]any{"aud": "https://orders-api"}, `,"scope":"read:orders"`),
			line: check.Line{Check: "scopes", Status: check.Warning, Says: "asked for scopes read:orders write:orders, but only read:orders were granted", Do: "grant the application write:orders"}},
		{name: "no scopes", yaml: out, endpoint: issuer.Token, response: minted(map[string]any{"aud": "https://orders-api"}, `,"scope":""`),
			line: check.Line{Check: "scopes", Status: check.Warning, Says: "but none were granted", Do: "read:orders write:orders"}},
		{name: "fewer scopes in the token", yaml: out, endpoint: issuer.Token, response: minted(map[string]any{"aud": "https://orders-api", "scp": []string{"read:orders"}}, ""),
			line: check.Line{Check: "scopes", Status: check.Warning, Says: "only read:orders", Do: "write:orders"}},
		{name: "the upstream is down", yaml: out, from: `upstream: "http://{idp}"`, to: `upstream: "http://` + dead + `"`, line: check.Line{Check: "upstream", Status: check.Warning, Says: "nothing listens there", Do: "start it"}},
		{name: "no TLS upstream", yaml: out, from: `upstream: "http://{idp}"`, to: `upstream: "https://{idp}"`, code: 1, line: check.Line{Check: "upstream", Status: check.Failed, Says: "does not speak TLS", Do: "`upstream: http://…`"}},
		{name: "in clear", yaml: out, from: `upstream: "http://{idp}"`, to: `upstream: "http://orders.invalid"`, offline: true, line: check.Line{Check: "cleartext", Status: check.Warning, Says: "http://orders.invalid", Do: "https"}},
		{name: "an exchange's fallback", yaml: out, from: `audience:`, to: `grant: token_exchange, fallback: client_credentials, audience:`, line: check.Line{Check: "token", Status: check.OK, Says: "(fallback)"}},
		{name: "an issuer in clear", yaml: out, from: `url: "http://{idp}"`, to: `url: "http://idp.invalid", allow_http: true`, offline: true, line: check.Line{Check: "cleartext", Status: check.Warning, Says: "http://idp.invalid", Do: "https"}},
		{name: "the app is down", yaml: in, from: `upstream: "http://{idp}"`, to: `upstream: "http://` + dead + `"`, line: check.Line{Check: "upstream", Status: check.Warning, Says: dead, Do: "start it"}},
		{name: "audit", yaml: in, from: "trust:", to: "mode: audit, trust:", line: check.Line{Check: "mode", Status: check.Warning, Do: "enforce"}},
		{name: "no rules", yaml: in, line: check.Line{Check: "rule", Status: check.OK, Says: "every request needs a valid token"}},
		{name: "a rule in audit", yaml: in, from: "trust:", to: "rules: [{name: r, match: [/a], scopes: [x], mode: audit}], trust:", line: check.Line{Check: "rule", Status: check.Warning, Says: "/a: a token, scopes x (rule r), but its mode is audit", Do: "enforce"}},
		{name: "a rule that is covered", yaml: in, from: "trust:", to: "rules: [{name: all, match: [/a/]}, {name: one, match: ['/a/{$}', '/a/{x}']}, {name: two, match: ['/a/{x}/']}], trust:",
			line: check.Line{Check: "unreachable", Status: check.Warning, Says: "the rule all never matches: the rule one goes before it, the rule two goes before it", Do: "remove the rule"}},
		{name: "a rule for TRACE", yaml: in, from: "trust:", to: "rules: [{match: [TRACE /a]}], trust:", line: check.Line{Check: "unreachable", Status: check.Warning, Says: "method_not_allowed", Do: "remove the rule"}},
		{name: "a rule for an ambiguous path", yaml: in, from: "trust:", to: "rules: [{match: ['/a;b']}], trust:", line: check.Line{Check: "unreachable", Status: check.Warning, Says: "ambiguous_path", Do: "remove the rule"}},
		{name: "a rule for our metadata", yaml: in, from: "trust:", to: "resource: 'https://b.example', rules: [{match: ['GET /.well-known/oauth-protected-resource']}], trust:", line: check.Line{Check: "unreachable", Status: check.Warning, Says: "inbound.resource", Do: "remove"}},
		{name: "a star", yaml: in, from: "trust:", to: "rules: [{match: ['/orders/*']}], trust:", offline: true, line: check.Line{Check: "pattern", Status: check.Warning, Says: "* of /orders/* stands for itself", Do: "write /orders/ for all below, or /orders/{id} for one segment"}},
		{name: "a method in small letters", yaml: in, from: "trust:", to: "rules: [{match: ['get /x']}], trust:", offline: true, line: check.Line{Check: "pattern", Status: check.Warning, Says: "methods are upper case", Do: "write GET /x"}},
		{name: "a colon in paths", yaml: out, from: "prefix: /orders", to: "host: orders.internal, paths: ['/a/:id']", offline: true, line: check.Line{Check: "pattern", Status: check.Warning, Says: ":id of /a/:id stands for itself", Do: "/a/{id}"}},
		{name: "a placeholder", yaml: out, from: "https://orders-api", to: "https://YOUR-API", offline: true, line: check.Line{Check: "placeholder", Status: check.Warning, Says: "outbound.routes[0].audience still says YOUR-API (file ", Do: "your own value"}},
		{name: "no routes", yaml: out, from: "[" + route + "]", to: "[]", offline: true, line: check.Line{Check: "routes", Status: check.Warning, Says: "every call is refused as no_route", Do: "outbound.routes"}},
		{name: "keys that fail, with a query", yaml: in, from: `url: "http://{idp}"`, to: `url: "http://{idp}", jwks_uri: "http://{idp}/none?key=canary"`, code: 1,
			line: check.Line{Check: "keys", Status: check.Failed, Says: "/none, where the key set is, answered 404"}},
		{name: "a look for anyone", yaml: in, from: "trust:", to: "rules: [{match: [GET /pub/], allow: anonymous}], trust:", line: check.Line{Check: "anonymous", Status: check.OK, Says: "opens GET /pub/ to anyone"}},
		{name: "everything for anyone", yaml: in, from: "trust:", to: "rules: [{match: [GET /], allow: anonymous}], trust:", line: check.Line{Check: "anonymous", Status: check.Warning, Says: "every path that no other rule has", Do: "only the paths"}},
		{name: "any method for anyone", yaml: in, from: "trust:", to: "rules: [{match: [/pub/], allow: anonymous}], trust:", line: check.Line{Check: "anonymous", Status: check.Warning, Says: "every method", Do: "GET /pub/"}},
		{name: "a change for anyone", yaml: in, from: "trust:", to: "rules: [{match: [POST /pub], allow: anonymous}], trust:", line: check.Line{Check: "anonymous", Status: check.Warning, Says: "POST /pub", Do: "need a token"}},
		{name: "no revocations", yaml: in, from: "trust:", to: "revocation_file: /none, trust:", code: 1, line: check.Line{Check: "list", Status: check.Failed, Says: "/none", Do: "revocations_unavailable"}},
		{name: "no revocation server", yaml: in, from: "trust:", to: "revocation_redis_url: 'redis://" + dead + "', trust:", code: 1, line: check.Line{Check: "list", Status: check.Failed, Says: dead, Do: "revocations_unavailable"}},
		{name: "a revocation server", yaml: in, from: "trust:", to: "revocation_redis_url: 'redis://" + redis.Addr() + "', trust:", line: check.Line{Check: "list", Status: check.OK, Says: "0 in force"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.response != nil {
				idp.SetResponse(tc.endpoint, tc.response)
				defer idp.SetResponse(tc.endpoint, nil)
			}
			if tc.from != "" && strings.Count(tc.yaml, tc.from) != 1 {
				t.Fatalf("%q is in it %d times", tc.from, strings.Count(tc.yaml, tc.from))
			}
			yaml := strings.Replace(tc.yaml, tc.from, tc.to, 1)
			code, out, errs := checks(t, strings.ReplaceAll(yaml, "{idp}", strings.TrimPrefix(idp.URL(), "http://")), "--output=json", fmt.Sprintf("--offline=%v", tc.offline))
			var r check.Report
			if err := json.Unmarshal([]byte(out), &r); err != nil {
				t.Fatalf("%v: %s %s", err, out, errs)
			}
			documented(t, r)
			if code != tc.code || strings.Contains(out, "canary") {
				t.Errorf("want exit code %d, got %d: %s", tc.code, code, out)
			}
			if !slices.ContainsFunc(r.Groups, func(g *check.Group) bool {
				return slices.ContainsFunc(g.Lines, func(l check.Line) bool {
					return l.Check == tc.line.Check && l.Status == tc.line.Status && strings.Contains(l.Says, tc.line.Says) && strings.Contains(l.Do, tc.line.Do)
				})
			}) {
				t.Errorf("no line like %+v in %s", tc.line, out)
			}
		})
	}
}

// How late an issuer's clock may be depends on how long its tokens live, and matters where inbound trusts it.
func TestCheckClockBehind(t *testing.T) {
	idp := startIssuer(t)
	for _, tc := range []struct {
		behind time.Duration
		lives  int // seconds
		trusts string
		want   check.Status
	}{
		{340 * time.Second, 600, "idp", check.Warning}, {640 * time.Second, 600, "idp", check.Failed}, {640 * time.Second, 600, "other", check.Warning}, {100 * time.Second, 60, "idp", check.Failed},
	} {
		answers := map[issuer.Endpoint]issuer.Response{
			issuer.Token:     issuer.Respond(200, fmt.Sprintf(`{"access_token":"opaque-token","token_type":"Bearer","expires_in":%d}`, tc.lives)),
			issuer.Discovery: func(http.ResponseWriter, *http.Request) bool { return false }, issuer.JWKS: func(http.ResponseWriter, *http.Request) bool { return false },
		}
		for endpoint, answer := range answers {
			idp.SetResponse(endpoint, func(w http.ResponseWriter, r *http.Request) bool {
				w.Header().Set("Date", time.Now().Add(-tc.behind).UTC().Format(http.TimeFormat))
				return answer(w, r)
			})
		}
		_, out, _ := checks(t, fmt.Sprintf(`
issuers: [{name: idp, url: %q, client: {id: svc, secret: canary-secret}}, {name: other, url: "https://other.invalid", jwks_uri: "http://127.0.0.1:1/"}]
outbound: {routes: [{name: a, issuer: idp, prefix: /a, upstream: %q, audience: [x]}]}
inbound: {upstream: %q, trust: [{issuer: %s, audiences: [a]}]}
`, idp.URL(), idp.URL(), idp.URL(), tc.trusts), "--output=json")
		var r check.Report
		if err := json.Unmarshal([]byte(out), &r); err != nil {
			t.Fatal(err)
		}
		var got check.Status
		for _, g := range r.Groups {
			for _, l := range g.Lines {
				if g.Name == "idp" && l.Check == "clock" {
					got = l.Status
				}
			}
		}
		if got != tc.want {
			t.Errorf("%s behind, tokens of %d s, trusted is %s: want %s, got %q in %s", tc.behind, tc.lives, tc.trusts, tc.want, got, out)
		}
	}
}

// A certificate that is renewed in time draws no attention, however short it lives.
func TestCheckCertificate(t *testing.T) {
	now := time.Date(2030, 5, 5, 5, 5, 5, 0, time.UTC)
	const day = 24 * time.Hour
	for _, tc := range []struct {
		lasts, left time.Duration
		want        check.Status
	}{
		{365 * day, 8 * day, check.OK}, {365 * day, 6 * day, check.Warning}, {365 * day, 0, check.Failed}, {365 * day, -day, check.Failed},
		{day, 7 * time.Hour, check.OK}, {day, 5 * time.Hour, check.Warning},
	} {
		ends := now.Add(tc.left)
		g := &check.Group{}
		listenerCertificate(g, &x509.Certificate{NotBefore: ends.Add(-tc.lasts), NotAfter: ends}, now)
		if len(g.Lines) != 1 || g.Lines[0].Status != tc.want {
			t.Errorf("%s of %s are left: want %s, got %+v", tc.left, tc.lasts, tc.want, g.Lines)
		}
	}
}

// Who may read a secret.
func TestCheckFiles(t *testing.T) {
	idp := startIssuer(t)
	yaml := "issuers: [{name: idp, url: \"" + idp.URL() + "\", client: {id: svc, secret_file: \"FILE\"}}]\noutbound: {routes: [{name: orders, prefix: /orders, upstream: \"" + idp.URL() + "\"}]}\ntokens: {state_dir: \"STATE\", encryption_key_file: \"KEY\"}\n"
	for _, tc := range []struct {
		file, state os.FileMode
		code        int
		want        []string
	}{
		{0o600, 0o700, 0, []string{"✓ secret (issuers[0].client.secret_file) is its owner's alone", "✓ state (tokens.state_dir) is its owner's alone"}},
		{0o400, 0o700, 0, []string{"✓ secret"}},
		{0o440, 0o700, 0, []string{"! secret (issuers[0].client.secret_file) holds a secret and is open to its group, mode 0440", "chmod 600 secret"}},
		{0o604, 0o700, 0, []string{"open to everybody, mode 0604"}},
		{0o644, 0o700, 0, []string{"open to its group and everybody"}},
		{0o600, 0o755, 1, []string{"✗ state (tokens.state_dir) can be used by others, mode 0755", "chmod 700 state"}},
	} {
		dir := t.TempDir()
		t.Chdir(dir)
		for file, mode := range map[string]os.FileMode{"secret": tc.file, "key": 0o600} {
			if err := os.WriteFile(file, []byte(strings.Replace("canary-secretAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", map[string]string{"secret": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "key": "canary-secret"}[file], "", 1)), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(file, mode); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Mkdir("state", 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod("state", tc.state); err != nil {
			t.Fatal(err)
		}
		code, out, errs := checks(t, strings.NewReplacer("FILE", "secret", "STATE", "state", "KEY", "key").Replace(yaml), "--offline")
		if code != tc.code {
			t.Errorf("%04o: want exit code %d, got %d: %s", tc.file, tc.code, code, errs)
		}
		for _, w := range tc.want {
			if !strings.Contains(out, w) {
				t.Errorf("%04o %04o: no %q in\n%s", tc.file, tc.state, w, out)
			}
		}
		if strings.Contains(out, "canary") {
			t.Errorf("a secret is shown: %s", out)
		}
	}
}

// Each of two issuers answers only when the other has been asked too; the order of what is printed is the configuration's.
func TestCheckAsksSideBySide(t *testing.T) {
	one, two := startIssuer(t), startIssuer(t)
	var both sync.WaitGroup
	both.Add(2)
	for _, s := range []*issuer.Server{one, two} {
		var once sync.Once
		s.SetResponse(issuer.Discovery, func(_ http.ResponseWriter, _ *http.Request) bool {
			once.Do(func() { both.Done(); both.Wait() })
			return false
		})
	}
	code, out, errs := checks(t, fmt.Sprintf(`
issuers: [{name: one, url: %q, client: {id: svc, secret: canary-secret}}, {name: two, url: %q, client: {id: svc, secret: canary-secret}}]
outbound: {routes: [{name: b, issuer: two, prefix: /b, upstream: %q, audience: [x]}, {name: a, issuer: one, prefix: /a, upstream: %q, audience: [x]}]}
`, one.URL(), two.URL(), one.URL(), one.URL()))
	if code != 0 {
		t.Errorf("exit code %d: %s%s", code, out, errs)
	}
	last := -1
	for _, title := range []string{"configuration\n", "files\n", "issuer one\n", "issuer two\n", "route b\n", "route a\n"} {
		at := strings.Index(out, title)
		if at <= last {
			t.Errorf("%q is not in its place:\n%s", title, out)
		}
		last = at
	}
}

func TestCheckOneRoute(t *testing.T) {
	one, two := startIssuer(t), startIssuer(t)
	yaml := fmt.Sprintf(`
issuers: [{name: one, url: %q, client: {id: svc, secret: canary-secret}}, {name: two, url: %q, client: {id: svc, secret: canary-secret}}]
outbound: {routes: [{name: a, issuer: one, prefix: /a, upstream: %q, audience: [x]}, {name: b, issuer: two, prefix: /b, upstream: %q, audience: [x]}, {name: c, issuer: two, prefix: /c, upstream: %q, audience: [x]}]}
inbound: {trust: [{issuer: one, audiences: [a]}], upstream: %q}
`, one.URL(), two.URL(), one.URL(), one.URL(), one.URL(), one.URL())
	for _, tc := range []struct {
		args      []string
		has, hasn []string
		calls     []int // of the token endpoints
	}{
		{[]string{"--route", "b"}, []string{"issuer two", "route b"}, []string{"issuer one", "route a", "route c", "inbound\n"}, []int{0, 1}},
		{[]string{"--route", "a", "--route", "c"}, []string{"issuer one", "issuer two", "route a", "route c"}, []string{"route b", "inbound\n"}, []int{1, 1}},
		{nil, []string{"issuer one", "issuer two", "route a", "route b", "route c", "inbound\n"}, nil, []int{1, 1}}, // b and c share one
	} {
		before := []int{one.Calls(issuer.Token), two.Calls(issuer.Token)}
		_, out, _ := checks(t, yaml, tc.args...)
		for _, w := range tc.has {
			if !strings.Contains(out, "\n"+w) {
				t.Errorf("%v: no %q in\n%s", tc.args, w, out)
			}
		}
		for _, w := range tc.hasn {
			if strings.Contains(out, "\n"+w) {
				t.Errorf("%v: %q in\n%s", tc.args, w, out)
			}
		}
		if got := []int{one.Calls(issuer.Token) - before[0], two.Calls(issuer.Token) - before[1]}; !slices.Equal(got, tc.calls) {
			t.Errorf("%v: token requests %v, want %v", tc.args, got, tc.calls)
		}
	}
	if code, _, errs := checks(t, yaml, "--route", "d"); code != 2 || !strings.Contains(errs, `there is no route "d"`) {
		t.Errorf("exit code %d: %s", code, errs)
	}
}

// What hangs is cut off, and said to be.
func TestCheckEndsInTime(t *testing.T) {
	for _, e := range []issuer.Endpoint{issuer.Discovery, issuer.JWKS, issuer.Token} {
		idp := startIssuer(t)
		idp.SetLatency(e, time.Hour)
		silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and says nothing
		if err != nil {
			t.Fatal(err)
		}
		code, out, _ := checks(t, fmt.Sprintf(`
issuers: [{name: idp, url: %q, timeout: 1h, client: {id: svc, secret: canary-secret}}]
outbound: {routes: [{name: a, prefix: /a, upstream: "https://%s", audience: [x]}]}
inbound: {trust: [{audiences: [a]}], upstream: %q, revocation_redis_url: "redis://%s"}
`, idp.URL(), silent.Addr(), idp.URL(), silent.Addr()), "--timeout", "150ms")
		_ = silent.Close()
		if code != 1 || strings.Count(out, "was not finished within --timeout 150ms") < 2 {
			t.Errorf("endpoint %v: exit code %d:\n%s", e, code, out)
		}
	}
}

// What hardly means what it says is in the log too, once.
func TestDoubtfulPatternsAreLogged(t *testing.T) {
	core, logs := observer.New(zap.InfoLevel)
	(&sidecar{o: sidecarOptions{Log: zap.New(core)}}).announce(&config.Config{
		Inbound:  &config.Inbound{Rules: []config.Rule{{Name: "r", Match: []string{"/orders/*", "/orders/"}}}},
		Outbound: &config.Outbound{Routes: []config.Route{{Name: "o", Paths: []string{"/a/:id", "/a/{id}"}}}},
	})
	var got []string
	for _, e := range logs.All() {
		got = append(got, fmt.Sprint(e.ContextMap()))
	}
	if len(got) < 2 || strings.Count(strings.Join(got, "\n"), "stands for itself") != 2 || !strings.Contains(got[0], "rule:r") || !strings.Contains(got[1], "route:o") {
		t.Errorf("got %q", got)
	}
}
