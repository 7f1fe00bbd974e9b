package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
)

// run is the command that an image runs without arguments.
func (a *app) run(cmd *cobra.Command, _ []string) error {
	loaded, err := a.load()
	if err != nil {
		return err
	}
	log, level := newLogger(loaded.Config.Log, a.err)
	defer func() { _ = log.Sync() }()
	version, commit := buildInfo()
	log.Info("sidepass starts", zap.String("version", version), zap.String("commit", commit), zap.Strings("files", loaded.Files))

	ctx, stop := untilSignal(cmd.Context())
	defer stop()
	s, err := newSidecar(loaded, sidecarOptions{Load: a.reload, Watch: a.configFiles(), Log: log, Level: level})
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
