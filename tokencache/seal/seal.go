// Package seal encrypts what leaves the process: tokens in a shared cache and on disk. Sealed text opens only under the key that
// sealed it and together with what it was bound to, so that a value that was moved to another name is worth nothing.
package seal

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
)

// KeyBytes is the length of a key.
const KeyBytes = 32

// Keys are the keys of a key file. The first seals and makes names, all open. They do not change, are safe for concurrent use,
// and cannot be printed.
type Keys struct{ keys []key }

type key struct {
	id   [idBytes]byte // tells which key sealed a text
	aead cipher.AEAD
	name []byte
}

const (
	version = 1
	idBytes = 4
)

// Parse reads a key file: one key a line, 32 bytes in base64. Empty lines are passed over. Its errors name the line, and hold
// nothing of it.
func Parse(text []byte) (*Keys, error) {
	k := new(Keys)
	for i, line := range bytes.Split(text, []byte("\n")) {
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		raw, err := base64.StdEncoding.DecodeString(string(line))
		if err != nil || len(raw) != KeyBytes {
			return nil, fmt.Errorf("line %d is not a key of 32 bytes in base64; make one with: openssl rand -base64 32", i+1)
		}
		made, err := newKey(raw)
		if err != nil {
			return nil, err
		}
		k.keys = append(k.keys, made)
	}
	if len(k.keys) == 0 {
		return nil, errors.New("there is no key; make one with: openssl rand -base64 32")
	}
	return k, nil
}

// newKey derives a key for each use, so that none is used for two.
func newKey(secret []byte) (k key, err error) {
	derive := func(use string) []byte {
		var out []byte
		if err == nil {
			out, err = hkdf.Key(sha256.New, secret, nil, "sidepass "+use, KeyBytes)
		}
		return out
	}
	sealing, id := derive("seal"), derive("key id")
	k.name = derive("name")
	if err != nil {
		return key{}, err
	}
	copy(k.id[:], id)
	block, err := aes.NewCipher(sealing)
	if err != nil {
		return key{}, err
	}
	k.aead, err = cipher.NewGCMWithRandomNonce(block)
	return k, err
}

// Seal encrypts a text and binds it to bound, which is not in the result.
func (k *Keys) Seal(text, bound []byte) []byte {
	first := &k.keys[0]
	out := append([]byte{version}, first.id[:]...)
	return first.aead.Seal(out, nil, text, bound)
}

// ErrSealed says that a text cannot be opened: it was sealed by another key, bound to something else, or changed.
var ErrSealed = errors.New("it is not sealed with one of the keys, or was changed")

// Open decrypts what Seal made under any of the keys with the same bound. The error is ErrSealed.
func (k *Keys) Open(sealed, bound []byte) ([]byte, error) {
	if len(sealed) < 1+idBytes || sealed[0] != version {
		return nil, ErrSealed
	}
	for i := range k.keys {
		if !bytes.Equal(k.keys[i].id[:], sealed[1:1+idBytes]) {
			continue
		}
		if text, err := k.keys[i].aead.Open(nil, nil, sealed[1+idBytes:], bound); err == nil {
			return text, nil
		}
	}
	return nil, ErrSealed
}

// Name is a name for something whose own must not be seen, the same for all who have the first key: an HMAC in base64url.
func (k *Keys) Name(what string) string { return k.keys[0].nameOf(what) }

// Names are the names under each of the keys, the first key's first: replicas whose first key is another stored under another name.
func (k *Keys) Names(what string) []string {
	var out []string
	for i := range k.keys {
		out = append(out, k.keys[i].nameOf(what))
	}
	return out
}

func (k *key) nameOf(what string) string {
	mac := hmac.New(sha256.New, k.name)
	mac.Write([]byte(what))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// String keeps keys out of what is printed.
func (Keys) String() string { return "[keys]" }

// GoString keeps keys out of what is printed with %#v.
func (Keys) GoString() string { return "[keys]" }
