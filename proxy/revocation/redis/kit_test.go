package redis

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	goredis "github.com/redis/go-redis/v9"

	"github.com/sidepass/sidepass/proxy/revocation"
)

const password = "canary-7f3a91"

// unhurried is how long a call may take here, and a condition to come true: on a busy machine a good server is slow too.
const unhurried = time.Minute

// newFeed is New for a server that may be slow.
func newFeed(t *testing.T, o Options) *Feed {
	t.Helper()
	f, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	_ = f.server.client.Close()
	f.server = newUnhurried(t, o.URL)
	return f
}

func newUnhurried(t *testing.T, url string) *server {
	t.Helper()
	s, err := newServer(url, unhurried)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.client.Close() })
	return s
}

// world is a Feed that runs, and what its Observer was told.
type world struct {
	*Feed
	t       *testing.T
	mu      sync.Mutex
	events  []string
	current time.Time
}

func (w *world) event(format string, a ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, fmt.Sprintf(format, a...))
}

// told are the events so far.
func (w *world) told() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.events, "; ")
}

// follow runs a Feed until the test ends, or end is called.
func follow(t *testing.T, o Options) (w *world, end func()) {
	t.Helper()
	w = &world{t: t}
	o.Observer = Observer{
		Loaded:  func(r revocation.Reading) { w.event("loaded %d broken %d", r.Entries, r.Broken) },
		Failed:  func(err error) { w.event("failed: %v", err) },
		Lost:    func() { w.event("lost") },
		Current: func(at time.Time) { w.mu.Lock(); defer w.mu.Unlock(); w.current = at },
	}
	w.Feed = newFeed(t, o)
	ctx, cancel := context.WithCancel(t.Context())
	var ran sync.WaitGroup
	ran.Go(func() {
		if err := w.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	end = sync.OnceFunc(func() { cancel(); ran.Wait() })
	t.Cleanup(func() {
		end()
		if text := w.told(); strings.Contains(text, password) || strings.Contains(text, "alice") {
			t.Errorf("what is told holds the password or an entry: %s", text)
		}
	})
	return w, end
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(unhurried); !f(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("still not so: %s", what)
		}
	}
}

func (w *world) has(subject string) bool {
	revoked, _ := w.Check(revocation.Facts{Subject: subject})
	return revoked
}

func (w *world) loads() {
	w.t.Helper()
	eventually(w.t, "the list is loaded", func() bool { _, available := w.Check(revocation.Facts{}); return available })
}

// becomes waits until exactly these of alice, bob and carol are revoked.
func (w *world) becomes(want ...string) {
	w.t.Helper()
	eventually(w.t, fmt.Sprintf("%v are revoked; told: %s", want, w.told()), func() bool { return w.is(want...) })
}

// becomesBefore is becomes where the time for it is not over yet.
func (w *world) becomesBefore(over time.Time, want ...string) {
	w.t.Helper()
	eventually(w.t, fmt.Sprintf("%v are revoked; told: %s", want, w.told()), func() bool { return w.is(want...) || time.Now().After(over) })
}

func (w *world) is(want ...string) bool {
	return w.has("alice") == contains(want, "alice") && w.has("bob") == contains(want, "bob") && w.has("carol") == contains(want, "carol")
}

func contains(all []string, one string) bool { return strings.Contains(strings.Join(all, " "), one) }

// looks waits for a look at the server that begins from now on.
func (w *world) looks() {
	w.t.Helper()
	now := time.Now()
	eventually(w.t, "the server is asked", func() bool { w.mu.Lock(); defer w.mu.Unlock(); return w.current.After(now) })
}

func write(t *testing.T, url string, e revocation.Entry, lasts time.Duration) {
	t.Helper()
	w := &Writer{newUnhurried(t, url)}
	now, err := w.Now(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	until, err := w.Write(t.Context(), e, now.Add(lasts))
	if err != nil {
		t.Fatal(err)
	}
	if d := until.Sub(now) - lasts; d < 0 || d >= time.Second || until.Nanosecond() != 0 {
		t.Errorf("it ends at %s, want %s after %s, in whole seconds", until, lasts, now)
	}
}

func revoke(t *testing.T, url, subject string) {
	t.Helper()
	write(t, url, revocation.Entry{Subject: subject}, time.Hour)
}

// client speaks to a server as an operator's redis-cli does.
func client(t *testing.T, url string) *goredis.Client {
	t.Helper()
	return newUnhurried(t, url).client.(*goredis.Client)
}

// each runs a test on the stand-in and, where it is installed, on a redis-server.
func each(t *testing.T, f func(t *testing.T, url string)) {
	t.Run("miniredis", func(t *testing.T) { t.Parallel(); f(t, "redis://"+miniredis.RunT(t).Addr()) })
	t.Run("redis-server", func(t *testing.T) { t.Parallel(); f(t, redisServer(t)) })
}

func redisServer(t *testing.T) (url string) {
	t.Helper()
	bin, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("SKIPPED: redis-server is not installed (apt-get install redis-server)")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	_ = l.Close()
	cmd := exec.Command(bin, "--bind", "127.0.0.1", "--port", port, "--save", "", "--dir", t.TempDir())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	url = "redis://127.0.0.1:" + port
	c := client(t, url)
	eventually(t, "the server answers", func() bool { return c.Ping(t.Context()).Err() == nil })
	return url
}

func (w *world) lastCurrent() time.Time { w.mu.Lock(); defer w.mu.Unlock(); return w.current }

// echoes is a server that answers everything by an error with all that it was sent.
func echoes(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				b := make([]byte, 4096)
				for {
					n, err := c.Read(b)
					if err != nil {
						return
					}
					words := strings.Join(strings.Fields(string(b[:n])), " ")
					_, _ = c.Write([]byte("-ERR no \x1b[31m" + words + "\r\n"))
				}
			}()
		}
	}()
	return l.Addr().String()
}
