package engine

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// peekAt looks, without waiting, whether there is anything to read, or the end. The call does not block, so that the scheduler
// need not know of it.
func (k *link) peekAt(fd uintptr) bool {
	for {
		n, _, err := unix.RawSyscall6(unix.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&k.peekByte)), 1, unix.MSG_PEEK|unix.MSG_DONTWAIT, 0, 0)
		if err != unix.EINTR {
			k.saw(int(n), err == unix.EAGAIN, err != 0)
			return true
		}
	}
}
