//go:build unix

package engine

import (
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// closeLast closes the listener, and returns the connections that were waiting there.
func (d *door) closeLast() (conns []net.Conn) {
	var files []*os.File
	if l, ok := d.Listener.(syscall.Conn); ok {
		if raw, err := l.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) {
				for {
					c, _, err := unix.Accept(int(fd)) // which does not wait
					switch err {
					case nil:
						unix.CloseOnExec(c)
						files = append(files, os.NewFile(uintptr(c), ""))
					case unix.EINTR, unix.ECONNABORTED:
					default:
						return
					}
				}
			})
		}
	}
	_ = d.Close()
	for _, f := range files {
		if c, err := net.FileConn(f); err == nil {
			conns = append(conns, c)
		}
		_ = f.Close()
	}
	return conns
}
