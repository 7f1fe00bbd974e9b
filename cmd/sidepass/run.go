package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
)

func (a *app) runCommand() *cobra.Command {
	return &cobra.Command{
		Use: "run", Short: "Run the sidecar until SIGTERM or SIGINT; SIGHUP reloads", Args: cobra.NoArgs, RunE: a.run,
		Example: `  sidepass run --config sidepass.yaml
  SIDEPASS_CONFIG=/etc/sidepass sidepass                   a directory's files, in the order of their names
  kill -HUP $(pidof sidepass)                              read configuration, secrets, keys and certificates again`,
		Long: `Exits 0 after a signal, 2 for a configuration that cannot be used, 1 for a machine on which it cannot run. A second SIGTERM or SIGINT
ends it at once.`,
	}
}

// run is the command that an image runs without arguments.
func (a *app) run(cmd *cobra.Command, _ []string) error {
	loaded, err := a.load()
	if err != nil {
		return err
	}
	log, requests, level := newLogger(loaded.Config.Log, a.err)
	defer func() { _ = log.Sync() }()
	libraries{log}.listen()
	version, commit := buildInfo()
	log.Info("sidepass starts", zap.String("version", version), zap.String("commit", commit), zap.Strings("files", loaded.Files))

	ctx, stop := untilSignal(cmd.Context())
	defer stop()
	s, err := newSidecar(loaded, sidecarOptions{Load: a.reload, Watch: a.configFiles(), Log: log, Requests: requests, Level: level})
	if err != nil {
		return err
	}
	err = s.run(ctx)
	if err != nil && !errors.Is(err, context.Canceled) {
		return fail(exitFailed, err)
	}
	log.Info("sidepass ended")
	return nil
}
