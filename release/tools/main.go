// Pack makes what a release has for one binary: its archive, its SBOM and the licences of what is in it, all from what the binary itself
// says it was built from. It runs in the project's folder; release/build calls it.
package main

import (
	"debug/buildinfo"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"time"
)

// release is one binary and what is known of it.
type release struct {
	name    string // of its files, without an ending
	version string
	time    time.Time // of everything in it: what is built later from the same sources is the same
	binary  string
	content []byte
	build   *debug.BuildInfo
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "pack:", err)
		os.Exit(1)
	}
}

func run() error {
	binary := flag.String("binary", "", "the binary")
	name := flag.String("name", "", "what the archive and the SBOM are called, without an ending")
	out := flag.String("out", "", "the folder for them")
	licenses := flag.String("licenses", "", "a folder for LICENSE and THIRD_PARTY_LICENSES, as the image has them")
	flag.Parse()
	if *binary == "" || *name == "" || *out == "" || *licenses == "" || flag.NArg() > 0 {
		return errors.New("-binary, -name, -out and -licenses are needed, and nothing else")
	}
	r, err := inspect(*binary)
	if err != nil {
		return err
	}
	r.name = *name

	modules, err := r.modules()
	if err != nil {
		return err
	}
	files, err := r.archived(thirdParty(modules))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(*licenses, 0o750); err != nil {
		return err
	}
	for _, f := range files {
		if f.name == "LICENSE" || f.name == thirdPartyFile {
			if err := os.WriteFile(filepath.Join(*licenses, f.name), f.content, 0o600); err != nil {
				return err
			}
		}
	}
	if err := write(filepath.Join(*out, *name+".cdx.json"), func(f *os.File) error { return r.sbom(f, modules) }); err != nil {
		return err
	}
	return write(filepath.Join(*out, *name+".tar.gz"), func(f *os.File) error { return r.archive(f, files) })
}

// inspect reads a binary, and from the environment what it does not say: VERSION and SOURCE_DATE_EPOCH.
func inspect(binary string) (*release, error) {
	content, err := os.ReadFile(binary)
	if err != nil {
		return nil, err
	}
	build, err := buildinfo.ReadFile(binary)
	if err != nil {
		return nil, err
	}
	epoch, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64)
	if err != nil {
		return nil, fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
	}
	return &release{version: os.Getenv("VERSION"), time: time.Unix(epoch, 0).UTC(), binary: binary, content: content, build: build}, nil
}

// setting is one of the build's settings, empty where the binary has none of this name.
func (r *release) setting(key string) string {
	for _, s := range r.build.Settings {
		if s.Key == key {
			return s.Value
		}
	}
	return ""
}

// goTool runs the Go command for the binary's platform and returns what it prints.
func (r *release) goTool(args ...string) ([]byte, error) {
	cmd := exec.Command("go", args...)
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=readonly", "GOWORK=off", "CGO_ENABLED=0", "GOOS="+r.setting("GOOS"), "GOARCH="+r.setting("GOARCH"))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go %s: %w", args[0], err)
	}
	return out, nil
}

func write(name string, content func(*os.File) error) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(content(f), f.Close())
}
