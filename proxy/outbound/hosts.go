package outbound

import (
	"errors"
	"fmt"
	"strings"

	"github.com/sidepass/sidepass/proxy/pattern"
)

// hostPattern is a route's host: exact, or "*." for one or more labels before a suffix; with a port or, for any port,
// without.
type hostPattern struct {
	host string // canonical; of a wildcard what follows "*."
	port string
	wild bool
}

func parseHostPattern(s string) (hostPattern, error) {
	rest, wild := strings.CutPrefix(s, "*.")
	host, port, ok := splitAuthority(rest)
	if !ok {
		return hostPattern{}, fmt.Errorf("host %q is neither a host nor *. and a host, each with an optional port", s)
	}
	return hostPattern{host, port, wild}, nil
}

// hostIndex finds the routes of a requested host without looking at each.
type hostIndex struct {
	exact map[string]*ports // :: host → its sites
	wild  map[string]*ports // :: what follows "*." → its sites
}

// ports are the sites of one host.
type ports struct {
	byPort map[string]*site
	any    *site
}

// match returns the most specific route for a destination, method and path: an exact host before a wildcard, the longer
// wildcard before the shorter, a host with a port before the same without. A route whose paths do not match is passed over.
func (x *hostIndex) match(d *destination, method, path string) *route {
	for s := range x.sites(d.host, d.port) {
		if rt := s.match(method, path); rt != nil {
			return rt
		}
	}
	return nil
}

// has says whether the destination is a route's host, whatever the paths.
func (x *hostIndex) has(d *destination) bool {
	for range x.sites(d.host, d.port) {
		return true
	}
	return false
}

// sites yields the sites of a host and port, the most specific first.
func (x *hostIndex) sites(host, port string) func(yield func(*site) bool) {
	return func(yield func(*site) bool) {
		if !x.exact[host].each(port, yield) {
			return
		}
		for rest := host; len(x.wild) > 0; {
			dot := strings.IndexByte(rest, '.')
			if dot < 0 {
				return
			}
			rest = rest[dot+1:]
			if !x.wild[rest].each(port, yield) {
				return
			}
		}
	}
}

func (p *ports) each(port string, yield func(*site) bool) bool {
	if p == nil {
		return true
	}
	if s := p.byPort[port]; s != nil && !yield(s) {
		return false
	}
	return p.any == nil || yield(p.any)
}

// site is the routes that share a host, told apart by their paths.
type site struct {
	routes  []*route
	paths   *pattern.Matcher[*route] // nil when no route has paths
	without *route                   // the one that takes every path; nil for none
}

func newSite(routes []*route) (*site, error) {
	s := &site{routes: routes}
	var entries []pattern.Entry[*route]
	for _, rt := range routes {
		for _, p := range rt.paths {
			entries = append(entries, pattern.Entry[*route]{Pattern: p, Value: rt})
		}
		if len(rt.paths) > 0 {
			continue
		}
		if s.without != nil {
			return nil, fmt.Errorf("outbound: routes %q and %q have the same host and no paths that tell them apart",
				s.without.name, rt.name)
		}
		s.without = rt
	}
	if len(entries) > 0 {
		var err error
		if s.paths, err = pattern.Compile(entries); err != nil {
			return nil, fmt.Errorf("outbound: paths of %s: %w", routeNames(routes), err)
		}
	}
	return s, nil
}

// match returns the route for a path, or nil.
func (s *site) match(method, path string) *route {
	if s.paths != nil && !ambiguous(path) {
		if rt, ok := s.paths.Match(method, path); ok {
			return rt
		}
	}
	return s.without
}

// ambiguous says whether a path holds a backslash, or an encoded slash or backslash, which upstreams read in more than one
// way. Such a path matches no paths; neither does one with a dot segment, which [pattern.Matcher] sees to.
func ambiguous(path string) bool {
	for i := 0; i < len(path); i++ {
		switch path[i] {
		case '\\':
			return true
		case '%':
			if i+2 < len(path) && (path[i+1] == '2' && path[i+2]|0x20 == 'f' || path[i+1] == '5' && path[i+2]|0x20 == 'c') {
				return true
			}
		}
	}
	return false
}

// indexBuilder gathers the host routes before their sites are made.
type indexBuilder map[hostPattern][]*route

func (b indexBuilder) add(rt *route) { b[rt.host] = append(b[rt.host], rt) }

func (b indexBuilder) build() (hostIndex, error) {
	x := hostIndex{exact: map[string]*ports{}, wild: map[string]*ports{}}
	var errs []error
	for h, routes := range b {
		s, err := newSite(routes)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		hosts := x.exact
		if h.wild {
			hosts = x.wild
		}
		p := hosts[h.host]
		if p == nil {
			p = &ports{byPort: map[string]*site{}}
			hosts[h.host] = p
		}
		if h.port == "" {
			p.any = s
		} else {
			p.byPort[h.port] = s
		}
	}
	return x, errors.Join(errs...)
}

func routeNames(routes []*route) string {
	var names []string
	for _, rt := range routes {
		names = append(names, fmt.Sprintf("%q", rt.name))
	}
	return "route " + strings.Join(names, " and ")
}
