// Package verify answers one question: is this token good? It judges a JWT access token (RFC 7519, RFC 8725, RFC 9068)
// by the issuers that are trusted, their keys, and what is expected of their tokens. It knows no HTTP.
//
// Nothing in a token chooses how it is checked: a token's `iss` selects a trust, whose configuration says the keys and
// the algorithms. Signatures are verified by github.com/golang-jwt/jwt/v5, everything around them is checked here,
// strictly, before: see the list of checks in judge.go.
package verify

import (
	"context"
	"errors"
	"runtime"
	"time"

	"github.com/sidepass/sidepass/proxy"
)

// MaxTokenBytes is the length of the longest token that is looked at.
const MaxTokenBytes = 32 << 10

// Options are what a Verifier works by.
type Options struct {
	// Trusts are the trusted issuers, at least one, each identifier once.
	Trusts []Trust
	// Cache keeps tokens that were verified. It may be shared with other Verifiers, before and after this one; nil keeps none.
	Cache *Cache
	// Revocations are looked up at each use of a token; nil are none.
	Revocations Revocations
	// Leeway is how far clocks may be apart (RFC 7519, section 4.1.4).
	Leeway time.Duration
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	// Observer is told what happens.
	Observer Observer
}

// Observer is a set of optional functions. They are called on the request's path and must not block.
type Observer struct {
	// CacheLookup is told of each look-up in the cache: CacheHit, CacheMiss or CacheRefused.
	CacheLookup func(result string)
}

// Verifier judges tokens. It is immutable and safe for concurrent use.
type Verifier struct {
	trusts      map[string]*trust // :: issuer identifier → trust
	cache       *Cache
	revocations Revocations
	leeway      time.Duration
	now         func() time.Time
	lookup      func(result string)
	verifying   chan struct{} // see newTurns
}

// newTurns holds a value for each signature that is being verified. One processor less than there are keeps moving what needs
// none: whoever sends bad signatures by the thousand must not starve those whose tokens are known to be good.
func newTurns() chan struct{} { return make(chan struct{}, max(1, runtime.GOMAXPROCS(0)-1)) }

// New returns a Verifier, or an error that says which trust cannot work.
func New(o Options) (*Verifier, error) {
	trusts, err := compileAll(o.Trusts)
	if err != nil {
		return nil, err
	}
	if o.Leeway < 0 {
		return nil, errors.New("the leeway is negative")
	}
	v := &Verifier{
		trusts: trusts, cache: o.Cache, revocations: o.Revocations, leeway: o.Leeway, now: o.Now, lookup: o.Observer.CacheLookup,
		verifying: newTurns(),
	}
	if v.now == nil {
		v.now = time.Now
	}
	if v.lookup == nil {
		v.lookup = func(string) {}
	}
	return v, nil
}

// Verify judges a token in the compact serialization (RFC 7515, section 7.1). The error is always an [*Error]. It may
// block, until ctx ends, for the keys of the token's issuer and for its turn to have the signature verified: that is done for one
// token less at a time than there are processors, but always for one. It keeps no reference to compact.
//
// A token that is bound to a key (RFC 7800) is good only together with what its sender holds. Where held says DPoP, the caller
// goes on to hold the request's proof against [Token.KeyThumbprint].
//
// For a token that was verified before, the time, the binding and the revocations are checked again, and that its key is still published
// where the issuer's key set was replaced; that takes no parsing and no allocation.
func (v *Verifier) Verify(ctx context.Context, compact string, held Possession) (*Token, error) {
	now := v.now()
	cache := v.cache
	if len(compact) > MaxTokenBytes {
		cache = nil // it is refused before anything of its length is done
	}
	var id digest
	if cache != nil {
		id = digestOf(compact)
		if token, err := v.cached(id, now, held); err != nil {
			return nil, err
		} else if token != nil {
			return token, nil
		}
	}
	j := judgement{v: v, compact: compact, held: held, now: now}
	err := j.run(ctx, checks[:])
	switch {
	case cache == nil:
	case err == nil, err.Reason == proxy.BindingFailed, err.Reason == proxy.Revoked, err.Reason == proxy.RevocationsUnavailable:
		cache.keep(id, &j) // it is judged again at each use; a revoked token that comes again and again must not cost a signature each time
	case err.Reason == proxy.BadSignature:
		cache.refuse(id, &j)
	}
	if err != nil {
		return nil, err
	}
	return j.token, nil
}

// Recheck judges again a token that this Verifier accepted before: its time, and whether it was revoked since. It does not
// block or allocate, and it asks neither whether the token's key is still published nor who holds the token. The error is always an [*Error].
func (v *Verifier) Recheck(t *Token) error {
	trust := v.trusts[t.Issuer]
	if trust == nil {
		return refuse(proxy.UntrustedIssuer, "")
	}
	err := v.inTime(trust, t, v.now())
	if err == nil {
		err = v.revoked(t)
	}
	if err == nil {
		return nil
	}
	err.Issuer = trust.Name
	return err
}

// Step is one check and how it ended.
type Step struct {
	// Name says in a word or two what is checked.
	Name string
	// Err is nil when the check passed.
	Err *Error
}

// Explain judges a token as [Verifier.Verify] does, without the cache, and returns the checks in the order in which they
// were made. Only the last can have failed; the token is nil if it did.
func (v *Verifier) Explain(ctx context.Context, compact string, held Possession) ([]Step, *Token) {
	j := judgement{v: v, compact: compact, held: held, now: v.now()}
	return j.explain(ctx, checks[:])
}

func (j *judgement) explain(ctx context.Context, checks []check) ([]Step, *Token) {
	var steps []Step
	for _, c := range checks {
		err := j.check(ctx, c)
		steps = append(steps, Step{c.name, err})
		if err != nil {
			return steps, nil
		}
	}
	return steps, j.token
}
