package redis

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"go.uber.org/goleak"

	"github.com/sidepass/sidepass/tokencache"
	"github.com/sidepass/sidepass/tokencache/seal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sealing are keys made of these bytes.
func sealing(t testing.TB, bs ...byte) *seal.Keys {
	t.Helper()
	var text strings.Builder
	for _, b := range bs {
		text.WriteString(base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{b}, seal.KeyBytes)) + "\n")
	}
	k, err := seal.Parse([]byte(text.String()))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// server is a Redis server in this process whose clock follows the machine's.
func server(t *testing.T) *miniredis.Miniredis {
	t.Helper()
	return miniredis.RunT(t)
}

// replica is a cache over a server; changes are what its observer was told.
type replica struct {
	*Cache
	mu      sync.Mutex
	changes []string
}

func connect(t testing.TB, url string, keys *seal.Keys) *replica {
	t.Helper()
	r := &replica{}
	c, err := New(Options{URL: url, Keys: keys, Observer: Observer{Changed: func(up bool, why string) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.changes = append(r.changes, fmt.Sprint(up, " ", why))
	}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	r.Cache = c
	return r
}

func (r *replica) told() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.changes...)
}

func at(m *miniredis.Miniredis) string { return "redis://" + m.Addr() + "/0" }

var key = tokencache.Key{1, 2, 3}

// question asks for any token.
func question() tokencache.Question {
	return tokencache.Question{Key: key, Credentials: "credentials", Fit: func(*tokencache.Token) bool { return true }}
}

// turn asks, and says in a word what the answer was.
func turn(t *testing.T, r *replica, q tokencache.Question) (string, tokencache.Turn) {
	t.Helper()
	got, err := r.Take(t.Context(), q)
	switch {
	case err != nil:
		return "error: " + err.Error(), got
	case got.Token != nil:
		return "token " + got.Token.Reveal(), got
	case got.Holdup != nil:
		return "holdup " + got.Holdup.Failure.Result, got
	case got.Lease != nil:
		return "lease", got
	}
	return "others", got
}

func wantTurn(t *testing.T, r *replica, want string) tokencache.Turn {
	t.Helper()
	got, full := turn(t, r, question())
	if got != want {
		t.Fatalf("want %s, got %s", want, got)
	}
	return full
}

func aToken(text string, age, lasts time.Duration) *tokencache.Token {
	return tokencache.NewToken(text, "read:orders", time.Now().Add(-age), lasts)
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}
