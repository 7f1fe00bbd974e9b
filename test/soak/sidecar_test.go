//go:build linux

package soak

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// sidecar is a running sidepass process.
type sidecar struct {
	t      *testing.T
	binary string
	name   string
	dir    string
	yaml   func(version int) string
	cmd    *exec.Cmd
	log    *log
	ended  chan struct{}
	scrape *http.Client

	mu      sync.Mutex
	version int // of the configuration
}

// newSidecar is a sidecar that is not started yet. yaml makes the versions of its configuration, each different; {dir} in it
// stands for the sidecar's folder.
func newSidecar(t *testing.T, binary, name string, yaml func(version int) string) *sidecar {
	s := &sidecar{t: t, binary: binary, name: name, dir: t.TempDir(), yaml: yaml, log: newLog(), ended: make(chan struct{})}
	s.scrape = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Minute}}
	return s
}

// start runs the process until the test's end, and waits until it serves. The listeners are on free ports.
func (s *sidecar) start() {
	s.t.Helper()
	s.configure("")
	s.cmd = exec.Command(s.binary, "run", "--config", filepath.Join(s.dir, "sidepass.yaml"))
	s.cmd.Env, s.cmd.Dir = []string{"HOME=" + s.dir}, s.dir
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	// The kernel kills it with the thread that started it: the test may be killed, too, or panic at its -timeout. An interrupt at the
	// terminal goes to the test alone, which then ends it in order.
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := s.cmd.Start()
		started <- err
		if err == nil {
			_ = s.cmd.Wait()
			close(s.ended)
		}
	}()
	if err := <-started; err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(s.stop)
	s.eventually(10*time.Second, "it listens", func() bool { return s.log.address("metrics") != "" })
	s.awaitStatus("/readyz", 200)
}

// stop ends the process with SIGTERM, or after ten seconds by force, and shows its log's end if the test failed.
func (s *sidecar) stop() {
	s.scrape.CloseIdleConnections()
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.ended:
	case <-time.After(10 * time.Second):
		s.t.Errorf("%s: it did not end within 10 s of SIGTERM", s.name)
		_ = s.cmd.Process.Kill()
		<-s.ended
	}
	if code := s.cmd.ProcessState.ExitCode(); code != 0 {
		s.t.Errorf("%s: exit %d", s.name, code)
	}
	kept, bad := s.log.end()
	for _, line := range bad {
		s.t.Errorf("%s: the log has %s", s.name, line)
	}
	if s.t.Failed() {
		s.t.Logf("%s: the log up to the first failure, or to its end:\n%s", s.name, kept)
	}
}

// write replaces a file of the sidecar's in one step.
func (s *sidecar) write(name, content string) {
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path+".new", []byte(content), 0o600); err != nil {
		s.t.Error(err)
		return
	}
	if err := os.Rename(path+".new", path); err != nil {
		s.t.Error(err)
	}
}

// configure writes the next version of the configuration, with something added.
func (s *sidecar) configure(more string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version++
	yaml := s.yaml(s.version) + more + fmt.Sprintf(`
metrics: {listen: "127.0.0.1:0"}
admin: {listen: "off"}
log: {level: info, format: json, access: errors, decisions: refusals}
shutdown: {timeout: %dms}
`, 5000+s.version)
	s.write("sidepass.yaml", strings.ReplaceAll(yaml, "{dir}", s.dir))
}

func (s *sidecar) signal(sig syscall.Signal) { _ = s.cmd.Process.Signal(sig) }

// get asks the metrics listener; status 0 is no answer.
func (s *sidecar) get(path string) (status int, body string) {
	resp, err := s.scrape.Get("http://" + s.log.address("metrics") + path)
	if err != nil {
		return 0, ""
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, ""
	}
	return resp.StatusCode, string(b)
}

func (s *sidecar) awaitStatus(path string, status int) {
	s.t.Helper()
	s.eventually(15*time.Second, fmt.Sprintf("%s is %d", path, status), func() bool {
		got, _ := s.get(path)
		return got == status
	})
}

// eventually waits for something that must happen, or fails the test. It is for the test's own goroutine.
func (s *sidecar) eventually(within time.Duration, what string, f func() bool) {
	s.t.Helper()
	for end := time.Now().Add(within); !f(); time.Sleep(25 * time.Millisecond) {
		select {
		case <-s.ended:
			s.t.Fatalf("%s: it ended with %d", s.name, s.cmd.ProcessState.ExitCode())
		default:
		}
		if time.Now().After(end) {
			s.t.Fatalf("%s: after %s still not so: %s", s.name, within, what)
		}
	}
}

// metric sums the samples of a metric whose labels include the given texts.
func (s *sidecar) metric(name string, labels ...string) float64 {
	_, body := s.get("/metrics")
	return sum(body, name, labels...)
}

func sum(metrics, name string, labels ...string) float64 {
	total := 0.0
	for line := range strings.Lines(metrics) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest[0] != '{' && rest[0] != ' ' {
			continue
		}
		for _, l := range labels {
			ok = ok && strings.Contains(rest, l)
		}
		if ok {
			var v float64
			_, _ = fmt.Sscan(rest[strings.LastIndexByte(rest, ' ')+1:], &v)
			total += v
		}
	}
	return total
}

// log is what a process prints, of which the last lines are kept, or those up to a moment after hold.
type log struct {
	mu        sync.Mutex
	partial   []byte
	lines     []string
	holdAt    time.Time
	bad       []string          // what must never be in a log
	addresses map[string]string // :: listener → address
}

const keptLines = 200

func newLog() *log { return &log{addresses: map[string]string{}} }

// hold keeps what is there now and comes within two seconds: something has failed.
func (l *log) hold() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.holdAt.IsZero() {
		l.holdAt = time.Now().Add(2 * time.Second)
	}
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.partial = append(l.partial, p...)
	for {
		line, rest, whole := bytes.Cut(l.partial, []byte("\n"))
		if !whole {
			return len(p), nil
		}
		l.read(string(line))
		l.partial = append([]byte(nil), rest...)
	}
}

func (l *log) read(line string) {
	var entry struct{ Msg, Listener, Address string }
	if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == "listening" {
		l.addresses[entry.Listener] = entry.Address
	}
	for what, mark := range map[string]string{"a client secret": canary, "a token": "eyJ", "a panic": "panic"} {
		if strings.Contains(line, mark) && len(l.bad) < 10 {
			l.bad = append(l.bad, fmt.Sprintf("%s, in the line %q", what, entry.Msg))
		}
	}
	if !l.holdAt.IsZero() && time.Now().After(l.holdAt) {
		return
	}
	if l.lines = append(l.lines, line); len(l.lines) > keptLines {
		l.lines = l.lines[1:]
	}
}

func (l *log) address(listener string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.addresses[listener]
}

func (l *log) end() (kept string, bad []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "\n"), l.bad
}
