package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/sidepass/sidepass/config"
)

func (a *app) configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Print the effective configuration and where each value came from, secrets redacted",
		Example: `  sidepass config --config sidepass.yaml
  sidepass config | grep -v default`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			loaded, err := a.load()
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(a.out, loaded.Effective())
			return err
		},
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of the configuration file",
		Example: `  sidepass config schema > sidepass.schema.json
  # yaml-language-server: $schema=sidepass.schema.json       the first line of sidepass.yaml, for an editor`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			schema, err := config.Schema()
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(a.out, "%s\n", schema)
			return err
		},
	})
	return cmd
}

// load reads the configuration that the command line and the environment name. Its error exits 2.
func (a *app) load() (*config.Loaded, error) {
	return a.reload(nil)
}

// reload is load for a process that may keep the last good content of files that have become unusable.
func (a *app) reload(keepsLastGood func(file string) bool) (*config.Loaded, error) {
	loaded, err := config.Load(config.LoadOptions{Files: a.configFiles(), Environ: a.environ, KeepsLastGood: keepsLastGood})
	if err != nil {
		return nil, fail(exitUnusable, err)
	}
	return loaded, nil
}

// configFiles is --config, else $SIDEPASS_CONFIG, else sidepass.yaml if it exists, else nothing.
func (a *app) configFiles() []string {
	if len(a.files) > 0 {
		return a.files
	}
	if file := a.getenv("SIDEPASS_CONFIG"); file != "" {
		return []string{file}
	}
	if _, err := os.Stat("sidepass.yaml"); !errors.Is(err, os.ErrNotExist) {
		return []string{"sidepass.yaml"}
	}
	return nil
}

// getenv returns the last value of a variable, as os.Getenv would.
func (a *app) getenv(name string) string {
	value := ""
	for _, kv := range a.environ {
		if n := len(name); len(kv) > n && kv[n] == '=' && kv[:n] == name {
			value = kv[n+1:]
		}
	}
	return value
}
