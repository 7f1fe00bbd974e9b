package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/zap"
)

// A file that changes while a reload is under way, after it was read, causes another one.
func TestWatcherSeesAChangeDuringAReload(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "secret")
	write := func(name, text string) { // at once: half of it would be a change too
		if err := errors.Join(os.WriteFile(name+".new", []byte(text), 0o600), os.Rename(name+".new", name)); err != nil {
			t.Error(err)
		}
	}
	write(file, "one")
	ctx, stop := context.WithCancel(t.Context())
	reloads, ended := make(chan string, 10), make(chan error, 1)
	looks := make(chan struct{}, 100)
	w := &watcher{log: zap.NewNop(),
		files: func() []string {
			looks <- struct{}{}
			return []string{file}
		},
		changed: func(context.Context) {
			content, err := os.ReadFile(file)
			if err != nil {
				t.Error(err)
			}
			if string(content) == "two" {
				write(file, "three")
			}
			reloads <- string(content)
		}}
	go func() { ended <- w.run(ctx) }()
	defer func() { stop(); <-ended }()
	<-looks
	for again := false; !again; { // the second look says that the first has ended
		write(filepath.Join(dir, "other"), "")
		select {
		case <-looks:
			again = true
		case <-time.After(2 * quiet):
		}
	}
	write(file, "two")
	for _, want := range []string{"two", "three"} {
		select {
		case got := <-reloads:
			if got != want {
				t.Fatalf("read %q, want %q", got, want)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%q was never read", want)
		}
	}
}
