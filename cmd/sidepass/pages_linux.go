package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// releaseStartPages takes the binary's own pages out of the process's resident memory: starting touches most of them, serving a
// third. What is needed is mapped again from the system's cache, where it stays. Where it cannot, it does nothing.
func releaseStartPages() {
	exe, errExe := os.Readlink("/proc/self/exe")
	maps, errMaps := os.Open("/proc/self/maps")
	if errExe != nil || errMaps != nil {
		return
	}
	defer func() { _ = maps.Close() }()
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		f := strings.Fields(lines.Text()) // addresses, permissions, offset, device, inode, file
		if len(f) != 6 || f[5] != exe || strings.Contains(f[1], "w") {
			continue // a page that can be written would lose what was
		}
		var from, to uintptr
		if _, err := fmt.Sscanf(f[0], "%x-%x", &from, &to); err == nil {
			_, _, _ = unix.Syscall(unix.SYS_MADVISE, from, to-from, unix.MADV_DONTNEED)
		}
	}
}
