package config

import "fmt"

// listener is one address to bind.
type listener struct {
	path    string
	address Listen
}

func (v *validator) listeners() {
	var all []listener
	if out := v.cfg.Outbound; out != nil {
		all = append(all, listener{"outbound.listen", out.Listen})
		for i, r := range out.Routes {
			if r.Listen.IsSet() {
				all = append(all, listener{elementPath("outbound.routes", i) + ".listen", r.Listen})
			}
		}
		v.remoteOutbound(out, all)
	}
	if in := v.cfg.Inbound; in != nil {
		all = append(all, listener{"inbound.listen", in.Listen})
	}
	for _, l := range all {
		if l.address.Off() {
			v.problem(l.path, "cannot be off", "only metrics and admin can; leave out the section or route instead")
		}
	}
	all = append(all, listener{"metrics.listen", v.cfg.Metrics.Listen}, listener{"admin.listen", v.cfg.Admin.Listen})
	v.remoteAdmin(v.cfg.Admin)
	for i, l := range all {
		if !l.address.IsSet() {
			v.problem(l.path, "is empty", "write host:port or unix:/path")
		}
		for _, other := range all[:i] {
			if !l.address.collides(other.address) {
				continue
			}
			at, taker := l, other
			if _, set := v.places[at.path]; !set { // of a default and a value, the value is at fault
				at, taker = taker, at
			}
			v.problem(at.path, fmt.Sprintf("%s is taken by %s, which listens on %s", at.address, v.where(taker.path), taker.address), "give each listener an address of its own")
		}
	}
}

// remoteOutbound refuses addresses that hand out tokens to other machines, unless that is wanted.
func (v *validator) remoteOutbound(out *Outbound, listeners []listener) {
	for _, l := range listeners {
		if l.address.Remote() && !out.AllowRemote {
			v.problem(l.path, l.address.String()+" can be reached by other machines, which would get tokens", "listen on 127.0.0.1 or a Unix socket; outbound.allow_remote: true allows it")
		}
	}
	if !out.Listen.Remote() {
		return
	}
	if out.Unmatched != "deny" {
		v.problem("outbound.unmatched", "must be deny where other machines can reach outbound.listen", "write unmatched: deny, or listen on 127.0.0.1")
	}
	if out.Connect != "deny" {
		v.problem("outbound.connect", "must be deny where other machines can reach outbound.listen", "write connect: deny, or listen on 127.0.0.1")
	}
}

func (v *validator) remoteAdmin(a Admin) {
	if !a.Listen.Remote() {
		return
	}
	if !a.AllowRemote {
		v.problem("admin.listen", a.Listen.String()+" can be reached by other machines", "listen on 127.0.0.1 or a Unix socket; admin.allow_remote: true allows it")
	}
	if a.TokenAPI {
		v.problem("admin.token_api", "cannot be on where other machines can reach admin.listen", "listen on 127.0.0.1 or a Unix socket")
	}
}
