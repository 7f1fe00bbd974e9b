package main

import (
	"crypto/fips140"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// Stamped at build time by release/compile.
var (
	buildVersion string
	buildCommit  string
)

// buildInfo returns version and commit: as stamped, else as the Go tool recorded them, else "dev" and "unknown".
func buildInfo() (version, commit string) {
	version, commit = buildVersion, buildCommit
	if version != "" && commit != "" {
		return version, commit // every command comes by here: a release has nothing to look up
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		if version == "" && info.Main.Version != "" && info.Main.Version != "(devel)" {
			version = info.Main.Version
		}
		for _, s := range info.Settings {
			if commit == "" && s.Key == "vcs.revision" {
				commit = s.Value
			}
		}
	}
	if version == "" {
		version = "dev"
	}
	if commit == "" {
		commit = "unknown"
	}
	return version, commit
}

// fips says which FIPS 140-3 module the binary was built with and whether it is on. It is empty where there is nothing to say: an ordinary
// build in its ordinary mode.
func fips() string {
	module := ""
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "GOFIPS140" {
				module = s.Value
			}
		}
	}
	switch on := fips140.Enabled(); {
	case on && module != "":
		return "fips140: " + module + ", on\n"
	case on:
		return "fips140: " + fips140.Version() + ", on; not a validated module\n"
	case module != "":
		return "fips140: " + module + ", off\n"
	}
	return ""
}

func (a *app) version(*cobra.Command, []string) error {
	version, commit := buildInfo()
	_, err := fmt.Fprintf(a.out, "sidepass %s\ncommit %s\n%s %s/%s\n%s", version, commit, runtime.Version(), runtime.GOOS, runtime.GOARCH, fips())
	return err
}
