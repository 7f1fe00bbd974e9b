package verify

import (
	"encoding/binary"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sidepass/sidepass/proxy"
)

func TestProofIsUsedOnce(t *testing.T) {
	w := newProofWorld(t, pair("ES256", "k", "prover"))
	proof := w.proof(nil)
	w.takes(t, proof)
	w.refuses(t, proof, proxy.InvalidDPoPProof, "used before")
	again := w.proof(nil)
	if again == proof {
		t.Fatal("want another signature of the same claims")
	}
	w.refuses(t, again, proxy.InvalidDPoPProof, "used before")
	w.refuses(t, w.proof(set("iat", t0.Unix()-20)), proxy.InvalidDPoPProof, "used before")
	w.takes(t, w.proof(set("jti", "another")))

	other := newProofWorld(t, pair("ES256", "k", "somebody else"))
	other.replays = w.replays
	other.takes(t, other.proof(nil)) // jti is the key's holder's own

	w.clock = t0.Add(90 * time.Second)
	w.refuses(t, proof, proxy.InvalidDPoPProof, "used before") // to the last moment
	w.clock = t0.Add(90*time.Second + 1)
	w.refuses(t, proof, proxy.InvalidDPoPProof, "too long ago")
}

// A reload with more leeway, or a clock that is set back, makes proofs acceptable again that were forgotten.
func TestForgottenProofsAreNeverAccepted(t *testing.T) {
	w := newProofWorld(t, pair("ES256", "k", "prover"))
	o := ProofOptions{Resource: proofResource, Replays: &Replays{}, Nonces: &Nonces{}, Leeway: 0}
	w.configure(t, o)
	proof := w.proof(nil)
	w.takes(t, proof)
	later := func(at time.Duration, jti string) {
		w.clock = t0.Add(at)
		w.takes(t, w.proof(func(d *draft) { set("iat", w.clock.Unix())(d); set("jti", jti)(d) }))
	}
	later(80*time.Second, "later") // forgets the first
	if n := w.replays.count; n != 1 {
		t.Fatalf("%d proofs are remembered, want 1", n)
	}
	o.Leeway = 5 * time.Minute
	w.configure(t, o)
	w.refuses(t, proof, proxy.InvalidDPoPProof, "to tell whether")
	w.clock = t0
	w.refuses(t, proof, proxy.InvalidDPoPProof, "to tell whether")
	later(85*time.Second, "much later") // and that does not shut out those of today

	w.clock = t0.Add(24 * time.Hour) // a clock that was ahead for a moment
	w.takes(t, w.proof(func(d *draft) { set("iat", w.clock.Unix())(d); set("jti", "tomorrow")(d) }))
	later(120*time.Second, "back again")
}

// Two at once: exactly one passes.
func TestProofIsUsedOnceByManyAtATime(t *testing.T) {
	w := newProofWorld(t, pair("EdDSA", "k", "prover"))
	proofs := make([]string, 20)
	passed := make([]atomic.Int32, len(proofs))
	for i := range proofs {
		proofs[i] = w.proof(set("jti", string(rune('a'+i))))
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i, proof := range proofs {
				if w.Verify(proof, w.use) == nil {
					passed[i].Add(1)
				}
			}
		})
	}
	wg.Wait()
	for i := range passed {
		if n := passed[i].Load(); n != 1 {
			t.Errorf("proof %d passed %d times", i, n)
		}
	}
}

// A key may have half of the memory, and then no more than its share: there is room for all the others.
func TestOneKeyDoesNotFillTheMemory(t *testing.T) {
	var r Replays
	use := func(i int, key byte) outcome {
		var id proofID
		binary.BigEndian.PutUint64(id[:], uint64(i))
		id[15] = key
		return r.use(id, keyID{key}, t0, t0)
	}
	for i := range maxReplays {
		if want := map[bool]outcome{true: firstUse, false: tooMany}[i < maxReplays/2]; use(i, 1) != want {
			t.Fatalf("proof %d: want %d", i, want)
		}
	}
	for i := range maxOfOneKey {
		if got := use(i, 2); got != firstUse {
			t.Fatalf("proof %d of another key: %d", i, got)
		}
	}
	if got := use(maxOfOneKey, 2); got != tooMany {
		t.Errorf("beyond the share: %d", got)
	}
	later := t0.Add(time.Hour)
	if got := r.use(proofID{1}, keyID{1}, later, later); got != firstUse || len(r.held) != 1 {
		t.Errorf("an hour later: %d, %d keys remembered", got, len(r.held))
	}
}

// The memory is bounded, small, and given back.
func TestReplaysAreBounded(t *testing.T) {
	size := func() uint64 {
		var s runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&s)
		return s.HeapAlloc
	}
	before := size()
	w := newProofWorld(t, pair("ES256", "k", "prover"))
	for i := range maxReplays {
		var id proofID
		binary.BigEndian.PutUint64(id[:], uint64(i))
		issued := t0.Add(time.Duration(i%60) * time.Second)
		if got := w.replays.use(id, keyID{byte(i % 32)}, issued, t0); got != firstUse {
			t.Fatalf("proof %d: %d", i, got)
		}
	}
	if each := (size() - before) / maxReplays; each > 40 {
		t.Errorf("a proof takes %d bytes, want 40 at most", each)
	} else {
		t.Logf("a proof takes %d bytes", each)
	}
	w.refuses(t, w.proof(nil), proxy.InvalidDPoPProof, "no more can be remembered")
	w.clock = t0.Add(101 * time.Second) // ten seconds' worth of proofs is forgotten
	w.takes(t, w.proof(set("iat", w.clock.Unix())))
	if n := w.replays.count; n >= maxReplays {
		t.Errorf("still %d are remembered", n)
	}
	w.clock = t0.Add(time.Hour)
	w.takes(t, w.proof(set("iat", w.clock.Unix())))
	if n := w.replays.count; n != 1 || len(w.replays.buckets) != 1 {
		t.Errorf("an hour later %d are remembered in %d buckets, want 1", n, len(w.replays.buckets))
	}
}
