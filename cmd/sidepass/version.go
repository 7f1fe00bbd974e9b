package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// Stamped at build time with -ldflags "-X main.buildVersion=v1.2.3 -X main.buildCommit=abc".
var (
	buildVersion string
	buildCommit  string
)

// buildInfo returns version and commit: as stamped, else as the Go tool recorded them, else "dev" and "unknown".
func buildInfo() (version, commit string) {
	version, commit = buildVersion, buildCommit
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

func (a *app) version(*cobra.Command, []string) error {
	version, commit := buildInfo()
	_, err := fmt.Fprintf(a.out, "sidepass %s\ncommit %s\n%s %s/%s\n", version, commit, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}
