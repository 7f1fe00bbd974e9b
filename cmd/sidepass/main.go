// Command sidepass is a token-exchanging sidecar and forward proxy for service-to-service calls.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
)

func main() {
	libraries{zap.NewNop()}.listen() // in commands that have no log
	os.Exit(execute(os.Args[1:], streams{os.Stdin, os.Stdout, os.Stderr}, os.Environ()))
}

// streams are where a command reads and writes, so that tests can give their own.
type streams struct {
	in  io.Reader
	out io.Writer
	err io.Writer
}

// app is what every command is given.
type app struct {
	streams
	environ []string
	files   []string // --config, as given
}

// Exit codes of the contract.
const (
	exitFailed   = 1
	exitUnusable = 2 // unusable configuration or command line
)

// exitError is an error that decides the exit code. A nil err exits without a word.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

func fail(code int, err error) error { return &exitError{code, err} }

// execute runs one command line and returns the exit code. Errors go to standard error as sentences.
func execute(args []string, s streams, environ []string) int {
	a := &app{streams: s, environ: environ}
	root := a.command()
	root.SetArgs(args)
	root.SetIn(s.in)
	root.SetOut(s.out)
	root.SetErr(s.err)
	err := root.ExecuteContext(context.Background())
	if err == nil {
		return 0
	}
	var e *exitError
	if !errors.As(err, &e) { // cobra's own: an unknown command or flag
		fmt.Fprintf(s.err, "sidepass: %v\n%s\n", err, advice(root, args, err))
		return exitUnusable
	}
	if e.err != nil {
		fmt.Fprintln(s.err, strings.TrimRight(e.err.Error(), "\n"))
	}
	return e.code
}

// advice says what to do about a command line that cobra refuses.
func advice(root *cobra.Command, args []string, err error) string {
	if cmd, rest, _ := root.Find(args); strings.HasPrefix(err.Error(), "unknown command") && len(rest) > 0 {
		if cmd != root {
			return "It takes no arguments; a configuration file is given with --config."
		}
		root.SuggestionsMinimumDistance = 2
		if near := root.SuggestionsFor(rest[0]); len(near) > 0 {
			return "Did you mean `sidepass " + near[0] + "`? `sidepass --help` has all commands."
		}
	}
	return "Run `sidepass --help` for the commands."
}

func (a *app) command() *cobra.Command {
	root := &cobra.Command{
		Use:   "sidepass",
		Short: "A token-exchanging sidecar and forward proxy for service-to-service calls",
		Long: `sidepass runs beside a service. Outbound, the service sends plain HTTP to localhost and sidepass adds
an OAuth 2.0 access token for the destination. Inbound, sidepass verifies the caller's token before the service sees the request.

Without a command, sidepass runs the sidecar.`,
		Example: `  sidepass demo                                   try it: nothing to install, nothing to configure
  sidepass init                                   write a first configuration
  sidepass run --config sidepass.yaml             run the sidecar
  http_proxy=http://127.0.0.1:8401 curl http://orders.internal/orders/1`,
		Args:          cobra.NoArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE:          a.run,
	}
	version, _ := buildInfo()
	root.Version = version
	root.PersistentFlags().StringArrayVar(&a.files, "config", nil,
		"configuration file, or a directory of them; may repeat (default: $SIDEPASS_CONFIG, else sidepass.yaml if it exists, else the environment alone)")
	root.AddCommand(
		a.runCommand(),
		a.demoCommand(),
		a.checkCommand(),
		a.configCommand(),
		a.healthcheckCommand(),
		a.issuerCommand(),
		a.tokenCommand(),
		a.explainCommand(),
		a.revokeCommand(),
		a.initCommand(),
		&cobra.Command{Use: "version", Short: "Print version, commit and Go version", Example: "  sidepass version", Args: cobra.NoArgs, RunE: a.version},
		a.completionCommand(),
	)
	root.SetHelpTemplate(helpTemplate)
	root.SetUsageTemplate(usageTemplate)
	a.complete(root)
	return root
}

// untilSignal returns a context that ends with the first SIGINT or SIGTERM; a second one ends the process at once.
func untilSignal(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(parent, os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // with the handler gone, the next signal has its default effect
	return ctx, stop
}
