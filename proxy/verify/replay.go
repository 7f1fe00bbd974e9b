package verify

import (
	"crypto/sha256"
	"slices"
	"sync"
	"time"
)

// Replays remembers the DPoP proofs that were used, each until it could be accepted no longer (RFC 9449, section 11.1). It holds
// 262,144 of them, in 10 MiB at most; proofs beyond that are refused. The zero value is empty and has taken no memory yet; it must
// not be copied. It has no goroutine, is safe for concurrent use, and may outlive any number of Proofs that share it. It is this
// process's own: another one accepts the same proof once more.
type Replays struct {
	mu      sync.Mutex
	buckets []bucket // in no order; never empty ones
	count   int      // of proofs in all buckets
	held    map[keyID]int
	floor   int64 // proofs that belong in a bucket before this one have been forgotten; 0 while none has been
}

// bucket has the proofs whose iat is in the same span of time. They are forgotten together.
type bucket struct {
	number int64 // of the span, since 1970
	used   map[proofID]struct{}
	held   map[keyID]int // how many of them are of a key
}

// proofID stands for a proof: a digest of its key and its jti.
type proofID [16]byte

// keyID stands for a key: the beginning of its thumbprint.
type keyID [8]byte

const (
	maxReplays = 1 << 18
	bucketSpan = 10 // seconds

	// One key may have half of the memory, and once half of it is taken no more than this: nobody shuts the others out.
	maxOfOneKey = maxReplays / 16
)

// proofIDOf digests the thumbprint of a key and the jti that its holder chose. A thumbprint has one length: nobody can choose the two
// so that they stand for somebody else's proof.
func proofIDOf(thumbprint [32]byte, jti string) proofID {
	text := make([]byte, 0, len(thumbprint)+maxJTI)
	sum := sha256.Sum256(append(append(text, thumbprint[:]...), jti...))
	return proofID(sum[:len(proofID{})])
}

// outcome is what became of a proof's use.
type outcome uint8

const (
	firstUse outcome = iota
	usedBefore
	tooMany      // of one key
	tooOldToTell // it is of a time whose proofs have been forgotten: the clock was set back, or the leeway has grown
	memoryFull
)

// use notes a proof of a key that was issued at that time, unless it was used before. oldest is how old a proof may be at most just now.
// Of any number of calls with one proof, one gets firstUse.
func (r *Replays) use(id proofID, key keyID, issued, oldest time.Time) outcome {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.buckets = slices.DeleteFunc(r.buckets, func(b bucket) bool {
		if b.number >= bucketOf(oldest) {
			return false
		}
		r.count -= len(b.used)
		for of, n := range b.held {
			if r.held[of] -= n; r.held[of] == 0 {
				delete(r.held, of)
			}
		}
		r.floor = max(r.floor, b.number+1)
		return true
	})
	number := bucketOf(issued)
	if number < r.floor {
		return tooOldToTell
	}
	own := -1
	for i, b := range r.buckets {
		if _, before := b.used[id]; before {
			return usedBefore
		}
		if b.number == number {
			own = i
		}
	}
	switch {
	case r.count >= maxReplays:
		return memoryFull
	case r.count >= maxReplays/2 && r.held[key] >= maxOfOneKey:
		return tooMany
	}
	if own < 0 {
		own = len(r.buckets)
		r.buckets = append(r.buckets, bucket{number, map[proofID]struct{}{}, map[keyID]int{}})
	}
	if r.held == nil {
		r.held = map[keyID]int{}
	}
	b := r.buckets[own]
	b.used[id] = struct{}{}
	b.held[key]++
	r.held[key]++
	r.count++
	return firstUse
}

func bucketOf(t time.Time) int64 { return t.Unix() / bucketSpan }
