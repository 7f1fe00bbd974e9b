package engine

import (
	"net/http"
	"net/netip"
	"strings"
)

// Forwarded says whose word on the client's address counts. Fields of that kind that a peer outside Trusted sends
// are removed, and X-Forwarded-For, -Proto and -Host say what we saw ourselves; what a trusted peer sends is kept, and
// its own address is appended.
type Forwarded struct {
	// Trusted are the networks of proxies in front of us; none by default.
	Trusted []netip.Prefix
}

// clientFields are the fields that ReverseProxy takes away and that pass through unless a [Forwarded] says otherwise.
var clientFields = [...]string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"}

// set brings the fields of out in order. out lacks the clientFields of in.
func (f *Forwarded) set(out http.Header, in *http.Request) {
	peer, known := peerAddr(in.RemoteAddr)
	trusted := known && f.trusts(peer)
	if trusted {
		restore(out, in.Header, clientFields[:])
	} else {
		for name := range out {
			if claimsClient(name) {
				delete(out, name)
			}
		}
	}
	if known {
		out["X-Forwarded-For"] = []string{strings.Join(append(out["X-Forwarded-For"], peer.String()), ", ")}
	}
	if prior := out["Forwarded"]; len(prior) > 0 {
		node := peer.String()
		if peer.Is6() {
			node = `"[` + node + `]"`
		}
		out["Forwarded"] = []string{strings.Join(append(prior[:len(prior):len(prior)], "for="+node), ", ")}
	}
	if len(out["X-Forwarded-Proto"]) == 0 {
		proto := "http"
		if in.TLS != nil {
			proto = "https"
		}
		out["X-Forwarded-Proto"] = []string{proto}
	}
	if len(out["X-Forwarded-Host"]) == 0 && in.Host != "" {
		out["X-Forwarded-Host"] = []string{in.Host}
	}
}

func (f *Forwarded) trusts(peer netip.Addr) bool {
	for _, p := range f.Trusted {
		if p.Contains(peer) {
			return true
		}
	}
	return false
}

// claimsClient says whether a field tells what the client is or asked for, in any spelling.
func claimsClient(name string) bool {
	const prefix = "X-Forwarded-"
	if len(name) > len(prefix) && sameName(name[:len(prefix)], prefix) {
		return true
	}
	return sameName(name, "Forwarded") || sameName(name, "X-Real-IP") || sameName(name, "X-Original-URL") || sameName(name, "X-Rewrite-URL")
}

// peerAddr is the address of a peer, IPv4 as such; false on a unix socket.
func peerAddr(remote string) (netip.Addr, bool) {
	ap, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Addr{}, false
	}
	return ap.Addr().Unmap().WithZone(""), true
}

// restore copies the named fields that are missing.
func restore(out, in http.Header, names []string) {
	for _, name := range names {
		if values, ok := in[name]; ok {
			if _, there := out[name]; !there {
				out[name] = values[:len(values):len(values)]
			}
		}
	}
}
