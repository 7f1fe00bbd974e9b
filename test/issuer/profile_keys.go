package issuer

import (
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"slices"
	"time"
)

// keyShape is how a provider publishes its keys (RFC 7517).
type keyShape struct {
	usual        int  // how many
	noAlg, noUse bool // left out
	x5c, x5t     bool // with a certificate and its SHA-1 thumbprint
	x5tS256      bool // and its SHA-256 thumbprint
	kidIsX5t     bool
	issuer       string            // what each key is tied to, after the origin; Entra's own member
	more         map[string]string // further members
	others       []string          // further keys, as they are
	cacheControl string
}

// kid is a key's name in the set and in tokens.
func (p *provider) kid(k *Key) string {
	if !p.keys.kidIsX5t {
		return k.id
	}
	sum := sha1.Sum(p.certificate(k))
	return b64(sum[:])
}

// jwk is a key as it is published.
func (p *provider) jwk(k *Key) map[string]any {
	m := k.JWK()
	m["kid"] = p.kid(k)
	if p.keys.noAlg {
		delete(m, "alg")
	}
	if p.keys.noUse {
		delete(m, "use")
	}
	der := p.certificate(k)
	if p.keys.x5c {
		m["x5c"] = []string{base64.StdEncoding.EncodeToString(der)}
	}
	if p.keys.x5t {
		sum := sha1.Sum(der)
		m["x5t"] = b64(sum[:])
	}
	if p.keys.x5tS256 {
		sum := sha256.Sum256(der)
		m["x5t#S256"] = b64(sum[:])
	}
	if p.keys.issuer != "" {
		m["issuer"] = p.server.URL() + p.keys.issuer
	}
	for name, value := range p.keys.more {
		m[name] = value
	}
	return m
}

// serveKeys publishes the key set.
func (p *provider) serveKeys(w http.ResponseWriter, r *http.Request) {
	if !allow(w, r, http.MethodGet, http.MethodHead) {
		return
	}
	set := []any{}
	for _, other := range slices.Concat(p.keys.others, p.tenant.OtherKeys) {
		set = append(set, json.RawMessage(other))
	}
	for _, k := range p.server.Keys() {
		set = append(set, p.jwk(k))
	}
	if p.keys.cacheControl != "" {
		w.Header().Set("Cache-Control", p.keys.cacheControl)
	}
	writeJSON(w, http.StatusOK, map[string]any{"keys": set})
}

// certificate is a self-signed one for a key, in DER, always the same.
func (p *provider) certificate(k *Key) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	if der := p.certs[k.id]; der != nil {
		return der
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: k.id},
		NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<32, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k.private)
	if err != nil {
		panic("issuer: a key cannot sign its certificate: " + err.Error())
	}
	p.certs[k.id] = der
	return der
}

// header is what the provider's tokens begin with.
func (p *provider) header(k *Key) map[string]any {
	h := map[string]any{"alg": k.Algorithm(), "kid": p.kid(k)}
	if p.typ != "" {
		h["typ"] = p.typ
	}
	return h
}

// headerText writes a header as the provider does.
func (p *provider) headerText(v any) []byte {
	if h := v.(map[string]any); p.oddHeader != "" && len(h) == 3 && h["typ"] == p.typ {
		return fmt.Appendf(nil, p.oddHeader, h["alg"], h["kid"])
	}
	return mustJSON(v)
}
