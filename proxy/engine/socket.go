package engine

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
)

// socket is a connection of the lean engine, without TLS. What it asks of the kernel never waits there, so the scheduler need not know
// of it. One goroutine may read while others write.
type socket struct {
	net.Conn
	raw syscall.RawConn

	in      []byte // of the read that is under way, and what came of it
	read    int
	readErr error

	writing sync.Mutex // an interim answer and 100 (Continue) may meet
	out     []byte     // the same of a write
	written int
	outErr  error
	step    asking

	readOnce, writeOnce, askOnce func(fd uintptr) bool // made once, so that a call allocates nothing
}

// asking is how far an ask has come.
type asking uint8

const (
	atCheck asking = iota
	atRequest
	atAnswer
	atEnd
)

// errStale says that a connection was closed, or said something unasked, before the request was written: nothing was.
var errStale = errors.New("the idle connection was no good any more")

// newSocket returns nil for what is not a socket, and where the platform has none of the calls.
func newSocket(conn net.Conn) *socket {
	sc, ok := conn.(syscall.Conn)
	if !ok || !immediate {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	s := &socket{Conn: conn, raw: raw}
	s.readOnce, s.writeOnce, s.askOnce = s.readNow, s.writeNow, s.askNow
	return s
}

// CloseWrite ends what is sent.
func (s *socket) CloseWrite() error { return closeWrite(s.Conn) }

func (s *socket) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	s.in = b
	return s.ended(s.raw.Read(s.readOnce))
}

func (s *socket) readNow(fd uintptr) bool {
	s.read, s.readErr = readNow(fd, s.in)
	return s.readErr != syscall.EAGAIN
}

// ended is what came of a read.
func (s *socket) ended(err error) (int, error) {
	s.in = nil
	switch {
	case err != nil:
		return 0, err
	case s.readErr != nil:
		return 0, s.failed("read", s.readErr)
	case s.read == 0:
		return 0, io.EOF
	}
	return s.read, nil
}

func (s *socket) Write(b []byte) (int, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.out, s.written = b, 0
	err := s.raw.Write(s.writeOnce)
	s.out = nil
	if err == nil && s.outErr != nil {
		err = s.failed("write", s.outErr)
	}
	return s.written, err
}

func (s *socket) writeNow(fd uintptr) bool {
	for s.written < len(s.out) {
		n, err := writeNow(fd, s.out[s.written:])
		if s.outErr = err; err != nil {
			return err != syscall.EAGAIN
		}
		s.written += n
	}
	s.outErr = nil
	return true
}

// ask writes a request and reads the beginning of its answer. One that was used before is looked at first: if it has been closed, or
// there is something to read, the error is errStale.
//
// Look, write and wait are one call of the poller: what happens on the connection from before the look on ends the wait, so that
// nobody has to try in vain whether the answer is there already. Without the look what had come before would end no wait: on a
// new connection the answer is read as ever.
func (s *socket) ask(request, answer []byte, used bool) (written, read int, err error) {
	if !used {
		if written, err = s.Write(request); err == nil {
			read, err = s.Read(answer)
		}
		return written, read, err
	}
	s.step = atCheck
	s.out, s.written, s.outErr, s.in = request, 0, nil, answer
	err = s.raw.Read(s.askOnce)
	s.out = nil
	switch {
	case s.step == atCheck:
		return 0, 0, errStale
	case err != nil:
		return s.written, 0, err
	case s.step == atEnd:
		read, err = s.ended(nil)
		return s.written, read, err
	case s.outErr != nil && s.outErr != syscall.EAGAIN:
		return s.written, 0, s.failed("write", s.outErr)
	}
	written = s.written // the kernel had no room for all of it
	rest, err := s.Write(request[written:])
	if err == nil {
		read, err = s.Read(answer)
	}
	return written + rest, read, err
}

func (s *socket) askNow(fd uintptr) bool {
	if s.step == atCheck {
		if _, err := readNow(fd, s.in); err != syscall.EAGAIN {
			return true
		}
		s.step = atRequest
	}
	if s.step == atRequest {
		s.written, s.outErr = writeNow(fd, s.out)
		if s.outErr != nil || s.written < len(s.out) {
			s.written = max(s.written, 0)
			return true
		}
		s.step = atAnswer
		return false
	}
	if !s.readNow(fd) {
		return false
	}
	s.step = atEnd
	return true
}

// failed is an error as package net has it.
func (s *socket) failed(op string, err error) error {
	return &net.OpError{Op: op, Net: s.LocalAddr().Network(), Source: s.LocalAddr(), Addr: s.RemoteAddr(), Err: os.NewSyscallError(op, err)}
}
