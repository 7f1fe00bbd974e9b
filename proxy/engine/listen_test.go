package engine

import (
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestListen(t *testing.T) {
	t.Run("tcp", func(t *testing.T) {
		l, err := Listen("tcp", "127.0.0.1:0", 0)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		if _, err := Listen("tcp", l.Addr().String(), 0); err == nil {
			t.Error("the same port twice")
		}
	})
	t.Run("unix", func(t *testing.T) {
		for mode, want := range map[fs.FileMode]fs.FileMode{0: 0o600, 0o660: 0o660} {
			dir := t.TempDir()
			path := filepath.Join(dir, "x.sock")
			l, err := Listen("unix", path, mode)
			if err != nil {
				t.Fatal(err)
			}
			info, err := os.Lstat(path)
			if err != nil || info.Mode() != fs.ModeSocket|want {
				t.Errorf("mode %v %v, want %v", info.Mode(), err, want)
			}
			if l.Addr().String() != path || l.Addr().Network() != "unix" {
				t.Errorf("the address is %s", l.Addr())
			}
			c, err := net.Dial("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			_ = c.Close()
			if _, err := Listen("unix", path, mode); err == nil || !strings.Contains(err.Error(), "another process listens") {
				t.Errorf("a live socket: %v", err)
			}
			if err := l.Close(); err != nil {
				t.Error(err)
			}
			if left, _ := os.ReadDir(dir); len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
		}
	})
	t.Run("a stale socket is replaced", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "x.sock")
		old, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: path})
		if err != nil {
			t.Fatal(err)
		}
		old.SetUnlinkOnClose(false)
		_ = old.Close()
		l, err := Listen("unix", path, 0)
		if err != nil {
			t.Fatal(err)
		}
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
		_ = l.Close()
	})
	t.Run("somebody else's socket is left alone at the end", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "x.sock")
		l, err := Listen("unix", path, 0)
		if err != nil {
			t.Fatal(err)
		}
		_ = os.Remove(path)
		other, err := Listen("unix", path, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = other.Close() }()
		_ = l.Close()
		if _, err := os.Lstat(path); err != nil {
			t.Error(err)
		}
	})
	t.Run("a file is in the way", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "x.sock")
		if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Listen("unix", path, 0); err == nil || !strings.Contains(err.Error(), "not a socket") {
			t.Errorf("got %v", err)
		}
		if b, _ := os.ReadFile(path); string(b) != "precious" {
			t.Error("the file was changed")
		}
	})
	t.Run("no directory", func(t *testing.T) {
		if _, err := Listen("unix", filepath.Join(t.TempDir(), "no", "x.sock"), 0); err == nil || !strings.Contains(err.Error(), "directory") {
			t.Errorf("got %v", err)
		}
	})
}
