package engine

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"

	"github.com/sidepass/sidepass/proxy"
)

// stream is a connection that was taken over, together with what had been read from it before.
type stream struct {
	net.Conn
	early         *bufio.Reader
	read, written atomic.Int64
}

func (s *stream) Read(p []byte) (n int, err error) {
	if s.early.Buffered() > 0 {
		n, err = s.early.Read(p)
	} else {
		n, err = s.Conn.Read(p)
	}
	s.read.Add(int64(n))
	return n, err
}

func (s *stream) Write(p []byte) (int, error) {
	n, err := s.Conn.Write(p)
	s.written.Add(int64(n))
	return n, err
}

// CloseWrite says that nothing more will be written, and leaves the other direction open.
func (s *stream) CloseWrite() error { return closeWrite(s.Conn) }

func closeWrite(c net.Conn) error {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.Close()
}

// tunnel answers CONNECT (RFC 9110, section 9.3.6): it joins the client with the authority, whatever they say.
func (x *exchange) tunnel() {
	if x.in.Method != http.MethodConnect || x.in.ProtoMajor != 1 {
		x.refuse(&proxy.Verdict{Reason: proxy.MethodNotAllowed, Detail: "CONNECT is served over HTTP/1.1 only."})
		return
	}
	up, ok := x.verdict.Upstream.(*Upstream)
	if !ok || up == nil {
		x.refuse(x.because(explain(errNoUpstream)))
		return
	}
	authority := x.verdict.Authority
	if authority == "" {
		authority = x.req.Target.Authority
	}
	host, port, ok := proxy.SplitAuthority(authority)
	if !ok || port == "" {
		x.refuse(&proxy.Verdict{Reason: proxy.MalformedRequest, Detail: "CONNECT needs a host and a port (RFC 9110, section 9.3.6)."})
		return
	}
	x.destination = destination{up: up, scheme: "tcp", authority: authority}
	ctx, cancel := context.WithTimeout(x.in.Context(), connectTimeout)
	there, err := up.connect(ctx, net.JoinHostPort(host, port))
	cancel()
	if err != nil {
		x.unreachable(err)
		return
	}
	defer func() { _ = there.Close() }()
	here, _, err := x.Hijack()
	if err != nil {
		panic(err) // net/http's HTTP/1 can always be hijacked
	}
	defer func() { _ = here.Close() }()
	x.status = http.StatusOK
	if _, err := io.WriteString(x.stream.Conn, "HTTP/1.1 200 Connection Established\r\n\r\n"); err != nil {
		x.err = errClientGone
		return
	}
	x.join(x.stream, there)
}

// unreachable answers a CONNECT to where no connection could be made.
func (x *exchange) unreachable(err error) {
	f := explain(err)
	switch {
	case x.in.Context().Err() != nil:
		x.gone, x.err = true, errClientGone
		return
	case errors.Is(err, errForbidden):
		f = fail(proxy.ConnectDenied, f.detail, err)
	}
	x.refuse(x.because(f))
}

// join copies both ways until both have ended, or one has failed, or what is left is cut. The end of one direction is
// passed on and leaves the other one running.
func (x *exchange) join(here *stream, there net.Conn) {
	stop := context.AfterFunc(x.s.base, func() {
		_ = here.Close()
		_ = there.Close()
	})
	defer stop()
	out := make(chan error, 1)
	go func() {
		err := here.sendTo(there)
		if err != nil {
			_ = here.Close()
			_ = there.Close()
		}
		out <- err
	}()
	// The bare connections, so that the kernel can move the bytes.
	n, err := io.Copy(here.Conn, there)
	here.written.Add(n)
	if err == nil {
		err = closeWrite(here.Conn)
	}
	if err != nil {
		_ = here.Close()
		_ = there.Close()
	}
	<-out
}

// sendTo copies what was read early and then all the rest.
func (s *stream) sendTo(there net.Conn) error {
	if n := s.early.Buffered(); n > 0 {
		sent, err := io.CopyN(there, s.early, int64(n))
		s.read.Add(sent)
		if err != nil {
			return err
		}
	}
	n, err := io.Copy(there, s.Conn)
	s.read.Add(n)
	if err != nil {
		return err
	}
	return closeWrite(there)
}
