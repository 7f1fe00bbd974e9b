//go:build linux

package bench

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sidepass/sidepass/test/localaddr"
)

// subject is a process under test.
type subject struct {
	name    string
	address string
	metrics string // sidepass's own
	request []byte // what it is sent: good
	pid     int
	idle    int // resident KiB, before the first load and settle after it was ready
	ready   time.Duration
	stop    func()
}

// settle is how long a process has to put away what starting took.
const settle = 2 * time.Second

// await waits until a process is ready, which it tells by itself.
func (s *subject) await(t testing.TB, began time.Time, log fmt.Stringer, ready func() bool) *subject {
	t.Helper()
	for !ready() {
		if time.Since(began) > 20*time.Second {
			t.Fatalf("%s is not ready:\n%s", s.name, log)
		}
		time.Sleep(200 * time.Microsecond)
	}
	s.ready = time.Since(began)
	return s
}

// answers tells whether the subject's request is answered with 200.
func (s *subject) answers() bool {
	status, err := ask(s.address, s.request)
	return err == nil && status == http.StatusOK
}

// ask sends a request over a connection of its own.
func ask(address string, request []byte) (status int, err error) {
	c, err := dial(address)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	return roundTrip(c, bufio.NewReader(c), request)
}

// dial connects to an address: a host and a port, or unix: and a path.
func dial(address string) (net.Conn, error) {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		return net.DialTimeout("unix", path, time.Second)
	}
	return net.DialTimeout("tcp", address, time.Second)
}

// plainProxy is the environment variable that makes the test binary be the plain proxy to that upstream.
const plainProxy = "SIDEPASS_BENCH_PLAIN_UPSTREAM"

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

func startPlain(t testing.TB, core int, upstream string, request []byte) *subject {
	t.Helper()
	began := time.Now()
	cmd, out := startSelf(t, core, plainProxy, "http://"+upstream)
	line, err := out.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	s := &subject{name: "plain `httputil.ReverseProxy`", address: strings.TrimSpace(line), request: request, pid: cmd.Process.Pid, stop: end(cmd)}
	return s.await(t, began, bytes.NewBuffer(nil), s.answers)
}

// buildSidepass builds the binary as it is released.
func buildSidepass(t testing.TB) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "sidepass")
	if out, err := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", binary, "../../cmd/sidepass").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return binary
}

// startSidepass starts sidepass with a configuration in which ADDR is where it listens. It is ready when it says so.
func startSidepass(t testing.TB, core int, binary, name, yaml string, request []byte) *subject {
	t.Helper()
	return startSidepassAt(t, core, binary, name, localaddr.Free(t), localaddr.Free(t), yaml, request)
}

func startSidepassAt(t testing.TB, core int, binary, name, address, metrics, yaml string, request []byte) *subject {
	t.Helper()
	file := filepath.Join(t.TempDir(), "sidepass.yaml")
	yaml = strings.ReplaceAll(yaml, "ADDR", address) + fmt.Sprintf("metrics: {listen: %q}\nadmin: {listen: \"off\"}\n", metrics)
	if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "run", "--config", file)
	var log beginning
	cmd.Stderr = &log
	began := time.Now()
	start(t, cmd, core)
	s := &subject{name: name, address: address, metrics: metrics, request: request, pid: cmd.Process.Pid, stop: end(cmd)}
	return s.await(t, began, &log, func() bool {
		status, err := ask(metrics, []byte("GET /readyz HTTP/1.1\r\nHost: bench\r\n\r\n"))
		return err == nil && status == http.StatusOK
	})
}

// mallocs is how many objects a sidepass has allocated since it started.
func (s *subject) mallocs(t testing.TB) float64 {
	t.Helper()
	resp, err := http.Get("http://" + s.metrics + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if text, ok := strings.CutPrefix(lines.Text(), "go_memstats_mallocs_total "); ok {
			n, err := strconv.ParseFloat(text, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatal("there is no go_memstats_mallocs_total")
	return 0
}

// beginning keeps the first lines of a log, which say why a process does not start; a flood of refusals is a flood of lines too.
type beginning struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *beginning) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.text.Len() < 64<<10 {
		b.text.Write(p)
	}
	return len(p), nil
}

func (b *beginning) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
