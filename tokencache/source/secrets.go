package source

import (
	"encoding/base64"
	"encoding/json"
	"net/url"
	"strings"

	"github.com/sidepass/sidepass/proxy/issuerhttp"
)

// secrets are texts that must not be in a sentence. They are never printed themselves.
type secrets []string

// add adds a text in the spellings in which it goes over the wire; of a JWT, also its payload and its signature alone.
func (s *secrets) add(text string) {
	if text == "" {
		return
	}
	*s = append(*s, text, url.QueryEscape(text))
	if quoted, err := json.Marshal(text); err == nil {
		*s = append(*s, string(quoted[1:len(quoted)-1]))
	}
	if parts := strings.Split(text, "."); len(parts) == 3 {
		for _, p := range parts[1:] {
			if len(p) >= 16 { // what is shorter is in any sentence
				*s = append(*s, p)
			}
		}
	}
}

// addSecret adds a client's secret, also as Basic sends it.
func (s *secrets) addSecret(id, secret string) {
	if secret == "" {
		return
	}
	s.add(secret)
	for _, pair := range []string{id + ":" + secret, url.QueryEscape(id) + ":" + url.QueryEscape(secret)} {
		*s = append(*s, base64.StdEncoding.EncodeToString([]byte(pair)))
	}
}

// in says that one of them is in a text.
func (s secrets) in(text string) bool {
	for _, secret := range s {
		if strings.Contains(text, secret) {
			return true
		}
	}
	return false
}

// from is a text from elsewhere that may be shown; "" when a secret is in it.
func (s secrets) from(text string, limit int) string {
	if s.in(text) {
		return ""
	}
	return issuerhttp.Printable(text, limit)
}
