//go:build !unix

package engine

import "net"

// closeLast closes the listener.
func (d *door) closeLast() []net.Conn {
	_ = d.Close()
	return nil
}
