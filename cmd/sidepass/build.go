package main

import (
	"context"
	"crypto/tls"
	"errors"
	"time"

	"github.com/sidepass/sidepass/config"
	"github.com/sidepass/sidepass/proxy"
	"github.com/sidepass/sidepass/proxy/dpop"
	"github.com/sidepass/sidepass/proxy/engine"
	"github.com/sidepass/sidepass/proxy/introspect"
	"github.com/sidepass/sidepass/proxy/jwks"
	"github.com/sidepass/sidepass/proxy/outbound"
	"github.com/sidepass/sidepass/proxy/tracing"
	"github.com/sidepass/sidepass/proxy/verify"
	"github.com/sidepass/sidepass/tokencache"
)

// Names of the listeners; a route's own is "outbound:" and the route's name.
const (
	outboundListener = "outbound"
	inboundListener  = "inbound"
	metricsListener  = "metrics"
	adminListener    = "admin"
)

func routeListener(route string) string { return outboundListener + ":" + route }

// process holds what is expensive to lose. It outlives every reload; each thing is keyed by what it depends on.
type process struct {
	tokens   *tokencache.Cache
	verified *verify.Cache
	answers  *introspect.Cache
	revoked  map[revokedKey]revokedSource // the lists of revoked tokens
	issuers  map[issuerKey]*authServer
	keys     map[keysKey]*jwks.Keys
	trusted  []*trusted
	tls      *tls.Config                // of the inbound listener; nil for none
	guards   map[string]*outbound.Guard // :: route's name → its 401 guard
	via      map[string]string          // :: direction → our pseudonym there
	files    files
	budgets  map[string]*tokencache.Budget // :: issuer → its hourly cap
	tracing  *tracing.Tracer               // nil: no traces
	dpop     *dpop.Key                     // the one key that tokens are bound to
	nonces   dpop.Nonces                   // that upstreams want to see
	kept     kept
	observe  observers
	replays  verify.Replays // the proofs that callers used
	given    verify.Nonces  // that callers' proofs may have
	shares   bool           // tokens with other replicas, where the configuration says where; a command that is no sidecar does not
	shared   *sharedTokens  // in use; nil: none
}

// keysKey is what the refresh of a key set depends on: how the issuer is reached, what it is called, and how often.
type keysKey struct {
	issuer  issuerKey
	name    string
	refresh string
}

// generation is everything that one configuration runs. Building it changes nothing that is in use;
// activate installs it.
type generation struct {
	loaded    *config.Loaded
	outbound  proxy.Gate // nil where the direction is not run
	inbound   proxy.Gate
	explained proxy.Gate     // inbound, for `sidepass explain`
	judge     explainer      // of inbound's tokens
	tls       *tls.Config    // of the inbound listener; nil for none
	proofs    *verify.Proofs // of inbound's callers; nil where none are accepted
	routes    []*route
	own       []ownToken
	trusted   []*trusted
	issuers   map[issuerKey]*authServer
	keys      map[keysKey]*jwks.Keys
	revoked   map[revokedKey]revokedSource
	upstream  map[string]*engine.Upstream // :: the key that says where it is → the handle
	shared    *sharedTokens               // nil without tokens.shared
	activate  []func()
}

// explainer judges a token step by step, as the gate's verifier does at once.
type explainer interface {
	Explain(ctx context.Context, compact string, held verify.Possession) ([]verify.Step, *verify.Token)
	Account(compact string, held verify.Possession, reason proxy.Reason) []proxy.AccountStep
}

// route is an outbound route as readiness, status and prefetch see it.
type route struct {
	config   config.Route
	key      tokencache.Key
	entry    *tokencache.Entry    // nil where callers' tokens are exchanged
	exchange *tokencache.Exchange // nil otherwise
}

// status is the state of the route's token, or of its exchange.
func (r *route) status(now time.Time) tokencache.Status {
	if r.exchange != nil {
		return r.exchange.Status(now)
	}
	return r.entry.Status(now)
}

// trusted is an issuer whose tokens inbound accepts.
type trusted struct {
	config config.Issuer
	keys   *jwks.Keys
	asked  *introspect.Introspector // about opaque tokens; nil: they are not accepted
}

// budget is the hourly cap of an issuer.
func (p *process) budget(issuer string) *tokencache.Budget {
	b := p.budgets[issuer]
	if b == nil {
		b = &tokencache.Budget{}
		p.budgets[issuer] = b
	}
	return b
}

// newUpstream makes a handle that close ends. key is the configuration's that says where it is.
func (g *generation) newUpstream(key string, o engine.UpstreamOptions) (*engine.Upstream, error) {
	u, err := engine.NewUpstream(o)
	if err == nil {
		g.upstream[key] = u
	}
	return u, err
}

// close ends what only this generation used.
func (g *generation) close() {
	for _, u := range g.upstream {
		u.CloseIdle()
	}
}

// build translates a configuration into running parts. It opens no listener and makes no call.
func (p *process) build(loaded *config.Loaded, bound map[string]string) (*generation, error) {
	c := loaded.Config
	g := &generation{loaded: loaded, issuers: map[issuerKey]*authServer{}, keys: map[keysKey]*jwks.Keys{}, upstream: map[string]*engine.Upstream{}}
	byName := map[string]*authServer{}
	keyOf := map[string]issuerKey{}
	var unusable []error
	for _, ic := range c.Issuers {
		i, key, err := p.newAuthServer(ic, loaded, func(key issuerKey) *authServer { return p.issuers[key] })
		if err != nil {
			unusable = append(unusable, err)
			continue
		}
		g.activate = append(g.activate, i.activate)
		g.issuers[key], byName[ic.Name], keyOf[ic.Name] = i, i, key
	}
	if unusable != nil {
		return nil, placed(loaded, errors.Join(unusable...))
	}
	errs := []error{p.buildShared(g, loaded)}
	if c.Outbound != nil {
		errs = append(errs, p.buildOutbound(g, c, byName, bound))
	}
	if c.Inbound != nil {
		errs = append(errs, p.buildInbound(g, c, byName, keyOf, bound))
		var err error
		g.tls, err = p.listenerTLS(loaded)
		errs = append(errs, err)
	}
	err := errors.Join(errs...)
	if err != nil {
		p.abandonShared(g)
	}
	return g, placed(loaded, err)
}
