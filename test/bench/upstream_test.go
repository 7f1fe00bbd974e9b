//go:build linux

package bench

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// upstream answers every request with the same bytes, in one thread with a loop over epoll: so light that it does not disturb.
type upstream struct {
	address string
	seen    atomic.Int64
	last    atomic.Pointer[[]byte] // the last head, while look is set
	look    atomic.Bool

	ep, listener, stop int
	heads              map[int32][]byte // what has come of a head, where it came in pieces
	reply, buffer      []byte
}

func serveUpstream(t testing.TB, size int) *upstream {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	file, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	u := &upstream{address: l.Addr().String(), listener: int(file.Fd()), heads: map[int32][]byte{}, buffer: make([]byte, 64<<10)}
	l.Close()
	u.reply = fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s", size, strings.Repeat("x", size))
	u.ep, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	u.stop, err = unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- u.run() }()
	t.Cleanup(func() {
		_, _ = unix.Write(u.stop, []byte{1, 0, 0, 0, 0, 0, 0, 0})
		if err := <-done; err != nil {
			t.Errorf("upstream: %v", err)
		}
		file.Close()
	})
	return u
}

func (u *upstream) run() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer unix.Close(u.ep)
	defer unix.Close(u.stop)
	for _, fd := range []int{u.listener, u.stop} {
		if err := u.watch(fd); err != nil {
			return err
		}
	}
	events := make([]unix.EpollEvent, 256)
	for {
		n, err := unix.EpollWait(u.ep, events, -1)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		for _, e := range events[:n] {
			switch int(e.Fd) {
			case u.stop:
				return nil
			case u.listener:
				fd, _, err := unix.Accept4(u.listener, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
				if err != nil {
					continue
				}
				_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
				if err := u.watch(fd); err != nil {
					return err
				}
			default:
				if !u.serve(int(e.Fd)) {
					delete(u.heads, e.Fd)
					_ = unix.Close(int(e.Fd))
				}
			}
		}
	}
}

func (u *upstream) watch(fd int) error {
	return unix.EpollCtl(u.ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
}

// serve reads once, and answers when a head is whole: requests here have no content, and none comes before the answer to the last.
func (u *upstream) serve(fd int) (open bool) {
	n, err := unix.Read(fd, u.buffer)
	if err != nil {
		return errors.Is(err, unix.EAGAIN)
	}
	if n == 0 {
		return false
	}
	head := u.buffer[:n]
	if before := u.heads[int32(fd)]; len(before) > 0 {
		head = append(before, head...)
		delete(u.heads, int32(fd))
	}
	if !bytes.HasSuffix(head, []byte("\r\n\r\n")) {
		u.heads[int32(fd)] = bytes.Clone(head)
		return true
	}
	u.seen.Add(1)
	if u.look.Load() {
		head = bytes.Clone(head)
		u.last.Store(&head)
	}
	for rest := u.reply; len(rest) > 0; {
		n, err := unix.Write(fd, rest)
		switch {
		case errors.Is(err, unix.EAGAIN):
			if _, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, 5_000); err != nil && !errors.Is(err, unix.EINTR) {
				return false
			}
		case err != nil:
			return false
		default:
			rest = rest[n:]
		}
	}
	return true
}
