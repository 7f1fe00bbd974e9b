package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"runtime"
	"strings"
	"testing"
)

// peakMemory is the most that a process has held so far, in bytes.
func (s *sidecar) peakMemory() int64 {
	s.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		s.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	var kilobytes int64
	if _, err := fmt.Sscan(rest, &kilobytes); err != nil {
		s.t.Fatal(err)
	}
	return kilobytes << 10
}

// noise is the same pseudo-random bytes each time.
func noise(size int64) io.Reader {
	return io.LimitReader(rand.NewChaCha8([32]byte{1}), size)
}

func digest(t testing.TB, r io.Reader) string {
	t.Helper()
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Bodies of any size stream through: neither process holds one.
func TestProtocolLargeBodies(t *testing.T) {
	const size, most = 100 << 20, 64 << 20
	if testing.Short() {
		t.Skip("moves some hundred MiB")
	}
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc")
	}
	t.Parallel()
	app := startUpstream(t)
	app.HandleEarly(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == "GET" {
			_, _ = io.Copy(w, noise(size))
		}
		return r.Method == "GET"
	})
	p := startPair(t, app.URL(), pairKeys{})
	sum := digest(t, noise(size))
	p.eachClient(t, func(t *testing.T, c *http.Client) {
		res, err := c.Post("http://orders.internal/up", "application/octet-stream", noise(size))
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		seen, _ := app.Last()
		same(t, "status", res.StatusCode, 200)
		same(t, "received", seen.BodyLength, int64(size))
		same(t, "received", seen.BodySHA256, sum)
		if res, err = c.Get("http://orders.internal/down"); err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		same(t, "sent", digest(t, res.Body), sum)
	})
	for name, s := range map[string]*sidecar{"outbound": p.out, "inbound": p.in} {
		peak := s.peakMemory()
		t.Logf("%s: at most %d MiB", name, peak>>20)
		if peak > most {
			t.Errorf("the %s sidecar held %d MiB, want at most %d", name, peak>>20, most>>20)
		}
	}
}
