//go:build linux

package bench

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sidepass/sidepass/test/localaddr"
)

var shared = flag.Bool("shared", false, "measure what the tokens that replicas share cost and save; takes about four minutes and wants a quiet machine")

// TestShared measures what it costs and saves that replicas share their tokens through a Redis server: token calls at the authorization
// server, what the first token costs a process that has just started, and what an outage of the server costs a request.
//
//	go test ./test/bench -run TestShared -shared -v
func TestShared(t *testing.T) {
	if !*shared {
		t.Skip("measures the shared tokens with a redis-server and a hundred sidecars; run with -shared on a quiet machine")
	}
	version, err := exec.Command("redis-server", "--version").Output()
	if err != nil {
		t.Skip("SKIPPED: redis-server is not installed (apt-get install redis-server)")
	}
	if runtime.NumCPU() < 2 {
		t.Skip("needs two cores: one for the proxy, one for the load")
	}
	before, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		t.Fatal(err)
	}
	runtime.GOMAXPROCS(4) // as newBench has it
	s := &sharing{binary: buildSidepass(t), key: sealingKey(t)}
	s.compareCalls(t)
	s.compareStarts(t)
	s.compareOutages(t) // the last: it moves this process to one core
	t.Logf("\n%s, %d cores, %s, Redis %s, %s; load average %s when it began.\n\n%s\n%s", cpuModel(), runtime.NumCPU(), runtime.Version(),
		regexp.MustCompile(`v=([0-9.]+)`).FindSubmatch(version)[1], time.Now().Format(time.DateOnly), bytes.Fields(before)[0], s.report.String(), s.held.String())
}

// sharing is what TestShared has found out so far.
type sharing struct {
	binary, key string // sidepass's, and the file with the key that seals
	report      strings.Builder
	held        bars
}

func sealingKey(t *testing.T) string {
	t.Helper()
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte(base64.StdEncoding.EncodeToString(key)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// yaml is a sidecar with one audience; settings are those of its tokens. It shares them through the server at that address, or with
// nobody where there is none.
func (s *sharing) yaml(issuer, upstream, settings, server string) string {
	if server != "" {
		settings += fmt.Sprintf(", encryption_key_file: %q, shared: {redis_url: \"redis://%s/0\"}", s.key, server)
	}
	return fmt.Sprintf("issuers: [{url: %q, client: {id: svc, secret: s}}]\noutbound:\n  listen: \"ADDR\"\n  routes: [{name: orders, host: orders.internal, upstream: \"http://%s\", audience: [\"https://orders\"]}]\ntokens: {%s}\n", issuer, upstream, settings)
}

// bare is a request that gets a token on its way.
func bare() []byte { return request("/orders/1", "orders.internal", "") }

// tokenServer is a redis-server that keeps nothing on disk.
type tokenServer struct {
	address string
	cmd     *exec.Cmd
}

func startTokenServer(t *testing.T) *tokenServer {
	t.Helper()
	r := &tokenServer{address: localaddr.Free(t)}
	r.start(t)
	return r
}

func (r *tokenServer) start(t *testing.T) {
	t.Helper()
	_, port, _ := net.SplitHostPort(r.address)
	r.cmd = exec.Command("redis-server", "--port", port, "--bind", "127.0.0.1", "--dir", t.TempDir(), "--save", "")
	start(t, r.cmd, anyCore)
	awaitThat(t, "redis-server answers", func() bool { return strings.HasPrefix(r.say("PING"), "+PONG") })
}

func (r *tokenServer) kill()                   { end(r.cmd)() }
func (r *tokenServer) signal(s syscall.Signal) { _ = r.cmd.Process.Signal(s) }

// say is the first line of the answer to a command; empty where there is none.
func (r *tokenServer) say(command string) string {
	c, err := net.DialTimeout("tcp", r.address, time.Second)
	if err != nil {
		return ""
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Second))
	_, _ = fmt.Fprintf(c, "%s\r\n", command)
	line, _ := bufio.NewReader(c).ReadString('\n')
	return strings.TrimSpace(line)
}

func awaitThat(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for began := time.Now(); !ok(); time.Sleep(time.Millisecond) {
		if time.Since(began) > 20*time.Second {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}
