package issuer

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"net/url"
)

// authenticated is the client of a POST whose form is sound. Otherwise it has answered.
func (s *Server) authenticated(w http.ResponseWriter, r *http.Request, f form) (Client, bool) {
	if !allow(w, r, http.MethodPost) {
		return Client{}, false
	}
	if f.problem != nil {
		refuse(w, f.problem)
		return Client{}, false
	}
	c, problem := s.authenticate(r, f)
	if problem != nil {
		refuse(w, problem)
		return Client{}, false
	}
	return c, true
}

// authenticate finds the client by client_secret_basic or client_secret_post (RFC 6749 section 2.3.1), one of them.
func (s *Server) authenticate(r *http.Request, f form) (Client, *refusal) {
	query := r.URL.Query()
	if query.Has("client_id") || query.Has("client_secret") {
		return Client{}, invalidRequest("credentials do not belong in the URI")
	}
	id, secret := f.get("client_id"), f.get("client_secret")
	switch credentials := r.Header["Authorization"]; {
	case len(credentials) > 1:
		return Client{}, invalidRequest("several Authorization headers")
	case len(credentials) == 1:
		if secret != "" || f.get("client_assertion") != "" {
			return Client{}, invalidRequest("more than one client authentication method")
		}
		basicID, basicSecret, ok := basic(r)
		if !ok {
			return Client{}, invalidClient("the Authorization header is not Basic with a form-encoded client id and secret")
		}
		if id != "" && id != basicID {
			return Client{}, invalidRequest("client_id is not the client that authenticates")
		}
		id, secret = basicID, basicSecret
	case secret != "" && f.get("client_assertion") != "":
		return Client{}, invalidRequest("more than one client authentication method")
	}
	c, known := s.clients[id]
	if !equal(secret, c.Secret) || !known {
		return Client{}, invalidClient("unknown client, wrong secret, or an authentication method that is not supported")
	}
	return c, nil
}

// basic decodes the Authorization header: base64, then id and secret each form-decoded.
func basic(r *http.Request) (id, secret string, ok bool) {
	id, secret, ok = r.BasicAuth()
	if !ok {
		return "", "", false
	}
	id, err := url.QueryUnescape(id)
	if err != nil {
		return "", "", false
	}
	secret, err = url.QueryUnescape(secret)
	return id, secret, err == nil
}

func invalidClient(description string) *refusal {
	return &refusal{http.StatusUnauthorized, "invalid_client", description}
}

// equal compares in constant time, the lengths included.
func equal(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}
