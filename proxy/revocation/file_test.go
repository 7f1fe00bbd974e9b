package revocation

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// world is a File that runs, and what its Observer was told.
type world struct {
	*File
	t       *testing.T
	path    string
	events  []string
	current time.Time
	mu      sync.Mutex
}

// follow runs f with a File in a bubble; text is what is in the file, "-" that there is none.
func follow(t *testing.T, text string, f func(t *testing.T, w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, path: filepath.Join(t.TempDir(), "revoked.jsonl")}
		if text != "-" {
			w.write(text)
		}
		event := func(format string, a ...any) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.events = append(w.events, strings.ReplaceAll(fmt.Sprintf(format, a...), w.path, "FILE"))
		}
		w.File = NewFile(Options{Path: w.path, Observer: Observer{
			Loaded:  func(r Reading) { event("loaded %d broken %d", r.Entries, r.Broken) },
			Failed:  func(err error) { event("failed: %v", err) },
			Current: func(at time.Time) { w.mu.Lock(); defer w.mu.Unlock(); w.current = at },
		}})
		ctx, cancel := context.WithCancel(t.Context())
		var ran sync.WaitGroup
		ran.Go(func() {
			if err := w.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		f(t, w)
		cancel()
		ran.Wait()
	})
}

// write writes the file in its place.
func (w *world) write(text string) {
	w.t.Helper()
	if err := os.WriteFile(w.path, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// rename puts a new file in its place.
func (w *world) rename(text string) {
	w.t.Helper()
	next := w.path + ".new"
	if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Rename(next, w.path); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) wait(d time.Duration) { time.Sleep(d); synctest.Wait() }

// told returns the events since it was last asked.
func (w *world) told() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := strings.Join(w.events, "; ")
	w.events = nil
	return out
}

func (w *world) is(subject string, want bool) {
	w.t.Helper()
	revoked, available := w.Check(Facts{Subject: subject})
	if revoked != want || !available {
		w.t.Errorf("%s: revoked %v, available %v; want %v", subject, revoked, available, want)
	}
}

func (w *world) unavailable() {
	w.t.Helper()
	if revoked, available := w.Check(Facts{Subject: "alice"}); revoked || available {
		w.t.Errorf("revoked %v, available %v; want that nothing is known", revoked, available)
	}
}

func (w *world) want(events string) {
	w.t.Helper()
	if got := w.told(); got != events {
		w.t.Errorf("told %q, want %q", got, events)
	}
}

const alice, bob = `{"sub":"alice"}` + "\n", `{"sub":"bob"}` + "\n"

func TestAChangeTakesEffectWithinTwoSeconds(t *testing.T) {
	for name, change := range map[string]func(w *world){
		"appended":              func(w *world) { w.write(alice + bob) },
		"appended twice":        func(w *world) { w.write(alice + bob[:5]); w.wait(pollInterval); w.write(alice + bob) },
		"appended without end":  func(w *world) { w.write(alice + strings.TrimSpace(bob)) },
		"replaced by rename":    func(w *world) { w.rename(alice + bob) },
		"gone and back":         func(w *world) { _ = os.Remove(w.path); w.wait(pollInterval); w.write(alice + bob) },
		"emptied, then written": func(w *world) { w.write(""); w.wait(pollInterval / 2); w.write(alice + bob) },
		"through a link that is swapped": func(w *world) {
			dir := filepath.Dir(w.path)
			_ = os.WriteFile(filepath.Join(dir, "data"), []byte(alice+bob), 0o600)
			_ = os.Symlink("data", w.path+".link")
			if err := os.Rename(w.path+".link", w.path); err != nil {
				w.t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			follow(t, alice, func(t *testing.T, w *world) {
				w.is("alice", true)
				w.is("bob", false)
				began := time.Now()
				change(w)
				w.is("alice", true)
				for !w.has("bob") && time.Since(began) < 2*time.Second {
					w.wait(50 * time.Millisecond)
					w.is("alice", true) // at no moment was she let in
				}
				w.is("bob", true)
				w.is("carol", false)
				w.rename(bob)
				w.wait(time.Second)
				w.is("alice", false)
				w.is("bob", true)
			})
		})
	}
}

func (w *world) has(subject string) bool { return w.set.has(Facts{Subject: subject}) }

// A file that is emptied and written anew in its place is incomplete for a moment; a file that is emptied stays so.
func TestAFileThatShrinksIsReadWhenItRests(t *testing.T) {
	follow(t, alice+bob, func(t *testing.T, w *world) {
		w.want("loaded 2 broken 0")
		w.wait(pollInterval / 2)
		w.write("")
		w.wait(pollInterval)
		w.is("bob", true)
		w.write(alice)
		w.wait(pollInterval)
		w.is("bob", true)
		w.wait(pollInterval)
		w.is("bob", false)
		w.is("alice", true)
		w.want("loaded 1 broken 0")
		w.write("")
		w.wait(2 * pollInterval)
		w.is("alice", false)
	})
}

func TestAFileThatIsNotThere(t *testing.T) {
	const missing = "failed: the revocation file FILE cannot be used: no such file or directory"
	follow(t, "-", func(t *testing.T, w *world) {
		w.unavailable()
		w.wait(time.Minute)
		w.want(missing) // once
		if !w.current.IsZero() {
			t.Error("current without a list")
		}
		w.write(alice)
		w.wait(pollInterval)
		w.is("alice", true)
		w.want("loaded 1 broken 0")
		if err := os.Remove(w.path); err != nil {
			t.Fatal(err)
		}
		w.wait(time.Minute)
		w.is("alice", true)
		w.want(missing)
		if stale := time.Since(w.current); stale < 50*time.Second {
			t.Errorf("current %s ago, without a file", stale)
		}
		if err := os.Mkdir(w.path, 0o700); err != nil {
			t.Fatal(err)
		}
		w.wait(pollInterval)
		w.is("alice", true)
		w.want("failed: the revocation file FILE cannot be used: it is not a regular file")
	})
}

func TestAFileThatIsNotUnderstood(t *testing.T) {
	const unusable = "failed: the revocation file FILE cannot be used: no line of it can be understood: line 1: it is not a JSON object"
	follow(t, "broken\n", func(t *testing.T, w *world) {
		w.unavailable()
		w.wait(time.Minute)
		w.want(unusable)
		w.write("broken\n" + alice)
		w.wait(pollInterval)
		w.is("alice", true)
		w.want("loaded 1 broken 1")
		w.wait(time.Minute)
		w.want("")
		if !w.current.IsZero() {
			t.Error("current although a line is not understood")
		}
		w.rename("broken\n" + bob) // one of them may have been the other
		w.wait(pollInterval)
		w.is("alice", true)
		w.is("bob", true)
		w.want("loaded 2 broken 1")
		w.rename("broken\nbroken\n")
		w.wait(pollInterval)
		w.is("bob", true)
		w.want(unusable)
		w.rename(bob)
		w.wait(pollInterval)
		w.is("alice", false)
		w.is("bob", true)
		w.want("loaded 1 broken 0")
		if w.current != time.Now() {
			t.Error("not current")
		}
	})
}

// Two changes within one tick of the file system's clock look the same.
func TestAChangeThatDoesNotShow(t *testing.T) {
	follow(t, alice, func(t *testing.T, w *world) {
		w.want("loaded 1 broken 0")
		info, err := os.Stat(w.path)
		if err != nil {
			t.Fatal(err)
		}
		w.write(`{"sub":"carol"}` + "\n")
		if err := os.Chtimes(w.path, info.ModTime(), info.ModTime()); err != nil {
			t.Fatal(err)
		}
		w.wait(tick + pollInterval)
		w.is("carol", true)
		w.is("alice", false)
		w.want("loaded 1 broken 0")
		w.wait(time.Minute)
		w.want("") // it is not read for ever
	})
}

func TestCurrentAsLongAsTheFileIsSeen(t *testing.T) {
	follow(t, alice, func(t *testing.T, w *world) {
		w.wait(time.Hour)
		if w.current != time.Now() {
			t.Errorf("current %s ago", time.Since(w.current))
		}
		w.want("loaded 1 broken 0")
	})
}

func TestReload(t *testing.T) {
	path := filepath.Join(t.TempDir(), "revoked.jsonl")
	f := NewFile(Options{Path: path})
	if err := f.Reload(); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("no file: %v", err)
	}
	for text, want := range map[string]bool{alice + bob: true, "": false, "{\n" + alice: true} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := f.Reload(); err != nil {
			t.Error(err)
		}
		if revoked, available := f.Check(Facts{Subject: "alice"}); revoked != want || !available {
			t.Errorf("%q: revoked %v, available %v", text, revoked, available)
		}
	}
}

// For the race detector: tokens are checked while the list is replaced.
func TestConcurrentUse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "revoked.jsonl")
	f := NewFile(Options{Path: path})
	var wg sync.WaitGroup
	for n := range 2 {
		wg.Go(func() {
			next := fmt.Sprint(path, n)
			for i := range 50 {
				_ = os.WriteFile(next, []byte(alice+strings.Repeat(bob, i)), 0o600)
				_ = os.Rename(next, path)
				_ = f.Reload()
			}
		})
		wg.Go(func() {
			for range 2000 {
				if revoked, available := f.Check(Facts{Subject: "alice"}); available && !revoked {
					t.Error("alice was let in")
					return
				}
			}
		})
	}
	wg.Wait()
}
