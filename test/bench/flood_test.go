//go:build linux

package bench

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sidepass/sidepass/test/issuer"
)

var flood = flag.Bool("flood", false, "measure what a flood of bad signatures does to good tokens; takes about four minutes")

// floodTarget is the environment variable that makes the test binary send a flood: the address, how long, whether its signatures are
// distinct, and how many a second, or 0. The token comes on standard input. It prints how many requests were answered with 401, and how
// many otherwise.
const floodTarget = "SIDEPASS_BENCH_FLOOD"

const goodRate = 500 // a second, of the client with the good token

// TestFlood sends tokens whose signatures are bad over 32 connections, while a client with a token that is cached goes on at a fixed rate:
//
//	go test ./test/bench -run TestFlood -flood -v
//
// The proxy, the flood, the client and the upstream share the machine's cores. The flood's sender is a process of the lowest priority, so
// that it stands for another machine as well as it can; but where it sends as fast as it is answered, it takes all that is left. What the
// signatures cost is told by the difference between distinct ones and one that is repeated, which is verified once.
//
// Whatever else runs on the machine only ever adds to a latency: those that are printed are of the least disturbed round, the rest are medians.
func TestFlood(t *testing.T) {
	if !*flood {
		t.Skip("measures latencies under a flood; run with -flood on a quiet machine")
	}
	binary, up := buildSidepass(t), serveUpstream(t, 13)
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s, %d cores, %s, %s; %d good requests a second, %d rounds of %s\n\n", cpuModel(), runtime.NumCPU(), runtime.Version(), time.Now().Format(time.DateOnly), goodRate, *rounds, *window)
	fmt.Fprintf(&b, "%-36s %9s %9s %9s %11s %16s\n", "", "p50 µs", "p99 µs", "p99 ratio", "refused/s", "CPU µs a request")
	for _, alg := range []string{"RS256", "ES512"} { // a usual one, and the dearest
		iss, err := issuer.Start(issuer.Options{Algorithms: []string{alg}})
		if err != nil {
			t.Fatal(err)
		}
		defer iss.Close()
		s := startSidepass(t, anyCore, binary, alg, fmt.Sprintf("issuers: [{url: %q}]\ninbound:\n  listen: \"ADDR\"\n  upstream: \"http://%s\"\n  trust: [{audiences: [\"https://orders\"], algorithms: [%s]}]\n  rules: [{match: [\"GET /orders/{id}\"], scopes: [\"read:orders\"]}]\n", iss.Issuer(), up.address, alg), nil)
		token := func() string { return iss.Mint(map[string]any{"aud": "https://orders", "scope": "read:orders"}) }
		s.request = getOrder(token())
		good(t, s, time.Second) // warm up
		kinds := []*floodKind{
			{name: "no flood"},
			{name: "distinct, 1,000 a second", distinct: true, rate: 1000},
			{name: "one, repeated, as fast as it can"},
			{name: "distinct, as fast as it can", distinct: true},
		}
		for range *rounds {
			for i, k := range kinds {
				k.run(t, s, i > 0, token())
			}
		}
		for _, k := range kinds {
			fmt.Fprintf(&b, "%-36s %9.0f %9.0f %9.2f %11.0f %16.1f\n", alg+", "+k.name, slices.Min(k.p50), slices.Min(k.p99), slices.Min(k.p99)/slices.Min(kinds[0].p99), median(k.refused), median(k.micros))
		}
	}
	t.Log(b.String())
}

// floodKind is one sort of flood and what was measured in it, a value a round.
type floodKind struct {
	name                      string
	distinct                  bool
	rate                      int // a second; 0 is as fast as it is answered
	p50, p99, refused, micros []float64
}

func (k *floodKind) run(t *testing.T, s *subject, flooded bool, token string) {
	t.Helper()
	wait := func() int { return 0 }
	if flooded {
		wait = startFlood(t, s.address, token, k)
	}
	before := cpu(t, s.pid)
	latencies := good(t, s, *window)
	used := cpu(t, s.pid) - before
	refused := float64(wait()) * window.Seconds() / (*window + floodLead).Seconds()
	k.p50 = append(k.p50, percentile(latencies, 50))
	k.p99 = append(k.p99, percentile(latencies, 99))
	k.refused = append(k.refused, refused/window.Seconds())
	k.micros = append(k.micros, float64(used.Microseconds())/(refused+float64(len(latencies))))
}

func percentile(sorted []time.Duration, p int) float64 {
	return float64(sorted[len(sorted)*p/100].Nanoseconds()) / 1e3
}

// good sends the subject's request at the fixed rate and returns how long the answers took, sorted. A request that was due while the answer
// before it was awaited took that long too.
func good(t *testing.T, s *subject, d time.Duration) []time.Duration {
	t.Helper()
	const clients = 4
	var mu sync.Mutex
	var all []time.Duration
	var wg sync.WaitGroup
	start := time.Now()
	for i := range clients {
		wg.Go(func() {
			c, err := net.Dial("tcp", s.address)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			r := bufio.NewReaderSize(c, 16<<10)
			var took []time.Duration
			due := start.Add(time.Duration(i) * time.Second / goodRate)
			for ; due.Before(start.Add(d)); due = due.Add(clients * time.Second / goodRate) {
				began := due
				if early := time.Until(due); early > 0 {
					time.Sleep(early)
					began = time.Now() // waking up late is the client's own doing
				}
				if status, err := roundTrip(c, r, s.request); err != nil || status != http.StatusOK {
					t.Errorf("a good token got %d, %v", status, err)
					return
				}
				took = append(took, time.Since(began))
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, took...)
		})
	}
	wg.Wait()
	if len(all) == 0 {
		t.Fatal("nothing was answered")
	}
	slices.Sort(all)
	return all
}

func roundTrip(c net.Conn, r *bufio.Reader, request []byte) (status int, err error) {
	if _, err := c.Write(request); err != nil {
		return 0, err
	}
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

// floodLead is how long a flood has lasted when the measurement begins.
const floodLead = 300 * time.Millisecond

// startFlood starts the sender of a flood. What it returns waits for its end and returns the number of requests that were refused.
func startFlood(t *testing.T, address, token string, k *floodKind) func() int {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %t %d", floodTarget, address, floodLead+*window, k.distinct, k.rate))
	cmd.Stdin = strings.NewReader(token)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(floodLead)
	return func() int {
		if err := cmd.Wait(); err != nil {
			t.Fatal(err)
		}
		var refused, other int
		if _, err := fmt.Sscan(out.String(), &refused, &other); err != nil || refused == 0 || other != 0 {
			t.Fatalf("the flood says %q: %v", out.String(), err)
		}
		return refused
	}
}

// sendFlood is the sender of a flood, in a process of its own.
func sendFlood(target string) {
	var address, length string
	var distinct bool
	var rate int
	if _, err := fmt.Sscan(target, &address, &length, &distinct, &rate); err != nil {
		panic(err)
	}
	d, err := time.ParseDuration(length)
	if err != nil {
		panic(err)
	}
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		panic(err)
	}
	for _, task := range tasks { // those that come later have what their maker has
		if id, err := strconv.Atoi(task.Name()); err == nil {
			_ = unix.Setpriority(unix.PRIO_PROCESS, id, 19)
		}
	}
	token, err := io.ReadAll(os.Stdin)
	if err != nil {
		panic(err)
	}
	var refused, other atomic.Int64
	var wg sync.WaitGroup
	start := time.Now()
	for i := range connections {
		wg.Go(func() {
			request := getOrder(string(token))
			mark := signatureMark(request)
			c, err := net.Dial("tcp", address)
			if err != nil {
				panic(err)
			}
			defer c.Close()
			r := bufio.NewReaderSize(c, 16<<10)
			for n := i; time.Since(start) < d; n += connections {
				if rate > 0 {
					time.Sleep(time.Until(start.Add(time.Duration(n) * time.Second / time.Duration(rate))))
				}
				serial := 0
				if distinct {
					serial = n
				}
				copy(mark, fmt.Sprintf("%08x", serial))
				if status, err := roundTrip(c, r, request); err != nil || status != http.StatusUnauthorized {
					other.Add(1)
					return
				}
				refused.Add(1)
			}
		})
	}
	wg.Wait()
	fmt.Println(refused.Load(), other.Load())
}
