package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
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

// A file that is put back as it was, soon after it was read because somebody asked, is read again.
func TestWatcherSeesAChangeThatIsTakenBack(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	write := func(text string) {
		if err := errors.Join(os.WriteFile(file+".new", []byte(text), 0o600), os.Rename(file+".new", file)); err != nil {
			t.Error(err)
		}
	}
	write("one")
	ctx, stop := context.WithCancel(t.Context())
	reloads, ended := make(chan string, 10), make(chan error, 1)
	asked := make(chan os.Signal, 1)
	w := &watcher{log: zap.NewNop(), asked: asked,
		files: func() []string { return []string{file} },
		changed: func(context.Context) {
			content, err := os.ReadFile(file)
			if err != nil {
				t.Error(err)
			}
			reloads <- string(content)
		}}
	go func() { ended <- w.run(ctx) }()
	defer func() { stop(); <-ended }()
	for _, step := range []struct {
		write string // "" writes nothing
		ask   bool
		want  string
	}{
		{ask: true, want: "one"}, // by now the first look has ended
		{write: "two", ask: true, want: "two"},
		{write: "one", want: "one"},
	} {
		if step.write != "" {
			write(step.write)
		}
		if step.ask {
			asked <- syscall.SIGHUP
		}
		select {
		case got := <-reloads:
			if got != step.want {
				t.Fatalf("%+v: read %q", step, got)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%+v: was never read", step)
		}
	}
}
