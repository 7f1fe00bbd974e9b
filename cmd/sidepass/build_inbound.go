package main

import (
	"fmt"
	"time"

	"github.com/sidepass/sidepass/config"
	"github.com/sidepass/sidepass/proxy/engine"
	"github.com/sidepass/sidepass/proxy/inbound"
	"github.com/sidepass/sidepass/proxy/introspect"
	"github.com/sidepass/sidepass/proxy/jwks"
	"github.com/sidepass/sidepass/proxy/tracing"
	"github.com/sidepass/sidepass/proxy/verify"
	"github.com/sidepass/sidepass/tokencache/source"
)

func (p *process) buildInbound(g *generation, c *config.Config, issuers map[string]*authServer, keyOf map[string]issuerKey, bound map[string]string) error {
	ic := c.Inbound
	var trusts []verify.Trust
	var trustedIssuers []inbound.Issuer
	for _, t := range ic.Trust {
		i := issuers[t.Issuer]
		key := keysKey{keyOf[t.Issuer], t.Issuer, fmt.Sprint(ic.JWKSRefresh, ic.JWKSMaxStale, ic.JWKSMinInterval, t.Introspect)}
		keys := p.keys[key]
		if keys == nil {
			o := jwks.Options{
				URI: i.jwksURI(t.Introspect), HTTP: i.http, BearerToken: i.bearer,
				Refresh: ic.JWKSRefresh, MaxStale: ic.JWKSMaxStale, MinInterval: ic.JWKSMinInterval, Timeout: i.config.Timeout,
				Observer: p.observe.keys(i.config.Name),
			}
			if last := p.lastTrusted(i.config); last != nil {
				o.Last = last.keys.Last()
				o.None = t.Introspect && last.keyless() && last.config.IntrospectionEndpoint.String() == i.config.IntrospectionEndpoint.String()
			}
			if file := i.config.JWKSFile; file != "" {
				o.URI, o.HTTP, o.File = nil, nil, func() ([]byte, error) { return p.files.read(g.loaded, file) }
			} else {
				o.Observer.Loaded = func(set *jwks.Set) { p.kept.keySet(i.config, ic.JWKSMaxStale, set) }
				if o.Last == nil {
					o.Last = p.kept.foundKeys(i.config, ic.JWKSMaxStale)
				}
			}
			var err error
			if keys, err = jwks.New(o); err != nil {
				return err
			}
		}
		g.keys[key] = keys
		g.trusted = append(g.trusted, &trusted{config: i.config, keys: keys})
		trustedIssuers = append(trustedIssuers, inbound.Issuer{Name: i.config.Name, URL: i.config.URL.String()})
		trusts = append(trusts, verify.Trust{
			Name: i.config.Name, Issuer: i.config.URL.String(), Keys: keys, Audiences: t.Audiences, AllowMissingAudience: t.AllowMissingAudience,
			Algorithms: t.Algorithms, Clients: t.Clients, Profile: t.Profile, ScopeClaims: t.ScopeClaims,
			RequiredClaims: claimValues(t.RequiredClaims), MaxTokenAge: t.MaxTokenAge,
		})
	}
	revoked, err := p.buildRevocations(g, ic)
	if err != nil {
		return err
	}
	judge, err := verify.New(verify.Options{Trusts: trusts, Cache: p.verified, Leeway: ic.Leeway, Revocations: revoked, Observer: p.observe.verify})
	if err != nil {
		return err
	}
	verifier := inbound.Verifier(judge)
	g.judge = judge
	for n, t := range ic.Trust {
		if !t.Introspect {
			continue
		}
		asking, err := p.introspector(judge, issuers[t.Issuer], ic.IntrospectionCache)
		if err != nil {
			return fmt.Errorf("inbound.trust[%s].introspect: %w", t.Issuer, err)
		}
		verifier, g.judge, g.trusted[n].asked = asking, asking, asking
	}
	handle := func(key string, u config.Upstream) (*engine.Upstream, error) {
		if err := notOurselves(u, bound[inboundListener]); err != nil {
			return nil, err
		}
		return g.newUpstream(key, engine.UpstreamOptions{Scheme: u.Scheme, Authority: u.Host, UnixSocket: u.Socket, Protocol: engine.Protocol(ic.Protocol)})
	}
	app, err := handle("inbound.upstream", ic.Upstream)
	if err != nil {
		return fmt.Errorf("inbound.upstream: %w", err)
	}
	o := inbound.Options{
		Verifier: verifier, Issuers: trustedIssuers, Upstream: app, Mode: inbound.Mode(ic.Mode), StripAuthorization: ic.Authorization == "strip",
		ExpireStreams: ic.Streams == "expire", Resource: ic.Resource.String(), Observer: p.observe.inbound,
		Accounts: &inbound.Accounts{Wanted: p.observe.explain, Token: g.judge.Account},
	}
	if o.Resource != "" {
		g.proofs, err = verify.NewProofs(verify.ProofOptions{Resource: o.Resource, Replays: &p.replays, Nonces: &p.given, Leeway: ic.Leeway})
		if err != nil {
			return fmt.Errorf("inbound.resource: %w", err)
		}
		o.Proofs, o.CertificateBound = g.proofs, ic.TLS.Enabled() && ic.TLS.ClientAuth != "none"
	}
	for _, a := range ic.AmbiguousPaths {
		o.Ambiguous = append(o.Ambiguous, inbound.Ambiguity(a))
	}
	for _, h := range ic.ClaimHeaders {
		o.ClaimHeaders = append(o.ClaimHeaders, inbound.ClaimHeader{Claim: h.Claim, Header: h.Header})
	}
	for _, r := range ic.Rules {
		rule := inbound.Rule{
			Name: r.Name, Match: r.Match, Anonymous: r.Anonymous(), Scopes: r.Scopes, AnyScope: r.AnyScope, Clients: r.Clients,
			Claims: claimValues(r.Claims), Issuers: r.Issuers, Mode: inbound.Mode(r.Mode),
		}
		if r.Upstream.IsSet() {
			u, err := handle("inbound.rules["+r.Name+"].upstream", r.Upstream)
			if err != nil {
				return fmt.Errorf("inbound.rules[%s].upstream: %w", r.Name, err)
			}
			rule.Upstream = u
		}
		o.Rules = append(o.Rules, rule)
	}
	gate, err := inbound.New(o)
	if err != nil {
		return err
	}
	g.explained = gate.Explained()
	g.inbound = p.tracing.Gate(tracing.Inbound, gate)
	return nil
}

// introspector asks an issuer about opaque tokens, and leaves JWTs to the verifier.
func (p *process) introspector(judge *verify.Verifier, i *authServer, maxAge time.Duration) (*introspect.Introspector, error) {
	c := i.config.Client
	client := introspect.Client{ID: c.ID, Method: c.AuthMethod, Secret: i.credentials.secret}
	switch c.AuthMethod {
	case source.JSON:
		client.Method = introspect.Post
	case source.PrivateKeyJWT, source.SecretJWT, source.Federated:
		client.Method = introspect.Assertion
		client.Assertion = i.assertion
	case source.TLS:
		client.Method = introspect.Certificate
	}
	return introspect.New(introspect.Options{
		Verifier: judge, Issuer: i.config.Name, Endpoint: i.introspectionEndpoint, HTTP: i.http, Client: client, Cache: p.answers,
		Server: i.config.URL.String() + " " + i.config.IntrospectionEndpoint.String(), MaxAge: maxAge, Timeout: i.config.Timeout,
		Observer: p.observe.introspect(i.config.Name),
	})
}

// lastTrusted has what another refresh of the same key set has loaded or learnt: in an outage that is all there is.
func (p *process) lastTrusted(c config.Issuer) *trusted {
	for _, t := range p.trusted {
		if sameServer(t.config, c) {
			return t
		}
	}
	return nil
}

func claimValues(in []config.ClaimValue) []verify.ClaimValue {
	var out []verify.ClaimValue
	for _, c := range in {
		out = append(out, verify.ClaimValue{Claim: c.Claim, Value: c.Value})
	}
	return out
}
