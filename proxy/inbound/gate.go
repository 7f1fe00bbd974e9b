// Package inbound is the gate of the direction in which the network calls the application: it refuses paths that could
// be read in more than one way, finds the rule of a request, has its token verified, and the proof that goes with a bound one, holds the
// token against the rule, and hands verified claims on in headers that no client can forge.
//
// What is decided is decided for this request alone: nothing here is cached.
package inbound

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sidepass/sidepass/proxy"
	"github.com/sidepass/sidepass/proxy/pattern"
	"github.com/sidepass/sidepass/proxy/verify"
)

// Verifier says whether a token is good; a *[verify.Verifier] is one.
type Verifier interface {
	// Verify judges a token in its compact form, which it clones if it keeps it, and whether a sender who shows this may use
	// it. It may block until ctx ends. Its error is a *[verify.Error].
	Verify(ctx context.Context, compact string, held verify.Possession) (*verify.Token, error)
	// Recheck judges a token that Verify has returned again, and does not block. Its error is a *[verify.Error].
	Recheck(*verify.Token) error
}

// Mode says what becomes of a request whose token or rule refuses it.
type Mode string

// The modes.
const (
	Enforce Mode = "enforce" // it is refused
	Audit   Mode = "audit"   // it goes on, and its Note says would_deny
)

// Options of a [Gate].
type Options struct {
	// Verifier judges the tokens. It is required.
	Verifier Verifier
	// Issuers are those that the Verifier trusts; at least one.
	Issuers []Issuer
	// Upstream is the application. It is required.
	Upstream proxy.Upstream
	// Rules in any order: the most specific pattern wins, and a request that no rule matches is refused. With nil every
	// request needs a valid token and no more.
	Rules []Rule
	// Mode is that of every rule that has none of its own; "" is Enforce.
	Mode Mode
	// Ambiguous is what is let through of ambiguous paths.
	Ambiguous []Ambiguity
	// ClaimHeaders are the verified claims that the application gets. A client's own fields of these names never pass.
	ClaimHeaders []ClaimHeader
	// StripAuthorization keeps the token from the application (`authorization: strip`).
	StripAuthorization bool
	// ExpireStreams ends streams with their tokens (`streams: expire`), where their rule is not in audit mode.
	ExpireStreams bool
	// Resource is our resource identifier (RFC 9728), an absolute URL. With "" no metadata is served.
	Resource string
	// Proofs judges the DPoP proofs of requests (RFC 9449); with nil no token is taken under the scheme DPoP.
	Proofs *verify.Proofs
	// CertificateBound says in the metadata that tokens may be bound to the certificate of the connection's client (RFC 8705, section 3.3).
	CertificateBound bool
	// Accounts has refusals explained; with nil none is.
	Accounts *Accounts
	// Observer is told what metrics count.
	Observer Observer
}

// Issuer is an authorization server that is trusted.
type Issuer struct {
	Name string // as rules and [verify.Token] call it
	URL  string // the issuer identifier, for the resource metadata
}

// Observer is told of events; each function may be nil. They are called on the path of the request and must not block.
type Observer struct {
	// ClaimDropped: a verified claim was not set, because its value cannot be a header's: see [ClaimHeader].
	ClaimDropped func(claim, header string)
}

// Gate is the inbound [proxy.Gate]. It does not change after New and is safe for concurrent use.
type Gate struct {
	verifier Verifier
	upstream proxy.Upstream
	rules    *pattern.Matcher[*rule] // nil without rules
	fallback *rule                   // where no rule matches, or there are none
	allowed  oddity
	headers  []ClaimHeader
	remove   []string // what no request takes along to the application
	expire   bool
	metadata metadata
	proofs   *verify.Proofs // nil where no proofs are accepted
	accounts *Accounts      // nil where refusals are not explained
	always   bool           // what goes on is explained too
	observer Observer
	// What challenges say of DPoP, to a request that used it and to any other; nil where no proofs are accepted.
	used, offered *proxy.DPoP
}

// New makes a gate. The error joins everything that is wrong with the options.
func New(o Options) (*Gate, error) {
	g := &Gate{
		verifier: o.Verifier,
		upstream: o.Upstream,
		fallback: &rule{name: "default", audit: o.Mode == Audit},
		expire:   o.ExpireStreams,
		proofs:   o.Proofs,
		accounts: o.Accounts,
		observer: o.Observer,
	}
	if o.Proofs != nil {
		algorithms := strings.Join(verify.ProofAlgorithms(), " ")
		g.used, g.offered = &proxy.DPoP{Algorithms: algorithms, Used: true}, &proxy.DPoP{Algorithms: algorithms}
	}
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf("inbound: "+format, args...)) }
	if o.Verifier == nil {
		fail("there is no verifier")
	}
	if o.Upstream == nil {
		fail("there is no upstream")
	}
	if len(o.Issuers) == 0 {
		fail("no issuer is trusted; without one every token would be refused")
	}
	if !o.Mode.known() {
		fail("mode %q is neither enforce nor audit", o.Mode)
	}
	if o.Rules != nil {
		g.fallback.name, g.fallback.unmatched = "unmatched", true
		var problems []error
		g.rules, problems = compileRules(&o)
		errs = append(errs, problems...)
	}
	for _, a := range o.Ambiguous {
		odd := a.oddity()
		if odd == 0 {
			fail("ambiguous path %q is none of %s, %s and %s", a, EncodedSlash, Semicolon, EmptySegment)
		}
		g.allowed |= odd
	}
	var err error
	if g.headers, err = compileHeaders(o.ClaimHeaders); err != nil {
		errs = append(errs, err)
	}
	for _, h := range g.headers {
		g.remove = append(g.remove, h.Header)
	}
	if o.StripAuthorization {
		g.remove = append(g.remove, "Authorization", "DPoP")
	}
	g.remove = slices.Clip(g.remove) // verdicts share it
	if o.Resource != "" {
		if g.metadata, err = newMetadata(&o, g.allowed); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return g, nil
}

func (m Mode) known() bool { return m == "" || m == Enforce || m == Audit }

// Admit judges a request in the order that the contract gives. It blocks while the verifier does. With a bearer token that the
// verifier knows already it allocates once, for the Host that it hands on, and where there are claim headers for them.
func (g *Gate) Admit(ctx context.Context, r *proxy.Request) proxy.Verdict {
	if no := checkMethod(r.Method); no != nil {
		return g.refuse(g.fallback, nil, no)
	}
	host, no := effectiveHost(r)
	if no != nil {
		return g.refuse(g.fallback, nil, no)
	}
	odd, no := checkPath(&r.Target, g.allowed)
	if no != nil {
		return g.refuse(g.fallback, nil, no)
	}
	if g.metadata.asked(r) {
		return g.answer()
	}
	rl, no := g.rule(r.Method, r.Target.Path, odd)
	if no != nil {
		return g.refuse(g.fallback, nil, no)
	}
	if rl.anonymous {
		return g.forward(rl, host, nil)
	}
	tok, no := g.token(ctx, r)
	if no == nil {
		no = rl.judge(tok)
	}
	switch {
	case no == nil:
		v := g.forward(rl, host, tok)
		v.Set = g.claimFields(tok)
		g.limit(&v, rl, tok)
		if g.always {
			g.explain(&v, r, rl, tok)
		}
		return v
	case rl.audit:
		v := g.wouldRefuse(rl, host, tok, no)
		g.explain(&v, r, rl, tok)
		return v
	}
	v := g.refuse(rl, tok, no)
	g.explain(&v, r, rl, tok)
	return v
}

// refusal is why a step of the gate does not let a request on; a nil one lets it.
type refusal struct {
	reason     proxy.Reason
	detail     string        // "" is the table's
	scope      string        // what insufficient_scope asks for
	issuer     string        // whose token it is that the verifier refused; "" when it is nobody's
	retryAfter time.Duration // of what is unavailable
	dpop       bool          // the token came under the scheme DPoP
}

// token is the verified token of a request, whose sender may use it.
func (g *Gate) token(ctx context.Context, r *proxy.Request) (*verify.Token, *refusal) {
	compact, dpop, no := credentials(r.Header, g.proofs != nil)
	if no != nil {
		return nil, no
	}
	tok, err := g.verifier.Verify(ctx, compact, possession(dpop, r.TLS))
	if err == nil && tok != nil {
		if dpop {
			if no := prove(g.proofs, r, compact, tok); no != nil {
				return nil, no
			}
		}
		return tok, nil
	}
	if e, ok := errors.AsType[*verify.Error](err); ok {
		return nil, &refusal{reason: e.Reason, detail: e.Detail, issuer: e.Issuer, retryAfter: e.RetryAfter, dpop: dpop}
	}
	return nil, &refusal{reason: proxy.InternalError}
}

// forward lets a request on under a rule. tok is nil when no token was verified.
func (g *Gate) forward(rl *rule, host string, tok *verify.Token) proxy.Verdict {
	v := proxy.Verdict{
		Action:   proxy.Forward,
		Upstream: g.upstream,
		Host:     strings.Clone(host),
		Remove:   g.remove,
		Reason:   proxy.OK,
		Note:     note(rl, tok, proxy.Allow),
	}
	if rl.upstream != nil {
		v.Upstream = rl.upstream
	}
	return v
}

// wouldRefuse lets a request on that only audit mode does, without a word of its token's claims.
func (g *Gate) wouldRefuse(rl *rule, host string, tok *verify.Token, no *refusal) proxy.Verdict {
	v := g.forward(rl, host, tok)
	v.Reason, v.Detail = no.reason, no.detail
	v.Note.Decision, v.Note.Judged = proxy.WouldDeny, no.reason
	if tok == nil {
		v.Note.Issuer = no.issuer
	}
	return v
}

func (g *Gate) refuse(rl *rule, tok *verify.Token, no *refusal) proxy.Verdict {
	v := proxy.Verdict{
		Action:           proxy.Refuse,
		Reason:           no.reason,
		Detail:           no.detail,
		Scope:            no.scope,
		RetryAfter:       no.retryAfter,
		ResourceMetadata: g.metadata.url,
		DPoP:             g.challenge(tok, no),
		Note:             note(rl, tok, proxy.Deny),
	}
	if tok == nil {
		v.Note.Issuer = no.issuer
	}
	return v
}

// challenge is what a refusal says of DPoP. A token that is bound to a key has come under that scheme if it was verified.
func (g *Gate) challenge(tok *verify.Token, no *refusal) *proxy.DPoP {
	switch {
	case no.reason == proxy.UseDPoPNonce:
		return &proxy.DPoP{Algorithms: g.used.Algorithms, Used: true, Nonce: g.proofs.Nonce()}
	case no.dpop, tok != nil && tok.KeyThumbprint() != "":
		return g.used
	}
	return g.offered
}

func note(rl *rule, tok *verify.Token, d proxy.Decision) proxy.Note {
	n := proxy.Note{Rule: rl.name, Decision: d}
	if tok != nil {
		n.Issuer, n.Client = tok.IssuerName, tok.Client
	}
	return n
}
