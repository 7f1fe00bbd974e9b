package issuer

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// serveToken is the token endpoint with the client_credentials grant (RFC 6749 section 4.4).
func (s *Server) serveToken(w http.ResponseWriter, r *http.Request, f form) {
	c, ok := s.authenticated(w, r, f)
	if !ok {
		return
	}
	switch f.get("grant_type") {
	case "client_credentials":
	case "":
		refuse(w, invalidRequest("grant_type is missing"))
		return
	default:
		refuse(w, &refusal{http.StatusBadRequest, "unsupported_grant_type", "only client_credentials is supported"})
		return
	}
	scopes, problem := c.grantScopes(f.get("scope"))
	if problem != nil {
		refuse(w, problem)
		return
	}
	audience, problem := c.grantAudience(f.all("audience"), f.all("resource"))
	if problem != nil {
		refuse(w, problem)
		return
	}
	claims := s.claims(map[string]any{"sub": c.ID, "client_id": c.ID})
	granted := map[string]any{"token_type": "Bearer", "expires_in": claims["exp"].(int64) - claims["iat"].(int64)}
	if scopes != "" {
		claims["scope"] = scopes
		granted["scope"] = scopes
	}
	switch len(audience) {
	case 0:
	case 1:
		claims["aud"] = audience[0]
	default:
		claims["aud"] = audience
	}
	granted["access_token"] = s.Mint(claims)
	answer(w, http.StatusOK, granted)
}

// grantScopes checks a `scope` parameter and returns it with each scope once.
func (c Client) grantScopes(scope string) (string, *refusal) {
	if scope == "" {
		return "", nil
	}
	var granted []string
	for one := range strings.SplitSeq(scope, " ") {
		switch {
		case !isScopeToken(one):
			return "", &refusal{http.StatusBadRequest, "invalid_scope", "scopes are separated by one space each and are printable ASCII without quotation mark and backslash"}
		case len(c.Scopes) > 0 && !slices.Contains(c.Scopes, one):
			return "", &refusal{http.StatusBadRequest, "invalid_scope", "the client may not have one of these scopes"}
		case !slices.Contains(granted, one):
			granted = append(granted, one)
		}
	}
	return strings.Join(granted, " "), nil
}

// isScopeToken is the grammar of RFC 6749 section 3.3.
func isScopeToken(s string) bool {
	for _, c := range []byte(s) {
		if c < 0x21 || c > 0x7e || c == '"' || c == '\\' {
			return false
		}
	}
	return s != ""
}

// grantAudience joins `audience` and `resource`, each value once.
func (c Client) grantAudience(audience, resource []string) ([]string, *refusal) {
	for _, one := range resource {
		if u, err := url.Parse(one); err != nil || !u.IsAbs() || strings.Contains(one, "#") {
			return nil, &refusal{http.StatusBadRequest, "invalid_target", "a resource is an absolute URI without a fragment (RFC 8707 section 2)"}
		}
	}
	var granted []string
	for _, one := range slices.Concat(audience, resource) {
		switch {
		case len(c.Audiences) > 0 && !slices.Contains(c.Audiences, one):
			return nil, &refusal{http.StatusBadRequest, "invalid_target", "the client may not have a token for one of these"}
		case !slices.Contains(granted, one):
			granted = append(granted, one)
		}
	}
	return granted, nil
}
