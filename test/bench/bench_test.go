// Package bench measures what sidepass costs beside a plain proxy, in the same run.
//
//	go test ./test/bench -run TestCost -cost -v
//
// starts a tuned httputil.ReverseProxy and sidepass's two directions, each as a process of its own on one core, with the
// load and the upstream on another, in interleaved rounds, and prints CPU microseconds a request (user and system time
// of the process over requests) as medians, with the ratio to the plain proxy. Absolute figures differ from machine to machine
// and from hour to hour; quote the ratio. It also prints idle memory, time from start to ready, and the size of the binary.
package bench

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sidepass/sidepass/test/issuer"
)

var (
	cost   = flag.Bool("cost", false, "measure; takes about two minutes and wants a quiet machine")
	rounds = flag.Int("rounds", 7, "interleaved rounds")
	window = flag.Duration("window", 3*time.Second, "length of one measurement")
)

const connections = 32

// plainProxy is the environment variable that makes the test binary be the plain proxy to that upstream.
const plainProxy = "SIDEPASS_BENCH_PLAIN_UPSTREAM"

func TestMain(m *testing.M) {
	if to := os.Getenv(plainProxy); to != "" {
		servePlain(to)
		return
	}
	if to := os.Getenv(floodTarget); to != "" {
		sendFlood(to)
		return
	}
	flag.Parse()
	os.Exit(m.Run())
}

// servePlain is the baseline: httputil.ReverseProxy, tuned as users tune it.
func servePlain(to string) {
	target, err := url.Parse(to)
	if err != nil {
		panic(err)
	}
	buffers := &sync.Pool{New: func() any { return make([]byte, 32<<10) }}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(l.Addr())
	panic((&http.Server{Handler: &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport:     &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true},
		FlushInterval: -1,
		BufferPool:    pool{buffers},
	}}).Serve(l))
}

type pool struct{ *sync.Pool }

func (p pool) Get() []byte  { return p.Pool.Get().([]byte) }
func (p pool) Put(b []byte) { p.Pool.Put(b) } //nolint:staticcheck // as users write it

// subject is a process under test and the request that it is sent.
type subject struct {
	name    string
	address string
	request []byte
	pid     int
	rss     int // KiB, idle
	ready   time.Duration
	micros  []float64
}

func TestCost(t *testing.T) {
	if !*cost {
		t.Skip("measures CPU a request; run with -cost on a quiet machine")
	}
	if runtime.NumCPU() < 2 {
		t.Skip("needs two cores: one for the proxy, one for the load")
	}
	dir := t.TempDir()
	binary := filepath.Join(dir, "sidepass")
	if out, err := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", binary, "../../cmd/sidepass").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	iss, err := issuer.Start(issuer.Options{Clients: []issuer.Client{{ID: "svc", Secret: "s"}}, Algorithms: []string{"RS256"}})
	if err != nil {
		t.Fatal(err)
	}
	defer iss.Close()
	pin(t, 0, 1) // this process: load and upstream
	upstream := serveUpstream(t)
	token := iss.Mint(map[string]any{"aud": "https://orders", "scope": "read:orders"})
	request := func(line, host, more string) []byte {
		return []byte(line + " HTTP/1.1\r\nHost: " + host + "\r\nUser-Agent: bench\r\nAccept: */*\r\n" + more + "\r\n")
	}
	subjects := []*subject{
		startPlain(t, "http://"+upstream, request("GET /orders/1", "bench", "Authorization: Bearer "+token+"\r\n")),
		startSidepass(t, binary, "outbound", fmt.Sprintf("issuers: [{url: %q, client: {id: svc, secret: s}}]\noutbound:\n  listen: \"ADDR\"\n  routes: [{name: orders, host: orders.internal, upstream: \"http://%s\", audience: [\"https://orders\"]}]\n", iss.Issuer(), upstream),
			request("GET http://orders.internal/orders/1", "orders.internal", "")),
		startSidepass(t, binary, "inbound, hot token, scope rule", fmt.Sprintf("issuers: [{url: %q}]\ninbound:\n  listen: \"ADDR\"\n  upstream: \"http://%s\"\n  trust: [{audiences: [\"https://orders\"]}]\n  rules: [{match: [\"GET /orders/{id}\"], scopes: [\"read:orders\"]}]\n", iss.Issuer(), upstream),
			request("GET /orders/1", "bench", "Authorization: Bearer "+token+"\r\n")),
	}
	for _, s := range subjects {
		pin(t, s.pid, 0)
		load(t, s, time.Second) // warm up
	}
	for range *rounds {
		for _, s := range subjects {
			before := cpu(t, s.pid)
			n := load(t, s, *window)
			s.micros = append(s.micros, float64((cpu(t, s.pid)-before).Microseconds())/float64(n))
		}
	}
	info, err := os.Stat(binary)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s, %d cores, %s, %s; %d connections, medians of %d rounds of %s\n\n", cpuModel(), runtime.NumCPU(), runtime.Version(), time.Now().Format(time.DateOnly), connections, *rounds, *window)
	fmt.Fprintf(&b, "%-32s %14s %8s %10s %10s\n", "", "CPU µs/request", "ratio", "idle MiB", "ready ms")
	base := median(subjects[0].micros)
	for _, s := range subjects {
		fmt.Fprintf(&b, "%-32s %14.1f %8.2f %10.1f %10.1f\n", s.name, median(s.micros), median(s.micros)/base, float64(s.rss)/1024, float64(s.ready.Microseconds())/1e3)
	}
	fmt.Fprintf(&b, "\nbinary: %.1f MiB (stripped)\n", float64(info.Size())/(1<<20))
	t.Log(b.String())
}

func median(v []float64) float64 { return slices.Sorted(slices.Values(v))[len(v)/2] }

func startPlain(t *testing.T, upstream string, request []byte) *subject {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), plainProxy+"="+upstream)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	s := &subject{name: "plain httputil.ReverseProxy", address: strings.TrimSpace(line), request: request, pid: cmd.Process.Pid, ready: time.Since(began)}
	time.Sleep(500 * time.Millisecond)
	s.rss = rss(t, s.pid)
	return s
}

func startSidepass(t *testing.T, binary, name, yaml string, request []byte) *subject {
	t.Helper()
	address, metrics := free(t), free(t)
	file := filepath.Join(t.TempDir(), "sidepass.yaml")
	yaml = strings.ReplaceAll(yaml, "ADDR", address) + fmt.Sprintf("metrics: {listen: %q}\nadmin: {listen: \"off\"}\n", metrics)
	if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "run", "--config", file)
	var log beginning
	cmd.Stderr = &log
	began := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	s := &subject{name: name, address: address, request: request, pid: cmd.Process.Pid}
	for s.ready == 0 {
		if time.Since(began) > 10*time.Second {
			t.Fatalf("%s is not ready:\n%s", name, log.text.String())
		}
		resp, err := http.Get("http://" + metrics + "/readyz")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				s.ready = time.Since(began)
			}
		}
		time.Sleep(200 * time.Microsecond)
	}
	time.Sleep(500 * time.Millisecond)
	s.rss = rss(t, s.pid)
	return s
}

// beginning keeps the first lines of a log, which say why a process does not start; a flood of refusals is a flood of lines too.
type beginning struct{ text bytes.Buffer }

func (b *beginning) Write(p []byte) (int, error) {
	if b.text.Len() < 64<<10 {
		b.text.Write(p)
	}
	return len(p), nil
}

// serveUpstream is an upstream so light that it does not disturb: fixed bytes for each head that it reads.
func serveUpstream(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	reply := []byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, world\n")
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				r := bufio.NewReaderSize(c, 16<<10)
				for readHead(r) == nil {
					if _, err := c.Write(reply); err != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

func readHead(r *bufio.Reader) error {
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) <= 2 {
			return nil
		}
	}
}

// load sends the request over keep-alive connections for a while and returns how many were answered with 200.
func load(t *testing.T, s *subject, d time.Duration) int {
	t.Helper()
	var total int64
	var mu sync.Mutex
	var wg sync.WaitGroup
	end := time.Now().Add(d)
	for range connections {
		wg.Go(func() {
			c, err := net.Dial("tcp", s.address)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			r := bufio.NewReaderSize(c, 16<<10)
			n := int64(0)
			for time.Now().Before(end) {
				if _, err := c.Write(s.request); err != nil {
					t.Error(err)
					return
				}
				resp, err := http.ReadResponse(r, nil)
				if err != nil || resp.StatusCode != http.StatusOK {
					t.Errorf("%s: %v %v", s.name, resp, err)
					return
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				n++
			}
			mu.Lock()
			total += n
			mu.Unlock()
		})
	}
	wg.Wait()
	if total == 0 {
		t.Fatalf("%s answered nothing", s.name)
	}
	return int(total)
}

// pin keeps a process, with all its threads, on one core; pid 0 is this one.
func pin(t *testing.T, pid, core int) {
	t.Helper()
	if pid == 0 {
		pid = os.Getpid()
	}
	var set unix.CPUSet
	set.Set(core)
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		t.Skipf("pinning needs Linux: %v", err)
	}
	for _, task := range tasks {
		if id, err := strconv.Atoi(task.Name()); err == nil {
			_ = unix.SchedSetaffinity(id, &set)
		}
	}
}

// cpu is the user and system time that a process has used.
func cpu(t *testing.T, pid int) time.Duration {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+2:]))
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100
}

// rss is a process's resident memory in KiB.
func rss(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, _ := strconv.Atoi(strings.Fields(rest)[0])
			return n
		}
	}
	return 0
}

func cpuModel() string {
	b, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "model name"); ok {
			return strings.TrimSpace(strings.TrimLeft(rest, "\t: "))
		}
	}
	return runtime.GOARCH
}

func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
