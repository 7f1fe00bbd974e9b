package upstream

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"slices"
	"sync"
)

// maxHead is the most that Raw reads before it answers.
const maxHead = 64 << 10

// Raw answers every connection with given bytes, be they HTTP or not, and keeps the bytes of the request's head.
type Raw struct {
	l       net.Listener
	running sync.WaitGroup

	mu     sync.Mutex
	answer []byte
	heads  []string
	conns  map[net.Conn]struct{} // nil once closed
}

// StartRaw runs one on a free port of 127.0.0.1. It reads up to the blank line that ends a request's head, writes the
// answer and ends its side of the connection. With an empty answer it says nothing and keeps the connection open.
// The caller must Close it.
func StartRaw(answer string) (*Raw, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	a := &Raw{l: l, answer: []byte(answer), conns: map[net.Conn]struct{}{}}
	a.running.Go(a.accept)
	return a, nil
}

// URL is http://127.0.0.1:port.
func (a *Raw) URL() string { return "http://" + a.l.Addr().String() }

// Answer changes the answer of connections whose head is not yet read.
func (a *Raw) Answer(answer string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answer = []byte(answer)
}

// Heads are the heads of the requests so far, byte for byte, with the blank line.
func (a *Raw) Heads() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.heads)
}

// Close cuts every connection and waits until all has ended. It may be called again.
func (a *Raw) Close() {
	a.mu.Lock()
	conns := a.conns
	a.conns = nil
	a.mu.Unlock()
	_ = a.l.Close()
	for c := range conns {
		_ = c.Close()
	}
	a.running.Wait()
}

func (a *Raw) accept() {
	for {
		c, err := a.l.Accept()
		if err != nil {
			return
		}
		a.running.Go(func() { a.serve(c.(*net.TCPConn)) })
	}
}

func (a *Raw) serve(c *net.TCPConn) {
	defer c.Close()
	a.mu.Lock()
	if a.conns == nil {
		a.mu.Unlock()
		return
	}
	a.conns[c] = struct{}{}
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		delete(a.conns, c)
		a.mu.Unlock()
	}()

	br := bufio.NewReader(io.LimitReader(c, maxHead))
	var head []byte
	for !bytes.HasSuffix(head, []byte("\r\n\r\n")) {
		line, err := br.ReadBytes('\n')
		if err != nil {
			return
		}
		head = append(head, line...)
	}
	a.mu.Lock()
	a.heads = append(a.heads, string(head))
	answer := a.answer
	a.mu.Unlock()
	if len(answer) > 0 {
		_, _ = c.Write(answer)
		_ = c.CloseWrite()
	}
	_, _ = io.Copy(io.Discard, c) // closing with unread bytes would reset the connection, and the answer with it
}
