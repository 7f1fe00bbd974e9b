package verify

import (
	"context"
	"crypto/sha256"
	"encoding/base64"

	"github.com/sidepass/sidepass/proxy"
)

// Possession is what a request's sender shows besides the token. The zero value shows nothing: the token is a plain bearer
// token, and must be bound to nothing.
type Possession struct {
	// DPoP says that the token came under the scheme DPoP (RFC 9449, section 7.1). That the sender holds the key is shown by
	// the request's proof, which is not looked at here.
	DPoP bool
	// Certificate is the certificate, in DER, that the client showed on its TLS connection to us; nil without one.
	Certificate []byte
}

// confirmation is what a token is bound to (RFC 7800, section 3.1). The zero value is nothing.
type confirmation struct {
	bound    bool
	jkt, x5t string // thumbprints, of a key by RFC 7638 and of a certificate; "" is none
	strange  bool   // it says something else, or something else too
}

func confirmationOf(d document) confirmation {
	i, ok := d.member(0, "cnf")
	if !ok {
		return confirmation{}
	}
	c := confirmation{bound: true, strange: d.nodes[i].kind != object}
	if c.strange {
		return c
	}
	known := 0 // of its members
	for _, m := range [...]struct {
		name string
		to   *string
	}{{"jkt", &c.jkt}, {"x5t#S256", &c.x5t}} {
		if j, ok := d.member(i, m.name); ok {
			*m.to, _ = d.str(j)
			c.strange = c.strange || *m.to == ""
			known++
		}
	}
	all := 0
	for range d.each(i) {
		all++
	}
	c.strange = c.strange || known == 0 || known != all
	return c
}

// KeyThumbprint is the thumbprint (RFC 7638, SHA-256) of the key whose possession a DPoP proof has to show; "" when the token is
// not bound to a key so.
func (t *Token) KeyThumbprint() string { return t.confirmation.jkt }

// HeldBy says whether a sender who shows this may use the token: nil, or binding_failed (RFC 9449, section 7.2; RFC 8705,
// section 3). Where held says DPoP, the proof is still to be checked. It does not block.
func (t *Token) HeldBy(held Possession) *Error {
	c := &t.confirmation
	switch {
	case !c.bound && !held.DPoP:
		return nil
	case !c.bound:
		return refuse(proxy.BindingFailed, "The token is bound to no key; send it as a bearer token.")
	case c.strange:
		return refuse(proxy.BindingFailed, "The token is bound in a way that is not understood here.")
	case c.jkt != "" && !held.DPoP:
		return refuse(proxy.BindingFailed, "The token is bound to a key by DPoP, and came as a plain bearer token.")
	case c.jkt == "" && held.DPoP:
		return refuse(proxy.BindingFailed, "The token came with the scheme DPoP, and is not bound to a key so.")
	case c.x5t != "" && held.Certificate == nil:
		return refuse(proxy.BindingFailed, "The token is bound to a client certificate, and the connection has none.")
	case c.x5t != "" && !shows(held.Certificate, c.x5t):
		return refuse(proxy.BindingFailed, "The token is bound to another client certificate than the connection's.")
	}
	return nil
}

// shows says whether a certificate has a thumbprint (RFC 8705, section 3.1).
func shows(certificate []byte, thumbprint string) bool {
	sum := sha256.Sum256(certificate)
	var text [43]byte
	base64.RawURLEncoding.Encode(text[:], sum[:])
	return string(text[:]) == thumbprint
}

func (j *judgement) binding(context.Context) *Error { return j.token.HeldBy(j.held) }
