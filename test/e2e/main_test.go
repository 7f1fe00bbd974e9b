// Package e2e drives the built binary as its users do: a process, its configuration, its signals and its listeners.
package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sidepass/sidepass/test/localaddr"
)

// secret is the client secret of every test: a canary that no log, page, metric or answer may hold.
const secret = "canary-s3cr=t+/&%-never-printed"

var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "sidepass-e2e-")
	if err != nil {
		panic(err)
	}
	binary = filepath.Join(dir, "sidepass")
	build := exec.Command("go", "build", "-o", binary, "../../cmd/sidepass")
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e: the binary does not build:", err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// sidecar is a running sidepass process.
type sidecar struct {
	t       testing.TB
	dir     string
	config  string
	address map[string]string // outbound, inbound, metrics, admin, own → host:port
	cmd     *exec.Cmd
	log     *output
	ended   chan struct{}
}

// output is what a process printed so far.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) { o.mu.Lock(); defer o.mu.Unlock(); return o.b.Write(p) }
func (o *output) String() string              { o.mu.Lock(); defer o.mu.Unlock(); return o.b.String() }

// start runs a sidecar and waits until it is ready. In yaml, {out} {in} {metrics} {admin} {own} stand for free loopback
// addresses and {dir} for a scratch folder, which holds the client secret as the file `secret`.
func start(t testing.TB, yaml string) *sidecar {
	t.Helper()
	s := launch(t, yaml)
	s.awaitReady()
	return s
}

// launch is start without the wait.
func launch(t testing.TB, yaml string) *sidecar {
	t.Helper()
	s := &sidecar{t: t, dir: t.TempDir(), address: map[string]string{}}
	for _, name := range []string{"out", "in", "metrics", "admin", "own"} {
		s.address[name] = localaddr.Free(t)
	}
	s.config = filepath.Join(s.dir, "sidepass.yaml")
	s.write("secret", secret)
	s.configure(yaml)
	s.spawn()
	t.Cleanup(func() {
		s.stop()
		if strings.Contains(s.log.String(), secret) {
			t.Error("the client secret is in the log")
		}
		if t.Failed() {
			t.Logf("log of the sidecar:\n%s", s.log)
		}
	})
	return s
}

func (s *sidecar) write(name, content string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(content), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// configure writes the configuration file, with the listeners that start chose and everything logged.
func (s *sidecar) configure(yaml string) {
	s.t.Helper()
	yaml += "\nmetrics: {listen: \"{metrics}\"}\nadmin: {listen: \"{admin}\"}\nlog: {level: debug, access: all, decisions: all}\n"
	for name, address := range s.address {
		yaml = strings.ReplaceAll(yaml, "{"+name+"}", address)
	}
	s.write("sidepass.yaml", strings.ReplaceAll(yaml, "{dir}", s.dir))
}

func (s *sidecar) spawn() { s.spawnWith(nil, "run", "--config", s.config) }

// spawnWith runs the binary with an environment and arguments; without arguments, as an image does.
func (s *sidecar) spawnWith(environ []string, args ...string) {
	s.t.Helper()
	s.log, s.ended = &output{}, make(chan struct{})
	s.cmd = exec.Command(binary, args...)
	s.cmd.Env, s.cmd.Dir = append([]string{"HOME=" + s.dir, engineVariable + "=" + os.Getenv(engineVariable)}, environ...), s.t.TempDir()
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	go func(cmd *exec.Cmd, ended chan struct{}) { _ = cmd.Wait(); close(ended) }(s.cmd, s.ended)
}

// stop ends the process with SIGTERM, or after ten seconds by force.
func (s *sidecar) stop() {
	s.signal(syscall.SIGTERM)
	select {
	case <-s.ended:
	case <-time.After(10 * time.Second):
		s.t.Error("the sidecar did not end within 10 s of SIGTERM")
		_ = s.cmd.Process.Kill()
		<-s.ended
	}
}

func (s *sidecar) signal(sig syscall.Signal) { _ = s.cmd.Process.Signal(sig) }

// exit waits for the process to end and returns its exit code.
func (s *sidecar) exit(within time.Duration) int {
	s.t.Helper()
	select {
	case <-s.ended:
		return s.cmd.ProcessState.ExitCode()
	case <-time.After(within):
		s.t.Fatalf("the sidecar still runs after %s", within)
		return 0
	}
}

func (s *sidecar) awaitReady() {
	s.t.Helper()
	eventually(s.t, 15*time.Second, "the sidecar is ready", func() bool {
		select {
		case <-s.ended:
			s.t.Fatalf("the sidecar ended with %d before it was ready:\n%s", s.cmd.ProcessState.ExitCode(), s.log)
		default:
		}
		return s.probe("/readyz") == 200
	})
}

// probe asks the metrics listener and returns the status; 0 when nothing answers.
func (s *sidecar) probe(path string) int {
	resp, err := direct.Get("http://" + s.address["metrics"] + path)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

// metric sums the samples of a metric whose line has all the given texts.
func (s *sidecar) metric(name string, labels ...string) float64 {
	s.t.Helper()
	sum := 0.0
	for line := range strings.Lines(get(s.t, direct, "http://"+s.address["metrics"]+"/metrics").body) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest[0] != '{' && rest[0] != ' ' {
			continue
		}
		for _, l := range labels {
			ok = ok && strings.Contains(rest, l)
		}
		if ok {
			var v float64
			fmt.Sscan(rest[strings.LastIndexByte(rest, ' ')+1:], &v)
			sum += v
		}
	}
	return sum
}

// proxied is a client that uses the outbound listener as its HTTP proxy.
func (s *sidecar) proxied() *http.Client {
	proxy := &url.URL{Scheme: "http", Host: s.address["out"]}
	c := &http.Client{Timeout: 20 * time.Second, CheckRedirect: noRedirect, Transport: &http.Transport{Proxy: http.ProxyURL(proxy), MaxIdleConnsPerHost: 128}}
	s.t.Cleanup(c.CloseIdleConnections)
	return c
}

// direct is a client without a proxy that keeps no connection.
var direct = &http.Client{Timeout: 20 * time.Second, CheckRedirect: noRedirect, Transport: &http.Transport{DisableKeepAlives: true}}

func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// answer is a response, read whole.
type answer struct {
	status int
	header http.Header
	body   string
}

// reason is the code of one of the sidecar's own answers, or "" for an upstream's.
func (a answer) reason() string {
	_, code, _ := strings.Cut(a.header.Get("Proxy-Status"), `details="`)
	code, _, _ = strings.Cut(code, `"`)
	return code
}

func get(t testing.TB, c *http.Client, url string, header ...string) answer {
	t.Helper()
	return do(t, c, http.MethodGet, url, nil, header...)
}

// do sends a request; header is name, value, name, value.
func do(t testing.TB, c *http.Client, method, url string, body io.Reader, header ...string) answer {
	t.Helper()
	a, err := try(c, method, url, body, header...)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// try is do for goroutines other than the test's own.
func try(c *http.Client, method, url string, body io.Reader, header ...string) (answer, error) {
	req, err := http.NewRequest(method, url, body)
	if err != nil {
		return answer{}, err
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	resp, err := c.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, string(b)}, err
}

// want holds an answer against status and reason; "" is an upstream's answer.
func want(t testing.TB, a answer, status int, reason string) {
	t.Helper()
	if a.status != status || a.reason() != reason {
		t.Fatalf("got %d %q, want %d %q\n%v\n%.2000s", a.status, a.reason(), status, reason, a.header, a.body)
	}
}

func eventually(t testing.TB, within time.Duration, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(within); !f(); time.Sleep(25 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after %s still not so: %s", within, what)
		}
	}
}

// run runs a command to its end and returns exit code, standard output and standard error.
func run(t testing.TB, dir string, environ []string, args ...string) (int, string, string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary, args...)
	cmd.Dir, cmd.Env = dir, append([]string{"HOME=" + dir, engineVariable + "=" + os.Getenv(engineVariable)}, environ...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// engineVariable chooses the engine of every sidecar that is started: the whole suite runs with each.
const engineVariable = "SIDEPASS_ENGINE"

// lean says whether the lean engine is under test.
func lean() bool { return os.Getenv(engineVariable) != "std" }
