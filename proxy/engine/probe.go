package engine

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"time"

	"github.com/sidepass/sidepass/proxy"
)

// lastWord is how long a server has to turn down, after a handshake of TLS 1.3, the certificate that it was shown or missed.
const lastWord = 200 * time.Millisecond

// Contact is how a connection to an upstream went.
type Contact struct {
	// Reason is OK, or what a request would be answered with, and Detail the sentence that goes with it.
	Reason proxy.Reason
	Detail string
	// TLS is the connection's; nil without TLS and where there was none.
	TLS *tls.ConnectionState
}

// Probe connects to the upstream as a request would, the proxy on the way and TLS included, and hangs up without having sent a
// request. scheme and authority are for an upstream that has none of its own. It blocks until ctx ends or the time for connecting is
// over. For an http upstream behind a proxy only the proxy is reached.
func (u *Upstream) Probe(ctx context.Context, scheme, authority string) Contact {
	if u.scheme != "" {
		scheme, authority = u.scheme, u.authority
	}
	conn, err := u.contact(ctx, scheme, authority)
	if err != nil {
		f := explain(err)
		return Contact{Reason: f.reason, Detail: f.detail}
	}
	defer conn.Close()
	secure, ok := conn.(*tls.Conn)
	if !ok || u.proxied(scheme) {
		return Contact{Reason: proxy.OK}
	}
	_ = conn.SetReadDeadline(time.Now().Add(lastWord))
	if _, err := conn.Read(make([]byte, 1)); isAlert(err) {
		f := explainTLS(err)
		return Contact{Reason: f.reason, Detail: f.detail}
	}
	state := secure.ConnectionState()
	return Contact{Reason: proxy.OK, TLS: &state}
}

func (u *Upstream) contact(ctx context.Context, scheme, authority string) (net.Conn, error) {
	host, port, ok := proxy.SplitAuthority(authority)
	if !ok {
		return nil, &connectError{stageDial, errors.New("the authority is not a host with or without a port")}
	}
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[scheme]
	}
	addr := net.JoinHostPort(host, port)
	switch {
	case u.proxied(scheme):
		ctx, cancel := context.WithTimeout(ctx, connectTimeout)
		defer cancel()
		return u.dialProxy(ctx)
	case scheme == "http":
		return u.dialPlain(ctx, "", addr)
	case u.protocol == HTTP2:
		return u.dialTLS(ctx, addr, []string{"h2"})
	case u.protocol == HTTP1:
		return u.dialTLS(ctx, addr, []string{"http/1.1"})
	}
	return u.dialTLS(ctx, addr, []string{"h2", "http/1.1"})
}
