//go:build unix && (!linux || race)

package engine

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// immediate says whether the calls below exist. The race detector learns from package syscall what they touch, and in which order.
const immediate = true

func readNow(fd uintptr, b []byte) (int, error) {
	return attempt(func() (int, error) { return syscall.Read(int(fd), b) })
}

func writeNow(fd uintptr, b []byte) (int, error) {
	return attempt(func() (int, error) { return syscall.Write(int(fd), b) })
}

// peekNow leaves what it reads where it is.
func peekNow(fd uintptr, b []byte) (int, error) {
	return attempt(func() (int, error) {
		n, _, err := unix.Recvfrom(int(fd), b, unix.MSG_PEEK|unix.MSG_DONTWAIT)
		return n, err
	})
}

func attempt(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if err != unix.EINTR {
			return max(n, 0), err
		}
	}
}
