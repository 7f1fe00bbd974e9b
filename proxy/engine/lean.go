package engine

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sidepass/sidepass/proxy"
	"github.com/sidepass/sidepass/proxy/engine/h1"
)

// lean is one client's HTTP/1.1 connection, served by one goroutine without net/http. Requests are read strictly (package h1),
// judged by the same gates, and sent on with their header bytes as they came but for what the hop-by-hop rules and the
// verdict change. What is not plain HTTP/1.1 is handed over to net/http before it is judged: see handover.go.
//
// Its memory is used again from request to request. The strings of a request alias buf, which is not touched until the
// request has ended.
type lean struct {
	s                *Server
	conn             net.Conn
	tls              *tls.ConnectionState
	remote           string
	peer             netip.Addr // of remote, as Forwarded sees it
	peerOK           bool
	trusted          bool   // peer's word on X-Forwarded-* counts
	node, nodeQuoted string // peer as X-Forwarded-For and Forwarded have it
	ctx              context.Context
	cancel           context.CancelFunc

	text []byte // the head that is being served
	buf  []byte // what was read of requests: buf[r:w] is not used up yet
	r, w int
	out  []byte // what is about to be written, to either side
	head h1.Head
	*leanExchange

	state atomic.Uint32 // what the connection is doing; the server's clock reads it
	since atomic.Int64  // tick of that clock at which state was set
	using atomic.Pointer[link]
	gone  atomic.Bool // the client went away, or was cut: using is to be closed

	hurry   sync.Mutex  // held while the deadline is set that ends a read
	hurried atomic.Bool // it may be set

	watch  chan struct{} // closed when the watch has ended; set before state becomes watched
	early  [1]byte       // what the watch read of the next request
	hasOne bool
	handed bool // the connection is net/http's now
}

// The states of a connection.
const (
	fresh   uint32 = iota // waits for its first request
	idle                  // waits for another
	resting               // has waited for it so long that it gave its memory back
	reading               // reads a request's head
	judging               // everything from the gate to the end of the answer, while the client's side is not read
	sending               // the same, while the request's content is being read
	watched               // judging, and somebody looks whether the client is still there
)

// How much memory a connection begins with; it grows with need.
const (
	readBuffer  = 4 << 10
	writeBuffer = 2 << 10
)

func newLean(s *Server, conn net.Conn) *lean {
	l := &lean{s: s, conn: conn, remote: conn.RemoteAddr().String(), leanExchange: new(leanExchange)}
	if plain := newSocket(conn); plain != nil {
		l.conn = plain
	}
	l.ctx, l.cancel = context.WithCancel(s.base)
	l.peer, l.peerOK = peerAddr(l.remote)
	if l.peerOK && s.options.Forwarded != nil {
		l.node = l.peer.String()
		l.nodeQuoted = "for=" + l.node
		if l.peer.Is6() {
			l.nodeQuoted = `for="[` + l.node + `]"`
		}
	}
	l.trusted = l.peerOK && s.options.Forwarded != nil && s.options.Forwarded.trusts(l.peer)
	return l
}

// serve serves the connection until its end, or hands it over.
func (l *lean) serve() {
	defer l.end()
	if secure, ok := l.conn.(*tls.Conn); ok {
		ctx, cancel := context.WithTimeout(l.ctx, l.s.options.ReadHeaderTimeout)
		err := secure.HandshakeContext(ctx)
		cancel()
		if err != nil {
			l.notTLS(err)
			return
		}
		state := secure.ConnectionState()
		if state.NegotiatedProtocol == "h2" {
			l.handOver(&l.s.http)
			return
		}
		l.tls = &state
		l.enter(fresh)
	}
	l.buf, l.out = make([]byte, readBuffer), make([]byte, 0, writeBuffer)
	for first := true; ; first = false {
		n, err := l.readHead()
		switch {
		case err != nil:
			if problem, ok := errors.AsType[h1.Problem](err); ok {
				l.head = h1.Head{} // it is the last request's
				l.malformed(problem)
			}
			return
		case first && bytes.HasPrefix(l.buf[l.r:l.w], preface):
			l.handOver(&l.s.http)
			return
		}
		if !l.exchange(n) {
			return
		}
	}
}

// notTLS ends a connection whose TLS handshake failed. Who speaks plain HTTP is told so.
func (l *lean) notTLS(err error) {
	record, ok := errors.AsType[tls.RecordHeaderError](err)
	if !ok || record.Conn == nil || !h1.IsToken(string(record.RecordHeader[:3])) {
		l.s.options.ErrorLog.Printf("http: TLS handshake error from %s: %v", l.remote, err)
		return
	}
	instance := proxy.NewInstance()
	l.s.options.ErrorLog.Printf("http: TLS handshake error from %s: %v (answered as %s)", l.remote, err, instance)
	l.last = true
	reply := proxy.Refusal(&proxy.Verdict{Reason: proxy.MalformedRequest, Detail: "This listener speaks TLS, and the request came in plain HTTP; use https://."}, false, instance)
	_ = record.Conn.SetDeadline(time.Now().Add(linger))
	if _, err := record.Conn.Write(l.appendReply(nil, reply.Status, reply.Header, reply.Body)); err == nil && closeWrite(record.Conn) == nil {
		_, _ = io.Copy(io.Discard, io.LimitReader(record.Conn, leftover)) // so that no reset overtakes the answer
	}
}

// readHead reads until a whole head is in buf, and returns its length. One that is too large is h1.ErrTooMany.
func (l *lean) readHead() (int, error) {
	scanned, looked := 0, false
	if l.r == l.w {
		l.r, l.w = 0, 0
	}
	if l.hasOne {
		l.hasOne = false
		if l.room() {
			l.buf[l.w] = l.early[0]
			l.w++
		}
	}
	switch {
	case l.r < l.w:
		l.enter(reading)
	case l.state.Load() != fresh:
		l.enter(idle)
		if looked = l.s.lean.draining.Load(); looked {
			l.glance()
		}
	}
	for {
		if l.r < l.w {
			n, next, err := h1.Scan(l.buf[l.r:l.w], scanned)
			switch {
			case err != nil:
				return 0, err
			case n > l.s.options.MaxHeaderBytes, n == 0 && l.w-l.r > l.s.options.MaxHeaderBytes:
				return 0, h1.ErrTooMany
			case n > 0:
				return n, nil
			}
			scanned = next
		}
		if !l.room() {
			return 0, h1.ErrTooMany
		}
		m, err := l.conn.Read(l.buf[l.w:])
		l.w += m
		state := l.state.Load()
		switch {
		case m > 0:
			if state != reading {
				l.enter(reading)
			}
		case err == nil:
		case !errors.Is(err, os.ErrDeadlineExceeded), l.overdue(state):
			return 0, err
		case state == reading: // hasten came when the state was about to change
			l.unhurried()
		case l.s.lean.draining.Load():
			if looked || state == fresh {
				return 0, err
			}
			looked = true
			l.glance()
		case state == idle:
			if err := l.rest(); err != nil {
				return 0, err
			}
		default:
			l.unhurried()
		}
	}
}

// rest waits for the next request with hardly any memory. Of what it waited for, one byte is in buf afterwards, if anything.
func (l *lean) rest() error {
	l.text, l.buf, l.out = nil, nil, nil
	l.leanExchange = nil
	l.head = h1.Head{}
	l.state.Store(resting)
	l.unhurried()
	n, err := l.conn.Read(l.early[:])
	l.buf, l.out, l.leanExchange = make([]byte, readBuffer), make([]byte, 0, writeBuffer), new(leanExchange)
	l.r, l.w = 0, copy(l.buf, l.early[:n])
	switch {
	case n > 0:
		l.enter(reading)
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded) && !l.overdue(resting):
		return nil // the server shuts down
	}
	return err
}

// room makes room in buf for at least one more byte.
func (l *lean) room() bool {
	switch {
	case l.w < len(l.buf):
	case l.r > 0:
		l.w = copy(l.buf, l.buf[l.r:l.w])
		l.r = 0
	case len(l.buf) > 2*l.s.options.MaxHeaderBytes:
		return false
	default:
		l.buf = append(l.buf, make([]byte, len(l.buf))...)
	}
	return true
}

// enter says what the connection does now.
func (l *lean) enter(state uint32) {
	l.since.Store(l.s.lean.ticks.Load())
	l.state.Store(state)
}

// hasten ends a read in the given state; in another it goes on.
func (l *lean) hasten(state uint32) {
	l.hurry.Lock()
	defer l.hurry.Unlock()
	was := l.hurried.Swap(true)
	if l.state.Load() == state {
		_ = l.conn.SetReadDeadline(past)
		return
	}
	l.hurried.Store(was) // whoever changed the state after this looks at hurried after that
}

// glance gives a request that is on its way already a last moment to arrive.
func (l *lean) glance() {
	l.hurry.Lock()
	defer l.hurry.Unlock()
	l.hurried.Store(true)
	_ = l.conn.SetReadDeadline(time.Now().Add(moment))
}

// moment is how long a request that was sent before the server began to shut down may be on its way.
const moment = 5 * time.Millisecond

// unhurried makes reads wait again, where hasten came when the state was about to change.
func (l *lean) unhurried() {
	if l.hurried.Load() {
		l.hurry.Lock()
		defer l.hurry.Unlock()
		_ = l.conn.SetReadDeadline(time.Time{})
		l.hurried.Store(false)
	}
}

// abandon cuts the exchange that is under way, on both sides.
func (l *lean) abandon() {
	l.gone.Store(true)
	l.cancel()
	l.cutUpstream()
	_ = l.conn.Close()
}

// cutUpstream closes the connection that is in use, unless it is given back first.
func (l *lean) cutUpstream() {
	if k := l.using.Load(); k != nil && l.using.CompareAndSwap(k, nil) {
		_ = k.conn.Close()
	}
}

// end closes the connection, unless it was handed over.
func (l *lean) end() {
	if !l.handed {
		l.cancel()
		_ = l.conn.Close()
	}
	l.s.lean.forget(l)
}

// linger lets the client read the answer before the connection is reset by what it still sends.
func (l *lean) linger() {
	if closeWrite(l.conn) != nil {
		return
	}
	until := time.Now().Add(linger)
	_ = l.conn.SetReadDeadline(until)
	buf := l.s.buffers.Get() // not into buf: the request may be still to be reported
	defer l.s.buffers.Put(buf)
	for n := 0; n < leftover; {
		m, err := l.conn.Read(buf)
		if err != nil {
			return
		}
		n += m
	}
	select { // it sends without end
	case <-time.After(time.Until(until)):
	case <-l.s.base.Done():
	}
}

// leanServer is what a [Server] has for its lean connections.
type leanServer struct {
	ticks    atomic.Int64 // the clock of connections' states
	date     atomic.Pointer[string]
	draining atomic.Bool
	drains   chan struct{} // closed when draining becomes true

	mu      sync.Mutex
	conns   map[*lean]struct{}
	emptied chan struct{} // when not nil, closed as soon as there is no connection
	stop    chan struct{} // ends the clock; nil while it does not run
	running sync.WaitGroup
}

// tick is how often connections are looked at.
const tick = 250 * time.Millisecond

// freshTicks is for how many ticks a new connection may send its first request, when the server shuts down.
const freshTicks = 4

// serveLean accepts connections until Shutdown.
func (s *Server) serveLean(l net.Listener) error {
	s.lean.begun(s)
	pause := time.Duration(0)
	for {
		conn, err := l.Accept()
		if err == nil {
			pause = 0
			s.lean.begin(s, conn)
			continue
		}
		if !passes(err) {
			return err
		}
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		s.options.ErrorLog.Printf("http: Accept error: %v; retrying in %v", err, pause)
		select {
		case <-time.After(pause):
		case <-s.lean.drains:
		}
	}
}

// passes says whether accepting may work again later: a client went away early, or there are too many open files just now.
func passes(err error) bool {
	return errors.Is(err, syscall.ECONNABORTED) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EMFILE) ||
		errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOBUFS) || errors.Is(err, syscall.ENOMEM) || errors.Is(err, syscall.EINTR)
}

// begun starts the clock, and what requests are handed over to, with the first listener.
func (ls *leanServer) begun(s *Server) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.conns != nil {
		return
	}
	ls.conns = map[*lean]struct{}{}
	stop := make(chan struct{})
	ls.stop = stop
	ls.running.Go(func() { s.watchLean(stop) })
	ls.running.Go(s.http.serve)
	ls.running.Go(s.once.serve)
}

// begin serves a connection on a goroutine of its own.
func (ls *leanServer) begin(s *Server, conn net.Conn) {
	if s.tls != nil {
		conn = tls.Server(conn, s.tls)
	}
	l := newLean(s, conn)
	l.enter(fresh)
	ls.mu.Lock()
	ls.conns[l] = struct{}{}
	ls.mu.Unlock()
	go l.serve()
}

func (ls *leanServer) forget(l *lean) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	delete(ls.conns, l)
	if len(ls.conns) == 0 && ls.emptied != nil {
		close(ls.emptied)
		ls.emptied = nil
	}
}

// drain has each connection end with the answer that it is at, or with its first.
func (ls *leanServer) drain() {
	if !ls.draining.Swap(true) {
		close(ls.drains)
	}
}

// shutdown waits until every connection has ended its request, or ctx ends; then it cuts the rest.
func (ls *leanServer) shutdown(ctx context.Context) error {
	for {
		ls.mu.Lock()
		for l := range ls.conns {
			l.hasten(idle)
			l.hasten(resting)
			if ls.ticks.Load()-l.since.Load() > freshTicks {
				l.hasten(fresh)
			}
		}
		if len(ls.conns) == 0 {
			if ls.stop != nil {
				close(ls.stop)
				ls.stop = nil
			}
			ls.mu.Unlock()
			return nil
		}
		if ls.emptied == nil {
			ls.emptied = make(chan struct{})
		}
		emptied := ls.emptied
		ls.mu.Unlock()
		select {
		case <-emptied:
		case <-time.After(tick): // a connection may have become idle
		case <-ctx.Done():
			ls.cut()
			return ctx.Err()
		}
	}
}

// cut ends every connection at once.
func (ls *leanServer) cut() {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for l := range ls.conns {
		l.abandon()
	}
	if ls.stop != nil {
		close(ls.stop)
		ls.stop = nil
	}
}

// past is a deadline that ends a read at once.
var past = time.Unix(1, 0)
