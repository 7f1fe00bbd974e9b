// Package engine moves bytes: it serves HTTP/1.1, HTTP/2 and h2c over net/http, shows each request to a gate
// ([proxy.Gate]) and does what the gate's verdict says: forward, answer, tunnel or refuse. It knows no tokens and no
// routes.
//
// Paths, queries and bodies go on byte for byte and are streamed. Hop-by-hop fields end here; of all upgrades only
// WebSocket passes.
package engine

import (
	"cmp"
	"context"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Options configure a [Server].
type Options struct {
	// Name is the listener's name, as the configuration calls it.
	Name string
	// Generations hold the gate; required.
	Generations *Generations
	// Via is our pseudonym in Via (RFC 9110, section 7.6.3), which each request that is sent on gets; "" adds none.
	Via string
	// ViaOnAnswers adds it to the upstream's answers too.
	ViaOnAnswers bool
	// Forwarded, when not nil, replaces X-Forwarded-* and Forwarded; nil lets them pass as they came and adds none.
	Forwarded *Forwarded
	// MaxHeaderBytes bounds a request's head; more is headers_too_large. Beyond twice as much, net/http refuses with an
	// answer of its own. 0 is 1 MiB.
	MaxHeaderBytes int
	// TLSConfig, when not nil, makes the server speak TLS, with HTTP/2 and HTTP/1.1 by ALPN. A configuration that its
	// GetConfigForClient returns must name them in NextProtos itself.
	TLSConfig *tls.Config
	// Std serves HTTP/1.1 by net/http too; otherwise that is the lean engine's.
	Std      bool
	Observer Observer
	// ErrorLog gets what net/http has to say about connections; nil drops it.
	ErrorLog *log.Logger
	// ReadHeaderTimeout bounds reading a request's head; 0 is 10 s. There is no limit on bodies and answers.
	ReadHeaderTimeout time.Duration
	// IdleTimeout is how long a connection waits for its next request; 0 is 3 minutes.
	IdleTimeout time.Duration
}

// Server serves any number of listeners with the same gate. It is safe for concurrent use.
type Server struct {
	options Options
	via     [3]string // by received protocol: HTTP/1.0, 1.1, 2
	http    handed    // HTTP/2; all there is with Std
	once    handed    // what the lean engine hands over of HTTP/1.1: one request a connection
	lean    leanServer
	pool    sync.Pool // of *exchange
	buffers bufferPool
	silent  *log.Logger
	tls     *tls.Config // of the lean engine; nil without TLS

	base context.Context // ends when what is left is cut
	cut  context.CancelFunc

	mu        sync.Mutex
	doors     []*door
	closing   bool // the doors are shut
	accepting sync.WaitGroup
	streams   int           // hijacked connections, which net/http no longer knows
	drained   chan struct{} // when not nil, closed as soon as streams is 0
}

// New returns a server that serves nothing yet.
func New(o Options) *Server {
	if o.MaxHeaderBytes == 0 {
		o.MaxHeaderBytes = http.DefaultMaxHeaderBytes
	}
	if o.ReadHeaderTimeout == 0 {
		o.ReadHeaderTimeout = 10 * time.Second
	}
	if o.IdleTimeout == 0 {
		o.IdleTimeout = 3 * time.Minute
	}
	s := &Server{options: o, silent: log.New(io.Discard, "", 0)}
	if o.ErrorLog == nil {
		o.ErrorLog, s.options.ErrorLog = s.silent, s.silent
	}
	if o.Via != "" {
		s.via = [3]string{"1.0 " + o.Via, "1.1 " + o.Via, "2 " + o.Via}
	}
	s.base, s.cut = context.WithCancel(context.Background())
	s.pool.New = func() any { return newExchange(s) }
	s.configure(&s.http)
	s.configure(&s.once)
	s.once.server.SetKeepAlivesEnabled(false) // the lean engine's grammar holds for each request of HTTP/1.1
	s.lean.date.Store(new(string))
	s.lean.drains = make(chan struct{})
	if o.TLSConfig != nil {
		s.tls = o.TLSConfig.Clone()
		if s.tls.NextProtos == nil {
			s.tls.NextProtos = []string{"h2", "http/1.1"}
		}
	}
	return s
}

func (s *Server) configure(h *handed) {
	o := &s.options
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	h.conns, h.closed = make(chan net.Conn), make(chan struct{})
	h.server = http.Server{
		Handler:                      http.HandlerFunc(s.serve),
		Protocols:                    protocols,
		ReadHeaderTimeout:            o.ReadHeaderTimeout,
		IdleTimeout:                  o.IdleTimeout,
		MaxHeaderBytes:               2 * o.MaxHeaderBytes,
		ErrorLog:                     o.ErrorLog,
		BaseContext:                  func(net.Listener) context.Context { return s.base },
		ConnContext:                  func(ctx context.Context, c net.Conn) context.Context { return h.arrivals.begin(connContext(ctx, c), c) },
		ConnState:                    h.arrivals.ended,
		DisableGeneralOptionsHandler: true,
	}
	if o.Std {
		h.server.TLSConfig = o.TLSConfig
	}
}

// Serve accepts connections from l until Shutdown, and then returns nil; otherwise it returns why it could not go on.
// It closes l.
func (s *Server) Serve(l net.Listener) error {
	defer func() { _ = l.Close() }()
	d := s.open(l)
	if d == nil {
		return nil
	}
	defer s.accepting.Done()
	var err error
	switch {
	case !s.options.Std:
		err = s.serveLean(d)
	case s.options.TLSConfig != nil:
		err = s.http.server.ServeTLS(d, "", "")
	default:
		err = s.http.server.Serve(d)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return nil
	}
	return err
}

// open makes a door of a listener; nil is for one that comes too late.
func (s *Server) open(l net.Listener) *door {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return nil
	}
	d := &door{Listener: l}
	s.doors = append(s.doors, d)
	s.accepting.Add(1)
	return d
}

// stopListening shuts the doors, and waits until the last connection has been let in.
func (s *Server) stopListening() {
	s.mu.Lock()
	s.closing = true
	for _, d := range s.doors {
		d.shut()
	}
	s.mu.Unlock()
	s.accepting.Wait()
}

// Shutdown stops accepting connections and waits until every request, stream and tunnel has ended. When ctx ends
// first, it cuts what is left and returns the error of ctx. Call it once.
func (s *Server) Shutdown(ctx context.Context) error {
	s.lean.drain()
	s.stopListening()
	var group errgroup.Group
	group.Go(func() error { return s.http.shutdown(ctx) })
	group.Go(func() error {
		err := s.lean.shutdown(ctx) // until then it may hand requests over
		return cmp.Or(s.once.shutdown(ctx), err)
	})
	err := group.Wait()
	// Requests have ended, or ctx has; one of the last may have become a stream.
	if waited := s.awaitStreams(ctx); waited != nil {
		err = waited
	}
	s.cut()
	if err != nil {
		_ = s.http.server.Close()
		_ = s.once.server.Close()
		grace, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = s.awaitStreams(grace)
	}
	s.lean.running.Wait()
	return err
}

// awaitStreams waits until no hijacked connection is left.
func (s *Server) awaitStreams(ctx context.Context) error {
	for {
		s.mu.Lock()
		if s.streams == 0 {
			s.mu.Unlock()
			return nil
		}
		if s.drained == nil {
			s.drained = make(chan struct{})
		}
		drained := s.drained
		s.mu.Unlock()
		select {
		case <-drained:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// streamBegins must come before the connection is taken from net/http, so that a shutdown sees it on one side or the other.
func (s *Server) streamBegins() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams++
}

func (s *Server) streamEnded() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams--
	if s.streams == 0 && s.drained != nil {
		close(s.drained)
		s.drained = nil
	}
}

// serve is the handler.
func (s *Server) serve(rw http.ResponseWriter, r *http.Request) {
	arrived(r.Context())
	if s.options.TLSConfig != nil && r.TLS == nil {
		r.TLS, _ = r.Context().Value(tlsState{}).(*tls.ConnectionState)
	}
	x := s.pool.Get().(*exchange)
	x.begin(rw, r)
	defer x.end()
	x.run()
}

// viaOf is our Via for a message that was received with the given protocol version.
func (s *Server) viaOf(major, minor int) string {
	switch {
	case major >= 2:
		return s.via[2]
	case minor == 0:
		return s.via[0]
	}
	return s.via[1]
}
