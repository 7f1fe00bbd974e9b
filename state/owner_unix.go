//go:build unix

package state

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// ours says whether a directory belongs to the user that this process runs as.
func ours(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Geteuid()
}

// othersMayEnter says whether the group or everybody may do anything with a directory.
func othersMayEnter(info fs.FileInfo) bool { return info.Mode().Perm()&0o077 != 0 }

// diskIsFullOrReadOnly tells what may pass from what is wrong with the configuration.
func diskIsFullOrReadOnly(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EROFS)
}
