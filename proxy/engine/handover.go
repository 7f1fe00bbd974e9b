package engine

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
)

// preface is how a client begins that speaks HTTP/2 with prior knowledge (RFC 9113, section 3.4).
var preface = []byte("PRI * HTTP/2.0\r\n\r\n")

// handOver gives the connection to net/http, with what was read of it and is not used up yet.
func (l *lean) handOver(to *handed) {
	l.handed = true
	l.cancel()
	l.state.Store(sending) // nobody is to look whether the client is there: what it sends is net/http's
	l.unhurried()
	conn := l.conn
	if plain, ok := conn.(*socket); ok {
		conn = plain.Conn
	}
	if l.r < l.w {
		conn = &replayed{Conn: conn, early: l.buf[l.r:l.w], tls: l.tls}
	}
	if !to.give(conn) && !l.s.once.give(conn) { // which ends after the last of us
		_ = conn.Close()
	}
}

// replayed is a connection of which something has been read already.
type replayed struct {
	net.Conn
	early []byte // read by one goroutine at a time, as connections are
	tls   *tls.ConnectionState
}

// tlsState is the key of the TLS state of a connection that net/http cannot see it of.
type tlsState struct{}

func connContext(ctx context.Context, c net.Conn) context.Context {
	if r, ok := c.(*replayed); ok && r.tls != nil {
		return context.WithValue(ctx, tlsState{}, r.tls)
	}
	return ctx
}

func (c *replayed) Read(p []byte) (int, error) {
	if len(c.early) > 0 {
		n := copy(p, c.early)
		c.early = c.early[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}

// CloseWrite says that nothing more will be written, and leaves the other direction open.
func (c *replayed) CloseWrite() error { return closeWrite(c.Conn) }

// handed is a server of net/http whose connections come from elsewhere. It is its own listener.
type handed struct {
	server   http.Server
	arrivals arrivals
	conns    chan net.Conn
	closed   chan struct{}
	once     sync.Once
}

// shutdown takes no more connections, and ends those that there are after their requests.
func (h *handed) shutdown(ctx context.Context) error {
	_ = h.Close()
	h.arrivals.await(ctx)
	return h.server.Shutdown(ctx)
}

// serve serves what is given, until Close.
func (h *handed) serve() { _ = h.server.Serve(h) }

// give blocks until the server has the connection. It is false where the server takes no more.
func (h *handed) give(c net.Conn) bool {
	select {
	case h.conns <- c:
		return true
	case <-h.closed:
		return false
	}
}

// Accept waits for a connection that is given.
func (h *handed) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

// Close ends Accept.
func (h *handed) Close() error {
	h.once.Do(func() { close(h.closed) })
	return nil
}

// Addr is nobody's.
func (h *handed) Addr() net.Addr { return &net.UnixAddr{Name: "handed", Net: "unix"} }
