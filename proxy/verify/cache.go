package verify

import (
	"crypto/sha256"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/maypok86/otter/v2"

	"github.com/sidepass/sidepass/proxy"
	"github.com/sidepass/sidepass/proxy/jwks"
)

// The words for a look-up in the cache.
const (
	CacheHit     = "hit"
	CacheMiss    = "miss"
	CacheRefused = "refused" // its signature was found bad a moment ago
)

// Bounds of the cache.
const (
	defaultEntries = 10_000
	entryBytes     = 2 << 10 // a token that holds on to more counts as several entries
	refusedEntries = 1_000
	refusedFor     = 5 * time.Second
)

// Cache keeps tokens that were verified, so that a token is parsed and its signature verified once. It never keeps a
// decision: what is expected of the token, its time, its key and the revocations are held against it at each use, rules and
// scopes by the caller. For a few seconds it also remembers tokens whose signature is bad, so that repeating one costs little.
//
// It is bounded, safe for concurrent use, has no goroutine, and may outlive any number of Verifiers that share it.
// A token's text is not kept, only its SHA-256.
type Cache struct {
	good *otter.Cache[digest, *verified]
	bad  *otter.Cache[digest, *refused]
}

type digest = [sha256.Size]byte

// digestOf hashes a token without the copy that a conversion to []byte makes; Sum256 does not write to its argument.
func digestOf(compact string) digest {
	return sha256.Sum256(unsafe.Slice(unsafe.StringData(compact), len(compact)))
}

// verified is a token and what its verification rested on.
type verified struct {
	token            *Token
	policy           [sha256.Size]byte
	thumbprint       [32]byte                 // of its key
	kid, alg, tenant string                   // by which the key was found
	set              atomic.Pointer[jwks.Set] // the last one in which the key was found
}

// refused is a bad signature and what that rested on. It holds as long as the keys stay the same.
type refused struct {
	issuer string
	policy [sha256.Size]byte
	set    *jwks.Set
	at     time.Time
}

// NewCache returns a cache for so many tokens of up to 2 KiB in memory; larger ones count as several. 0 is 10,000.
func NewCache(entries int) (*Cache, error) {
	if entries == 0 {
		entries = defaultEntries
	}
	now := func(f func()) { f() } // upkeep happens in who causes it
	good, err := otter.New(&otter.Options[digest, *verified]{
		MaximumWeight: uint64(max(1, entries)),
		Weigher:       func(_ digest, e *verified) uint32 { return 1 + uint32(e.size()/entryBytes) },
		Executor:      now,
	})
	if err != nil {
		return nil, err
	}
	bad, err := otter.New(&otter.Options[digest, *refused]{MaximumSize: refusedEntries, Executor: now})
	if err != nil {
		return nil, err
	}
	return &Cache{good, bad}, nil
}

// Len is about how many verified tokens the cache holds.
func (c *Cache) Len() int { return c.good.EstimatedSize() }

func (e *verified) size() int {
	return int(unsafe.Sizeof(*e)) + e.token.size() + len(e.kid) + len(e.tenant)
}

// keep remembers a token that passed all checks but perhaps that for revocation, which is made at each use.
func (c *Cache) keep(id digest, j *judgement) {
	e := &verified{token: j.token, policy: j.trust.policy, thumbprint: j.key.Thumbprint, kid: j.key.ID, alg: j.alg}
	if e.kid != j.kid { // the token names none, or the key has none
		e.kid = strings.Clone(j.kid)
	}
	if j.key.Issuer != "" {
		e.tenant = strings.Clone(j.tenant())
	}
	e.set.Store(j.set)
	c.good.Set(id, e)
}

// refuse remembers a token whose signature is bad.
func (c *Cache) refuse(id digest, j *judgement) {
	c.bad.Set(id, &refused{j.trust.Issuer, j.trust.policy, j.set, j.now})
}

// cached judges a token by what is remembered of it. Both results are nil when that is not enough.
func (v *Verifier) cached(id digest, now time.Time, held Possession) (*Token, *Error) {
	if e, ok := v.cache.good.GetIfPresent(id); ok {
		if t := v.trusts[e.token.Issuer]; t != nil && t.policy == e.policy && e.published(t) {
			v.lookup(CacheHit)
			err := v.inTime(t, e.token, now)
			if err != nil && err.Reason != proxy.NotYetValid { // it never becomes good again
				v.cache.good.Invalidate(id)
			}
			if err == nil {
				err = e.token.HeldBy(held)
			}
			if err == nil {
				err = v.revoked(e.token)
			}
			if err == nil {
				return e.token, nil
			}
			err.Issuer = t.Name
			return nil, err
		}
	} else if r, ok := v.cache.bad.GetIfPresent(id); ok {
		age := now.Sub(r.at)
		if t := v.trusts[r.issuer]; t != nil && t.policy == r.policy && t.Keys.Snapshot() == r.set && age >= 0 && age < refusedFor {
			v.lookup(CacheRefused)
			err := refuse(proxy.BadSignature, "")
			err.Issuer = t.Name
			return nil, err
		}
	}
	v.lookup(CacheMiss)
	return nil, nil
}

// published says whether the token's key is still among its issuer's, found by the same header.
func (e *verified) published(t *trust) bool {
	set := t.Keys.Snapshot()
	if set == nil {
		return false
	}
	if e.set.Load() == set {
		return true
	}
	for _, k := range usable(set, e.kid, e.alg, t.Issuer, e.tenant) {
		if k.Thumbprint == e.thumbprint {
			e.set.Store(set)
			return true
		}
	}
	return false
}
