package main

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/sidepass/sidepass/config"
	"github.com/sidepass/sidepass/proxy/engine"
	"github.com/sidepass/sidepass/proxy/outbound"
	"github.com/sidepass/sidepass/tokencache"
	"github.com/sidepass/sidepass/tokencache/source"
)

func (p *process) buildOutbound(g *generation, c *config.Config, issuers map[string]*authServer, bound map[string]string) error {
	oc := c.Outbound
	forbidden := ownAddresses(c, bound)
	handle := func(o engine.UpstreamOptions) (*engine.Upstream, error) {
		u, err := engine.NewUpstream(o)
		if err == nil {
			g.upstream = append(g.upstream, u)
		}
		return u, err
	}
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
	direct, err := handle(engine.UpstreamOptions{ProxyURL: oc.ProxyURL.URL(), Forbid: forbidden})
	if err != nil {
		return err
	}
	if oc.Unmatched == "passthrough" {
		o.Unmatched = direct
	}
	o.Tunnel = direct

	users := map[tokencache.Key][]string{}
	for _, rc := range oc.Routes {
		rt, err := p.buildRoute(g, c, rc, issuers[rc.Issuer], handle, bound)
		if err != nil {
			return fmt.Errorf("outbound.routes[%s]: %w", rc.Name, err)
		}
		o.Routes = append(o.Routes, rt)
		key := g.routes[len(g.routes)-1].key
		users[key] = append(users[key], rc.Name)
	}
	var keys []tokencache.Key
	for _, r := range g.routes {
		keys = append(keys, r.key)
		settings, err := p.tokenSettings(g.loaded, r.config, issuers[r.config.Issuer], users[r.key])
		if err != nil {
			return fmt.Errorf("outbound.routes[%s]: %w", r.config.Name, err)
		}
		g.activate = append(g.activate, func() { r.entry.Use(settings) })
	}
	g.activate = append(g.activate, func() { p.tokens.Retain(keys) })
	gate, err := outbound.New(o)
	if err != nil {
		return err
	}
	g.outbound = gate
	return nil
}

func (p *process) buildRoute(g *generation, c *config.Config, rc config.Route, i *authServer, handle func(engine.UpstreamOptions) (*engine.Upstream, error), bound map[string]string) (outbound.Route, error) {
	uo := engine.UpstreamOptions{
		Scheme: rc.Upstream.Scheme, Authority: rc.Upstream.Host, UnixSocket: rc.Upstream.Socket,
		Protocol: engine.Protocol(rc.Protocol), ServerName: rc.ServerName, ProxyURL: c.Outbound.ProxyURL.URL(),
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
	u, err := handle(uo)
	if err != nil {
		return outbound.Route{}, err
	}
	key := tokencache.KeyOf(tokencache.KeyFields{
		Issuer: i.config.URL.String(), TokenEndpoint: i.config.TokenEndpoint.String(),
		ClientID: i.config.Client.ID, AuthMethod: i.config.Client.AuthMethod, Grant: rc.Grant,
		Audience: rc.Audience, Resource: rc.Resource, Scopes: rc.Scopes, Params: params(rc),
	})
	entry := p.tokens.Entry(key)
	g.routes = append(g.routes, &route{config: rc, key: key, entry: entry})
	guard := p.guards[rc.Name]
	if guard == nil {
		guard = &outbound.Guard{}
		p.guards[rc.Name] = guard
	}
	rt := outbound.Route{
		Name: rc.Name, Host: rc.Host, Prefix: rc.Prefix, Paths: rc.Paths, Upstream: u, Tokens: entry,
		Authorization: outbound.Authorization(rc.Authorization), Timeout: rc.Timeout, RetryOn401: outbound.Retry(rc.RetryOn401),
		ReplayLimit: int64(c.Tokens.ReplayLimit), Tunnel: rc.Connect == "tunnel", Guard: guard,
	}
	if !rc.Upstream.IsSet() {
		rt.Scheme = rc.Scheme
	}
	if rc.Listen.IsSet() {
		rt.Listener = outbound.Listener{Name: routeListener(rc.Name), Address: bound[routeListener(rc.Name)]}
	}
	return rt, nil
}

// tokenSettings is how the token of a route is obtained now. The secret is read here, once a load; only its digest is compared.
func (p *process) tokenSettings(loaded *config.Loaded, rc config.Route, i *authServer, users []string) (tokencache.Settings, error) {
	client, tokens := i.config.Client, loaded.Config.Tokens
	secret := client.Secret
	if client.SecretFile != "" {
		text, err := p.files.read(loaded, client.SecretFile)
		if err != nil {
			return tokencache.Settings{}, fmt.Errorf("issuers[%s].client.secret_file: %w", i.config.Name, err)
		}
		secret = config.NewSecret(strings.TrimRight(string(text), "\r\n"))
	}
	digest := sha256.Sum256([]byte(secret.Reveal()))
	s, err := source.New(source.Options{
		TokenEndpoint: i.tokenEndpoint, ClientID: client.ID, AuthMethod: client.AuthMethod, Secret: secret.Reveal,
		Audience: rc.Audience, Resource: rc.Resource, Scopes: rc.Scopes, Params: params(rc),
		HTTPClient: i.http.HTTPClient(), DefaultLifetime: tokens.DefaultLifetime,
	})
	if err != nil {
		return tokencache.Settings{}, err
	}
	return tokencache.Settings{
		Source: s, Credentials: hex.EncodeToString(digest[:]),
		Labels:  tokencache.Labels{Issuer: i.config.Name, Grant: rc.Grant, Routes: users},
		Timeout: i.config.Timeout, RefreshAt: tokens.RefreshAt, MinRemaining: tokens.MinRemaining,
	}, nil
}

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
