// Package outbound is the gate of the direction in which an application calls others: it finds the route of a
// request, obtains the route's access token, puts it where the application's Authorization was, and decides what
// happens when the upstream answers 401.
//
// A token goes only where a route sends it. A request that no route matches is refused, or passed on without one.
package outbound

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sidepass/sidepass/proxy"
	"github.com/sidepass/sidepass/tokencache"
)

// Labels of requests that took no route, in [proxy.Note].
const (
	ruleUnmatched = "unmatched"
	ruleConnect   = "connect"
)

// Options of a [Gate].
type Options struct {
	// Listener is the shared listener, where host and prefix routes are found.
	Listener Listener
	// Names are further Host values that are our own, with a port or, for any port, without.
	Names []string
	// Ours are the addresses (host:port) of the process's other listeners and of the inbound upstream, where
	// unmatched requests and CONNECT never go. An unspecified or empty host stands for every name of our own. The gate
	// compares spellings; who dials compares resolved addresses as well.
	Ours []string
	// Routes in any order: the most specific one wins.
	Routes []Route
	// Unmatched is what carries requests that no route matches to the destination that they name
	// (`unmatched: passthrough`). Nil refuses them.
	Unmatched proxy.Upstream
	// Tunnel is what carries CONNECT. It may be nil when nothing says `connect: tunnel`.
	Tunnel proxy.Upstream
	// TunnelUnmatched tunnels CONNECT to hosts that no route has (`connect: tunnel`).
	TunnelUnmatched bool
	// Via is the pseudonym by which our own Via entries are known (RFC 9110, section 7.6.3). It is required.
	Via string
	// Now is the clock of the 401 policy; nil is time.Now.
	Now func() time.Time
	// Observer is told what metrics count.
	Observer Observer
}

// Observer is told of events; each function may be nil. They are called on the path of the request and must not block.
type Observer struct {
	// Lookup: a request of the route was given a token, or none, by the cache.
	Lookup func(route string, result tokencache.Lookup)
	// Upstream401: the route's upstream refused the token.
	Upstream401 func(route string, action Action)
}

// Gate is the outbound [proxy.Gate]. It does not change after New and is safe for concurrent use.
type Gate struct {
	listeners       map[string]*listener // :: listener's name → how it routes
	hosts           hostIndex
	prefixes        []*route // longest first
	ours            addresses
	unmatched       proxy.Upstream
	tunnel          proxy.Upstream
	tunnelUnmatched bool
	via             string
}

// New makes a gate. The error joins everything that is wrong with the options.
func New(o Options) (*Gate, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	var errs []error
	names, err := parseNames(o.Names)
	errs = append(errs, err)
	g := &Gate{
		listeners:       map[string]*listener{},
		unmatched:       o.Unmatched,
		tunnel:          o.Tunnel,
		tunnelUnmatched: o.TunnelUnmatched,
		via:             o.Via,
	}
	if o.Via == "" || strings.ContainsAny(o.Via, " \t,()") {
		errs = append(errs, errors.New("outbound: the Via pseudonym is not a token; without it a loop is not seen"))
	}
	if o.TunnelUnmatched && o.Tunnel == nil {
		errs = append(errs, errors.New("outbound: connect: tunnel needs something that carries the tunnel"))
	}
	g.listeners[o.Listener.Name] = newListener(o.Listener, names, nil)

	index := indexBuilder{}
	for i := range o.Routes {
		rt, err := newRoute(&o.Routes[i], &o)
		if err != nil {
			errs = append(errs, fmt.Errorf("outbound: route %q: %w", o.Routes[i].Name, err))
			continue
		}
		switch rt.kind {
		case byHost:
			index.add(rt)
		case byPrefix:
			errs = append(errs, g.addPrefix(rt))
		default:
			errs = append(errs, g.addListener(o.Routes[i].Listener, names, rt))
		}
	}
	g.hosts, err = index.build()
	errs = append(errs, err)

	ours := append([]string{}, o.Ours...)
	for _, l := range g.listeners {
		ours = append(ours, l.address)
	}
	g.ours = newAddresses(ours)
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return g, nil
}

func (g *Gate) addListener(l Listener, names []name, rt *route) error {
	if _, taken := g.listeners[l.Name]; taken {
		return fmt.Errorf("outbound: route %q: its listener %q is another's already", rt.name, l.Name)
	}
	own, err := newSite([]*route{rt})
	if err != nil {
		return err
	}
	g.listeners[l.Name] = newListener(l, names, own)
	return nil
}

// Admit judges a request in the order that the contract gives. It blocks while a token is fetched. With the token at
// hand it allocates nothing for a route that has one upstream and sends the path as it came.
func (g *Gate) Admit(ctx context.Context, r *proxy.Request) proxy.Verdict {
	if strings.EqualFold(r.Method, "TRACE") {
		return refuse(proxy.MethodNotAllowed, ruleUnmatched, "TRACE is not served here: its answer would show the token.")
	}
	l := g.listeners[r.Listener]
	if l == nil {
		return refuse(proxy.InternalError, ruleUnmatched, "")
	}
	d, reason := destinationOf(r)
	if reason != proxy.OK {
		return refuse(reason, ruleUnmatched, "")
	}
	if d.direct { // to a host route too: its name may lead here by a hosts file, for a browser as well
		if !l.own(&d) && (l.site != nil || !g.hosts.has(&d)) {
			return refuse(proxy.WrongHost, ruleUnmatched, wrongHostDetail)
		}
		if crossSite(r.Header, &d) {
			return refuse(proxy.CrossSite, ruleUnmatched, crossSiteDetail)
		}
	}
	if looped(r.Header, g.via) {
		return refuse(proxy.LoopDetected, ruleUnmatched, "")
	}
	if r.Method == "CONNECT" {
		return g.connect(l, &d)
	}
	rt, ours := g.route(l, r, &d)
	switch {
	case rt != nil:
		return rt.admit(ctx, r, &d)
	case ours && !d.direct && l.site == nil:
		return refuse(proxy.NoRoute, ruleUnmatched,
			"The request goes through this sidecar to the sidecar itself. Exempt "+d.host+" from the proxy (NO_PROXY).")
	case ours:
		return refuse(proxy.NoRoute, ruleUnmatched, "No prefix or path of a route on this listener matches the request's path.")
	}
	return g.pass(r, &d)
}

// route finds the route of a request. ours says that the request is aimed at us, so that without a route it goes nowhere.
func (g *Gate) route(l *listener, r *proxy.Request, d *destination) (rt *route, ours bool) {
	path := r.Target.Path
	if l.site != nil {
		return l.site.match(r.Method, path), true
	}
	self := l.self(d)
	if d.direct && l.own(d) {
		if rt := g.prefix(path); rt != nil {
			return rt, true
		}
		ours = true
	}
	if self {
		return nil, true // a route without an upstream would dial us
	}
	return g.hosts.match(d, r.Method, path), ours || l.named(d)
}

// pass is what a request gets that no route matches. It never carries a token of ours.
func (g *Gate) pass(r *proxy.Request, d *destination) proxy.Verdict {
	if g.unmatched == nil {
		return refuse(proxy.NoRoute, ruleUnmatched,
			"No route covers "+d.String()+" with this path, and `unmatched` is deny. Add a route for it.")
	}
	if g.ours.holds(g, d) {
		return refuse(proxy.NoRoute, ruleUnmatched, d.String()+" is an address of this sidecar or of the application behind it.")
	}
	return proxy.Verdict{
		Action:    proxy.Forward,
		Upstream:  g.unmatched,
		Scheme:    d.scheme(),
		Authority: strings.Clone(d.raw),
		Reason:    proxy.OK,
		Note:      proxy.Note{Rule: ruleUnmatched},
	}
}

func refuse(reason proxy.Reason, rule, detail string) proxy.Verdict {
	return proxy.Verdict{Action: proxy.Refuse, Reason: reason, Detail: detail, Note: proxy.Note{Rule: rule}}
}
