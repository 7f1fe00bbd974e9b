//go:build !unix

package engine

import "syscall"

// immediate says whether the calls below exist. Here they do not: a connection that was closed is noticed when it is used.
const immediate = false

func readNow(uintptr, []byte) (int, error)  { return 0, syscall.EAGAIN }
func writeNow(uintptr, []byte) (int, error) { return 0, syscall.EAGAIN }
func peekNow(uintptr, []byte) (int, error)  { return 0, syscall.EAGAIN }
