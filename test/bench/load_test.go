//go:build linux

package bench

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// connections is how many the load has, each with one request on the way.
const connections = 32

// traffic makes the sequence of requests of one connection.
type traffic func(connection int) func() []byte

// same sends one request again and again.
func same(request []byte) traffic {
	return func(int) func() []byte { return func() []byte { return request } }
}

// inTurn sends requests one after the other.
func inTurn(requests [][]byte) traffic {
	return func(connection int) func() []byte {
		n := connection - connections
		return func() []byte { n += connections; return requests[n%len(requests)] }
	}
}

// distinct sends a request whose token never has the signature that another had: it is bad each time for the first time.
func distinct(request []byte) traffic {
	base := 0
	return func(connection int) func() []byte {
		if connection == 0 {
			base = int(time.Now().UnixMicro() & (1<<31 - 1)) // fewer than one a microsecond are sent, so two windows never meet
		}
		mine, n := bytes.Clone(request), base+connection-connections
		mark := signatureMark(mine)
		return func() []byte {
			n += connections
			copy(mark, fmt.Sprintf("%08x", n))
			return mine
		}
	}
}

// signatureMark is a piece of the signature in a request that getOrder made: inside of what has to be computed with, and below an RSA
// key's modulus.
func signatureMark(request []byte) []byte {
	signature := request[bytes.LastIndexByte(request, '.')+1 : len(request)-4]
	return signature[len(signature)/4:][:8]
}

// load keeps a request on the way on each connection for a while and returns how many were answered, all with that status. It is a
// loop over epoll in one thread, so light that the proxy is what is busy.
func load(t testing.TB, address string, requests traffic, status int, d time.Duration) int {
	t.Helper()
	n, err := (&loader{status: status, until: time.Now().Add(d)}).run(address, requests)
	if err != nil {
		t.Fatalf("%s: %v", address, err)
	}
	if n == 0 {
		t.Fatalf("%s answered nothing", address)
	}
	return n
}

type loader struct {
	status  int       // that every answer must have
	until   time.Time // zero: see most
	most    int       // requests; zero: see until
	clients map[int32]*client
	waiting int // for an answer
	sent    int
	buffer  []byte
}

// more tells whether the next request is to be sent.
func (l *loader) more() bool {
	if l.most > 0 {
		return l.sent < l.most
	}
	return time.Now().Before(l.until)
}

type client struct {
	fd      int
	next    func() []byte
	answer  answer
	waiting bool
}

func (l *loader) run(address string, requests traffic) (answered int, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return 0, err
	}
	defer unix.Close(ep)
	l.clients, l.buffer = map[int32]*client{}, make([]byte, 256<<10)
	defer func() {
		for _, c := range l.clients {
			_ = unix.Close(c.fd)
		}
	}()
	for i := range connections {
		fd, err := connect(address)
		if err != nil {
			return 0, err
		}
		c := &client{fd: fd, next: requests(i)}
		l.clients[int32(fd)] = c
		if err := unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}); err != nil {
			return 0, err
		}
		if !l.more() {
			break
		}
		if err := l.send(c); err != nil {
			return 0, err
		}
	}
	events := make([]unix.EpollEvent, connections)
	for l.waiting > 0 {
		n, err := unix.EpollWait(ep, events, 10_000)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return answered, err
		}
		if n == 0 {
			return answered, fmt.Errorf("no answer to %d requests in 10 s", l.waiting)
		}
		more := l.more()
		for _, e := range events[:max(n, 0)] {
			c := l.clients[e.Fd]
			complete, err := l.receive(c)
			if err != nil {
				return answered, err
			}
			if !complete {
				continue
			}
			answered++
			l.waiting--
			if more && (l.most == 0 || l.sent < l.most) {
				if err := l.send(c); err != nil {
					return answered, err
				}
			}
		}
	}
	return answered, nil
}

func (l *loader) send(c *client) error {
	request := c.next()
	if n, err := unix.Write(c.fd, request); err != nil || n != len(request) {
		return fmt.Errorf("%d of %d bytes were sent: %w", n, len(request), err)
	}
	l.waiting++
	l.sent++
	c.answer, c.waiting = answer{}, true
	return nil
}

// receive reads once, and tells whether the answer is complete with that.
func (l *loader) receive(c *client) (complete bool, err error) {
	n, err := unix.Read(c.fd, l.buffer)
	switch {
	case err != nil:
		return false, err
	case n == 0 || !c.waiting:
		return false, io.ErrUnexpectedEOF
	}
	complete, err = c.answer.add(l.buffer[:n])
	if err == nil && complete && c.answer.status != l.status {
		err = fmt.Errorf("want an answer %d, got %d", l.status, c.answer.status)
	}
	c.waiting = !complete
	return complete, err
}

// answer is as much of an HTTP/1.1 response as was read. It has a Content-Length, and its head comes in one piece, as those of small
// answers on this machine do.
type answer struct {
	status, left int
	head         bool
}

func (a *answer) add(b []byte) (complete bool, err error) {
	if !a.head {
		end := bytes.Index(b, []byte("\r\n\r\n"))
		if end < 0 || len(b) < len("HTTP/1.1 200") {
			return false, fmt.Errorf("half a head: %d bytes", len(b))
		}
		a.head, a.status = true, int(b[9]-'0')*100+int(b[10]-'0')*10+int(b[11]-'0')
		head := b[:end+2]
		b = b[end+4:]
		length, ok := contentLength(head)
		if !ok {
			return false, fmt.Errorf("an answer %d without Content-Length", a.status)
		}
		a.left = length
	}
	a.left -= len(b)
	if a.left < 0 {
		return false, errors.New("more than one answer to one request")
	}
	return a.left == 0, nil
}

// contentLength finds the field in a head, whose name is written in either of the two usual ways.
func contentLength(head []byte) (n int, ok bool) {
	_, rest, ok := bytes.Cut(head, []byte("\r\nContent-Length: "))
	if !ok {
		_, rest, ok = bytes.Cut(head, []byte("\r\ncontent-length: "))
	}
	for _, digit := range rest {
		if digit < '0' || digit > '9' {
			break
		}
		n = n*10 + int(digit-'0')
	}
	return n, ok
}

func connect(address string) (fd int, err error) {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return 0, err
	}
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	if err = unix.Connect(fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}); err == nil {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	}
	if err != nil {
		_ = unix.Close(fd)
	}
	return fd, err
}
