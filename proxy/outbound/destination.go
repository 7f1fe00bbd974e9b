package outbound

import (
	"net/netip"
	"strings"

	"github.com/sidepass/sidepass/proxy"
)

// destination is the one place that a request is aimed at: the authority of its URL in absolute-form, its Host
// otherwise. Its strings may alias the request's.
type destination struct {
	raw    string // as it came
	host   string // lower case, no trailing dot, no brackets, an IPv6 address in its canonical spelling
	port   string // the scheme's default where none was given
	https  bool   // an absolute-form https:// URL
	direct bool   // sent to us and not through us: origin-form, asterisk-form, everything in HTTP/2 but CONNECT
}

const (
	wrongHostDetail = "The Host is neither a loopback name, nor this listener's own, nor a route's. " +
		"Further names of our own go into `outbound.names`."
	crossSiteDetail = "Sec-Fetch-Site or Origin says that a browser sent this request for another site."
)

// destinationOf takes the destination from a request; the reason is OK or why it has none.
func destinationOf(r *proxy.Request) (destination, proxy.Reason) {
	d := destination{raw: r.Host, direct: true}
	switch {
	case r.Method == "CONNECT":
		d.direct = false
		if r.Target.Form == proxy.AuthorityForm {
			d.raw = r.Target.Authority
		}
	case r.Target.Form == proxy.AbsoluteForm:
		d = destination{raw: r.Target.Authority, https: r.Target.Scheme == "https"}
	case r.Target.Form == proxy.AuthorityForm:
		return d, proxy.MalformedRequest
	}
	var ok bool
	d.host, d.port, ok = splitAuthority(d.raw)
	switch {
	case !ok && d.direct:
		return d, proxy.WrongHost
	case !ok || r.Method == "CONNECT" && d.port == "": // RFC 9110, section 9.3.6: CONNECT always names the port
		return d, proxy.MalformedRequest
	case d.port == "" && d.https:
		d.port = "443"
	case d.port == "":
		d.port = "80"
	}
	return d, proxy.OK
}

// splitAuthority is [proxy.SplitAuthority] with IPv6 addresses in their one canonical spelling.
func splitAuthority(authority string) (host, port string, ok bool) {
	host, port, ok = proxy.SplitAuthority(authority)
	if ok && strings.IndexByte(host, ':') >= 0 {
		a, err := netip.ParseAddr(host)
		if err != nil {
			return "", "", false
		}
		host = a.Unmap().String()
	}
	return host, port, ok
}

func (d *destination) scheme() string {
	if d.https {
		return "https"
	}
	return "http"
}

// String is the URL of the destination without a path.
func (d *destination) String() string {
	return d.scheme() + "://" + d.authority(d.scheme())
}

// authority is host[:port] for a scheme, which leaves out its default port.
func (d *destination) authority(scheme string) string {
	port := d.port
	if scheme == "https" && (port == "80" || port == "443") || scheme == "http" && port == "80" {
		port = ""
	}
	return joinAuthority(d.host, port)
}

// joinAuthority always makes a new string.
func joinAuthority(host, port string) string {
	if strings.IndexByte(host, ':') >= 0 {
		host = "[" + host + "]"
	}
	if port == "" {
		return strings.Clone(host)
	}
	return host + ":" + port
}

// isLoopback says whether a canonical host is a name of this machine that no DNS answer can take over.
func isLoopback(host string) bool {
	if host == "localhost" || host == "::1" {
		return true
	}
	if !strings.HasPrefix(host, "127.") {
		return false
	}
	_, err := netip.ParseAddr(host)
	return err == nil
}

// isUnspecified says whether a canonical host is no address but stands for all of the machine's.
func isUnspecified(host string) bool {
	return host == "" || host == "0.0.0.0" || host == "::"
}
