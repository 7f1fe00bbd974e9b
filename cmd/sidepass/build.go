package main

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/sidepass/sidepass/config"
	"github.com/sidepass/sidepass/proxy"
	"github.com/sidepass/sidepass/proxy/engine"
	"github.com/sidepass/sidepass/proxy/inbound"
	"github.com/sidepass/sidepass/proxy/jwks"
	"github.com/sidepass/sidepass/proxy/outbound"
	"github.com/sidepass/sidepass/proxy/verify"
	"github.com/sidepass/sidepass/tokencache"
	"github.com/sidepass/sidepass/tokencache/source"
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
	issuers  map[issuerKey]*authServer
	keys     map[keysKey]*jwks.Keys
	guards   map[string]*outbound.Guard // :: route's name → its 401 guard
	via      map[string]string          // :: direction → our pseudonym there
	files    files
	observe  observers
}

// keysKey is what a key set depends on: how the issuer is reached, and how its keys are refreshed.
type keysKey struct {
	issuer  issuerKey
	refresh string
}

// generation is everything that one configuration runs. Building it changes nothing that is in use;
// activate installs it.
type generation struct {
	loaded   *config.Loaded
	outbound proxy.Gate // nil where the direction is not run
	inbound  proxy.Gate
	routes   []*route
	trusted  []*trusted
	issuers  map[issuerKey]*authServer
	keys     map[keysKey]*jwks.Keys
	upstream []*engine.Upstream
	activate []func()
}

// route is an outbound route as readiness, status and prefetch see it.
type route struct {
	config config.Route
	key    tokencache.Key
	entry  *tokencache.Entry
}

// trusted is an issuer whose tokens inbound accepts.
type trusted struct {
	config config.Issuer
	keys   *jwks.Keys
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
	if err := unbuilt(c); err != nil {
		return nil, err
	}
	g := &generation{loaded: loaded, issuers: map[issuerKey]*authServer{}, keys: map[keysKey]*jwks.Keys{}}
	byName := map[string]*authServer{}
	keyOf := map[string]issuerKey{}
	for _, ic := range c.Issuers {
		i, key, err := newAuthServer(ic, func(name string) ([]byte, error) { return p.files.read(loaded, name) })
		if err != nil {
			return nil, err
		}
		known := p.issuers[key]
		if known == nil {
			known = g.issuers[key] // another client of the same server
		}
		if known != nil {
			i = &authServer{config: ic, http: known.http, metadata: known.metadata}
		}
		g.issuers[key], byName[ic.Name], keyOf[ic.Name] = i, i, key
	}
	var errs []error
	if c.Outbound != nil {
		errs = append(errs, p.buildOutbound(g, c, byName, bound))
	}
	if c.Inbound != nil {
		errs = append(errs, p.buildInbound(g, c, byName, keyOf))
	}
	return g, errors.Join(errs...)
}

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
	if c.Inbound != nil && c.Inbound.Upstream.Socket == "" {
		o.Ours = append(o.Ours, withPort(c.Inbound.Upstream))
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

func (p *process) buildInbound(g *generation, c *config.Config, issuers map[string]*authServer, keyOf map[string]issuerKey) error {
	ic := c.Inbound
	var trusts []verify.Trust
	var trustedIssuers []inbound.Issuer
	for _, t := range ic.Trust {
		i := issuers[t.Issuer]
		key := keysKey{keyOf[t.Issuer], fmt.Sprint(ic.JWKSRefresh, ic.JWKSMaxStale, ic.JWKSMinInterval)}
		keys := p.keys[key]
		if keys == nil {
			o := jwks.Options{
				URI: i.jwksURI, HTTP: i.http, BearerToken: i.bearer,
				Refresh: ic.JWKSRefresh, MaxStale: ic.JWKSMaxStale, MinInterval: ic.JWKSMinInterval, Timeout: i.config.Timeout,
				Observer: p.observe.keys(i.config.Name),
			}
			if file := i.config.JWKSFile; file != "" {
				o.URI, o.HTTP, o.File = nil, nil, func() ([]byte, error) { return p.files.read(g.loaded, file) }
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
	verifier, err := verify.New(verify.Options{Trusts: trusts, Cache: p.verified, Leeway: ic.Leeway, Observer: p.observe.verify})
	if err != nil {
		return err
	}
	handle := func(u config.Upstream) (*engine.Upstream, error) {
		h, err := engine.NewUpstream(engine.UpstreamOptions{Scheme: u.Scheme, Authority: u.Host, UnixSocket: u.Socket, Protocol: engine.Protocol(ic.Protocol)})
		if err == nil {
			g.upstream = append(g.upstream, h)
		}
		return h, err
	}
	app, err := handle(ic.Upstream)
	if err != nil {
		return fmt.Errorf("inbound.upstream: %w", err)
	}
	o := inbound.Options{
		Verifier: verifier, Issuers: trustedIssuers, Upstream: app, Mode: inbound.Mode(ic.Mode), StripAuthorization: ic.Authorization == "strip",
		Resource: ic.Resource.String(), Observer: p.observe.inbound,
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
			u, err := handle(r.Upstream)
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
	g.inbound = gate
	return nil
}

func claimValues(in []config.ClaimValue) []verify.ClaimValue {
	var out []verify.ClaimValue
	for _, c := range in {
		out = append(out, verify.ClaimValue{Claim: c.Claim, Value: c.Value})
	}
	return out
}

// ownAddresses says which resolved addresses are our own listeners' or the app's behind inbound: unmatched requests
// and CONNECT never go there, whatever name they were given.
func ownAddresses(c *config.Config, bound map[string]string) func(netip.AddrPort) bool {
	ports := map[uint16][]netip.Addr{}
	add := func(address string) {
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			return // a unix socket cannot be named in a request
		}
		n, err := net.LookupPort("tcp", port)
		if err != nil {
			return
		}
		ip, err := netip.ParseAddr(host)
		if err != nil {
			ip = netip.IPv4Unspecified() // localhost and names of our own: any local address
		}
		ports[uint16(n)] = append(ports[uint16(n)], ip.Unmap())
	}
	for _, a := range bound {
		add(a)
	}
	if c.Inbound != nil && c.Inbound.Upstream.Socket == "" {
		add(withPort(c.Inbound.Upstream))
	}
	return func(to netip.AddrPort) bool {
		for _, ip := range ports[to.Port()] {
			addr := to.Addr().Unmap()
			if addr == ip || addr.IsUnspecified() || ip.IsUnspecified() && isLocal(addr) {
				return true
			}
		}
		return false
	}
}

// isLocal says whether an address is one of this machine's.
func isLocal(a netip.Addr) bool {
	if a.IsLoopback() || a.IsUnspecified() {
		return true
	}
	local, err := net.InterfaceAddrs()
	if err != nil {
		return true
	}
	for _, l := range local {
		if n, ok := l.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok && ip.Unmap() == a {
				return true
			}
		}
	}
	return false
}

// withPort is an upstream's authority with its port.
func withPort(u config.Upstream) string {
	host, port, ok := proxy.SplitAuthority(u.Host)
	if !ok {
		return u.Host
	}
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(host, port)
}
