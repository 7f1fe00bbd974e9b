//go:build !race

package engine

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// immediate says whether the calls below exist. Sockets do not block, so the calls are raw: the scheduler is not told of them.
const immediate = true

func readNow(fd uintptr, b []byte) (int, error)  { return attempt(unix.SYS_READ, fd, b, 0) }
func writeNow(fd uintptr, b []byte) (int, error) { return attempt(unix.SYS_WRITE, fd, b, 0) }

// peekNow leaves what it reads where it is.
func peekNow(fd uintptr, b []byte) (int, error) {
	return attempt(unix.SYS_RECVFROM, fd, b, unix.MSG_PEEK|unix.MSG_DONTWAIT)
}

func attempt(call, fd uintptr, b []byte, flags uintptr) (int, error) {
	for {
		n, _, err := unix.RawSyscall6(call, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), flags, 0, 0)
		switch err {
		case 0:
			return int(n), nil
		case syscall.EINTR:
		default:
			return 0, err
		}
	}
}
