package issuer

import (
	"maps"
	"net/http"
)

// serveIntrospection tells any authenticated client what a token stands for (RFC 7662).
func (s *Server) serveIntrospection(w http.ResponseWriter, r *http.Request, f form) {
	if _, ok := s.authenticated(w, r, f); !ok {
		return
	}
	s.introspect(w, f)
}

func (s *Server) introspect(w http.ResponseWriter, f form) {
	token := f.get("token")
	if token == "" {
		refuse(w, invalidRequest("token is missing"))
		return
	}
	claims, active := s.lookup(token)
	if !active {
		answer(w, http.StatusOK, map[string]any{"active": false})
		return
	}
	said := map[string]any{"token_type": "Bearer"}
	maps.Copy(said, claims)
	said["active"] = true
	answer(w, http.StatusOK, said)
}

// serveRevocation ends a token of the client's own (RFC 7009); a token that is unknown or has ended is fine already.
func (s *Server) serveRevocation(w http.ResponseWriter, r *http.Request, f form) {
	c, ok := s.authenticated(w, r, f)
	if !ok {
		return
	}
	token := f.get("token")
	if token == "" {
		refuse(w, invalidRequest("token is missing"))
		return
	}
	if claims, active := s.lookup(token); active {
		if claims["client_id"] != c.ID {
			refuse(w, &refusal{http.StatusBadRequest, "unauthorized_client", "the token belongs to another client"})
			return
		}
		s.Revoke(token)
	}
	w.Header().Set("Cache-Control", "no-store")
}
