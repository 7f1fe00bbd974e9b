// Package introspect judges opaque access tokens: it asks their issuer what they stand for (RFC 7662) and has the answer
// judged as the claims of a JWT are. It stands where a verifier stands, and hands JWTs on to the one it has: no JWT is ever asked
// about.
//
// What is kept is the issuer's answer, never the decision: expectations, time and revocations are held against it at each use.
// An issuer that does not answer is left alone for a moment, in which tokens whose answer is known go on being judged.
package introspect

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"
	"unsafe"

	"github.com/sidepass/sidepass/proxy"
	"github.com/sidepass/sidepass/proxy/verify"
)

// Doer sends one request; a *issuerhttp.Client is one. It must not follow redirects, which would take the client's secret
// along. The text of its errors, which are *issuerhttp.Error or ctx's, may be shown.
type Doer interface {
	Do(*http.Request) (*http.Response, error)
}

// Options of an Introspector.
type Options struct {
	// Verifier judges JWTs, and answers about opaque tokens.
	Verifier *verify.Verifier
	// Issuer is the configured name of the issuer that is asked, one of those that Verifier trusts.
	Issuer string
	// Endpoint yields the introspection endpoint, from the configuration or from discovery, before each question and within its
	// Timeout. The text of its errors may be shown.
	Endpoint func(context.Context) (string, error)
	// HTTP sends the questions.
	HTTP Doer
	// Client is who asks.
	Client Client
	// Cache keeps answers. It may be shared with Introspectors before and after this one.
	Cache *Cache
	// Server says what answers depend on besides the client: the issuer and how it is reached. An answer that was given to
	// another client or came from another Server is not used.
	Server string
	// MaxAge is how long an answer about an active token is used; 0 keeps none. It is never used beyond the token's exp. An answer
	// about an inactive token is used for 10 s.
	MaxAge time.Duration
	// Timeout bounds one question, with what Endpoint needs and one more try after a broken connection; 0 is 5 seconds.
	Timeout time.Duration
	// Observer is told what happens.
	Observer Observer
}

// Observer is a set of optional functions. They must not block.
type Observer struct {
	// CacheLookup is told of each look-up among the answers: verify.CacheHit or verify.CacheMiss.
	CacheLookup func(result string)
	// Asked: a question about a token ended after this time, second try included. The error, which may be shown, is why there
	// is no answer.
	Asked func(took time.Duration, err error)
}

// Introspector judges access tokens of either sort. It is safe for concurrent use.
type Introspector struct {
	o      Options
	server digest // of Server and the client

	mu      sync.Mutex // never held during a call
	flights map[digest]*flight
	backoff backoff
}

type digest = [sha256.Size]byte

// New returns an Introspector, or an error that says what of the options cannot work. It starts nothing.
func New(o Options) (*Introspector, error) {
	switch {
	case o.Verifier == nil, o.Endpoint == nil, o.HTTP == nil, o.Cache == nil, o.Issuer == "":
		return nil, errors.New("introspection needs a verifier, an endpoint, an HTTP client, a cache and an issuer")
	case o.MaxAge < 0, o.Timeout < 0:
		return nil, errors.New("introspection: a duration is negative")
	}
	if err := o.Client.check(); err != nil {
		return nil, err
	}
	if o.Timeout == 0 {
		o.Timeout = 5 * time.Second
	}
	if o.Observer.CacheLookup == nil {
		o.Observer.CacheLookup = func(string) {}
	}
	if o.Observer.Asked == nil {
		o.Observer.Asked = func(time.Duration, error) {}
	}
	server := sha256.Sum256(fmt.Appendf(nil, "%q %q", o.Server, o.Client.ID))
	return &Introspector{o: o, server: server, flights: map[digest]*flight{}}, nil
}

// Verify judges a token in the form in which a request carries it. The error is always a [*verify.Error]. It may block, until
// ctx ends, for keys or for the issuer's answer. It keeps no reference to compact.
//
// For a token whose answer is known and was judged before, the time, the binding and the revocations are checked again; that takes no parsing
// and no allocation.
func (i *Introspector) Verify(ctx context.Context, compact string, held verify.Possession) (*verify.Token, error) {
	if verify.IsJWT(compact) {
		return i.o.Verifier.Verify(ctx, compact, held)
	}
	if err := i.unfit(compact); err != nil {
		return nil, err
	}
	// Sum256 does not write to its argument: the conversion saves a copy.
	token := sha256.Sum256(unsafe.Slice(unsafe.StringData(compact), len(compact)))
	a := i.o.Cache.get(entryKey{i.server, token}, time.Now())
	if a != nil {
		i.o.Observer.CacheLookup(verify.CacheHit)
		return i.judge(a, held)
	}
	i.o.Observer.CacheLookup(verify.CacheMiss)
	a, err := i.ask(ctx, token, compact)
	if err != nil {
		return nil, err
	}
	return i.judge(a, held)
}

// Recheck judges a token of either sort again, as [verify.Verifier.Recheck] does. The issuer is not asked again about an opaque
// one: it ends with its exp, where its issuer said one, or with a revocation.
func (i *Introspector) Recheck(t *verify.Token) error { return i.o.Verifier.Recheck(t) }

// Ready says whether the issuer would be asked now: it is not left alone after a question that it did not answer.
func (i *Introspector) Ready() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return !time.Now().Before(i.backoff.until)
}

// Explain judges a token as [Introspector.Verify] does, without the cache and whether or not the issuer is left alone just now, and
// returns the checks in the order in which they were made. Only the last can have failed; the token is nil if it did. A
// failure's detail says why there is no answer.
func (i *Introspector) Explain(ctx context.Context, compact string, held verify.Possession) ([]verify.Step, *verify.Token) {
	if verify.IsJWT(compact) {
		return i.o.Verifier.Explain(ctx, compact, held)
	}
	if err := i.unfit(compact); err != nil {
		return []verify.Step{{Name: "format", Err: err}}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, i.o.Timeout)
	defer cancel()
	a, f := i.question(ctx, strings.Clone(compact))
	var err *verify.Error
	switch {
	case f != nil:
		err = i.unavailable(leastRetry)
		err.Detail = f.Error()
	case !a.active:
		err = i.refuse(proxy.Inactive)
	}
	steps := []verify.Step{{Name: "introspection", Err: err}}
	if err != nil {
		return steps, nil
	}
	more, token := i.o.Verifier.ExplainIntrospected(i.o.Issuer, a.text, held)
	return append(steps, more...), token
}

// Account tells how a token came to be judged as Verify did, see [verify.Verifier.Account]. Of an opaque one it knows what its issuer said, where
// that is still remembered.
func (i *Introspector) Account(compact string, held verify.Possession, reason proxy.Reason) []proxy.AccountStep {
	if verify.IsJWT(compact) {
		return i.o.Verifier.Account(compact, held, reason)
	}
	steps := []proxy.AccountStep{{Name: "introspection", Said: "an opaque token", Required: "active, says issuer " + i.o.Issuer}}
	token := sha256.Sum256([]byte(compact))
	a := i.o.Cache.get(entryKey{i.server, token}, time.Now())
	if a == nil || !a.active {
		return steps
	}
	return append(steps, i.o.Verifier.AccountIntrospected(i.o.Issuer, a.text, held, reason)...)
}

// unfit refuses what is not worth a question.
func (i *Introspector) unfit(compact string) *verify.Error {
	if compact != "" && len(compact) <= verify.MaxTokenBytes {
		return nil
	}
	err := i.refuse(proxy.MalformedToken)
	err.Detail = "The access token is empty or longer than 32 KiB."
	return err
}

// judge holds an answer against what is expected of tokens now.
func (i *Introspector) judge(a *answer, held verify.Possession) (*verify.Token, error) {
	if !a.active {
		return nil, i.refuse(proxy.Inactive)
	}
	if j := a.judged.Load(); j != nil && j.by == i.o.Verifier {
		if err := i.o.Verifier.Recheck(j.token); err != nil {
			return nil, err
		}
		if err := j.token.HeldBy(held); err != nil {
			err.Issuer = i.o.Issuer
			return nil, err
		}
		return j.token, nil
	}
	token, err := i.o.Verifier.Introspected(i.o.Issuer, a.text, held)
	if err != nil {
		return nil, err
	}
	a.judged.Store(&judged{i.o.Verifier, token})
	return token, nil
}

func (i *Introspector) refuse(reason proxy.Reason) *verify.Error {
	return &verify.Error{Reason: reason, Issuer: i.o.Issuer}
}

// leastRetry is the least time after which a caller is told to try again.
const leastRetry = time.Second

// unavailable is the refusal when there is no answer. Why is in the log, and no caller's business.
func (i *Introspector) unavailable(retry time.Duration) *verify.Error {
	err := i.refuse(proxy.IntrospectionUnavailable)
	err.RetryAfter = max(retry, leastRetry)
	return err
}
