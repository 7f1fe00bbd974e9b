package issuer

import (
	"maps"
	"net/http"
	"slices"
	"strings"
)

// serveMetadata describes the server, in the terms of RFC 8414 and of OpenID Connect Discovery at once.
func (s *Server) serveMetadata(w http.ResponseWriter, r *http.Request) {
	if !allow(w, r, http.MethodGet, http.MethodHead) {
		return
	}
	base := strings.TrimSuffix(s.Issuer(), "/")
	methods := []string{"client_secret_basic", "client_secret_post"}
	algorithms := map[string]bool{}
	for _, k := range s.Keys() {
		algorithms[k.Algorithm()] = true
	}
	writeJSON(w, http.StatusOK, map[string]any{
		"issuer":                                s.Issuer(),
		"jwks_uri":                              base + "/jwks",
		"token_endpoint":                        base + "/token",
		"introspection_endpoint":                base + "/introspect",
		"revocation_endpoint":                   base + "/revoke",
		"grant_types_supported":                 []string{"client_credentials"},
		"token_endpoint_auth_methods_supported": methods,
		"introspection_endpoint_auth_methods_supported": methods,
		"revocation_endpoint_auth_methods_supported":    methods,
		"response_types_supported":                      []string{},
		"subject_types_supported":                       []string{"public"},
		"id_token_signing_alg_values_supported":         slices.Sorted(maps.Keys(algorithms)),
	})
}

// serveKeys publishes the key set (RFC 7517 section 5).
func (s *Server) serveKeys(w http.ResponseWriter, r *http.Request) {
	if !allow(w, r, http.MethodGet, http.MethodHead) {
		return
	}
	set := []map[string]any{}
	for _, k := range s.Keys() {
		set = append(set, k.JWK())
	}
	writeJSON(w, http.StatusOK, map[string]any{"keys": set})
}
