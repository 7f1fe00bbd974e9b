//go:build !unix

package state

import "io/fs"

// Where there are no owner and mode of that kind, the system's own rules for the directory are all there is.
func ours(fs.FileInfo) bool           { return true }
func othersMayEnter(fs.FileInfo) bool { return false }
func diskIsFullOrReadOnly(error) bool { return false }
