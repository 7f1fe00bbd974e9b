package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sidepass/sidepass/config"
)

func (a *app) healthcheckCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "healthcheck",
		Short: "Ask the local /readyz; for images without a shell",
		Long: `Asks /readyz of the sidecar that runs here, where the configuration says that it listens.
Exits 0 when it is ready; otherwise prints what is missing and exits 1.`,
		Example: `  sidepass healthcheck
  HEALTHCHECK CMD ["/sidepass", "healthcheck"]     in a Dockerfile`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := healthcheck(cmd.Context(), a.metricsListen()); err != nil {
				return fail(exitFailed, err)
			}
			fmt.Fprintln(a.out, "ready")
			return nil
		},
	}
}

// metricsListen is where the sidecar that runs here listens. That one may be well although its configuration has been broken since it
// started, as a reload would find; so no mistake in it is an error here.
func (a *app) metricsListen() config.Listen {
	if loaded, err := a.reload(func(string) bool { return true }); err == nil {
		return loaded.Config.Metrics.Listen
	}
	return config.MetricsListen(config.LoadOptions{Files: a.configFiles(), Environ: a.environ})
}

func healthcheck(ctx context.Context, listen config.Listen) error {
	if listen.Off() {
		return fmt.Errorf("there is nothing to ask: metrics.listen is off, and /readyz is served there")
	}
	network, addresses := listen.Network, []string{listen.Address}
	if network == "tcp" {
		host, port, err := net.SplitHostPort(listen.Address)
		if err != nil {
			return err
		}
		if port == "0" {
			return fmt.Errorf("metrics.listen has port 0, so the address of the running sidecar is not known here; give it a port")
		}
		hosts := []string{host}
		if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
			hosts = []string{"127.0.0.1", "::1"} // not localhost: an image from scratch has no /etc/hosts
		}
		for i, h := range hosts {
			hosts[i] = net.JoinHostPort(h, port)
		}
		addresses = hosts
	}
	client := http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (c net.Conn, err error) {
			for _, address := range addresses {
				if c, err = (&net.Dialer{}).DialContext(ctx, network, address); err == nil {
					break
				}
			}
			return c, err
		}}}
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/readyz", nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("no sidecar answers at %s: %w", strings.Join(addresses, " or "), err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("not ready: %s", strings.TrimSpace(string(body)))
	}
	return nil
}
