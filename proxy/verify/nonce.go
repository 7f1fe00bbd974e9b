package verify

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"sync"
	"time"
)

// nonceLife is how long a nonce is good, either side of the moment that it names: the clock may be set back.
const nonceLife = 5 * time.Minute

// The parts of a nonce in bytes: a time, and a code that says it is ours.
const (
	nonceTime = 8
	nonceCode = 16
)

// Nonces gives out the nonces of DPoP proofs (RFC 9449, section 9) and knows them again, without keeping any: each names its time, under
// a key that nobody else has. The zero value is ready; it must not be copied, and is safe for concurrent use. Another process's nonces
// are none of ours.
type Nonces struct {
	once sync.Once
	key  [32]byte
}

// issue returns a nonce that is good from now on for five minutes.
func (n *Nonces) issue(now time.Time) string {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, nonceTime+nonceCode), uint64(now.Unix()))
	return base64.RawURLEncoding.EncodeToString(append(b, n.code(b)...))
}

// fresh says whether a nonce is one that was given out a short time ago.
func (n *Nonces) fresh(nonce string, now time.Time) bool {
	if len(nonce) != base64.RawURLEncoding.EncodedLen(nonceTime+nonceCode) {
		return false
	}
	b, err := strict.DecodeString(nonce)
	if err != nil || len(b) != nonceTime+nonceCode || !hmac.Equal(b[nonceTime:], n.code(b[:nonceTime])) {
		return false
	}
	issued := time.Unix(int64(binary.BigEndian.Uint64(b)), 0)
	return now.Sub(issued).Abs() <= nonceLife
}

func (n *Nonces) code(text []byte) []byte {
	n.once.Do(func() { _, _ = rand.Read(n.key[:]) }) // it never fails
	mac := hmac.New(sha256.New, n.key[:])
	mac.Write(text)
	return mac.Sum(nil)[:nonceCode]
}
