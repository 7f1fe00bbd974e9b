package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"

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
	s, err := newSidecar(loaded, sidecarOptions{Load: a.load, Log: log, Level: level})
	if err != nil {
		return err
	}
	ended := make(chan struct{})
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	reloads := make(chan struct{})
	go func() {
		defer close(reloads)
		for {
			select {
			case <-hangup:
				s.reload(ctx)
			case <-ended:
				return
			}
		}
	}()
	err = s.run(ctx)
	close(ended)
	<-reloads
	if err != nil && !errors.Is(err, context.Canceled) {
		return fail(exitFailed, err)
	}
	log.Info("sidepass ended")
	return nil
}
