package config

import "testing"

func TestRoutesRefused(t *testing.T) {
	const host = "- host: orders.internal"
	run(t, []broken{
		{"no target", outboundYAML, host, "- name: x", "outbound.routes[0]", "", "has none of host, prefix and listen", "exactly one"},
		{"two targets", outboundYAML, host, "- host: a\n      prefix: /b\n      upstream: http://c", "outbound.routes[0]", "", "has host and prefix", "exactly one"},
		{"prefix without upstream", outboundYAML, host, "- prefix: /b", "outbound.routes[0].upstream", "", "is missing", "https://"},
		{"listen without upstream", outboundYAML, host, "- listen: 127.0.0.1:9", "outbound.routes[0].upstream", "", "is missing", "https://"},
		{"prefix without slash", wholeYAML, "prefix: /stock", "prefix: stock", "outbound.routes[1].prefix", "", "not a path prefix", "/orders"},
		{"prefix with a query", wholeYAML, "prefix: /stock", "prefix: /stock?x", "outbound.routes[1].prefix", "", "not a path prefix", "/orders"},
		{"prefix with dots", wholeYAML, "prefix: /stock", "prefix: /a/../b", "outbound.routes[1].prefix", "", "not a path prefix", "/orders"},
		{"prefix with an empty segment", wholeYAML, "prefix: /stock", "prefix: //", "outbound.routes[1].prefix", "", "not a path prefix", "/orders"},
		{"prefix that is encoded", wholeYAML, "prefix: /stock", "prefix: /a%2fb", "outbound.routes[1].prefix", "", "not a path prefix", "/orders"},
		{"same prefix", wholeYAML, "- prefix: /stock", "- prefix: /stock/\n      name: x\n      upstream: http://a\n      issuer: auth0\n    - prefix: /stock", "outbound.routes[2].prefix", "prefix: /stock", "also the prefix of outbound.routes[1] (", "its own"},
		{"paths with prefix", wholeYAML, "prefix: /stock", "prefix: /stock\n      paths: [/a]", "outbound.routes[1].paths", "paths:", "no effect", "host or listen"},
		{"a path without slash", wholeYAML, `"/orders/{id}", /files/`, `"GET /orders/{id}"`, "outbound.routes[0].paths[0]", "paths:", "does not begin with /", "/orders/{id}"},
		{"a malformed path", wholeYAML, `"/orders/{id}", /files/`, `"/orders/{id"`, "outbound.routes[0].paths[0]", "paths:", "not a pattern: at offset", "ServeMux"},
		{"a host with scheme", outboundYAML, host, "- host: http://orders.internal", "outbound.routes[0].host", "", "scheme", "*.internal"},
		{"a host with path", outboundYAML, host, "- host: orders.internal/x", "outbound.routes[0].host", "", "path", "*.internal"},
		{"a bare star", outboundYAML, host, `- host: "*"`, "outbound.routes[0].host", "", "only at the beginning", "*.internal"},
		{"a star inside", outboundYAML, host, "- host: a.*.internal", "outbound.routes[0].host", "", "only at the beginning", "*.internal"},
		{"a partial star", outboundYAML, host, `- host: "*a.internal"`, "outbound.routes[0].host", "", "only at the beginning", "*.internal"},
		{"an empty label", outboundYAML, host, "- host: a..internal", "outbound.routes[0].host", "", "empty", "*.internal"},
		{"a bad port", outboundYAML, host, "- host: a.internal:0", "outbound.routes[0].host", "", "port", "*.internal"},
		{"an international name", outboundYAML, host, "- host: bücher.internal", "outbound.routes[0].host", "", "xn--", "*.internal"},
		{"a space", outboundYAML, host, "- host: a b", "outbound.routes[0].host", "", "character", "*.internal"},
		{"same host", outboundYAML, host, host + "\n    - host: ORDERS.internal.\n      name: again", "outbound.routes[1].host", "host: ORDERS", "also the host of outbound.routes[0] (", "different paths"},
		{"same paths", outboundYAML, host, host + "\n      paths: [/a, /b]\n    - host: orders.internal\n      name: again\n      paths: [/b]", "outbound.routes[1].paths[0]", "paths: [/b]", `conflicts with "/b" of outbound.routes[0].paths[1] (`, "more specific"},
		{"same paths by another name", outboundYAML, host, host + "\n      paths: ['/{a}/x']\n    - host: orders.internal\n      name: again\n      paths: ['/y/{b}']", "outbound.routes[1].paths[0]", "paths: ['/y", "conflicts with", "more specific"},
		{"same name", wholeYAML, "- prefix: /stock", "- name: orders\n      prefix: /stock", "outbound.routes[1].name", "", `"orders"; the other is outbound.routes[0] (`, "its own"},
		{"same default name", outboundYAML, host, host + "\n      paths: [/a]\n    - host: orders.internal\n      paths: [/b]", "outbound.routes[1].name", "host:", "two routes", "its own"},
		{"reserved name", outboundYAML, host, "- name: unmatched\n      host: a", "outbound.routes[0].name", "", "metrics", "another"},
		{"unknown issuer", wholeYAML, "issuer: auth0\n      audience: [https://orders", "issuer: auht0\n      audience: [https://orders", "outbound.routes[0].issuer", "", "not the name of an issuer", "`auth0`"},
		{"which issuer", wholeYAML, "http://stock.example.com:8080\n      issuer: auth0", "http://stock.example.com:8080", "outbound.routes[1].issuer", "prefix:", "more than one issuer", "auth0 or okta"},
		{"no issuer", outboundYAML, "issuers:\n  - url: https://idp.example.com\n    client: {id: svc, secret: canary-7f3a91}\n", "", "outbound.routes[0].issuer", "host:", "there is no issuer", "issuers"},
		{"upstream with path", wholeYAML, "upstream: https://orders.example.com", "upstream: https://orders.example.com/v1", "outbound.routes[0].upstream", "", "more than a scheme and an authority", "https://orders.example.com"},
		{"upstream with password", wholeYAML, "upstream: https://orders.example.com", "upstream: https://u:canary-7f3a91@orders.example.com", "outbound.routes[0].upstream", "", "more than a scheme", "https://orders.example.com"},
		{"upstream without scheme", wholeYAML, "upstream: https://orders.example.com", "upstream: orders.example.com:443", "outbound.routes[0].upstream", "", "no scheme", "https://"},
		{"a relative socket", wholeYAML, "upstream: unix:/run/app.sock", "upstream: unix:app.sock", "outbound.routes[2].upstream", "", "not a socket", "absolute"},
		{"unknown scheme", wholeYAML, "scheme: https", "scheme: h2c", "outbound.routes[0].scheme", "", "not a value of scheme", "https or http"},
		{"a relative resource", wholeYAML, "[urn:orders]", "[orders]", "outbound.routes[0].resource[0]", "resource:", "absolute URI", "8707"},
		{"a resource with fragment", wholeYAML, "[urn:orders]", `["https://a#b"]`, "outbound.routes[0].resource[0]", "resource:", "fragment", "8707"},
		{"exchange and keep", wholeYAML, "grant: client_credentials\n      fallback: deny\n      authorization: replace", "grant: token_exchange\n      authorization: keep", "outbound.routes[0].authorization", "authorization: keep", "must be replace", "replace"},
		{"on_behalf_of and reject", wholeYAML, "grant: client_credentials\n      fallback: deny\n      authorization: replace", "grant: on_behalf_of\n      authorization: reject", "outbound.routes[0].authorization", "authorization: reject", "must be replace", "replace"},
		{"a param without name", wholeYAML, `"tenant=canary-7f3a91"`, `"canary-7f3a91"`, "outbound.routes[0].token_params[0]", "token_params:", "name=value", "name=value"},
		{"a param of the grant", wholeYAML, `"tenant=canary-7f3a91"`, `"grant_type=canary-7f3a91"`, "outbound.routes[0].token_params[0]", "token_params:", "grant_type cannot be replaced", "grant"},
		{"a param of the client", wholeYAML, `"tenant=canary-7f3a91"`, `"client_canary-7f3a91=x"`, "outbound.routes[0].token_params[0]", "token_params:", "client_* cannot", "client.id"},
		{"a param of the assertion", wholeYAML, `"tenant=canary-7f3a91"`, `"assertion=canary-7f3a91"`, "outbound.routes[0].token_params[0]", "token_params:", "assertion* cannot", "grant"},
		{"a param of the subject", wholeYAML, `"tenant=canary-7f3a91"`, `"subject_token_type=x"`, "outbound.routes[0].token_params[0]", "token_params:", "subject_token* cannot", "grant"},
		{"a param of the scope", wholeYAML, `"tenant=canary-7f3a91"`, `"scope=x"`, "outbound.routes[0].token_params[0]", "token_params:", "scope cannot", "scopes"},
		{"an empty entry", wholeYAML, "[read:orders]\n      token", `[""]` + "\n      token", "outbound.routes[0].scopes[0]", "scopes:", "is empty", "remove"},
		{"own name with scheme", wholeYAML, "names: [sidecar,", "names: [http://sidecar,", "outbound.names[0]", "", "scheme", "host name"},
	})
}

func TestRoutesAccepted(t *testing.T) {
	accept(t, outboundYAML, [][2]string{
		{"orders.internal", `"*.internal:8080"`},
		{"orders.internal", `"[::1]:8080"`},
		{"orders.internal", "10.0.0.1"},
		{"orders.internal", "Orders_1.internal."},
		{"- host: orders.internal", "- host: a\n      paths: [/a]\n      name: x\n    - host: A\n      paths: [/b]\n      name: y\n    - host: a."},
		{"- host: orders.internal", "- host: a\n    - host: a:8080\n    - host: '*.a'"},
		{"- host: orders.internal", "- prefix: /\n      upstream: http://a/"},
		{"- host: orders.internal", "- host: a\n      grant: token_exchange\n      fallback: client_credentials"},
		{"- host: orders.internal", "- host: a\n      token_params: [requested_token_type=x, 'a=b=c', 'empty=']"},
		{"  routes:\n    - host: orders.internal\n", ""},
	})
}
