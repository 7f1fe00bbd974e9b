//go:build linux

package bench

import (
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pacedRate is how many requests a second latencies are measured at: far from what any of the subjects could do.
const pacedRate = 1500

// pace is a subject at a fixed rate and its latencies in microseconds, a value a round.
type pace struct {
	name, address string
	request       []byte
	during        func() (wait func()) // what goes on meanwhile; nil: nothing
	p50, p99      []float64
}

// The latencies of the least disturbed round: whatever else runs on the machine only ever adds to one.
func (p *pace) best() (p50, p99 float64) { return slices.Min(p.p50), slices.Min(p.p99) }

func (b *bench) measurePaces(t testing.TB, paces []*pace) {
	t.Helper()
	for _, p := range paces {
		paced(t, p.address, p.request, time.Second/2) // warm up
	}
	for range *rounds {
		for _, p := range paces {
			wait := func() {}
			if p.during != nil {
				wait = p.during()
			}
			took := paced(t, p.address, p.request, *window)
			wait()
			p.p50, p.p99 = append(p.p50, percentile(took, 50)), append(p.p99, percentile(took, 99))
		}
	}
}

func latencies(paces []*pace) string {
	var b strings.Builder
	fmt.Fprintf(&b, "| at %d requests a second | p50 µs | p99 µs |\n|---|---|---|\n", pacedRate)
	for _, p := range paces {
		p50, p99 := p.best()
		fmt.Fprintf(&b, "| %s | %.0f | %.0f |\n", p.name, p50, p99)
	}
	return b.String()
}

// paced sends a request at the fixed rate, over some connections in turn, and returns how long the answers took, sorted. A request that
// was due while the answer before it was awaited took that long too. It blocks in system calls, without Go's poller.
func paced(t testing.TB, address string, request []byte, d time.Duration) []time.Duration {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	fds := make([]int, 8)
	for i := range fds {
		fd, err := connect(address)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}); err != nil {
			t.Fatal(err)
		}
		fds[i] = fd
	}
	took := make([]time.Duration, 0, int(d.Seconds()*pacedRate)+1)
	buffer := make([]byte, 64<<10)
	start := time.Now()
	for due := start; due.Before(start.Add(d)); due = due.Add(time.Second / pacedRate) {
		began := due
		if early := time.Until(due); early > 0 {
			ts := unix.NsecToTimespec(early.Nanoseconds())
			_ = unix.Nanosleep(&ts, nil)
			began = time.Now() // waking up late is the client's own doing
		}
		fd := fds[len(took)%len(fds)]
		if status, err := exchange(fd, request, buffer); err != nil || status != http.StatusOK {
			t.Fatalf("%s: an answer %d after %s, %v", address, status, time.Since(began), err)
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	return took
}

func exchange(fd int, request, buffer []byte) (status int, err error) {
	if _, err := unix.Write(fd, request); err != nil {
		return 0, err
	}
	var a answer
	for complete := false; !complete; {
		n, err := unix.Read(fd, buffer)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return 0, err
		}
		if complete, err = a.add(buffer[:n]); err != nil {
			return 0, err
		}
	}
	return a.status, nil
}
