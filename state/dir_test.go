package state

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestRecordsSurvive(t *testing.T) {
	w := newWorld(t)
	d := w.open(1)
	want := w.record("a", canary)
	w.put(d, want, w.record("b", "x"), w.record("b", "y"))
	got := w.open(1).Load()
	if len(got) != 2 || string(got["b"].Text) != "y" {
		t.Fatalf("got %d records", len(got))
	}
	if r := got["a"]; r.Of != "a" || !r.Since.Equal(want.Since) || !r.Until.Equal(want.Until) || string(r.Text) != canary {
		t.Errorf("got %s %s %s", r.Of, r.Since, r.Until)
	}
	for _, name := range w.wantFiles(2) {
		info, err := os.Stat(filepath.Join(w.path, name))
		if err != nil || info.Mode() != 0o600 {
			t.Errorf("%s has mode %s", name, info.Mode())
		}
		content, err := os.ReadFile(filepath.Join(w.path, name))
		if err != nil || bytes.Contains(content, []byte(canary)) || bytes.Contains(content, []byte("Until")) {
			t.Error("a file can be read without a key")
		}
	}
	if info, err := os.Stat(w.path); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory has mode %s", info.Mode())
	}
	d = w.open(1)
	d.Remove("a")
	d.Remove("never there")
	run(d)
	w.wantText("a", "", 1)
	w.wantText("b", "y", 1)
	if len(w.ignored) != 0 || len(w.failed) != 0 {
		t.Errorf("ignored %v, failed %v", w.ignored, w.failed)
	}
}

// What a file says is believed only under its own name, whole, and sealed by a key that we have.
func TestFilesOfNoUse(t *testing.T) {
	for name, c := range map[string]struct {
		spoil  func(t *testing.T, a, b string) // the files of a, which is damaged, and of b
		keys   []byte
		reason error
		stays  bool
	}{
		"as it was":   {func(*testing.T, string, string) {}, []byte{1}, nil, true},
		"a new key":   {func(*testing.T, string, string) {}, []byte{2, 1}, nil, true},
		"foreign key": {func(t *testing.T, _, b string) { remove(t, b) }, []byte{2}, ErrForeign, false},
		"moved to b's name": {func(t *testing.T, a, b string) {
			if err := os.Rename(a, b); err != nil {
				t.Fatal(err)
			}
		}, []byte{1}, ErrForeign, false},
		"another name": {func(t *testing.T, a, _ string) {
			if err := os.Rename(a, a[:len(a)-1]+"~"); err != nil {
				t.Fatal(err)
			}
		}, []byte{1}, ErrForeign, false},
		"one bit": {func(t *testing.T, a, _ string) { change(t, a, func(b []byte) []byte { b[len(b)/2] ^= 1; return b }) }, []byte{1}, ErrForeign, false},
		"cut":     {func(t *testing.T, a, _ string) { change(t, a, func(b []byte) []byte { return b[:len(b)-1] }) }, []byte{1}, ErrForeign, false},
		"empty":   {func(t *testing.T, a, _ string) { change(t, a, func([]byte) []byte { return nil }) }, []byte{1}, ErrForeign, false},
		"too large": {func(t *testing.T, a, _ string) {
			change(t, a, func(b []byte) []byte { return append(b, make([]byte, maxFile)...) })
		}, []byte{1}, ErrForeign, false},
		"a directory": {func(t *testing.T, a, _ string) {
			remove(t, a)
			if err := os.Mkdir(a, 0o700); err != nil {
				t.Fatal(err)
			}
		}, []byte{1}, nil, false},
		"a link": {func(t *testing.T, a, _ string) {
			if err := errors.Join(os.Rename(a, a+".old"), os.Symlink(a+".old", a), os.Rename(a+".old", filepath.Join(t.TempDir(), "x"))); err != nil {
				t.Fatal(err)
			}
		}, []byte{1}, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			d := w.open(1)
			w.put(d, w.record("a", canary), w.record("b", "other"))
			at := func(of string) string { return d.file(filePrefix + keysOf(t, 1).Name(of)) }
			c.spoil(t, at("a"), at("b"))
			want := ""
			if c.stays {
				want = canary
			}
			w.wantText("a", want, c.keys...)
			if n := w.ignored[c.reason]; c.reason != nil && n != 1 || len(w.ignored) > 1 {
				t.Errorf("ignored %v, want one for %v", w.ignored, c.reason)
			}
			if got := w.open(c.keys...).Load()["b"]; len(got.Text) > 0 && string(got.Text) != "other" {
				t.Error("b is something else now")
			}
			if len(w.ignored) == 1 && w.ignored[c.reason] != 1 {
				t.Error("it is not removed: it was seen again")
			}
		})
	}
}

func remove(t *testing.T, name string) {
	t.Helper()
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
}

func change(t *testing.T, name string, f func([]byte) []byte) {
	t.Helper()
	content, err := os.ReadFile(name)
	if err == nil {
		err = os.WriteFile(name, f(content), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestTimes(t *testing.T) {
	for name, c := range map[string]struct {
		pass time.Duration // between writing and reading, by the wall clock
		want string
		left int // files afterwards
		why  error
	}{
		"at once":              {0, canary, 1, nil},
		"just in time":         {time.Hour - 1, canary, 1, nil},
		"over":                 {time.Hour, "", 0, nil},
		"the clock was back":   {-time.Second, "", 1, ErrFuture},
		"far back, as at boot": {-20 * 365 * 24 * time.Hour, "", 1, ErrFuture},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.put(w.open(1), w.record("a", canary))
			begin := w.clock.now
			w.clock.now = begin.Add(c.pass)
			w.wantText("a", c.want, 1)
			w.wantFiles(c.left)
			if (c.why != nil) != (w.ignored[c.why] == 1) {
				t.Errorf("ignored %v, want %v", w.ignored, c.why)
			}
			if w.clock.now = begin.Add(time.Minute); c.why == ErrFuture {
				w.wantText("a", canary, 1) // the clock is set right
			}
		})
	}
}

// A time that was loaded is on the monotonic clock, so that setting the wall clock back later lengthens nothing.
func TestTimesFollowTheMonotonicClock(t *testing.T) {
	w := newWorld(t)
	w.clock.now = time.Now().Round(0).Add(-time.Minute)
	w.put(w.open(1), w.record("a", canary))
	w.clock.now = time.Now()
	r := w.open(1).Load()["a"]
	for _, at := range []time.Time{r.Since, r.Until} {
		if !strings.Contains(at.String(), " m=") {
			t.Errorf("%s has no monotonic reading", at)
		}
	}
	if age := time.Since(r.Since); age < time.Minute || age > 2*time.Minute {
		t.Errorf("its age is %s", age)
	}
}

// The first key seals and names. What an earlier key sealed is sealed anew, so that the earlier key can go.
func TestNewKey(t *testing.T) {
	for name, use := range map[string]func(w *world){
		"at start": func(w *world) {
			d := w.open(2, 1)
			if d.Load()["a"].Text == nil {
				w.t.Fatal("the earlier key does not open it")
			}
			run(d)
		},
		"live": func(w *world) {
			d := w.open(1)
			d.Use(keysOf(w.t, 2, 1))
			run(d)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.put(w.open(1), w.record("a", canary), w.record("b", "x"))
			before := w.wantFiles(2)
			use(w)
			for _, n := range w.wantFiles(2) {
				if n == before[0] || n == before[1] {
					t.Error("a file has the name that it had by the earlier key")
				}
			}
			w.wantText("a", canary, 2)
			w.wantText("b", "x", 2)
			if len(w.ignored) != 0 {
				t.Errorf("ignored %v", w.ignored)
			}
		})
	}
}

func TestAnEarlierKeysFileGivesWay(t *testing.T) {
	for name, younger := range map[string]bool{"newer is under the new name": false, "newer is under the old name": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			older, newer := w.record("a", "older"), w.record("a", "newer")
			newer.Since = newer.Since.Add(-time.Minute)
			older.Since = newer.Since.Add(-time.Minute)
			first, second := older, newer
			if younger {
				first, second = newer, older
			}
			w.put(w.open(1), first)
			w.put(w.open(2), second)
			w.wantFiles(2)
			d := w.open(2, 1)
			if got := string(d.Load()["a"].Text); got != "newer" {
				t.Errorf("got %s", got)
			}
			run(d)
			w.wantFiles(1)
			w.wantText("a", "newer", 2)
		})
	}
}

// A key that the earlier files know nothing of: they go, and what is put from then on is there.
func TestKeyIsExchanged(t *testing.T) {
	w := newWorld(t)
	d := w.open(1)
	w.put(d, w.record("a", "old"), w.record("gone", "x"))
	d.Use(keysOf(t, 2))
	w.put(d, w.record("a", canary))
	w.wantFiles(1)
	w.wantText("a", canary, 2)
	if w.ignored[ErrForeign] != 2 {
		t.Errorf("ignored %v", w.ignored)
	}
}

func TestDirectoryMustBeOurs(t *testing.T) {
	parent := t.TempDir()
	make := func(name string, mode fs.FileMode) string {
		path := filepath.Join(parent, name)
		if err := errors.Join(os.Mkdir(path, 0o700), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	file := filepath.Join(parent, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		make("ours", 0o700):                       "",
		make("readonly", 0o500):                   "",
		filepath.Join(parent, "new", "with", "x"): "",
		make("group", 0o750):                      "mode 0750",
		make("enter", 0o710):                      "mode 0710",
		make("all", 0o777):                        "mode 0777",
		file:                                      "not a directory",
		filepath.Join(file, "below"):              "not a directory",
	} {
		_, err := Open(Options{Path: path, Keys: keysOf(t, 1)})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can give a directory away")
	}
	other := make("other", 0o700)
	if err := os.Chown(other, 12345, -1); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{Path: other, Keys: keysOf(t, 1)}); err == nil || !strings.Contains(err.Error(), "another user") {
		t.Errorf("another user's: %v", err)
	}
}

// A full disk costs what would have been written, is told once, and what waits is written when there is room.
func TestFullDisk(t *testing.T) {
	w := newWorld(t)
	d := w.open(1)
	w.put(d, w.record("a", "old"))
	full := true
	d.fill = func(f *os.File, content []byte) (int, error) {
		if full {
			n, _ := f.Write(content[:len(content)/2])
			return n, &fs.PathError{Op: "write", Path: f.Name(), Err: syscall.ENOSPC}
		}
		return f.Write(content)
	}
	for n := range 3 {
		w.put(d, w.record("a", fmt.Sprint(n)), w.record("b", canary))
	}
	if len(w.failed) != 1 || !errors.Is(w.failed[0], syscall.ENOSPC) || strings.Contains(w.failed[0].Error(), canary) {
		t.Fatalf("failed %v, want it told once", w.failed)
	}
	w.wantFiles(1) // and nothing half written
	w.wantText("a", "old", 1)
	full = false
	run(d)
	w.wantText("a", "2", 1)
	w.wantText("b", canary, 1)
	if w.mended != 1 || len(w.failed) != 1 {
		t.Errorf("mended %d times, failed %v", w.mended, w.failed)
	}
}

func TestDirectoryThatGoesAndComes(t *testing.T) {
	w := newWorld(t)
	d := w.open(1)
	if err := os.RemoveAll(w.path); err != nil {
		t.Fatal(err)
	}
	if got := d.Load(); len(got) != 0 {
		t.Errorf("got %v", got)
	}
	w.put(d, w.record("a", canary)) // it is made again
	w.wantText("a", canary, 1)
	if err := errors.Join(os.RemoveAll(w.path), os.WriteFile(w.path, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	w.put(d, w.record("a", "x"))
	if len(w.failed) != 1 {
		t.Errorf("failed %v", w.failed)
	}
}

// Only our own files are touched, and of those what a write left behind goes.
func TestOtherFilesStay(t *testing.T) {
	w := newWorld(t)
	w.put(w.open(1), w.record("a", canary))
	for name, age := range map[string]time.Duration{"notes.txt": 999 * time.Hour, "sidepass": 999 * time.Hour, tempPrefix + "1": 2 * time.Hour, tempPrefix + "2": time.Minute} {
		at := w.clock.now.Add(-age)
		if err := errors.Join(os.WriteFile(filepath.Join(w.path, name), []byte("x"), 0o600), os.Chtimes(filepath.Join(w.path, name), at, at)); err != nil {
			t.Fatal(err)
		}
	}
	w.wantText("a", canary, 1)
	for _, name := range w.wantFiles(4) {
		if name == tempPrefix+"1" {
			t.Error("what was half written is still there")
		}
	}
}

func TestBounds(t *testing.T) {
	w := newWorld(t)
	d := w.open(1)
	whole := w.record("whole", "")
	whole.Text = bytes.Repeat([]byte{0xff}, maxText)
	larger := w.record("larger", "")
	larger.Text = bytes.Repeat([]byte{0xff}, maxText+1)
	w.put(d, whole, larger, w.record("empty", ""))
	w.wantFiles(1)
	if got := w.open(1).Load()["whole"]; len(got.Text) != maxText {
		t.Errorf("the largest text came back with %d bytes", len(got.Text))
	}
	for n := range maxFiles {
		if err := os.WriteFile(d.file(fmt.Sprintf("%sx%d", filePrefix, n)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w.put(d, w.record("one more", "x"))
	if len(w.failed) != 1 || w.failed[0] != errFull {
		t.Errorf("failed %v", w.failed)
	}
	for n := range 2 * maxFiles {
		d.Put(w.record(fmt.Sprint(n), "x"))
	}
	if len(d.waiting) != maxFiles {
		t.Errorf("%d records wait", len(d.waiting))
	}
}

// Run writes soon, clears each hour, tries again then, and writes the last at its end.
func TestRun(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	synctest.Test(t, func(t *testing.T) {
		d, err := Open(Options{Path: path, Keys: keysOf(t, 1)})
		if err != nil {
			t.Fatal(err)
		}
		var full atomic.Bool
		full.Store(true)
		d.fill = func(f *os.File, content []byte) (int, error) {
			if full.Load() {
				return 0, syscall.ENOSPC
			}
			return f.Write(content)
		}
		put := func(of string, lives time.Duration) {
			d.Put(Record{Of: of, Since: time.Now(), Until: time.Now().Add(lives), Text: []byte(canary)})
			synctest.Wait()
		}
		count := func() int {
			entries, err := os.ReadDir(path)
			if err != nil {
				t.Fatal(err)
			}
			return len(entries)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- d.Run(ctx) }()
		put("a", 100*time.Hour)
		if count() != 0 {
			t.Error("written to a full disk")
		}
		full.Store(false)
		time.Sleep(lookEvery)
		synctest.Wait()
		if count() != 1 {
			t.Error("not tried again")
		}
		put("b", 90*time.Minute)
		if count() != 2 {
			t.Error("not written at once")
		}
		time.Sleep(2 * lookEvery)
		synctest.Wait()
		if count() != 1 {
			t.Error("what had its time is still there")
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
