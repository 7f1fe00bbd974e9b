package config

import (
	"strings"
	"testing"
)

func TestInboundRefused(t *testing.T) {
	const audiences = `audiences: ["https://service-b"]`
	const end = "- audiences: [https://service-b]"
	rules := func(rules string) string { return end + "\n  rules:\n" + rules }
	run(t, []broken{
		{"no trust", inboundYAML, "inbound:\n  trust:\n    - audiences: [https://service-b]\n", "inbound:\n", "inbound.trust", "", "is missing", "at least one"},
		{"empty trust", inboundYAML, "trust:\n    - audiences: [https://service-b]", "trust: []", "inbound.trust", "", "there but empty", "at least one"},
		{"no audiences", inboundYAML, "audiences: [https://service-b]", "clients: [a]", "inbound.trust[0].audiences", "", "is missing", "allow_missing_audience"},
		{"no clients", inboundYAML, "audiences: [https://service-b]", "allow_missing_audience: true", "inbound.trust[0].clients", "", "allow_missing_audience needs it", "clients"},
		{"empty audiences", wholeYAML, audiences, "audiences: []", "inbound.trust[0].audiences", "", "there but empty", "at least one"},
		{"null audiences", wholeYAML, audiences, "audiences:", "inbound.trust[0].audiences", "", "there but empty", "at least one"},
		{"an empty audience", wholeYAML, audiences, `audiences: [""]`, "inbound.trust[0].audiences[0]", "", "is empty", "remove"},
		{"a null audience", wholeYAML, audiences, "audiences: [~]", "inbound.trust[0].audiences[0]", "", "is empty", "remove"},
		{"empty clients", wholeYAML, "clients: [svc-a, svc-b]", "clients: []", "inbound.trust[0].clients", "", "there but empty", "at least one"},
		{"empty required claims", wholeYAML, `required_claims: ["token_use=access"]`, "required_claims: []", "inbound.trust[0].required_claims", "", "there but empty", "at least one"},
		{"a claim without value", wholeYAML, `required_claims: ["token_use=access"]`, `required_claims: ["token_use="]`, "inbound.trust[0].required_claims[0]", "", "name=value", "department=finance"},
		{"a claim that is no pointer", wholeYAML, `"/org/tier=gold"`, `"/a~2b=c"`, "inbound.rules[0].claims[1]", "claims:", "JSON Pointer", "~1"},
		{"no algorithms", wholeYAML, "algorithms: [RS256, ES512]", "algorithms: []", "inbound.trust[0].algorithms", "", "there but empty", "at least one"},
		{"HMAC", wholeYAML, "algorithms: [RS256, ES512]", "algorithms: [HS256]", "inbound.trust[0].algorithms[0]", "", "not a value", "EdDSA"},
		{"none", wholeYAML, "algorithms: [RS256, ES512]", "algorithms: [RS256, none]", "inbound.trust[0].algorithms[1]", "", "not a value", "EdDSA"},
		{"two introspect", strings.Replace(wholeYAML, "okta.example.com\n", "okta.example.com\n    client: {id: svc, secret: x}\n", 1), "    - issuer: okta\n", "    - issuer: okta\n      introspect: true\n", "inbound.trust[1].introspect", "introspect:", "inbound.trust[0].introspect (", "one issuer"},
		{"introspect without client", inboundYAML, end, end + "\n      introspect: true", "issuers[0].client.id", "url:", "introspection", "client section"},
		{"one URL twice", wholeYAML, "    url: https://okta.example.com", "    url: https://tenant.auth0.com/", "inbound.trust[1].issuer", "issuer: okta", "already trusted by inbound.trust[0] (", "one trust"},
		{"unknown issuer", wholeYAML, "- issuer: okta", "- issuer: okto", "inbound.trust[1].issuer", "", "not the name of an issuer", "`okta`"},
		{"a scope claim that is no pointer", wholeYAML, "/realm_access/roles", "/realm~", "inbound.trust[0].scope_claims[1]", "scope_claims:", "JSON Pointer", "roles"},
		{"too much leeway", wholeYAML, "leeway: 30s", "leeway: 5m1s", "inbound.leeway", "", "more than 5m", "5m"},
		{"negative leeway", wholeYAML, "leeway: 30s", "leeway: -1s", "inbound.leeway", "", "is negative", "below"},
		{"no refresh", wholeYAML, "jwks_refresh: 15m", "jwks_refresh: 0s", "inbound.jwks_refresh", "", "is zero", "above"},
		{"no header", wholeYAML, "sub=X-Token-Subject", "sub", "inbound.claim_headers[0]", "claim_headers:", "claim=Header-Name", "X-Token"},
		{"a bad header", wholeYAML, "sub=X-Token-Subject", "sub=X Token", "inbound.claim_headers[0]", "claim_headers:", "not a header name", "X-Token"},
		{"a hop-by-hop header", wholeYAML, "sub=X-Token-Subject", "sub=connection", "inbound.claim_headers[0]", "claim_headers:", "meaning of its own", "X-Token"},
		{"the Host", wholeYAML, "sub=X-Token-Subject", "sub=Host", "inbound.claim_headers[0]", "claim_headers:", "meaning of its own", "X-Token"},
		{"the token's header", wholeYAML, "sub=X-Token-Subject", "sub=Authorization", "inbound.claim_headers[0]", "claim_headers:", "meaning of its own", "X-Token"},
		{"the length, with an underscore", wholeYAML, "sub=X-Token-Subject", "sub=Content_Length", "inbound.claim_headers[0]", "claim_headers:", "meaning of its own", "X-Token"},
		{"one header twice", wholeYAML, "/org/name=X-Org", "/org/name=x_token-subject", "inbound.claim_headers[1]", "claim_headers:", "set already by inbound.claim_headers[0] (", "its own"},
		{"not a network", wholeYAML, "10.0.0.0/8", "10.0.0.0/33", "inbound.trusted_proxies[0]", "trusted_proxies:", "not a network", "CIDR"},
		{"TLS without key", wholeYAML, `key_file: "{{DIR}}/key.pem", client_ca_file`, "client_ca_file", "inbound.tls.key_file", "tls:", "belong together", "both"},
		{"client certificates without CA", wholeYAML, `client_ca_file: "{{DIR}}/cert.pem", client_auth: request`, "client_auth: require", "inbound.tls.client_ca_file", "tls:", "client_auth: require needs it", "authority"},
		{"a CA for nothing", wholeYAML, "client_auth: request", "client_auth: none", "inbound.tls.client_auth", "tls:", "is none", "require"},
		{"client certificates without TLS", inboundYAML, "inbound:", "inbound:\n  tls: {client_auth: require, client_ca_file: \"{{DIR}}/cert.pem\"}", "inbound.tls.cert_file", "tls:", "need TLS", "cert_file"},
		{"unknown ambiguity", wholeYAML, "[encoded_slash]", "[dot_segment]", "inbound.ambiguous_paths[0]", "ambiguous_paths:", "not a value", "encoded_slash, semicolon or empty_segment"},
		{"resource with fragment", wholeYAML, "resource: https://api.example.com/orders", "resource: https://api.example.com/#x", "inbound.resource", "", "fragment", "#"},
		{"not Redis", wholeYAML, "revocation_redis_url: redis:", "revocation_redis_url: http:", "inbound.revocation_redis_url", "", "Redis URL", "redis://"},

		{"empty rules", inboundYAML, end, end + "\n  rules: []", "inbound.rules", "rules:", "there but empty", "at least one"},
		{"null rules", inboundYAML, end, end + "\n  rules:", "inbound.rules", "rules:", "there but empty", "at least one"},
		{"no match", inboundYAML, end, rules("    - scopes: [a]"), "inbound.rules[0].match", "scopes:", "is missing", "ServeMux"},
		{"empty match", inboundYAML, end, rules("    - match: []"), "inbound.rules[0].match", "match:", "there but empty", "at least one"},
		{"empty scopes", wholeYAML, "scopes: [read:orders]\n      any", "scopes: []\n      any", "inbound.rules[0].scopes", "scopes: []", "there but empty", "at least one"},
		{"empty any_scope", wholeYAML, "any_scope: [tier:gold, admin]", "any_scope: []", "inbound.rules[0].any_scope", "", "there but empty", "at least one"},
		{"empty clients of a rule", wholeYAML, "clients: [svc-a]\n", "clients:\n", "inbound.rules[0].clients", "", "there but empty", "at least one"},
		{"empty claims", wholeYAML, `claims: ["department=finance", "/org/tier=gold"]`, "claims: []", "inbound.rules[0].claims", "", "there but empty", "at least one"},
		{"empty issuers", wholeYAML, "issuers: [auth0]", "issuers: []", "inbound.rules[0].issuers", "", "there but empty", "at least one"},
		{"which issuers", wholeYAML, "      issuers: [auth0]\n", "", "inbound.rules[0].issuers", "name: read", "more than one issuer is trusted", `["*"]`},
		{"an issuer that is not trusted", wholeYAML, "issuers: [auth0]", "issuers: [auth1]", "inbound.rules[0].issuers[0]", "", "not a trusted issuer", "`auth0`"},
		{"any and one", wholeYAML, `issuers: ["*"]`, `issuers: [auth0, "*"]`, "inbound.rules[1].issuers[1]", "", "among other names", "alone"},
		{"same name", wholeYAML, "- match: [POST /orders]", "- name: read\n      match: [POST /orders]", "inbound.rules[1].name", "", "two rules", "its own"},
		{"reserved name", wholeYAML, "- name: read", "- name: unmatched", "inbound.rules[0].name", "", "metrics", "another"},
		{"anonymous with scopes", wholeYAML, "allow: anonymous", "allow: anonymous\n      scopes: [a]", "inbound.rules[2].scopes", "scopes: [a]", "allow: anonymous", "remove"},
		{"anonymous with any_scope", wholeYAML, "allow: anonymous", "allow: anonymous\n      any_scope: [a]", "inbound.rules[2].any_scope", "any_scope: [a]", "allow: anonymous", "remove"},
		{"anonymous with clients", wholeYAML, "allow: anonymous", "allow: anonymous\n      clients: [a]", "inbound.rules[2].clients", "clients: [a]", "allow: anonymous", "remove"},
		{"anonymous with claims", wholeYAML, "allow: anonymous", "allow: anonymous\n      claims: [a=b]", "inbound.rules[2].claims", "claims: [a=b]", "allow: anonymous", "remove"},
		{"unknown allow", wholeYAML, "allow: anonymous", "allow: anyone", "inbound.rules[2].allow", "", "not a value of allow", "anonymous"},
		{"unknown mode", wholeYAML, "mode: enforce", "mode: enforced", "inbound.rules[0].mode", "", "not a value of mode", "`enforce`"},
		{"malformed pattern", inboundYAML, end, rules("    - match: ['GET /a/{x']"), "inbound.rules[0].match[0]", "match:", "not a pattern: at offset", "ServeMux"},
		{"a host", inboundYAML, end, rules("    - match: [GET example.com/a]"), "inbound.rules[0].match[0]", "match:", "names a host", "method and the path"},
		{"a host without method", inboundYAML, end, rules("    - match: [example.com/]"), "inbound.rules[0].match[0]", "match:", "names a host", "method and the path"},
		{"a space before a pattern", inboundYAML, end, rules("    - match: [' /a']"), "inbound.rules[0].match[0]", "match:", "a space stands before it", "ServeMux"},
		{"an empty segment", inboundYAML, end, rules("    - match: [/a//b]"), "inbound.rules[0].match[0]", "match:", "empty segment never matches", "ServeMux"},
		{"an encoded dot segment", inboundYAML, end, rules("    - match: [GET /a/%2e%2E]"), "inbound.rules[0].match[0]", "match:", "dot segment never matches", "ServeMux"},
		{"conflict", inboundYAML, end, rules("    - match: ['GET /{x}/b']\n    - match: ['GET /a/{y}']"), "inbound.rules[1].match[0]", "match: ['GET /a", `conflicts with "GET /{x}/b" of inbound.rules[0].match[0] (`, "more specific"},
		{"conflict by method", inboundYAML, end, rules("    - match: [GET /a/]\n    - match: [/a/b]"), "inbound.rules[1].match[0]", "match: [/a/b]", "conflicts with", "more specific"},
		{"same pattern", inboundYAML, end, rules("    - match: [GET /a]\n      name: x\n    - match: [GET /a]\n      name: y"), "inbound.rules[1].match[0]", "match: [GET /a]", "conflicts with", "more specific"},
		{"conflict in one rule", inboundYAML, end, rules("    - match: ['/a/{x}', '/{y}/b']"), "inbound.rules[0].match[1]", "match:", "conflicts with", "more specific"},
		{"app with a path", wholeYAML, "upstream: http://127.0.0.1:8080", "upstream: http://127.0.0.1:8080/app", "inbound.upstream", "", "more than a scheme", "http://127.0.0.1:8080"},
	})
}

func TestInboundAccepted(t *testing.T) {
	accept(t, wholeYAML, [][2]string{
		{"leeway: 30s", "leeway: 5m"},
		{"leeway: 30s", "leeway: 0s"},
		{"mode: enforce", `mode: ""`},
		{"claim_headers: [sub=X-Token-Subject, /org/name=X-Org]", "claim_headers: [https://ns/role=X-Role]"},
		{"10.0.0.0/8", "2001:db8::/32"},
		{"required_claims: [\"token_use=access\"]", "required_claims: [a=b=c]"},
		{"client_auth: request", "client_auth: require"},
		{`client_ca_file: "{{DIR}}/cert.pem", client_auth: request`, "client_auth: request"},
		{"upstream: http://127.0.0.1:8080", "upstream: unix:/run/app.sock"},
		{"match: [POST /orders]", "match: [POST /orders, '/orders/{id}/{rest...}', '/{$}', 'DELETE /orders/{id}']"},
		{"- match: [POST /orders]", "- name: default\n      match: [POST /orders]"},
		{"      issuers: [\"*\"]\n", "      issuers: [okta, auth0]\n"},
	})
	// With one trusted issuer a rule needs no issuers; without rules two are fine.
	accept(t, inboundYAML, [][2]string{{"- audiences", "- audiences"}, {"    - audiences: [https://service-b]", "    - audiences: [https://service-b]\n  rules: [{match: [GET /a]}]"}})
}

func TestListenersRefused(t *testing.T) {
	run(t, []broken{
		{"outbound on every address", wholeYAML, "listen: 127.0.0.1:8401", "listen: :8401", "outbound.listen", "", "other machines", "allow_remote"},
		{"outbound on 0.0.0.0", wholeYAML, "listen: 127.0.0.1:8401", "listen: 0.0.0.0:8401", "outbound.listen", "", "other machines", "allow_remote"},
		{"outbound on [::]", wholeYAML, "listen: 127.0.0.1:8401", `listen: "[::]:8401"`, "outbound.listen", "", "other machines", "allow_remote"},
		{"outbound on a name", wholeYAML, "listen: 127.0.0.1:8401", "listen: sidecar:8401", "outbound.listen", "", "other machines", "allow_remote"},
		{"outbound on short digits", wholeYAML, "listen: 127.0.0.1:8401", "listen: 127.1:8401", "outbound.listen", "", "other machines", "allow_remote"},
		{"a route's own", wholeYAML, "listen: unix:{{DIR}}/route.sock?mode=0660", "listen: :9000", "outbound.routes[2].listen", "", "other machines", "allow_remote"},
		{"remote and unmatched", wholeYAML, "listen: 127.0.0.1:8401\n  allow_remote: false\n  unmatched: deny", "listen: :8401\n  allow_remote: true\n  unmatched: passthrough", "outbound.unmatched", "unmatched:", "must be deny", "127.0.0.1"},
		{"remote and connect", wholeYAML, "listen: 127.0.0.1:8401\n  allow_remote: false\n  unmatched: deny\n  connect: deny", "listen: :8401\n  allow_remote: true\n  connect: tunnel", "outbound.connect", "connect:", "must be deny", "127.0.0.1"},
		{"remote admin", wholeYAML, `admin: {listen: "127.0.0.1:8404"`, `admin: {listen: ":8404"`, "admin.listen", "", "other machines", "allow_remote"},
		{"remote token API", wholeYAML, `admin: {listen: "127.0.0.1:8404", allow_remote: false, pprof: false, token_api: false`, `admin: {listen: ":8404", allow_remote: true, token_api: true`, "admin.token_api", "", "cannot be on", "127.0.0.1"},
		{"one address twice", wholeYAML, `metrics: {listen: ":8403"}`, `metrics: {listen: ":8402"}`, "metrics.listen", "", "taken by inbound.listen (", "its own"},
		{"loopback under every address", wholeYAML, `admin: {listen: "127.0.0.1:8404"`, `admin: {listen: "127.0.0.1:8402"`, "admin.listen", "", "taken by inbound.listen (", "its own"},
		{"localhost and 127.0.0.1", wholeYAML, `admin: {listen: "127.0.0.1:8404"`, `admin: {listen: "localhost:8401"`, "admin.listen", "", "taken by outbound.listen (", "its own"},
		{"a default's address", inboundYAML, "inbound:", "inbound:\n  listen: :8403", "inbound.listen", "listen:", "taken by metrics.listen, ", "its own"},
		{"one socket twice", wholeYAML, `admin: {listen: "127.0.0.1:8404"`, `admin: {listen: "unix:{{DIR}}/route.sock"`, "admin.listen", "", "taken by outbound.routes[2].listen (", "its own"},
		{"off", wholeYAML, "listen: :8402", "listen: off", "inbound.listen", "", "cannot be off", "section"},
		{"empty", wholeYAML, "listen: :8402", `listen: ""`, "inbound.listen", "", "not an address", "host:port"},
		{"a port alone", wholeYAML, "listen: :8402", "listen: 8402", "inbound.listen", "", "not an address", ":8402"},
		{"no port", wholeYAML, "listen: :8402", "listen: localhost", "inbound.listen", "", "not an address", "host:port"},
		{"too large a port", wholeYAML, "listen: :8402", "listen: :84020", "inbound.listen", "", "not an address", "host:port"},
		{"a service's name", wholeYAML, "listen: :8402", "listen: :http", "inbound.listen", "", "not an address", "host:port"},
		{"a URL", wholeYAML, "listen: :8402", "listen: http://localhost:80", "inbound.listen", "", "not an address", "host:port"},
		{"a relative socket", wholeYAML, "listen: :8402", "listen: unix:a.sock", "inbound.listen", "", "not a socket", "absolute"},
		{"a bad mode", wholeYAML, "listen: :8402", "listen: unix:/a.sock?mode=0999", "inbound.listen", "", "mode", "0660"},
		{"another parameter", wholeYAML, "listen: :8402", "listen: unix:/a.sock?owner=1", "inbound.listen", "", "mode", "0660"},
	})
}

func TestListenersAccepted(t *testing.T) {
	accept(t, wholeYAML, [][2]string{
		{"listen: 127.0.0.1:8401\n  allow_remote: false", "listen: :8401\n  allow_remote: true"},
		{"listen: 127.0.0.1:8401", "listen: localhost:8401"},
		{"listen: 127.0.0.1:8401", "listen: 127.8.8.8:8401"},
		{"listen: 127.0.0.1:8401", `listen: "[::1]:8401"`},
		{"listen: 127.0.0.1:8401", "listen: unix:{{DIR}}/out.sock"},
		{`admin: {listen: "127.0.0.1:8404", allow_remote: false`, `admin: {listen: ":8404", allow_remote: true`},
		{`admin: {listen: "127.0.0.1:8404", allow_remote: false, pprof: false, token_api: false}`, "admin: {token_api: true}"},
		{`metrics: {listen: ":8403"}`, "metrics: {listen: off}\n"},
		{`metrics: {listen: ":8403"}`, `metrics: {listen: "127.0.0.1:0"}`},
		{`admin: {listen: "127.0.0.1:8404"`, `admin: {listen: "[::1]:8401"`},
		{"listen: :8402", "listen: 10.1.2.3:8402"},
	})
}
