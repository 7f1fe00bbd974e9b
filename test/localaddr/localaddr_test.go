package localaddr_test

import (
	"errors"
	"net"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/sidepass/sidepass/test/localaddr"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestFree(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		address := localaddr.Free(t)
		if seen[address] {
			t.Errorf("%s twice", address)
		}
		seen[address] = true
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
	}
}

func TestDead(t *testing.T) {
	if c, err := net.Dial("tcp", localaddr.Dead); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("%v %v", c, err)
	}
}
