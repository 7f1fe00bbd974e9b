package engine

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/sidepass/sidepass/proxy"
)

// Protocol is what an upstream speaks.
type Protocol string

// The protocols; "" is Same.
const (
	// Same is what the request came as: HTTP/1.1, or HTTP/2, which to http:// is h2c with prior knowledge (RFC 9113,
	// section 3.3) and to https:// falls back to HTTP/1.1 where the upstream chooses it by ALPN.
	Same  Protocol = "same"
	HTTP1 Protocol = "http1"
	HTTP2 Protocol = "http2"
)

// connectTimeout bounds connecting to an upstream: name, TCP, a proxy on the way, TLS, all together.
const connectTimeout = 10 * time.Second

// UpstreamOptions says where an [Upstream] is and how it is reached.
type UpstreamOptions struct {
	// Scheme is "http" or "https"; "" where every verdict names it.
	Scheme string
	// Authority is host[:port]; "" where every verdict names it.
	Authority string
	// UnixSocket is the path of a unix socket to connect to instead of Authority, which then is only the Host; "" for none.
	UnixSocket string
	Protocol   Protocol
	// RootCAs judge the upstream's certificate; nil means the system's.
	RootCAs *x509.CertPool
	// ServerName is the name in its certificate; "" means the host of Authority.
	ServerName string
	// Certificate is asked for ours at each handshake that wants one; nil is none.
	Certificate func() (*tls.Certificate, error)
	// ProxyURL is an http or https proxy on the way; nil is none. The environment is never looked at.
	ProxyURL *url.URL
	// Forbid is asked about each resolved address before it is connected to, IPv4 as such, without a zone, and with
	// 0.0.0.0 and :: as the loopback address that they reach; true refuses. nil forbids nothing.
	Forbid func(netip.AddrPort) bool
	// MaxIdleConnsPerHost is how many idle connections are kept for each host; 0 is 256.
	MaxIdleConnsPerHost int
}

// Upstream is a destination that owns its connections. It is safe for concurrent use.
type Upstream struct {
	scheme, authority string
	label             string
	unixSocket        string
	protocol          Protocol
	tls               *tls.Config
	proxy             *url.URL
	forbid            func(netip.AddrPort) bool

	h1   *http.Transport // HTTP/1.1 only
	alpn *http.Transport // HTTP/2 or HTTP/1.1, as a TLS upstream chooses
	h2   *http.Transport // HTTP/2 only, cleartext with prior knowledge

	forwarding *http.Transport // to the proxy, for http://; nil without one

	links links // connections of the lean engine
}

var _ proxy.Upstream = (*Upstream)(nil)

// NewUpstream returns an upstream that has no connection yet. It returns an error for a scheme, a protocol or a proxy
// that it does not know.
func NewUpstream(o UpstreamOptions) (*Upstream, error) {
	switch o.Scheme {
	case "", "http", "https":
	default:
		return nil, fmt.Errorf("upstream: the scheme is %q; it must be http or https", o.Scheme)
	}
	switch o.Protocol {
	case "":
		o.Protocol = Same
	case Same, HTTP1, HTTP2:
	default:
		return nil, fmt.Errorf("upstream: the protocol is %q; it must be same, http1 or http2", o.Protocol)
	}
	if p := o.ProxyURL; p != nil && (p.Scheme != "http" && p.Scheme != "https" || p.Hostname() == "") {
		return nil, errors.New("upstream: the proxy must be http://HOST[:PORT] or https://HOST[:PORT]")
	}
	if o.UnixSocket != "" && o.Authority == "" {
		o.Authority = "localhost"
	}
	if o.MaxIdleConnsPerHost == 0 {
		o.MaxIdleConnsPerHost = 256
	}
	u := &Upstream{
		scheme:     o.Scheme,
		authority:  o.Authority,
		label:      o.Scheme + "://" + o.Authority,
		unixSocket: o.UnixSocket,
		protocol:   o.Protocol,
		proxy:      o.ProxyURL,
		forbid:     o.Forbid,
		tls:        &tls.Config{RootCAs: o.RootCAs, ServerName: o.ServerName, MinVersion: tls.VersionTLS12},
	}
	switch {
	case o.UnixSocket != "":
		u.label = "unix:" + o.UnixSocket
	case o.Scheme == "" || o.Authority == "":
		u.label = "as requested"
	}
	if get := o.Certificate; get != nil {
		u.tls.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return get() }
	}
	u.links.max = o.MaxIdleConnsPerHost
	u.h1 = u.newTransport(o, "http/1.1")
	u.alpn = u.newTransport(o, "h2", "http/1.1")
	u.h2 = u.newTransport(o, "h2")
	if u.proxy != nil {
		u.forwarding = u.newForwarding(o)
	}
	return u, nil
}

// newTransport makes a transport that speaks the ALPN protocols given. It starts nothing.
func (u *Upstream) newTransport(o UpstreamOptions, alpn ...string) *http.Transport {
	protocols := new(http.Protocols)
	for _, p := range alpn {
		if p == "h2" {
			protocols.SetHTTP2(true)
			protocols.SetUnencryptedHTTP2(len(alpn) == 1)
		} else {
			protocols.SetHTTP1(true)
		}
	}
	t := &http.Transport{
		Protocols:   protocols,
		DialContext: u.dialPlain,
		DialTLSContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			return u.dialTLS(ctx, addr, alpn)
		},
		DisableCompression:     true,
		MaxIdleConnsPerHost:    o.MaxIdleConnsPerHost,
		IdleConnTimeout:        90 * time.Second,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: 1 << 20,
	}
	return t
}

// newForwarding makes the transport for requests to http:// that are sent to the proxy itself. It is one of its own: to
// net/http the connection to an https proxy and one to an https upstream at that address would look the same.
func (u *Upstream) newForwarding(o UpstreamOptions) *http.Transport {
	t := u.newTransport(o, "http/1.1")
	t.Proxy = http.ProxyURL(u.proxy)
	t.DialTLSContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, connectTimeout)
		defer cancel()
		return u.dialProxy(ctx)
	}
	return t
}

// String is the scheme and authority, "unix:" and the path of a socket, or "as requested".
func (u *Upstream) String() string { return u.label }

// CloseIdle closes the connections that no request uses. It does not end the upstream: a later request connects anew.
func (u *Upstream) CloseIdle() {
	u.links.closeIdle()
	u.h1.CloseIdleConnections()
	u.alpn.CloseIdleConnections()
	u.h2.CloseIdleConnections()
	if u.forwarding != nil {
		u.forwarding.CloseIdleConnections()
	}
}

// transport picks the one for a request. A WebSocket handshake needs HTTP/1.1, whatever the upstream speaks besides.
func (u *Upstream) transport(scheme string, http2, upgrade bool) *http.Transport {
	switch {
	case u.proxied(scheme):
		return u.forwarding
	case upgrade, u.protocol == HTTP1, u.protocol == Same && !http2:
		return u.h1
	case u.protocol == Same && scheme == "https":
		return u.alpn
	}
	return u.h2
}

// proxied says whether requests are sent to the proxy itself, in absolute-form.
func (u *Upstream) proxied(scheme string) bool { return u.proxy != nil && scheme == "http" }
