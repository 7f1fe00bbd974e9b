package main

import (
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sidepass/sidepass/test/issuer"
)

func (a *app) issuerCommand() *cobra.Command {
	var listen, name, id, secretFile string
	var lifetime time.Duration
	cmd := &cobra.Command{
		Use:   "issuer",
		Short: "Run the demo's development authorization server alone",
		Long: `A small authorization server for development: discovery, key set, client_credentials, introspection, revocation.
Its keys are new at each start. It has one client, named demo with the secret demo unless the flags say otherwise.
Never use it in production.`,
		Example: `  sidepass issuer --listen 127.0.0.1:9000
  curl -u demo:demo -d grant_type=client_credentials -d audience=https://orders http://127.0.0.1:9000/token`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			secret := "demo"
			if secretFile != "" {
				b, err := os.ReadFile(secretFile)
				if err != nil {
					return fail(exitUnusable, fmt.Errorf("--client-secret-file: %w", err))
				}
				secret = strings.TrimSpace(string(b))
			}
			server, err := issuer.New(issuer.Options{Issuer: name, Clients: []issuer.Client{{ID: id, Secret: secret}}, Lifetime: lifetime})
			if err != nil {
				return fail(exitUnusable, err)
			}
			l, err := net.Listen("tcp", listen)
			if err != nil {
				return fail(exitFailed, fmt.Errorf("--listen: %w", err))
			}
			fmt.Fprintf(a.out, "development authorization server: http://%s (client %s)\n", l.Addr(), id)
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			if err := server.Serve(ctx, l); err != nil {
				return fail(exitFailed, err)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:9000", "address to listen on")
	cmd.Flags().StringVar(&name, "issuer", "", "the issuer identifier, where others reach it under another name (default: the address it listens on)")
	cmd.Flags().StringVar(&id, "client-id", "demo", "the client's id")
	cmd.Flags().StringVar(&secretFile, "client-secret-file", "", "a file with the client's secret (default: the secret is demo)")
	cmd.Flags().DurationVar(&lifetime, "lifetime", 5*time.Minute, "how long a token lasts")
	return cmd
}
