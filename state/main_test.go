package state

import (
	"bytes"
	"context"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sidepass/sidepass/tokencache/seal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// canary is a text that no file may hold in clear.
const canary = "canary-token-text"

// keysOf are the keys of a key file with these, made of a byte each.
func keysOf(t *testing.T, bs ...byte) *seal.Keys {
	t.Helper()
	var file strings.Builder
	for _, b := range bs {
		file.WriteString(base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{b}, seal.KeyBytes)) + "\n")
	}
	k, err := seal.Parse([]byte(file.String()))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// clock is a wall clock that a test sets.
type clock struct{ now time.Time }

func (c *clock) read() time.Time { return c.now }

// world is a directory and what was seen of it.
type world struct {
	t     *testing.T
	path  string
	clock *clock

	mu      sync.Mutex
	ignored map[error]int
	failed  []error
	mended  int
}

func newWorld(t *testing.T) *world {
	return &world{t: t, path: filepath.Join(t.TempDir(), "state"), clock: &clock{time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}, ignored: map[error]int{}}
}

// open is a process's start.
func (w *world) open(keys ...byte) *Dir {
	w.t.Helper()
	d, err := Open(Options{Path: w.path, Keys: keysOf(w.t, keys...), Now: w.clock.read, Observer: Observer{
		Ignored: func(why error, n int) { w.mu.Lock(); defer w.mu.Unlock(); w.ignored[why] += n },
		Failed:  func(err error) { w.mu.Lock(); defer w.mu.Unlock(); w.failed = append(w.failed, err) },
		Mended:  func() { w.mu.Lock(); defer w.mu.Unlock(); w.mended++ },
	}})
	if err != nil {
		w.t.Fatal(err)
	}
	return d
}

// run runs Run to its end, so that everything is written.
func run(d *Dir) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = d.Run(ctx)
}

// record is of a name, from now on for an hour.
func (w *world) record(of, text string) Record {
	return Record{Of: of, Since: w.clock.now, Until: w.clock.now.Add(time.Hour), Text: []byte(text)}
}

// put keeps records, as a process does that then ends.
func (w *world) put(d *Dir, rs ...Record) {
	for _, r := range rs {
		d.Put(r)
	}
	run(d)
}

func (w *world) files() []string {
	w.t.Helper()
	entries, err := os.ReadDir(w.path)
	if err != nil {
		w.t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func (w *world) wantFiles(n int) []string {
	w.t.Helper()
	names := w.files()
	if len(names) != n {
		w.t.Fatalf("%d files, want %d: %v", len(names), n, names)
	}
	return names
}

// wantText loads as a new process does, and holds the text of a record against what it should be; "" is none.
func (w *world) wantText(of, want string, keys ...byte) {
	w.t.Helper()
	if got := string(w.open(keys...).Load()[of].Text); got != want {
		w.t.Errorf("%s is %q, want %q", of, got, want)
	}
}
