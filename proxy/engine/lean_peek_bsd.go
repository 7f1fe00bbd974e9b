//go:build unix && !linux

package engine

import "golang.org/x/sys/unix"

// peekAt looks, without waiting, whether there is anything to read, or the end.
func (k *link) peekAt(fd uintptr) bool {
	for {
		n, _, err := unix.Recvfrom(int(fd), k.peekByte[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		if err != unix.EINTR {
			k.saw(n, err == unix.EAGAIN, err != nil)
			return true
		}
	}
}
