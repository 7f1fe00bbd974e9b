// Package localaddr has addresses of this machine for tests that start servers: one to listen on, and one where nobody does.
package localaddr

import (
	"net"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
)

// Dead is an address where nobody listens: a connection to it is refused. The kernel gives port 1 to nobody who asks for any port.
const Dead = "127.0.0.1:1"

// The ports of Free. The kernel takes those for `:0` and for outgoing connections from 32768 up (Linux; others start higher), so that
// nothing but another Free takes one of these between the call and its use.
const first, count = 10000, 22000

var taken atomic.Int64

// Free is an address of 127.0.0.1 on which nobody listens yet, and which no other call in this process returned. It is safe for
// concurrent use.
func Free(t testing.TB) string {
	t.Helper()
	start := int64(os.Getpid()) * 2999 // of another process, elsewhere: test binaries run side by side
	for range count {
		address := net.JoinHostPort("127.0.0.1", strconv.FormatInt(first+(start+taken.Add(1))%count, 10))
		if l, err := net.Listen("tcp", address); err == nil {
			_ = l.Close()
			return address
		}
	}
	t.Fatal("all ports are taken")
	return ""
}
