package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/sidepass/sidepass/config"
	"github.com/sidepass/sidepass/proxy"
)

// appUpstreams are where the app behind inbound listens, as far as a request could name it.
func appUpstreams(c *config.Config) []config.Upstream {
	var out []config.Upstream
	add := func(u config.Upstream) {
		if u.IsSet() && u.Socket == "" {
			out = append(out, u)
		}
	}
	if c.Inbound != nil {
		add(c.Inbound.Upstream)
		for _, r := range c.Inbound.Rules {
			add(r.Upstream)
		}
	}
	return out
}

// ownAddresses says which resolved addresses are our own listeners' or the app's behind inbound: unmatched requests
// and CONNECT never go there, whatever name they were given.
func ownAddresses(c *config.Config, bound map[string]string) func(netip.AddrPort) bool {
	type own struct {
		ip   netip.Addr // unspecified: any of this machine's
		name string     // or what this resolves to
	}
	ports := map[string][]own{}
	for _, address := range bound {
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			continue // a unix socket cannot be named in a request
		}
		ip, err := netip.ParseAddr(host)
		if err != nil {
			ip = netip.IPv4Unspecified()
		}
		ports[port] = append(ports[port], own{ip: ip.Unmap()})
	}
	for _, u := range appUpstreams(c) {
		host, port, err := net.SplitHostPort(withPort(u))
		if err != nil {
			continue
		}
		o := own{ip: netip.IPv4Unspecified(), name: host}
		if ip, err := netip.ParseAddr(host); err == nil {
			o.name = ""
			if !ip.IsLoopback() { // an app that is called by loopback may listen on every address
				o.ip = ip.Unmap()
			}
		}
		ports[port] = append(ports[port], o)
	}
	return func(to netip.AddrPort) bool {
		addr := to.Addr().Unmap()
		for _, o := range ports[strconv.Itoa(int(to.Port()))] {
			if addr == o.ip || addr.IsUnspecified() || o.ip.IsUnspecified() && isLocal(addr) || o.name != "" && resolvesTo(o.name, addr) {
				return true
			}
		}
		return false
	}
}

// resolvesTo says whether a name is, now, that of an address.
func resolvesTo(name string, addr netip.Addr) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", name)
	return err == nil && slices.ContainsFunc(ips, func(ip netip.Addr) bool { return ip.Unmap() == addr })
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

// notOurselves refuses an upstream that is the inbound listener itself: each request would come back for ever. Sockets are
// compared by config.
func notOurselves(u config.Upstream, listen string) error {
	host, port, _ := net.SplitHostPort(listen) // "" for a socket
	upHost, upPort, _ := net.SplitHostPort(withPort(u))
	if u.Socket != "" || port == "" || upPort != port {
		return nil
	}
	up, errUp := netip.ParseAddr(upHost)
	at, errAt := netip.ParseAddr(host)
	if upHost == "localhost" || errUp == nil && (errAt != nil || at.IsUnspecified() && isLocal(up) || at == up) {
		return fmt.Errorf("%s is this sidecar's own inbound listener; name the app's address", u)
	}
	return nil
}
