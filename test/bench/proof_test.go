//go:build linux

package bench

import (
	"bytes"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/sidepass/sidepass/test/issuer"
)

// proveInbound sees that a subject lets a good token through and none that is not; what it refuses does not reach the app.
func (b *bench) proveInbound(t *testing.T, s *subject) {
	t.Helper()
	bad := getOrder(b.good)
	copy(signatureMark(bad), "00000000")
	for _, c := range []struct {
		what    string
		request []byte
		want    []int
	}{
		{"a good token", getOrder(b.good), []int{200}},
		{"no token", getOrder(""), []int{401}},
		{"an expired token", getOrder(b.issuer.Mint(orders(map[string]any{"exp": time.Now().Add(-time.Hour).Unix()}))), []int{401}},
		{"a bad signature", bad, []int{401}},
		{"an unknown key", getOrder(b.unknown("other")), []int{401}},
		{"another issuer", getOrder(b.issuer.Mint(orders(map[string]any{"iss": "https://other.test"}))), []int{401}},
		{"another audience", getOrder(b.issuer.Mint(orders(map[string]any{"aud": "https://other"}))), []int{401, 403}},
		{"no such scope", getOrder(b.issuer.Mint(orders(map[string]any{"scope": "write:orders"}))), []int{403}},
		{"the good token again", getOrder(b.good), []int{200}},
	} {
		before := b.up.seen.Load()
		status, err := ask(s.address, c.request)
		reached := b.up.seen.Load() - before
		if err != nil || !slices.Contains(c.want, status) {
			t.Fatalf("%s: %s: got %d, %v, want %v", s.name, c.what, status, err, c.want)
		}
		if passed := status == http.StatusOK; passed != (reached == 1) {
			t.Fatalf("%s: %s: answered with %d, and %d requests reached the app", s.name, c.what, status, reached)
		}
	}
}

// proveOutbound sees that a subject adds a token to a request that has none.
func (b *bench) proveOutbound(t *testing.T, s *subject) {
	t.Helper()
	b.up.look.Store(true)
	defer b.up.look.Store(false)
	if bytes.Contains(s.request, []byte("Bearer")) {
		t.Fatalf("%s is sent a token", s.name)
	}
	status, err := ask(s.address, s.request)
	if err != nil || status != http.StatusOK {
		t.Fatalf("%s: got %d, %v", s.name, status, err)
	}
	if head := bytes.ToLower(*b.up.last.Load()); !bytes.Contains(head, []byte("\r\nauthorization: bearer eyj")) {
		t.Fatalf("%s added no token", s.name)
	}
}

// unknown is a token that names a key which the issuer does not have.
func (b *bench) unknown(kid string) string {
	return b.issuer.MintWith(orders(nil), issuer.MintOptions{Header: map[string]any{"kid": kid}, Sign: func([]byte) []byte { return bytes.Repeat([]byte("s"), 256) }})
}
