package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// resident is the memory of the process that is not of files, in bytes; 0 where that is not told.
func (s *sidecar) resident() (bytes float64) {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	for line := range strings.Lines(string(b)) {
		var kib float64
		if n, _ := fmt.Sscanf(line, "RssAnon: %f", &kib); n == 1 {
			return kib * 1024
		}
	}
	return 0
}

// inUse is the memory of heap and stacks after a garbage collection, in bytes.
func (s *sidecar) inUse() float64 {
	for range 2 { // what the first frees of stacks, the second counts
		get(s.t, direct, "http://"+s.address["admin"]+"/debug/pprof/heap?gc=1")
	}
	return s.metric("go_memstats_heap_inuse_bytes") + s.metric("go_memstats_stack_inuse_bytes")
}

// Thousands of clients that keep their connections and say nothing for a while need little memory, and are all served again.
func TestIdleConnections(t *testing.T) {
	if testing.Short() {
		t.Skip("it opens thousands of connections")
	}
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	count := min(10_000, int(files.Cur)-1000)
	if count < 1000 {
		t.Skipf("no more than %d files may be open", files.Cur)
	}
	iss, app := startIssuer(t), startUpstream(t)
	s := launch(t, inboundYAML(iss, app.URL(), "  rules: [{match: [\"GET /\"], allow: anonymous}]\n"))
	s.stop()
	s.spawnWith([]string{"SIDEPASS_ADMIN_PPROF=true"}, "run", "--config", s.config)
	s.awaitReady()

	conns, br := make([]net.Conn, count), bufio.NewReader(nil)
	ask := func(c net.Conn) {
		br.Reset(c)
		_ = c.SetDeadline(time.Now().Add(patience))
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		res, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, res.Body); err != nil || res.StatusCode != 200 {
			t.Fatal(res.StatusCode, err)
		}
	}
	before, resident := s.inUse(), s.resident()
	for i := range conns {
		c, err := net.Dial("tcp", s.address["in"])
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		conns[i] = c
		ask(c)
	}
	each := func() float64 { return (s.inUse() - before) / float64(count) }
	limit := 32.0 * 1024 // net/http keeps its buffers
	if lean() {
		limit = 7 * 1024
	}
	eventually(t, patience, "an idle connection takes little memory", func() bool { return each() < limit })
	t.Logf("%d idle connections: %.0f bytes each; the process has grown by %.0f bytes each", count, each(), (s.resident()-resident)/float64(count))
	for _, c := range conns {
		ask(c)
	}
}
