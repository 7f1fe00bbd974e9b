package outbound

import (
	"strings"

	"github.com/sidepass/sidepass/proxy"
)

// connect judges a CONNECT. A tunnel never carries a token, so that one to a route's host would be a silent way past
// it unless the route says so.
func (g *Gate) connect(l *listener, d *destination) proxy.Verdict {
	if l.site != nil {
		return refuse(proxy.ConnectDenied, ruleConnect,
			"This listener belongs to one route; it serves no CONNECT. Send the request itself.")
	}
	host := d.authority("https")
	known, allowed := g.tunnels(d)
	switch {
	case known && !allowed:
		return refuse(proxy.ConnectDenied, ruleConnect,
			"A route adds a token to requests for this host, and nothing can be added to a tunnel. Use http://"+host+
				" instead; the sidecar speaks TLS to the upstream. (`connect: tunnel` on the route allows the tunnel, without a token.)")
	case !known && !g.tunnelUnmatched:
		return refuse(proxy.ConnectDenied, ruleConnect, "CONNECT to "+d.raw+": `connect` is deny. Use http://"+host+
			" with a route for it; the sidecar speaks TLS to the upstream.")
	case l.named(d) || g.ours.holds(g, d):
		return refuse(proxy.ConnectDenied, ruleConnect, d.raw+" is an address of this sidecar or of the application behind it.")
	}
	return proxy.Verdict{
		Action:    proxy.Tunnel,
		Upstream:  g.tunnel,
		Authority: strings.Clone(d.raw),
		Reason:    proxy.OK,
		Note:      proxy.Note{Rule: ruleConnect},
	}
}

// tunnels says whether a CONNECT names a route's host, and if so whether each route that requests for that host may take
// allows it. Port 443 also is where a route for port 80 goes.
func (g *Gate) tunnels(d *destination) (known, allowed bool) {
	known, allowed = g.tunnelsTo(d.host, d.port)
	if d.port == "443" {
		plain, plainAllowed := g.tunnelsTo(d.host, "80")
		known, allowed = known || plain, allowed && plainAllowed
	}
	return known, allowed
}

func (g *Gate) tunnelsTo(host, port string) (known, allowed bool) {
	allowed = true
	for s := range g.hosts.sites(host, port) {
		for _, rt := range s.routes {
			known, allowed = true, allowed && rt.tunnel
		}
		if s.without != nil {
			break // it takes what is left; a less specific host gets nothing
		}
	}
	return known, allowed
}
