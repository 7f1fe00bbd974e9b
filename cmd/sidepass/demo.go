package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/sidepass/sidepass/config"
	"github.com/sidepass/sidepass/test/issuer"
)

const (
	demoAudience = "https://orders"
	demoClient   = "shop"
)

func (a *app) demoCommand() *cobra.Command {
	var once bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "See the main job in one process: calls that succeed, are refused and are healed",
		Long: `Starts an authorization server, a service behind an inbound sidecar and an app behind an outbound one, all in this
process and on loopback; makes calls and prints each with its answer and reason; then stays up to be tried with curl.`,
		Example: `  sidepass demo
  sidepass demo --once     make the calls and end; exits 0 only if each ended as it should`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			return a.demo(ctx, once)
		},
	}
	cmd.Flags().BoolVar(&once, "once", false, "make the calls and end")
	return cmd
}

func (a *app) demo(ctx context.Context, once bool) (err error) {
	dir, err := os.MkdirTemp("", "sidepass-demo-")
	if err != nil {
		return fail(exitFailed, err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	ctx, cancel := context.WithCancel(ctx)
	group, ctx := errgroup.WithContext(ctx)
	w, err := a.startDemo(ctx, group, dir)
	if err == nil {
		err = w.tour(ctx)
	}
	if err == nil && !once {
		w.leaveUp()
		<-ctx.Done()
	}
	cancel()
	if stopped := group.Wait(); err == nil {
		err = stopped
	}
	if err != nil {
		return fail(exitFailed, err)
	}
	return nil
}

// demoWorld is what the demo runs: who issues tokens, the service with its inbound sidecar, the app's outbound one.
type demoWorld struct {
	out     io.Writer
	issuer  *issuer.Server
	service *demoService
	yaml    string // the two configurations, as they are printed

	outbound, own, inbound, admin, inboundAdmin string // host:port
	app                                         *http.Client
	proxied                                     *http.Client
}

func (a *app) startDemo(ctx context.Context, group *errgroup.Group, dir string) (*demoWorld, error) {
	w := &demoWorld{out: a.out, service: &demoService{}}
	secret := filepath.Join(dir, "client-secret")
	if err := os.WriteFile(secret, []byte("demo"), 0o600); err != nil {
		return nil, err
	}
	var err error
	if w.issuer, err = issuer.New(issuer.Options{Clients: []issuer.Client{{ID: demoClient, Secret: "demo"}}, Algorithms: []string{"ES256"}}); err != nil {
		return nil, err
	}
	issuerAt, err := listenNear(9000)
	if err != nil {
		return nil, err
	}
	group.Go(func() error { return w.issuer.Serve(ctx, issuerAt) })
	serviceAt, err := listenNear(8080)
	if err != nil {
		return nil, err
	}
	service := &http.Server{Handler: w.service, ReadHeaderTimeout: 5 * time.Second}
	group.Go(func() error {
		if err := service.Serve(serviceAt); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	context.AfterFunc(ctx, func() { _ = service.Close() })

	issuerURL := "http://" + issuerAt.Addr().String()
	inbound, err := a.demoSidecar(ctx, group, dir, "inbound", demoInbound(issuerURL, serviceAt.Addr().String()))
	if err != nil {
		return nil, err
	}
	w.inbound, w.inboundAdmin = inbound.addresses["inbound"], inbound.addresses["admin"]
	outbound, err := a.demoSidecar(ctx, group, dir, "outbound", demoOutbound(issuerURL, secret, w.inbound))
	if err != nil {
		return nil, err
	}
	w.outbound, w.own, w.admin = outbound.addresses["outbound"], outbound.addresses["outbound:orders-own"], outbound.addresses["admin"]
	w.yaml = "# beside the service\n" + inbound.yaml + "\n# beside the app\n" + outbound.yaml

	proxy := &url.URL{Scheme: "http", Host: w.outbound}
	w.app = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{}}
	w.proxied = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{Proxy: http.ProxyURL(proxy)}}
	context.AfterFunc(ctx, func() { w.app.CloseIdleConnections(); w.proxied.CloseIdleConnections() })
	return w, nil
}

func demoInbound(issuerURL, service string) string {
	return fmt.Sprintf(`issuers:
  - name: demo
    url: %s
inbound:
  listen: LISTEN:8402
  upstream: http://%s
  trust:
    - audiences: [%s]
  claim_headers: [client_id=X-Client]
  rules:
    - name: read-orders
      match: ["GET /orders/{id}"]
      scopes: [read:orders]
    - name: write-orders
      match: ["POST /orders"]
      scopes: [write:orders]
metrics: {listen: "LISTEN:0"}
admin: {listen: "LISTEN:8406"}
log: {level: error, decisions: "off", access: "off"}
`, issuerURL, service, demoAudience)
}

func demoOutbound(issuerURL, secretFile, inbound string) string {
	route := fmt.Sprintf("upstream: http://%s, audience: [%s], scopes: [read:orders]", inbound, demoAudience)
	return fmt.Sprintf(`issuers:
  - name: demo
    url: %s
    client: {id: %s, secret_file: %s}
outbound:
  listen: LISTEN:8401
  routes:
    - {name: orders, host: orders.internal, %s}
    - {name: orders-prefix, prefix: /orders, %s}
    - {name: orders-own, listen: "LISTEN:8405", %s}
metrics: {listen: "LISTEN:8403"}
admin: {listen: "LISTEN:8404"}
log: {level: error, decisions: "off", access: "off"}
`, issuerURL, demoClient, secretFile, route, route, route)
}

// runningDemo is one of the demo's sidecars.
type runningDemo struct {
	yaml      string
	addresses map[string]string // listener → host:port
}

// demoSidecar runs a sidecar from a configuration whose LISTEN:port becomes that port, or a free one where it is taken.
func (a *app) demoSidecar(ctx context.Context, group *errgroup.Group, dir, name, yaml string) (*runningDemo, error) {
	for {
		i := strings.Index(yaml, "LISTEN:")
		if i < 0 {
			break
		}
		var port int
		_, _ = fmt.Sscanf(yaml[i:], "LISTEN:%d", &port)
		l, err := listenNear(port)
		if err != nil {
			return nil, err
		}
		yaml = strings.Replace(yaml, fmt.Sprintf("LISTEN:%d", port), l.Addr().String(), 1)
		_ = l.Close()
	}
	file := filepath.Join(dir, name+".yaml")
	if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
		return nil, err
	}
	loaded, err := config.Load(config.LoadOptions{Files: []string{file}})
	if err != nil {
		return nil, err
	}
	log, requests, level := newLogger(loaded.Config.Log, a.err)
	s, err := newSidecar(loaded, sidecarOptions{Log: log, Requests: requests, Level: level})
	if err != nil {
		return nil, err
	}
	group.Go(func() error { return s.run(ctx) })
	if err := s.awaitReady(ctx); err != nil {
		return nil, fmt.Errorf("the %s sidecar: %w", name, err)
	}
	return &runningDemo{yaml, s.addresses()}, nil
}

// listenNear listens on a loopback port, or on a free one where that is taken.
func listenNear(port int) (net.Listener, error) {
	if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
		return l, nil
	}
	return net.Listen("tcp", "127.0.0.1:0")
}
