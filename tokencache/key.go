package tokencache

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"slices"
)

// Key names what a token is for: whoever asks for the same shares a token, nobody else does.
// It is a digest and reveals nothing of what went into it.
type Key [sha256.Size]byte

// Param is one extra form field of a token request.
type Param struct{ Name, Value string }

// KeyFields is everything that decides which token an issuer gives. The client's secret is not part of it,
// so that a rotated secret does not throw good tokens away. The subject token of an exchange is part of the key too: an
// [Exchange] adds it.
type KeyFields struct {
	Issuer        string // the issuer identifier
	TokenEndpoint string // as configured; "" when it is discovered
	ClientID      string
	AuthMethod    string
	Grant         string
	Audience      []string // in the order they are sent
	Resource      []string // likewise
	Scopes        []string // a set: order and repetition do not matter (RFC 6749, section 3.3)
	Params        []Param  // in the order they are sent
	Binding       string   // thumbprint of the key or certificate that the token is bound to, else ""
}

// KeyOf digests the fields. Each is written with its length and each list with its count, so that no value can
// take the place of a separator.
func KeyOf(f KeyFields) Key {
	d := digest{sha256.New()}
	for _, s := range []string{f.Issuer, f.TokenEndpoint, f.ClientID, f.AuthMethod, f.Grant, f.Binding} {
		d.text(s)
	}
	d.list(f.Audience)
	d.list(f.Resource)
	d.list(slices.Compact(slices.Sorted(slices.Values(f.Scopes))))
	d.count(len(f.Params))
	for _, p := range f.Params {
		d.text(p.Name)
		d.text(p.Value)
	}
	return Key(d.Sum(nil))
}

type digest struct{ hash.Hash }

func (d digest) count(n int) {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(n))
	d.Write(b[:])
}

func (d digest) text(s string) {
	d.count(len(s))
	d.Write([]byte(s))
}

func (d digest) list(l []string) {
	d.count(len(l))
	for _, s := range l {
		d.text(s)
	}
}
