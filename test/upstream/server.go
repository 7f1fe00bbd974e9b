package upstream

import (
	"context"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
)

// Options says how a Server listens. The zero value: HTTP/1.1 and h2c on one port of 127.0.0.1.
type Options struct {
	// TLS: with a certificate for Names, 127.0.0.1, ::1 and localhost, of a CA made for this server; ALPN chooses
	// HTTP/2 or HTTP/1.1. A client certificate is asked for, recorded and not verified.
	TLS bool

	// Names are further DNS names for the certificate.
	Names []string

	// Protocols it speaks. Nil: all that go with TLS or without.
	Protocols *http.Protocols
}

// Server is a Recorder that listens. Start makes one.
type Server struct {
	Recorder
	url     string
	ca      []byte
	http    *http.Server
	cancel  context.CancelFunc
	running sync.WaitGroup // the accept loop and the handlers

	mu       sync.Mutex
	closed   bool
	hijacked []net.Conn
}

// Start runs a server on a free port of 127.0.0.1. The caller must Close it.
func Start(o Options) (*Server, error) {
	s := &Server{url: "http://"}
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	s.http = &http.Server{
		Handler:                      http.HandlerFunc(s.serve),
		Protocols:                    o.Protocols,
		DisableGeneralOptionsHandler: true, // OPTIONS * is recorded like any other
		BaseContext:                  func(net.Listener) context.Context { return ctx },
		ConnState:                    s.track,
		ErrorLog:                     log.New(io.Discard, "", 0),
	}
	if s.http.Protocols == nil {
		s.http.Protocols = new(http.Protocols)
		s.http.Protocols.SetHTTP1(true)
		s.http.Protocols.SetHTTP2(true)
		s.http.Protocols.SetUnencryptedHTTP2(true)
	}
	if o.TLS {
		certificate, ca, err := certify(o.Names)
		if err != nil {
			cancel()
			return nil, err
		}
		s.url, s.ca = "https://", ca
		s.http.TLSConfig = &tls.Config{Certificates: []tls.Certificate{certificate}, ClientAuth: tls.RequestClientCert}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		cancel()
		return nil, err
	}
	s.url += l.Addr().String()
	s.running.Go(func() {
		if o.TLS {
			_ = s.http.ServeTLS(l, "", "")
		} else {
			_ = s.http.Serve(l)
		}
	})
	return s, nil
}

// URL is http://127.0.0.1:port or https://127.0.0.1:port.
func (s *Server) URL() string { return s.url }

// Addr is the host and port of URL.
func (s *Server) Addr() string {
	_, addr, _ := strings.Cut(s.url, "://")
	return addr
}

// CAPEM is the certificate of the CA that signed the server's own, as PEM. Nil without TLS.
func (s *Server) CAPEM() []byte { return s.ca }

// Close cuts every connection, those that a handler has taken over included, and waits until the handlers have
// returned: their request's context ends. It may be called again.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	hijacked := s.hijacked
	s.hijacked = nil
	s.mu.Unlock()
	_ = s.http.Close()
	for _, c := range hijacked {
		_ = c.Close()
	}
	s.cancel() // after the cut: a handler that ends now can no longer answer
	s.running.Wait()
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		panic(http.ErrAbortHandler)
	}
	s.running.Add(1)
	s.mu.Unlock()
	defer s.running.Done()
	s.ServeHTTP(w, r)
}

func (s *Server) track(c net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed: // accepted or taken over just before: http.Server does not know it, or no longer
		_ = c.Close()
	case state == http.StateHijacked:
		s.hijacked = append(s.hijacked, c)
	}
}
