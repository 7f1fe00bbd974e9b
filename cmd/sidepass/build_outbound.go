package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/sidepass/sidepass/config"
	"github.com/sidepass/sidepass/proxy/dpop"
	"github.com/sidepass/sidepass/proxy/engine"
	"github.com/sidepass/sidepass/proxy/outbound"
	"github.com/sidepass/sidepass/proxy/tracing"
	"github.com/sidepass/sidepass/tokencache"
	"github.com/sidepass/sidepass/tokencache/source"
)

func (p *process) buildOutbound(g *generation, c *config.Config, issuers map[string]*authServer, bound map[string]string) error {
	oc := c.Outbound
	forbidden := ownAddresses(c, bound)
	o := outbound.Options{
		Listener:        outbound.Listener{Name: outboundListener, Address: bound[outboundListener]},
		Names:           oc.Names,
		TunnelUnmatched: oc.Connect == "tunnel",
		Via:             p.via[outboundListener],
		Observer:        p.observe.outbound,
	}
	for name, address := range bound {
		if name != outboundListener {
			o.Ours = append(o.Ours, address)
		}
	}
	for _, u := range appUpstreams(c) {
		o.Ours = append(o.Ours, withPort(u))
	}
	direct, err := g.newUpstream("outbound", engine.UpstreamOptions{ProxyURL: oc.ProxyURL.URL(), Forbid: forbidden})
	if err != nil {
		return err
	}
	if oc.Unmatched == "passthrough" {
		o.Unmatched = direct
	}
	o.Tunnel = direct

	users := map[tokencache.Key][]string{}
	for _, rc := range oc.Routes {
		for _, key := range routeKeys(p, rc, issuers[rc.Issuer]) {
			users[key] = append(users[key], rc.Name)
		}
	}
	var unusable []error
	for _, rc := range oc.Routes {
		rt, err := p.buildRoute(g, c, rc, issuers[rc.Issuer], bound, users)
		if err != nil {
			unusable = append(unusable, fmt.Errorf("outbound.routes[%s]: %w", rc.Name, err))
		}
		o.Routes = append(o.Routes, rt)
	}
	if unusable != nil {
		return errors.Join(unusable...)
	}
	g.activate = append(g.activate, func() {
		p.tokens.SetMaxEntries(c.Tokens.MaxEntries)
		for _, i := range issuers {
			i.budget.SetLimit(c.Tokens.MaxRequestsPerHour)
		}
		p.tokens.Retain(slices.Collect(maps.Keys(users)))
	})
	gate, err := outbound.New(o)
	if err != nil {
		return err
	}
	g.outbound = p.tracing.Gate(tracing.Outbound, gate)
	return nil
}

// routeKeys are the keys of the tokens that a route uses: of its own grant, and of its fallback's.
func routeKeys(p *process, rc config.Route, i *authServer) []tokencache.Key {
	keys := []tokencache.Key{tokenKey(p, rc, rc.Grant, i)}
	if rc.Exchanges() && rc.Fallback == source.ClientCredentials {
		keys = append(keys, tokenKey(p, rc, source.ClientCredentials, i))
	}
	return keys
}

func tokenKey(p *process, rc config.Route, grant string, i *authServer) tokencache.Key {
	return tokencache.KeyOf(tokencache.KeyFields{
		Issuer: i.config.URL.String(), TokenEndpoint: i.config.TokenEndpoint.String(),
		ClientID: i.config.Client.ID, AuthMethod: i.config.Client.AuthMethod, Grant: grant,
		Audience: rc.Audience, Resource: rc.Resource, Scopes: rc.Scopes, Params: params(rc), Binding: i.binding(p),
	})
}

// routeUpstream is the key of where a route leads.
func routeUpstream(route string) string { return "outbound.routes[" + route + "].upstream" }

func (p *process) buildRoute(g *generation, c *config.Config, rc config.Route, i *authServer, bound map[string]string, users map[tokencache.Key][]string) (outbound.Route, error) {
	uo := engine.UpstreamOptions{
		Scheme: rc.Upstream.Scheme, Authority: rc.Upstream.Host, UnixSocket: rc.Upstream.Socket,
		Protocol: engine.Protocol(rc.Protocol), ServerName: rc.ServerName, ProxyURL: c.Outbound.ProxyURL.URL(),
	}
	if i.config.Client.CertFile != "" {
		uo.Certificate = i.credentials.certificate // its tokens may be bound to it (RFC 8705, section 3)
	}
	if rc.CAFile != "" {
		pem, err := p.files.read(g.loaded, rc.CAFile)
		if err != nil {
			return outbound.Route{}, fmt.Errorf("ca_file: %w", err)
		}
		if uo.RootCAs, err = roots(pem); err != nil {
			return outbound.Route{}, fmt.Errorf("ca_file: %w", err)
		}
	}
	u, err := g.newUpstream(routeUpstream(rc.Name), uo)
	if err != nil {
		return outbound.Route{}, err
	}
	guard := p.guards[rc.Name]
	if guard == nil {
		guard = &outbound.Guard{}
		p.guards[rc.Name] = guard
	}
	rt := outbound.Route{
		Name: rc.Name, Host: rc.Host, Prefix: rc.Prefix, Paths: rc.Paths, Upstream: u,
		Authorization: outbound.Authorization(rc.Authorization), Timeout: rc.Timeout, RetryOn401: outbound.Retry(rc.RetryOn401),
		ReplayLimit: int64(c.Tokens.ReplayLimit), Tunnel: rc.Connect == "tunnel", Guard: guard,
	}
	if !rc.Upstream.IsSet() {
		rt.Scheme = rc.Scheme
	}
	if rc.Listen.IsSet() {
		rt.Listener = outbound.Listener{Name: routeListener(rc.Name), Address: bound[routeListener(rc.Name)]}
	}
	if i.config.Client.DPoP {
		rt.Prover = &prover{key: p.dpop, nonces: &p.nonces}
		if rc.Upstream.IsSet() {
			rt.Origin = rc.Upstream.Scheme + "://" + rc.Upstream.Host
		}
	}
	return rt, p.giveTokens(g, rc, i, &rt, users)
}

// giveTokens says where the route's tokens come from.
func (p *process) giveTokens(g *generation, rc config.Route, i *authServer, rt *outbound.Route, users map[tokencache.Key][]string) error {
	key := tokenKey(p, rc, rc.Grant, i)
	settings, err := p.tokenSettings(g, rc, rc.Grant, i, users[key])
	if err != nil {
		return err
	}
	if !rc.Exchanges() {
		entry := p.tokens.Entry(key)
		g.routes = append(g.routes, &route{config: rc, key: key, entry: entry})
		g.activate = append(g.activate, func() { entry.Use(settings) })
		rt.Tokens = p.traced(rc.Name, p.keep(g, i, key, entry, &settings))
		return nil
	}
	exchange := p.tokens.Exchange(key)
	g.routes = append(g.routes, &route{config: rc, key: key, exchange: exchange})
	g.activate = append(g.activate, func() { exchange.Use(settings) })
	rt.Exchange = func(subject string) outbound.Tokens { return p.traced(rc.Name, exchange.Subject(subject)) }
	if rc.Fallback != source.ClientCredentials {
		return nil
	}
	key = tokenKey(p, rc, source.ClientCredentials, i)
	own, err := p.tokenSettings(g, rc, source.ClientCredentials, i, users[key])
	if err != nil {
		return err
	}
	entry := p.tokens.Entry(key)
	g.activate = append(g.activate, func() { entry.Use(own) })
	rt.Fallback = p.traced(rc.Name, p.keep(g, i, key, entry, &own))
	return nil
}

// keep has an entry's tokens kept for a later process, unless they are bound to what ends with this one.
func (p *process) keep(g *generation, i *authServer, key tokencache.Key, entry *tokencache.Entry, settings *tokencache.Settings) outbound.Tokens {
	if i.binding(p) != "" {
		return entry
	}
	settings.Keep = func(t *tokencache.Token) { p.kept.token(key, t) }
	g.own = append(g.own, ownToken{key, entry, settings.Labels.Issuer, settings.Labels.Routes})
	return keptEntry{entry, func() { p.kept.forgetToken(key) }}
}

// tokenSettings is how the tokens of a route are obtained now.
func (p *process) tokenSettings(g *generation, rc config.Route, grant string, i *authServer, users []string) (tokencache.Settings, error) {
	client, tokens := i.config.Client, g.loaded.Config.Tokens
	o := source.Options{
		TokenEndpoint: i.tokenEndpoint, ClientID: client.ID, AuthMethod: client.AuthMethod,
		Secret: i.credentials.secret, Key: i.credentials.key, Assertion: i.credentials.assertion, Reread: i.credentials.reread,
		Grant: grant, Audience: rc.Audience, Resource: rc.Resource, Scopes: rc.Scopes, Params: params(rc),
		HTTPClient: i.http.HTTPClient(), DefaultLifetime: tokens.DefaultLifetime,
		Observer: p.observe.source(tokencache.Labels{Issuer: i.config.Name, Grant: grant, Routes: users}, i.budget),
	}
	o.AssertionAudience = assertionAudience(i.config, "") // "" is the token endpoint
	if client.DPoP {
		o.DPoP, o.Nonces = p.dpop, i.nonces
	}
	s, err := source.New(o)
	if err != nil {
		return tokencache.Settings{}, err
	}
	settings := tokencache.Settings{
		Credentials: i.next.digest,
		Labels:      tokencache.Labels{Issuer: i.config.Name, Grant: grant, Routes: users},
		Timeout:     i.config.Timeout, RefreshAt: tokens.RefreshAt, MinRemaining: tokens.MinRemaining, Budget: i.budget,
	}
	if grant == source.ClientCredentials {
		settings.Source = s
		if g.shared != nil && i.binding(p) == "" { // what a token is bound to is this replica's alone
			settings.Shared = g.shared.cache
		}
	} else {
		settings.Exchange = s.For
	}
	return settings, nil
}

// prover makes the proofs that go with tokens of the scheme DPoP to upstreams.
type prover struct {
	key    *dpop.Key
	nonces *dpop.Nonces
}

func (p *prover) Proof(method, uri, accessToken string) (string, error) {
	return p.key.Proof(method, uri, dpop.TokenHash(accessToken), p.nonces.Newest(uri), time.Now())
}

func (p *prover) Nonce(uri, nonce string) { p.nonces.Learn(uri, nonce) }

// roots are the system's and those of a ca_file.
func roots(extra []byte) (*x509.CertPool, error) {
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool() // an image without roots
	}
	if !pool.AppendCertsFromPEM(extra) {
		return nil, errors.New("no certificate in it; want PEM blocks of type CERTIFICATE")
	}
	return pool, nil
}

func params(rc config.Route) []tokencache.Param {
	var out []tokencache.Param
	for _, p := range rc.TokenParams {
		out = append(out, tokencache.Param{Name: p.Name, Value: p.Value.Reveal()})
	}
	return out
}
