package main

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

// What starting has touched of the binary is no longer resident, and everything still works.
func TestReleaseStartPages(t *testing.T) {
	before := residentFile(t)
	releaseStartPages()
	if after := residentFile(t); after >= before {
		t.Errorf("%d KiB of files resident before, %d after", before, after)
	}
}

// residentFile is RssFile of this process, in KiB.
func residentFile(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "RssFile:")
	n, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return n
}
