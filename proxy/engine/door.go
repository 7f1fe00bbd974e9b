package engine

import (
	"errors"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// door is a listener that, when it shuts, first accepts the connections that wait in its queue: closing would reset them, and their
// clients take them for made. Accept is for one goroutine.
type door struct {
	net.Listener
	shuts  atomic.Bool
	closed bool
	last   []net.Conn // who came before it was closed
}

// shut ends Accept with net.ErrClosed, once the last have been let in.
func (d *door) shut() {
	d.shuts.Store(true)
	if l, ok := d.Listener.(interface{ SetDeadline(time.Time) error }); !ok || l.SetDeadline(past) != nil {
		_ = d.Close()
	}
}

// Accept waits for the next connection.
func (d *door) Accept() (net.Conn, error) {
	for !d.shuts.Load() {
		c, err := d.Listener.Accept()
		if err == nil || !d.shuts.Load() && !errors.Is(err, os.ErrDeadlineExceeded) {
			return c, err
		}
	}
	if !d.closed {
		d.closed = true
		d.last = d.closeLast()
	}
	if len(d.last) == 0 {
		return nil, net.ErrClosed
	}
	c := d.last[0]
	d.last = d.last[1:]
	return c, nil
}
