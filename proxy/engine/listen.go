package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// Listen opens a listener. network is "tcp" (or "tcp4", "tcp6") or "unix". mode is the permission of a unix socket; 0
// means 0600. The socket has that permission from the moment it can be found. A socket that nobody listens on any
// more is replaced; one that answers, or a file that is no socket, is an error.
func Listen(network, address string, mode fs.FileMode) (net.Listener, error) {
	if network != "unix" {
		return net.Listen(network, address)
	}
	if mode == 0 {
		mode = 0o600
	}
	if err := replaceable(address); err != nil {
		return nil, err
	}
	// The socket is made where nobody else can reach it, and moved when its permission is right.
	private, err := os.MkdirTemp(filepath.Dir(address), ".s")
	if err != nil {
		return nil, fmt.Errorf("listen on unix socket %s: its directory must exist and be writable: %w", address, err)
	}
	defer func() { _ = os.RemoveAll(private) }()
	name := filepath.Join(private, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: name})
	if err != nil {
		return nil, fmt.Errorf("listen on unix socket %s: %w", address, err)
	}
	made, err := ready(name, address, mode)
	if err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("listen on unix socket %s: %w", address, err)
	}
	return &unixListener{UnixListener: l, path: address, made: made}, nil
}

func ready(name, address string, mode fs.FileMode) (fs.FileInfo, error) {
	if err := os.Chmod(name, mode); err != nil {
		return nil, err
	}
	made, err := os.Lstat(name)
	if err != nil {
		return nil, err
	}
	return made, os.Rename(name, address)
}

// replaceable says whether nothing, or only a socket without a listener, is in the way.
func replaceable(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("listen on unix socket %s: %w", path, err)
	}
	if info.Mode()&fs.ModeSocket == 0 {
		return fmt.Errorf("listen on unix socket %s: a file that is not a socket is in the way; remove it or name another path", path)
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		_ = conn.Close()
		return fmt.Errorf("listen on unix socket %s: another process listens there", path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("listen on unix socket %s: a socket is there, and whether it is in use cannot be told: %w", path, err)
	}
	return nil
}

// unixListener removes its socket when it closes, unless another process has put its own there meanwhile.
type unixListener struct {
	*net.UnixListener
	path string
	made fs.FileInfo
}

func (l *unixListener) Addr() net.Addr { return &net.UnixAddr{Net: "unix", Name: l.path} }

func (l *unixListener) Close() error {
	if now, err := os.Lstat(l.path); err == nil && os.SameFile(now, l.made) {
		_ = os.Remove(l.path)
	}
	return l.UnixListener.Close()
}
