package verify

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/sidepass/sidepass/proxy"
)

// A signature waits for its turn; a token that was verified does not, and what is refused before its signature does not either.
func TestSignaturesTakeTurns(t *testing.T) {
	pair("RS256", "rs", "good") // made outside of the bubble
	pair("PS256", "ps", "good2")
	synctest.Test(t, func(t *testing.T) {
		w := cachedWorld(t, func(o *Options) { o.Observer = Observer{} })
		cached, fresh, late := w.mint(nil), w.mint(m{"jti": "fresh"}), w.mint(m{"jti": "late"})
		w.accept(t, cached)
		for range cap(w.verifying) {
			w.verifying <- struct{}{}
		}
		answers := make(chan error, 1)
		verify := func(ctx context.Context, token string) {
			go func() {
				_, err := w.Verify(ctx, token, Possession{})
				answers <- err
			}()
			synctest.Wait()
		}
		waits := func() {
			t.Helper()
			select {
			case err := <-answers:
				t.Fatalf("it did not wait: %v", err)
			default:
			}
		}
		verify(t.Context(), fresh)
		waits()
		if _, err := w.Verify(t.Context(), cached, Possession{}); err != nil {
			t.Errorf("a token that was verified: %v", err)
		}
		w.refuse(t, w.mint(m{"exp": 1}), proxy.Expired)
		<-w.verifying
		if err := <-answers; err != nil {
			t.Errorf("when it was its turn: %v", err)
		}
		w.verifying <- struct{}{} // its place is free again
		ctx, cancel := context.WithCancel(t.Context())
		verify(ctx, late)
		waits()
		cancel()
		var e *Error
		if err := <-answers; !errors.As(err, &e) || e.Reason != proxy.KeysUnavailable || e.RetryAfter == 0 || e.Issuer != "idp" {
			t.Errorf("a request that ended: %v", err)
		}
		for range cap(w.verifying) {
			<-w.verifying
		}
		w.accept(t, late) // the end of one request says nothing about the token
	})
}

// A bad signature gives its place back.
func TestBadSignaturesGiveTheirTurnBack(t *testing.T) {
	evil := pair("RS256", "rs", "evil")
	pair("RS256", "rs", "good")
	pair("PS256", "ps", "good2")
	synctest.Test(t, func(t *testing.T) { // which finds those who would wait for ever
		w := newWorld(t, nil)
		for range cap(w.verifying) + 1 {
			w.refuse(t, evil.jwt(evil.header(nil), claims(nil)), proxy.BadSignature)
		}
		w.accept(t, w.mint(nil))
	})
}
