package redis

import (
	"encoding/json"
	"time"

	"github.com/sidepass/sidepass/tokencache"
	"github.com/sidepass/sidepass/tokencache/seal"
)

// skew is how far apart the clocks of two replicas may be.
const skew = 5 * time.Minute

// life says when something ends. That is told by the server's clock, which is the same for all replicas. So that a server whose
// clock is wrong, or that brings back what is over, can add little to it, the writer's own clock has a say as well. All in
// milliseconds; the zero value is over.
type life struct {
	Ends  int64 `json:"e"` // by the server's clock, since 1970
	Lasts int64 `json:"l"` // from Began on
	Began int64 `json:"b"` // by the writer's clock, since 1970
}

// lifeOf is that of something that began at a reading of our clock and lasts for lasts, when the server's clock was at server
// no later than at the reading here of ours.
func lifeOf(began time.Time, lasts time.Duration, here, server time.Time) life {
	ends := server.Add(began.Add(lasts).Sub(here)) // differences of ours are monotonic
	return life{Ends: ends.UnixMilli(), Lasts: lasts.Milliseconds(), Began: began.UnixMilli()}
}

// left is how much of it is left, never more than there is.
func (l life) left(server, now time.Time) time.Duration {
	left := min(l.Ends-server.UnixMilli(), l.Lasts, l.Began+l.Lasts+skew.Milliseconds()-now.UnixMilli())
	const most = int64(1<<63-1) / int64(time.Millisecond)
	return time.Duration(max(0, min(left, most))) * time.Millisecond
}

// tokenRecord is a token as it is sealed.
type tokenRecord struct {
	life
	Token string `json:"t"`
	Scope string `json:"s,omitempty"`
}

// holdupRecord is a back-off as it is sealed.
type holdupRecord struct {
	life
	Kind        tokencache.Kind `json:"k"`
	Result      string          `json:"r"`
	Code        string          `json:"c,omitempty"`
	Detail      string          `json:"d"`
	Credentials string          `json:"w"`
	InARow      int             `json:"n"`
}

// bound is what a sealed record is bound to: what it is, and of which key.
func bound(what string, key tokencache.Key) []byte { return append([]byte(what+" "), key[:]...) }

// mark tells tokens of a key apart for who has the sealing keys, one for each of them.
func marks(k *seal.Keys, key tokencache.Key, token string) []string {
	return k.Names("mark " + string(key[:]) + token)
}

// names are those of a key, one for each sealing key.
func names(k *seal.Keys, key tokencache.Key) []string { return k.Names("key " + string(key[:])) }

// markBytes is the length of a mark: an HMAC of 32 bytes in base64url.
const markBytes = 43

// markOf is the beginning of what is there, be it ours or not.
func markOf(value string) string { return value[:min(len(value), markBytes)] }

// sealToken is a token as it is stored; "" when it is too long.
func sealToken(k *seal.Keys, key tokencache.Key, t *tokencache.Token, l life) string {
	text, err := json.Marshal(tokenRecord{life: l, Token: t.Reveal(), Scope: t.Scope})
	if err != nil {
		return ""
	}
	return within(marks(k, key, t.Reveal())[0] + string(k.Seal(text, bound("token", key))))
}

func within(value string) string {
	if len(value) > maxValue {
		return ""
	}
	return value
}

// openToken is a stored token with the life that it has left; nil when it is not ours, or over. asked is a reading of our clock
// before the server was asked.
func openToken(k *seal.Keys, key tokencache.Key, value string, asked, server time.Time) *tokencache.Token {
	var r tokenRecord
	if len(value) < markBytes || !open(k, value[markBytes:], bound("token", key), &r) {
		return nil
	}
	left := r.left(server, asked)
	if left == 0 || r.Token == "" {
		return nil
	}
	lasts := time.Duration(r.Lasts) * time.Millisecond
	return tokencache.NewToken(r.Token, r.Scope, asked.Add(left-lasts), lasts)
}

func sealHoldup(k *seal.Keys, key tokencache.Key, h *tokencache.Holdup, l life) string {
	f := h.Failure
	text, err := json.Marshal(holdupRecord{life: l, Kind: f.Kind, Result: f.Result, Code: f.Code, Detail: f.Detail, Credentials: h.Credentials, InARow: h.InARow})
	if err != nil {
		return ""
	}
	return within(string(k.Seal(text, bound("backoff", key))))
}

// openHoldup is a stored back-off that holds for these credentials, or nil.
func openHoldup(k *seal.Keys, q tokencache.Question, value string, asked, server time.Time) *tokencache.Holdup {
	var r holdupRecord
	if !open(k, value, bound("backoff", q.Key), &r) || r.Credentials != q.Credentials {
		return nil
	}
	left := r.left(server, asked)
	if left == 0 {
		return nil
	}
	return &tokencache.Holdup{Credentials: r.Credentials, InARow: r.InARow, Failure: &tokencache.Failure{
		Kind: r.Kind, Result: r.Result, Code: r.Code, Detail: r.Detail, RetryAfter: left, Answered: true,
	}}
}

func open(k *seal.Keys, value string, bound []byte, into any) bool {
	text, err := k.Open([]byte(value), bound)
	return err == nil && json.Unmarshal(text, into) == nil
}
