package admin

import (
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/sidepass/sidepass/proxy"
)

// guard keeps out what a browser was made to send: through a name that its owner had resolve to us (DNS rebinding), or
// from the page of another site.
type guard struct {
	// host is the host of the listener's configured address, in lower case; "" for a unix socket and for an address
	// that stands for all of the machine's.
	host string
	// every says that the listener has all of the machine's addresses.
	every bool
}

// newGuard takes the configured address: host:port, :port, or unix:….
func newGuard(listen string) guard {
	if strings.HasPrefix(listen, "unix:") {
		return guard{}
	}
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return guard{}
	}
	ip, err := netip.ParseAddr(host)
	switch {
	case host == "" || err == nil && ip.IsUnspecified():
		return guard{every: true}
	case err == nil:
		return guard{host: ip.Unmap().WithZone("").String()} // a Host has no zone
	}
	return guard{host: strings.TrimSuffix(strings.ToLower(host), ".")}
}

// verdict is OK, or why a request is refused.
func (g guard) verdict(r *http.Request) (proxy.Reason, string) {
	if !g.own(r) {
		return proxy.WrongHost, "The Host is neither a loopback name nor the address that admin.listen names."
	}
	for _, site := range r.Header["Sec-Fetch-Site"] {
		if site != "same-origin" && site != "none" {
			return proxy.CrossSite, "Sec-Fetch-Site says that a browser sent this request for another site; open the address itself."
		}
	}
	for _, origin := range r.Header["Origin"] {
		if !strings.EqualFold(origin, "http://"+r.Host) && !strings.EqualFold(origin, "https://"+r.Host) {
			return proxy.CrossSite, "Origin says that a browser sent this request for another site."
		}
	}
	return proxy.OK, ""
}

// own says whether the Host is one of ours, whatever its port: a port-forward has another.
func (g guard) own(r *http.Request) bool {
	host, _, ok := proxy.SplitAuthority(r.Host)
	if !ok {
		return false
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return host == "localhost" || host == g.host
	}
	ip = ip.Unmap()
	switch {
	case ip.IsLoopback() || ip.String() == g.host:
		return true
	case g.every:
		// The address that the connection came to. A literal address cannot be rebound.
		local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
		return ok && local.AddrPort().Addr().Unmap().WithZone("") == ip
	}
	return false
}
