// Package walkthrough does what the pages of docs tell their readers to do, and holds what comes of it against what the pages show.
package walkthrough

import (
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/sidepass/sidepass/test/localaddr"
)

const (
	root = "../.."
	docs = root + "/docs"
)

var update = flag.Bool("update", false, "write into the pages what their commands print")

// scratch is a folder that ends with the tests.
var scratch string

func TestMain(m *testing.M) {
	flag.Parse()
	dir, err := os.MkdirTemp("", "sidepass-walkthrough-")
	if err != nil {
		panic(err)
	}
	scratch = dir
	code := m.Run()
	_ = os.RemoveAll(scratch)
	http.DefaultClient.CloseIdleConnections()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// programs is a folder with sidepass and orders.
var programs = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(scratch, "dist")
	cmd := exec.Command("go", "build", "-o", dir+"/", "./cmd/sidepass", "./examples/orders")
	cmd.Dir, cmd.Env = root, environment()
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("the programs do not build: %w\n%s", err, out)
	}
	return dir, nil
})

// build returns a folder of the caller's own with the programs in it.
func build(t *testing.T) string {
	t.Helper()
	from, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range []string{"sidepass", "orders"} {
		if err := os.Link(filepath.Join(from, name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// environment is that of a user who has set nothing: no proxy, no settings of git or sidepass. What Go builds comes from what is on this machine, and has
// no path in it, so that a build in another folder finds most of it done.
func environment(more ...string) []string {
	env := slices.DeleteFunc(os.Environ(), func(variable string) bool {
		name, _, _ := strings.Cut(variable, "=")
		return strings.HasPrefix(name, "GIT_") || strings.HasPrefix(name, "SIDEPASS_") || strings.HasSuffix(strings.ToLower(name), "_proxy") ||
			name == "JAVA_TOOL_OPTIONS" || name == "NODE_OPTIONS"
	})
	env = append(env, "LC_ALL=C", "GOPROXY=off", "GOWORK=off", "GOFLAGS=-trimpath -mod=readonly", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL="+os.DevNull)
	return append(env, more...)
}

// need skips a test whose tools are not there. Short runs, as those of the race detector, leave the walks out: what they run are other processes.
func need(t *testing.T, tools ...string) {
	t.Helper()
	if testing.Short() {
		t.Skip("the pages are walked in the ordinary run")
	}
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed", tool)
		}
	}
}

// freeAddresses are n loopback addresses to listen on.
func freeAddresses(t *testing.T, n int) []string {
	t.Helper()
	var addresses []string
	for range n {
		addresses = append(addresses, localaddr.Free(t))
	}
	return addresses
}
