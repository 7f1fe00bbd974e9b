package outbound

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/sidepass/sidepass/proxy"
)

// Listener is one of the direction's listeners.
type Listener struct {
	// Name is what [proxy.Request.Listener] says of its connections.
	Name string
	// Address is the bound host:port, or a unix socket's in any form.
	Address string
}

// listener is how one listener judges the Host of requests that were sent to it directly.
type listener struct {
	address string
	host    string // "" for a unix socket and for an unspecified address
	port    string // "" for a unix socket
	names   []name
	site    *site // the one route of a listener of its own; nil on the shared one
}

// name is a further Host value; without a port it stands for any.
type name struct{ host, port string }

func parseNames(in []string) ([]name, error) {
	var (
		names []name
		errs  []error
	)
	for _, s := range in {
		host, port, ok := splitAuthority(s)
		switch {
		case !ok:
			errs = append(errs, fmt.Errorf("outbound: names: %q is not a host with an optional port", s))
		case !isLoopback(host): // those are ours anyway, on our own port only
			names = append(names, name{host, port})
		}
	}
	return names, errors.Join(errs...)
}

func newListener(l Listener, names []name, own *site) *listener {
	out := &listener{address: l.Address, names: names, site: own}
	out.host, out.port = splitAddress(l.Address)
	if isUnspecified(out.host) {
		out.host = ""
	}
	return out
}

// splitAddress splits the address of a listener; both parts are "" for a unix socket's. The host may be "".
func splitAddress(address string) (host, port string) {
	if strings.HasPrefix(address, "unix:") || strings.HasPrefix(address, "/") || strings.HasPrefix(address, "@") {
		return "", ""
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", ""
	}
	if host == "" {
		return "", port
	}
	if canonical, _, ok := splitAuthority(joinAuthority(host, "")); ok {
		host = canonical
	}
	return host, port
}

// own says whether a Host is one that only a client which means this listener sends: a loopback name or the listener's
// address, whatever the port, or a configured name. A page that had its name resolve to us (DNS rebinding) sends another.
func (l *listener) own(d *destination) bool {
	return isLoopback(d.host) || l.host == d.host || l.named(d)
}

// named says whether a destination is a configured name of our own.
func (l *listener) named(d *destination) bool {
	for _, n := range l.names {
		if n.host == d.host && (n.port == "" || n.port == d.port) {
			return true
		}
	}
	return false
}

// self says whether a connection to the destination would come back to this listener.
func (l *listener) self(d *destination) bool {
	return d.port == l.port && (l.own(d) || isUnspecified(d.host))
}

// crossSite says whether a browser sent the request for another site than the one that it was sent to. It follows
// net/http.CrossOriginProtection, with no exception for safe methods: a GET carries a token too.
func crossSite(h proxy.Fields, d *destination) bool {
	_, lines := h.First("Sec-Fetch-Site")
	for i := range lines {
		if v := h.At("Sec-Fetch-Site", i); v != "none" && v != "same-origin" {
			return true
		}
	}
	_, lines = h.First("Origin")
	for i := range lines {
		if !sameOrigin(h.At("Origin", i), d) {
			return true
		}
	}
	return false
}

// sameOrigin compares an Origin (RFC 6454, section 7) with the destination of a direct request. The scheme is not
// compared: something before us may have ended TLS.
func sameOrigin(origin string, d *destination) bool {
	scheme, authority, ok := strings.Cut(origin, "://")
	if !ok {
		return false // "null" included
	}
	host, port, ok := splitAuthority(authority)
	if !ok || host != d.host {
		return false
	}
	switch {
	case port == "" && scheme == "https":
		return d.port == "443" || d.port == "80" // the latter also stands for no port in Host
	case port == "":
		return d.port == "80"
	}
	return port == d.port
}

// looped says whether the request has been here: the received-by part of an entry in Via (RFC 9110, section 7.6.3) is
// our pseudonym. Commas within comments are not told apart; nobody else knows the pseudonym, which is random.
func looped(h proxy.Fields, pseudonym string) bool {
	_, lines := h.First("Via")
	for i := range lines {
		for rest, more := h.At("Via", i), true; more; {
			var entry string
			entry, rest, more = strings.Cut(rest, ",")
			entry = strings.Trim(entry, " \t")
			sp := strings.IndexAny(entry, " \t")
			if sp < 0 {
				continue
			}
			by := strings.TrimLeft(entry[sp:], " \t")
			if end := strings.IndexAny(by, " \t("); end >= 0 {
				by = by[:end]
			}
			if by == pseudonym {
				return true
			}
		}
	}
	return false
}

// addresses are authorities of our own, by port.
type addresses map[string][]string // :: port → hosts; "" stands for every host of our own

func newAddresses(in []string) addresses {
	out := addresses{}
	for _, a := range in {
		host, port := splitAddress(a)
		if port == "" {
			continue
		}
		if isUnspecified(host) {
			host = ""
		}
		out[port] = append(out[port], host)
	}
	return out
}

// holds says whether a connection to the destination would come to one of our own addresses, as far as the spelling tells.
func (a addresses) holds(g *Gate, d *destination) bool {
	for _, host := range a[d.port] {
		here := isLoopback(d.host) || isUnspecified(d.host)
		switch {
		case host == d.host:
			return true
		case host == "" || isLoopback(host):
			if here {
				return true
			}
		}
		if host == "" {
			for _, l := range g.listeners {
				if l.own(d) {
					return true
				}
			}
		}
	}
	return false
}
