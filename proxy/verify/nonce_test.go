package verify

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/sidepass/sidepass/proxy"
)

func TestNonce(t *testing.T) {
	w := newProofWorld(t, pair("ES256", "k", "prover"))
	nonce := w.Nonce()
	if len(nonce) != 32 || strings.ContainsAny(nonce, " \"\\") {
		t.Errorf("%q, want NQCHARs (RFC 9449, section 8.1)", nonce)
	}
	with := func(nonce, jti string) string {
		return w.proof(func(d *draft) { set("nonce", nonce)(d); set("jti", jti)(d); set("iat", w.clock.Unix())(d) })
	}
	for _, c := range []struct {
		after time.Duration
		fresh bool
	}{{0, true}, {5 * time.Minute, true}, {5*time.Minute + 1, false}, {-5 * time.Minute, true}, {-5*time.Minute - time.Second, false}, {24 * 365 * time.Hour, false}} {
		w.configure(t, ProofOptions{Resource: proofResource, Replays: &Replays{}, Nonces: w.nonces})
		w.clock = t0.Add(c.after)
		if c.fresh {
			w.takes(t, with(nonce, c.after.String()))
		} else {
			w.refuses(t, with(nonce, c.after.String()), proxy.UseDPoPNonce, "")
			w.takes(t, with(w.Nonce(), c.after.String())) // the new one that the answer has
		}
	}
	w.clock = t0
	raw, _ := base64.RawURLEncoding.DecodeString(nonce)
	flip := func(i int) string {
		b := []byte(string(raw))
		b[i] ^= 1
		return b64(b)
	}
	for name, bad := range map[string]string{
		"of another process": newProofWorld(t, w.key).Nonce(), "another time": flip(7), "another code": flip(8), "code changed at its end": flip(23),
		"cut": nonce[:28], "longer": nonce + "AAAA", "a line break inside": nonce[:31] + "\n", "without a code": b64(raw[:8]), "zeros": b64(make([]byte, 24)),
	} {
		if w.nonces.fresh(bad, t0) {
			t.Errorf("%s: accepted", name)
		}
	}
}

// A nonce that is not ours says nothing of the rest: a proof that is wrong for good is refused for good.
func TestNonceIsJudgedLate(t *testing.T) {
	w := newProofWorld(t, pair("ES256", "k", "prover"))
	w.refuses(t, w.proof(func(d *draft) { set("nonce", "x")(d); set("htm", "POST")(d) }), proxy.InvalidDPoPProof, "htm")
	w.refuses(t, w.proof(set("nonce", "x")), proxy.UseDPoPNonce, "")
}
