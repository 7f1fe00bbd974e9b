package engine

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/sidepass/sidepass/proxy/engine/h1"
)

// link is a connection to an upstream that carries one HTTP/1.1 exchange after another.
type link struct {
	conn   net.Conn
	socket *socket         // conn, where there is no TLS
	raw    syscall.RawConn // below TLS
	key    linkKey
	used   bool // it has carried an exchange
	since  time.Time

	buf    []byte // what was read of answers: buf[r:w] is not used up yet
	r, w   int
	head   h1.Head
	chunks h1.Chunks
	peeked [1]byte
}

// linkKey is what connections differ in, of one [Upstream].
type linkKey struct{ scheme, authority string }

const (
	linkBuffer  = 4 << 10
	linkIdle    = 90 * time.Second
	maxAnswer   = 1 << 20 // the head of an answer
	freshEnough = 2 * time.Millisecond
)

// links are the idle connections of an [Upstream].
type links struct {
	max int

	mu     sync.Mutex
	free   map[linkKey][]*link // the one used last is last
	expiry *time.Timer         // closes what was not used for long; nil while nothing is free
}

// lean says whether requests with a scheme can be sent by the lean engine: no proxy is asked, and HTTP/1.1 is spoken.
func (u *Upstream) lean(scheme string) bool { return u.protocol != HTTP2 && !u.proxied(scheme) }

// get returns a free connection, or nil. Whether it is still open is not known.
func (p *links) get(key linkKey) *link {
	p.mu.Lock()
	defer p.mu.Unlock()
	free := p.free[key]
	if len(free) == 0 {
		return nil
	}
	k := free[len(free)-1]
	free[len(free)-1] = nil
	p.free[key] = free[:len(free)-1]
	return k
}

// put takes back a connection whose exchange has ended in good order.
func (p *links) put(k *link, now time.Time) {
	k.since = now
	p.mu.Lock()
	defer p.mu.Unlock()
	free := p.free[k.key]
	if len(free) >= p.max {
		_ = k.conn.Close()
		return
	}
	if p.free == nil {
		p.free = map[linkKey][]*link{}
	}
	p.free[k.key] = append(free, k)
	if p.expiry == nil {
		p.expiry = time.AfterFunc(linkIdle, p.expire)
	}
}

// expire closes what has been free for long.
func (p *links) expire() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.expiry = nil
	limit, left := time.Now().Add(-linkIdle), false
	for key, free := range p.free {
		n := 0
		for n < len(free) && free[n].since.Before(limit) {
			_ = free[n].conn.Close()
			n++
		}
		if n == len(free) {
			delete(p.free, key)
			continue
		}
		p.free[key] = append([]*link(nil), free[n:]...)
		left = true
	}
	if left {
		p.expiry = time.AfterFunc(linkIdle/2, p.expire)
	}
}

func (p *links) closeIdle() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, free := range p.free {
		for _, k := range free {
			_ = k.conn.Close()
		}
	}
	p.free = nil
	if p.expiry != nil {
		p.expiry.Stop()
		p.expiry = nil
	}
}

// dialLink makes a new connection.
func (u *Upstream) dialLink(ctx context.Context, key linkKey) (*link, error) {
	k := &link{key: key, buf: make([]byte, linkBuffer)}
	var err error
	if key.scheme == "https" {
		k.conn, err = u.dialTLS(ctx, withPort(key.authority, "443"), []string{"http/1.1"})
	} else {
		k.conn, err = u.dialPlain(ctx, "tcp", withPort(key.authority, "80"))
	}
	if err != nil {
		return nil, err
	}
	if secure, ok := k.conn.(*tls.Conn); ok {
		if bare := newSocket(secure.NetConn()); bare != nil {
			k.raw = bare.raw
		}
	} else if k.socket = newSocket(k.conn); k.socket != nil {
		k.conn, k.raw = k.socket, k.socket.raw
	}
	return k, nil
}

func withPort(authority, port string) string {
	if host, p, err := net.SplitHostPort(authority); err == nil && p != "" {
		return net.JoinHostPort(host, p)
	}
	if len(authority) > 1 && authority[0] == '[' && authority[len(authority)-1] == ']' {
		authority = authority[1 : len(authority)-1]
	}
	return net.JoinHostPort(authority, port)
}

// usable says whether a free connection is still open and silent. One on which the upstream has said something unasked is not
// used: its next answer could be another's.
func (k *link) usable() bool {
	peeked := false
	if k.raw != nil {
		open := true
		err := k.raw.Read(func(fd uintptr) bool {
			n, err := peekNow(fd, k.peeked[:])
			peeked, open = n > 0, n > 0 || err == syscall.EAGAIN
			return true
		})
		if err != nil || !open {
			return false
		}
	}
	if _, secure := k.conn.(*tls.Conn); !secure {
		return !peeked
	}
	// What TLS has read already nobody sees but by reading; a deadline in the past lets it read no more. What is still to be read may be
	// a session ticket (RFC 8446, section 4.6.1), which is taken in.
	until := past
	if peeked {
		until = time.Now().Add(freshEnough)
	}
	_ = k.conn.SetReadDeadline(until)
	n, err := k.conn.Read(k.buf[:1])
	_ = k.conn.SetReadDeadline(time.Time{})
	return n == 0 && errors.Is(err, os.ErrDeadlineExceeded)
}

// more reads more of an answer. Where it is false, buf is full.
func (k *link) more() (bool, error) {
	switch {
	case k.r == k.w:
		k.r, k.w = 0, 0
	case k.w == len(k.buf) && k.r > 0:
		k.w = copy(k.buf, k.buf[k.r:k.w])
		k.r = 0
	case k.w == len(k.buf):
		return false, nil
	}
	n, err := k.conn.Read(k.buf[k.w:])
	k.w += n
	if n > 0 {
		return true, nil
	}
	return true, err
}

// readHead reads the head of the next answer.
func (k *link) readHead(method string) error {
	scanned := 0
	for {
		if k.r < k.w {
			n, next, err := h1.Scan(k.buf[k.r:k.w], scanned)
			switch {
			case err != nil:
				return err
			case n > 0:
				text := unsafeString(k.buf[k.r : k.r+n])
				k.r += n
				return k.head.ReadAnswer(text, method)
			}
			scanned = next
		}
		nothing := k.r == k.w
		room, err := k.more()
		switch {
		case !room && len(k.buf) > maxAnswer:
			return h1.ErrTooMany
		case !room:
			k.buf = append(k.buf, make([]byte, len(k.buf))...)
		case err == io.EOF && !nothing && !startsAnswer(k.buf[k.r:k.w]):
			return h1.ErrStart
		case err == io.EOF && !nothing:
			return io.ErrUnexpectedEOF
		case err != nil:
			return err
		}
	}
}

// startsAnswer says whether b may be the beginning of an answer.
func startsAnswer(b []byte) bool {
	const version = "HTTP/1."
	return len(b) >= len(version) && string(b[:len(version)]) == version
}
