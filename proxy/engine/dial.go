package engine

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"syscall"
	"time"
)

// stage is the part of connecting that failed.
type stage string

const (
	stageDial  stage = "dial"
	stageProxy stage = "proxy"
	stageTLS   stage = "tls"
	stageALPN  stage = "alpn"
)

// connectError says at which stage a connection could not be made.
type connectError struct {
	stage stage
	err   error
}

func (e *connectError) Error() string { return "connect (" + string(e.stage) + "): " + e.err.Error() }
func (e *connectError) Unwrap() error { return e.err }

// errForbidden says that an address is one that this upstream may not be used for.
var errForbidden = errors.New("the address is one of the sidecar's own")

var errNoHTTP2 = errors.New("the upstream did not choose HTTP/2")

// dialPlain connects to addr, or to the unix socket.
func (u *Upstream) dialPlain(ctx context.Context, _, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	return u.dial(ctx, addr)
}

// dialTLS connects to addr, through the proxy where there is one, and shakes hands.
func (u *Upstream) dialTLS(ctx context.Context, addr string, alpn []string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := u.connect(ctx, addr)
	if err != nil {
		return nil, err
	}
	config := u.tls.Clone()
	config.NextProtos = alpn
	secure, err := handshake(ctx, conn, config, addr)
	if err != nil {
		return nil, &connectError{stageTLS, err}
	}
	if chosen := secure.ConnectionState().NegotiatedProtocol; chosen != "h2" && !slices.Contains(alpn, "http/1.1") {
		_ = secure.Close()
		return nil, &connectError{stageALPN, errNoHTTP2}
	}
	return secure, nil
}

// connect opens a way to addr that carries any bytes: directly, or through the proxy.
func (u *Upstream) connect(ctx context.Context, addr string) (net.Conn, error) {
	if u.proxy == nil {
		return u.dial(ctx, addr)
	}
	conn, err := u.dialProxy(ctx)
	if err != nil {
		return nil, err
	}
	through, err := askProxy(ctx, conn, addr, u.proxy.User)
	if err != nil {
		_ = conn.Close()
		return nil, &connectError{stageProxy, err}
	}
	return through, nil
}

// dial connects to an address, and asks Forbid about what its name resolved to.
func (u *Upstream) dial(ctx context.Context, addr string) (net.Conn, error) {
	network := "tcp"
	if u.unixSocket != "" {
		network, addr = "unix", u.unixSocket
	}
	forbidden := false
	d := net.Dialer{}
	if u.forbid != nil && network == "tcp" {
		d.FallbackDelay = -1 // one attempt after the other, so that the flag needs no lock
		d.Control = func(_, resolved string, _ syscall.RawConn) error {
			ap, err := netip.ParseAddrPort(resolved)
			if err != nil || u.forbid(reached(ap)) {
				forbidden = true
				return errForbidden
			}
			return nil
		}
	}
	conn, err := d.DialContext(ctx, network, addr)
	if err != nil {
		if forbidden {
			err = errForbidden
		}
		return nil, &connectError{stageDial, err}
	}
	return conn, nil
}

// reached is the address that a connection to a really reaches.
func reached(a netip.AddrPort) netip.AddrPort {
	ip := a.Addr().Unmap().WithZone("")
	if ip.IsUnspecified() {
		if ip.Is4() {
			ip = netip.AddrFrom4([4]byte{127, 0, 0, 1})
		} else {
			ip = netip.IPv6Loopback()
		}
	}
	return netip.AddrPortFrom(ip, a.Port())
}

func (u *Upstream) dialProxy(ctx context.Context) (net.Conn, error) {
	addr := proxyAddr(u.proxy)
	conn, err := u.dial(ctx, addr)
	if err != nil {
		return nil, &connectError{stageProxy, err}
	}
	if u.proxy.Scheme == "http" {
		return conn, nil
	}
	secure, err := handshake(ctx, conn, &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}, addr)
	if err != nil {
		return nil, &connectError{stageProxy, err}
	}
	return secure, nil
}

// handshake makes a TLS client of conn, which it closes on failure.
func handshake(ctx context.Context, conn net.Conn, config *tls.Config, addr string) (*tls.Conn, error) {
	if config.ServerName == "" {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			_ = conn.Close()
			return nil, err
		}
		config.ServerName = host
	}
	secure := tls.Client(conn, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return secure, nil
}

// askProxy sends CONNECT over conn. What it returns reads first what the proxy sent after its answer.
func askProxy(ctx context.Context, conn net.Conn, addr string, user *url.Userinfo) (net.Conn, error) {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	ask := &http.Request{Method: "CONNECT", URL: &url.URL{Opaque: addr}, Host: addr, Header: http.Header{"User-Agent": {""}}}
	if user != nil {
		password, _ := user.Password()
		ask.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(user.Username()+":"+password)))
	}
	if err := ask.Write(conn); err != nil {
		return nil, cause(ctx, err)
	}
	br := bufio.NewReader(conn)
	answer, err := http.ReadResponse(br, ask)
	if err != nil {
		return nil, cause(ctx, err)
	}
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the proxy answered %d to CONNECT", answer.StatusCode)
	}
	if br.Buffered() == 0 {
		return conn, nil
	}
	return &stream{Conn: conn, early: br}, nil
}

// cause prefers the end of ctx over the error that it led to.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

func proxyAddr(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port)
}
