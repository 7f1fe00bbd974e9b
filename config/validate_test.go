package config

import (
	"os"
	"strings"
	"testing"
)

// broken is a valid configuration with one thing broken.
type broken struct {
	name, base, old, new string
	path                 string // of the one problem
	at                   string // text that begins the problem's line, trimmed; empty when new does
	message, hint        string // parts of them
}

func (b broken) check(t *testing.T) {
	t.Helper()
	text := replace(t, b.base, b.old, b.new)
	_, ps := load(t, text)
	if len(ps) != 1 {
		t.Fatalf("want one problem, got %d:\n%v", len(ps), ps)
	}
	p := ps[0]
	if p.Path != b.path || !strings.Contains(p.Message, b.message) || !strings.Contains(p.Hint, b.hint) || p.Hint == "" {
		t.Errorf("want %s: …%s…; …%s…\ngot\n%v", b.path, b.message, b.hint, p)
	}
	at := b.at
	if at == "" {
		at, _, _ = strings.Cut(strings.TrimSpace(b.new), "\n")
	}
	lines := strings.Split(text, "\n")
	if p.Line < 1 || p.Line > len(lines) || !strings.HasPrefix(strings.TrimLeft(lines[p.Line-1], " -"), strings.TrimLeft(at, " -")) {
		t.Errorf("want the line that begins with %q, got line %d:\n%v", at, p.Line, p)
	}
	if p.Column < 1 || p.File == "" || p.Source == "" || p.Variable != "" {
		t.Errorf("want file, column and source line, got %+v", p)
	}
}

func run(t *testing.T, cases []broken) {
	t.Helper()
	for _, b := range cases {
		t.Run(b.name, func(t *testing.T) { b.check(t) })
	}
}

// accept loads what differs from a base only in one legal way: the twins of what is refused.
func accept(t *testing.T, base string, changes [][2]string) {
	t.Helper()
	for _, c := range changes {
		t.Run(c[1], func(t *testing.T) { mustLoad(t, replace(t, base, c[0], c[1])) })
	}
}

func TestWholeConfigurationIsValid(t *testing.T) { mustLoad(t, wholeYAML) }

func TestIssuersRefused(t *testing.T) {
	const url = "url: https://tenant.auth0.com/"
	run(t, []broken{
		{"url missing", outboundYAML, "url: https://idp.example.com", "name: x", "issuers[0].url", "", "is missing", "iss"},
		{"url empty", outboundYAML, "url: https://idp.example.com", `url: ""`, "issuers[0].url", "", "is missing", "iss"},
		{"url without scheme", wholeYAML, url, "url: tenant.auth0.com", "issuers[0].url", "", "no scheme", "https://"},
		{"url without host", wholeYAML, url, "url: https:///x", "issuers[0].url", "", "no valid host", "https://"},
		{"url with a port that is none", wholeYAML, url, "url: https://a:99999", "issuers[0].url", "", "no valid host", "https://"},
		{"url with a password", wholeYAML, url, "url: https://u:canary-7f3a91@a.example.com", "issuers[0].url", "", "user or password", "without"},
		{"url with a query", wholeYAML, url, "url: https://a.example.com/?x=1", "issuers[0].url", "", "query", "8414"},
		{"url with a fragment", wholeYAML, url, "url: https://a.example.com/#x", "issuers[0].url", "", "fragment", "#"},
		{"plain http", wholeYAML, url, "url: http://a.example.com", "issuers[0].url", "", "plain http", "allow_http"},
		{"plain http token endpoint", wholeYAML, "token_endpoint: https://tenant", "token_endpoint: http://tenant", "issuers[0].token_endpoint", "", "plain http", "allow_http"},
		{"plain http introspection", wholeYAML, "introspection_endpoint: https:", "introspection_endpoint: http:", "issuers[0].introspection_endpoint", "", "plain http", "allow_http"},
		{"plain http keys", outboundYAML, "    client", "    jwks_uri: http://idp.example.com/keys\n    client", "issuers[0].jwks_uri", "", "plain http", "allow_http"},
		{"keys twice", wholeYAML, `jwks_uri: ""`, "jwks_uri: https://a.example.com/keys", "issuers[0].jwks_file", "jwks_file:", "both set", "one"},
		{"same name", wholeYAML, "- name: okta\n", "- name: auth0\n    url: https://x\n  - name: okta\n", "issuers[1].name", "", "two issuers are called", "its own"},
		{"proxy with a path", wholeYAML, "proxy.example.com:3128\n    timeout", "proxy.example.com:3128/x\n    timeout", "issuers[0].proxy_url", "proxy_url:", "more than", "http://"},
		{"proxy by SOCKS", wholeYAML, "proxy_url: http://user", "proxy_url: socks5://user", "issuers[0].proxy_url", "", "no scheme", "https://"},
		{"no time", wholeYAML, "timeout: 5s", "timeout: 0s", "issuers[0].timeout", "", "is zero", "above zero"},
		{"negative time", wholeYAML, "timeout: 5s", "timeout: -5s", "issuers[0].timeout", "", "is negative", "not below zero"},
		{"time without a unit", wholeYAML, "timeout: 5s", "timeout: 5", "issuers[0].timeout", "", "without a unit", "5s"},
		{"unknown method", wholeYAML, "auth_method: client_secret_basic", "auth_method: client_secret_bsic", "issuers[0].client.auth_method", "", "is not a value of auth_method", "`client_secret_basic`"},
		{"two secrets", wholeYAML, `secret_file: ""`, `secret_file: "{{DIR}}/secret"`, "issuers[0].client.secret", "secret:", "both set", "secret_file"},
		{"no secret", outboundYAML, ", secret: canary-7f3a91", "", "issuers[0].client.secret_file", "client: {id: svc}", "client_secret_basic needs it", "secret_file"},
		{"no id", outboundYAML, "id: svc, ", "", "issuers[0].client.id", "client: {secret", "is missing", "identifier"},
		{"no client for a route", outboundYAML, "    client: {id: svc, secret: canary-7f3a91}\n", "", "issuers[0].client.id", "url:", `the route "orders.internal"`, "client section"},
		{"assertion for nobody", wholeYAML, "assertion_audience: issuer", `assertion_audience: ""`, "issuers[0].client.assertion_audience", "", "is empty", "token_endpoint"},
		{"no private key", outboundYAML, "secret: canary-7f3a91", "auth_method: private_key_jwt", "issuers[0].client.private_key_file", "client:", "private_key_jwt needs it", "PEM or JWK"},
		{"no assertion", outboundYAML, "secret: canary-7f3a91", "auth_method: federated", "issuers[0].client.assertion_file", "client:", "federated needs it", "service-account"},
		{"no certificate", outboundYAML, "secret: canary-7f3a91", "auth_method: tls_client_auth", "issuers[0].client.cert_file", "client:", "tls_client_auth needs it", "cert_file"},
		{"a certificate without key", outboundYAML, "secret: canary-7f3a91", `secret: x, cert_file: "{{DIR}}/cert.pem"`, "issuers[0].client.key_file", "client:", "belong together", "both"},
		{"a key without certificate", outboundYAML, "secret: canary-7f3a91", `secret: x, key_file: "{{DIR}}/key.pem"`, "issuers[0].client.cert_file", "client:", "belong together", "both"},
		{"HMAC for a key", wholeYAML, "assertion_algorithm: ES256", "assertion_algorithm: HS256", "issuers[0].client.assertion_algorithm", "", "cannot sign", "EdDSA"},
		{"a key for HMAC", outboundYAML, "secret: canary-7f3a91", "secret: x, auth_method: client_secret_jwt, assertion_algorithm: ES256", "issuers[0].client.assertion_algorithm", "client:", "cannot sign", "HS512"},
	})
}

func TestIssuersAccepted(t *testing.T) {
	accept(t, wholeYAML, [][2]string{
		{"url: https://tenant.auth0.com/\n", "url: http://127.0.0.1:9000/realms/x\n"},
		{"url: https://tenant.auth0.com/\n", "url: http://[::1]:9000\n"},
		{"url: https://tenant.auth0.com/\n", "url: http://LOCALHOST\n"},
		{"url: https://okta.example.com", "url: http://okta.example.com\n    allow_http: true"},
		{"url: https://okta.example.com", "url: https://tenant.auth0.com/a"},
	})
	accept(t, outboundYAML, [][2]string{
		{"secret: canary-7f3a91", `secret_file: "{{DIR}}/secret"`},
		{"secret: canary-7f3a91", `auth_method: private_key_jwt, private_key_file: "{{DIR}}/key.pem"`},
		{"secret: canary-7f3a91", `auth_method: private_key_jwt, private_key_file: "{{DIR}}/key.jwk"`},
		{"secret: canary-7f3a91", `auth_method: federated, assertion_file: "{{DIR}}/secret"`},
		{"secret: canary-7f3a91", `auth_method: tls_client_auth, cert_file: "{{DIR}}/cert.pem", key_file: "{{DIR}}/key.pem"`},
		{"secret: canary-7f3a91", "secret: x, auth_method: client_secret_jwt, assertion_algorithm: HS256"},
		{"id: svc", "id: 12345"},
		{"id: svc", "id: svc, assertion_audience: 'https://x'"},
	})
	// An issuer of inbound alone needs no client.
	accept(t, inboundYAML, [][2]string{{"", ""}})
}

func workingDirectory() string {
	dir, err := os.Getwd()
	if err != nil {
		panic(err)
	}
	return dir
}

func TestFilesRefused(t *testing.T) {
	run(t, []broken{
		{"missing", outboundYAML, "secret: canary-7f3a91", `secret_file: "{{DIR}}/nothing"`, "issuers[0].client.secret_file", "client:", "does not exist", "holds it"},
		{"missing, with a relative name", outboundYAML, "secret: canary-7f3a91", `secret_file: nothing`, "issuers[0].client.secret_file", "client:", "does not exist in the working directory, " + workingDirectory(), "holds it"},
		{"empty", outboundYAML, "secret: canary-7f3a91", `secret_file: "{{DIR}}/empty"`, "issuers[0].client.secret_file", "client:", "is empty", "holds it"},
		{"a directory", outboundYAML, "secret: canary-7f3a91", `secret_file: "{{DIR}}"`, "issuers[0].client.secret_file", "client:", "not a regular file", "holds it"},
		{"no CA", outboundYAML, "    client", `    ca_file: "{{DIR}}/secret"` + "\n    client", "issuers[0].ca_file", "", "no certificate", "PEM"},
		{"a key for a CA", outboundYAML, "    client", `    ca_file: "{{DIR}}/key.pem"` + "\n    client", "issuers[0].ca_file", "", "no certificate", "PEM"},
		{"no private key", wholeYAML, `private_key_file: "{{DIR}}/key.pem"`, `private_key_file: "{{DIR}}/cert.pem"`, "issuers[0].client.private_key_file", "", "no private key", "JWK"},
		{"a public JWK", wholeYAML, `private_key_file: "{{DIR}}/key.pem"`, `private_key_file: "{{DIR}}/public.jwk"`, "issuers[0].client.private_key_file", "", "not a private JWK", "JWK"},
		{"another's key", wholeYAML, `      key_file: "{{DIR}}/key.pem"`, `      key_file: "{{DIR}}/other.pem"`, "issuers[0].client.key_file", "", "does not belong", "made for"},
		{"another's key inbound", wholeYAML, `tls: {cert_file: "{{DIR}}/cert.pem", key_file: "{{DIR}}/key.pem"`, `tls: {cert_file: "{{DIR}}/cert.pem", key_file: "{{DIR}}/other.pem"`, "inbound.tls.key_file", "tls:", "does not belong", "made for"},
		{"a key set without keys", wholeYAML, "jwks.json", "no-keys.json", "issuers[0].jwks_file", "jwks_file:", "not a JSON Web Key Set", "keys"},
		{"a bad sealing key", wholeYAML, "{{DIR}}/sealing", "{{DIR}}/bad-sealing", "tokens.encryption_key_file", "encryption_key_file:", "line 2", "base64"},
		{"a bad Redis file", wholeYAML, "redis_url: rediss://:canary-7f3a91@redis:6379/0\n    redis_url_file: \"\"", `redis_url_file: "{{DIR}}/secret"`, "tokens.shared.redis_url_file", "", "Redis URL", "redis://"},
		{"a route's CA", wholeYAML, `ca_file: "{{DIR}}/cert.pem"` + "\n      server_name", `ca_file: "{{DIR}}/secret"` + "\n      server_name", "outbound.routes[0].ca_file", "", "no certificate", "PEM"},
	})
	mustLoad(t, replace(t, wholeYAML, "redis_url: rediss://:canary-7f3a91@redis:6379/0\n    redis_url_file: \"\"", `redis_url_file: "{{DIR}}/redis"`))
}

func TestTokensRefused(t *testing.T) {
	run(t, []broken{
		{"refresh after the end", wholeYAML, "refresh_at: 0.8", "refresh_at: 1.01", "tokens.refresh_at", "", "more than 1", "0.8"},
		{"refresh at once", wholeYAML, "refresh_at: 0.8", "refresh_at: 0", "tokens.refresh_at", "", "is zero", "above zero"},
		{"not a number", wholeYAML, "refresh_at: 0.8", "refresh_at: NaN", "tokens.refresh_at", "", "not a number", "0.8"},
		{"neither true nor false", wholeYAML, "prefetch: true", "prefetch: maybe", "tokens.prefetch", "", "neither true nor false", "true or false"},
		{"no entries", wholeYAML, "max_entries: 10000", "max_entries: 0", "tokens.max_entries", "", "is zero", "above"},
		{"negative cap", wholeYAML, "max_requests_per_hour: 0", "max_requests_per_hour: -1", "tokens.max_requests_per_hour", "", "is negative", "below"},
		{"shared without key", wholeYAML, `  encryption_key_file: "{{DIR}}/sealing"` + "\n  state_dir: /var/lib/sidepass\n", "", "tokens.encryption_key_file", "tokens:", "tokens.shared needs it", "base64"},
		{"state without key", outboundYAML, "outbound:", "tokens: {state_dir: /x}\noutbound:", "tokens.encryption_key_file", "", "tokens.state_dir needs it", "base64"},
		{"two Redis URLs", wholeYAML, `redis_url_file: ""`, `redis_url_file: "{{DIR}}/redis"`, "tokens.shared.redis_url", "redis_url:", "both set", "one of them"},
		{"not Redis", wholeYAML, "redis_url: rediss:", "redis_url: https:", "tokens.shared.redis_url", "redis_url:", "not a Redis URL", "redis://"},
		{"unknown level", wholeYAML, "level: info", "level: loud", "log.level", "log:", "not a value of level", "debug, info, warn or error"},
		{"unknown engine", wholeYAML, "engine: auto", "engine: fast", "engine", "", "not a value of engine", "auto or std"},
		{"tracing with a password", wholeYAML, "http://127.0.0.1:4318", "http://u:canary-7f3a91@127.0.0.1:4318", "tracing.endpoint", "tracing:", "user or password", "without"},
	})
	accept(t, wholeYAML, [][2]string{{"refresh_at: 0.8", "refresh_at: 1"}, {"prefetch: true", "prefetch: False"}, {"min_remaining: 10s", "min_remaining: 0s"}})
}
