package issuer

import (
	"maps"
	"net/http"
	"slices"
)

// serveMetadata describes the provider at the places where it does.
func (p *provider) serveMetadata(w http.ResponseWriter, r *http.Request) {
	if !allow(w, r, http.MethodGet, http.MethodHead) {
		return
	}
	origin := p.server.URL()
	algorithms := map[string]bool{}
	for _, k := range p.server.Keys() {
		algorithms[k.Algorithm()] = true
	}
	m := map[string]any{
		"issuer":                                origin + p.discovery[r.URL.Path],
		"jwks_uri":                              origin + p.jwks,
		"response_types_supported":              []string{"code"},
		"subject_types_supported":               []string{"public"},
		"id_token_signing_alg_values_supported": slices.Sorted(maps.Keys(algorithms)),
	}
	if p.token != "" {
		m["token_endpoint"] = p.tokenURL
		m["grant_types_supported"] = []string{"authorization_code", "client_credentials"}
		m["token_endpoint_auth_methods_supported"] = slices.DeleteFunc(slices.Clone(p.methods), func(method string) bool {
			return method == "client_secret_json" || method == "federated" // nobody registered these names
		})
	}
	if len(p.assertion.algorithms) > 0 {
		m["token_endpoint_auth_signing_alg_values_supported"] = p.assertion.algorithms
	}
	if p.introspect != "" {
		m["introspection_endpoint"] = origin + p.introspect
	}
	if p.mtlsURL != "" { // RFC 8705 section 5
		m["mtls_endpoint_aliases"] = map[string]string{"token_endpoint": p.mtlsURL}
	}
	writeJSON(w, http.StatusOK, m)
}
