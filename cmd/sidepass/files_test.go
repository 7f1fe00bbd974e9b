package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sidepass/sidepass/config"
)

// Files that are used together stay the last that could be, though each has something in it, and even where the configuration's
// check has not seen it.
func TestFilesThatAreUsedTogether(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("cert", "1")
	write("key", "1")
	all := files{good: map[string][]byte{}}
	used := ""
	read := func() error {
		used = ""
		return all.together(&config.Loaded{}, func(content ...[]byte) error {
			if string(content[0]) != string(content[1]) {
				return errors.New("no pair")
			}
			used = string(content[0])
			return nil
		}, filepath.Join(dir, "cert"), filepath.Join(dir, "key"))
	}
	for _, step := range []struct {
		what   string
		change func()
		used   string
	}{
		{"at first", func() {}, "1"},
		{"one of two is new", func() { write("cert", "2") }, "1"},
		{"still", func() {}, "1"},
		{"both are new", func() { write("key", "2") }, "2"},
		{"one is gone, the other new", func() { _ = os.Remove(filepath.Join(dir, "cert")); write("key", "3") }, "2"},
		{"both are there again", func() { write("cert", "3") }, "3"},
	} {
		step.change()
		if err := read(); err != nil || used != step.used {
			t.Errorf("%s: got %q %v, want %q", step.what, used, err, step.used)
		}
	}
	// Without a last good one there is nothing to fall back to.
	write("cert", "4")
	all = files{good: map[string][]byte{}}
	if err := read(); err == nil || !strings.Contains(err.Error(), "no pair") {
		t.Errorf("two that do not fit at first: %q, %v", used, err)
	}
	if all.known(filepath.Join(dir, "cert")) {
		t.Error("what could not be used is taken for good")
	}
}
