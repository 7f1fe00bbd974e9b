package engine

import (
	"errors"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// door is a listener that lets in who has come before it shuts: closing a listener resets connections that clients take for made, but
// that were not accepted yet.
type door struct {
	net.Listener
	shuts atomic.Bool
	until time.Time // it is shut by then; set before shuts
}

const (
	lull     = time.Millisecond       // without a new connection, after which the door shuts
	lastCall = 100 * time.Millisecond // for how long it lets in at most
)

// timed is a listener of package net.
type timed interface{ SetDeadline(time.Time) error }

// shut ends Accept soon, with net.ErrClosed, and then the listener is closed.
func (d *door) shut() {
	d.until = time.Now().Add(lastCall)
	if l, ok := d.Listener.(timed); ok {
		_ = l.SetDeadline(past)
	} else {
		_ = d.Close()
	}
	d.shuts.Store(true)
}

// Accept waits for the next connection.
func (d *door) Accept() (net.Conn, error) {
	for {
		shuts := d.shuts.Load()
		if l, ok := d.Listener.(timed); ok && shuts {
			_ = l.SetDeadline(time.Now().Add(lull))
		}
		c, err := d.Listener.Accept()
		switch {
		case shuts && err != nil:
			_ = d.Close()
			return nil, net.ErrClosed
		case shuts && time.Now().After(d.until):
			_ = d.Close()
			return c, nil
		case err == nil || !errors.Is(err, os.ErrDeadlineExceeded):
			return c, err
		}
	}
}
