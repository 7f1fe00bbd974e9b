package tokencache

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"math"
	"strings"
	"time"
)

// Subject is the place of one subject token in an [Exchange]. A request makes it, and lets it go at its end.
//
// It holds the subject token, which each flight that it starts needs, and which nothing else keeps: an entry knows its
// subject by the digest alone. A refresh in the background therefore always uses the subject token of the request that
// found the token due. It is safe for concurrent use and cannot be printed.
type Subject struct {
	entry *Entry
	token *string // a pointer, since package fmt prints what is in unexported fields
}

// Get returns a token for the subject, as [Entry.Get] does. A failure with Subject set is this subject's.
func (s *Subject) Get(ctx context.Context) (*Token, Lookup, error) {
	return s.entry.getFor(ctx, *s.token)
}

// Drop is [Entry.Drop].
func (s *Subject) Drop(t *Token) (dropped bool) { return s.entry.Drop(t) }

// of is the key of a subject's token among those of an exchange, whose key k is.
func (k Key) of(subjectToken string) Key {
	subject := sha256.Sum256([]byte(subjectToken))
	return sha256.Sum256(append(k[:], subject[:]...))
}

// expired is the failure of a subject token whose time is over, which no issuer need be asked about.
func expired() *Failure {
	return &Failure{Kind: Refused, Result: ResultOther, Subject: true, Detail: "the subject token has expired; send one that is still valid"}
}

// expiryOf is the exp of a JWT (RFC 7519, section 4.1.4), which nobody has verified: it may only shorten what is done with the
// token. It is zero for any other token, and for one that says nothing of it that can be read.
func expiryOf(token string) time.Time {
	_, rest, ok := strings.Cut(token, ".")
	payload, signature, both := strings.Cut(rest, ".")
	if !ok || !both || strings.Contains(signature, ".") {
		return time.Time{}
	}
	text, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil {
		return time.Time{}
	}
	var claims map[string]json.RawMessage // a struct would take EXP for exp
	if json.Unmarshal(text, &claims) != nil {
		return time.Time{}
	}
	var exp json.Number // which also takes a number in quotes
	if json.Unmarshal(claims["exp"], &exp) != nil || exp == "" {
		return time.Time{}
	}
	const never = 1 << 33       // the year 2242; what is beyond it cannot be told from no end at all
	seconds, _ := exp.Float64() // infinite when it is out of range
	if seconds > never {
		return time.Time{}
	}
	whole, part := math.Modf(max(0, seconds))
	return time.Unix(int64(whole), int64(part*float64(time.Second)))
}
