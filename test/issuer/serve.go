package issuer

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"
)

// grace is how long requests in flight may take to end once the server stops.
const grace = 5 * time.Second

// Serve answers on l until ctx ends, then lets requests in flight end (an answer that SetLatency holds back goes out at
// once) and returns nil. It closes l. Call it once. The error is the listener's, or says that requests had to be cut.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	s.listening(l.Addr())
	return serve(ctx, l, s)
}

func serve(ctx context.Context, l net.Listener, h http.Handler) error {
	var unused unusedConns
	srv := &http.Server{
		Handler:           h,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnState:         unused.track,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          log.New(io.Discard, "", 0),
	}
	srv.RegisterOnShutdown(unused.close)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	select {
	case err := <-served:
		_ = srv.Close()
		return err
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	err := srv.Shutdown(drain)
	if err != nil {
		err = errors.Join(errors.New("issuer: requests in flight were cut"), srv.Close())
	}
	<-served
	return err
}

// Start is New, listening on a free port of 127.0.0.1. The caller must Close it.
func Start(o Options) (*Server, error) {
	s, err := New(o)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s.listening(l.Addr())
	s.open(door{l, s})
	return s, nil
}

// door is a listener and what is behind it.
type door struct {
	l net.Listener
	h http.Handler
}

// open serves behind all doors until Close.
func (s *Server) open(doors ...door) {
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, len(doors))
	for _, d := range doors {
		go func() { served <- serve(ctx, d.l, d.h) }()
	}
	s.stop = sync.OnceValue(func() error {
		cancel()
		var err error
		for range doors {
			err = errors.Join(err, <-served)
		}
		return err
	})
}

// Close ends what Start started and waits for it. It may be called again. Without Start it does nothing.
func (s *Server) Close() error {
	if s.stop == nil {
		return nil
	}
	return s.stop()
}

// unusedConns are connections that have carried no request yet. Clients open some in reserve, and
// http.Server.Shutdown would wait five seconds for each.
type unusedConns struct {
	mu      sync.Mutex
	conns   map[net.Conn]struct{}
	closing bool
}

func (u *unusedConns) track(c net.Conn, state http.ConnState) {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case state != http.StateNew:
		delete(u.conns, c)
	case u.closing:
		_ = c.Close()
	case u.conns == nil:
		u.conns = map[net.Conn]struct{}{c: {}}
	default:
		u.conns[c] = struct{}{}
	}
}

func (u *unusedConns) close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.closing = true
	for c := range u.conns {
		_ = c.Close()
	}
}
