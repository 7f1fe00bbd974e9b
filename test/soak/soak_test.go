//go:build linux

// Package soak runs the built binary for as long as one likes, as a pair: outbound sidecar, inbound sidecar, app. A steady load
// passes through it while the authorization server goes down and comes back, answers slowly or not at all, refuses and
// limits, rotates its keys and the client's secret, and while the configurations are reloaded. No request may fail,
// and neither process may grow:
//
//	go test ./test/soak -run TestSoak -soak 10m -v -timeout 20m
//
// It is skipped without -soak. `-soak 4s` is a smoke test, which has no room for every fault and says nothing about growth. It stops
// by itself, talks to loopback only, and leaves no process behind, whether it ends, is interrupted, times out or is killed. It
// reads /proc, so it is for Linux.
package soak

import (
	"context"
	"flag"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sidepass/sidepass/test/issuer"
	"github.com/sidepass/sidepass/test/upstream"
)

var length = flag.Duration("soak", 0, "how long the load lasts; 0 skips it")

// shortest is the length from which on a run has room for every fault, and its quarters can be compared.
const shortest = time.Minute

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is all that takes part in a run.
type world struct {
	t     *testing.T
	plan  plan
	iss   *issuer.Server
	door  *door
	app   *upstream.Server
	in    *sidecar
	out   *sidecar
	began time.Time
	tally tally

	withdrawals sync.WaitGroup // of keys, each some time after its rotation
}

func TestSoak(t *testing.T) {
	if *length == 0 {
		t.Skip("the soak runs with -soak 10m")
	}
	if deadline, ok := t.Deadline(); ok && time.Until(deadline) < *length+time.Minute {
		t.Fatalf("-timeout leaves %s for a run of %s and a minute around it", time.Until(deadline).Round(time.Second), *length)
	}
	ctx, stop := signal.NotifyContext(t.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	w := newWorld(t, newPlan(*length))
	t.Logf("%s: %s", w.plan.length, w.plan)
	w.enforces()

	before := w.settle()
	w.run(ctx)
	if ctx.Err() != nil {
		t.Fatal("interrupted")
	}
	w.drained(before)
	w.enforces()
	w.judge()
	t.Log(w.table())
}

// newWorld builds and starts everything, and waits until each route has its token.
func newWorld(t *testing.T, p plan) *world {
	t.Helper()
	w := &world{t: t, plan: p, door: newDoor()}
	binary := filepath.Join(t.TempDir(), "sidepass")
	build := exec.Command("go", "build", "-ldflags=-s -w", "-o", binary, "../../cmd/sidepass")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("the binary does not build: %v\n%s", err, out)
	}
	var err error
	if w.iss, err = issuer.Start(issuer.Options{Clients: []issuer.Client{{ID: clientID, Secret: behindTheDoor}}, Lifetime: p.life, Algorithms: []string{"ES256"}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.iss.Close() })
	w.iss.SetResponse(issuer.Token, w.door.token)
	w.iss.SetResponse(issuer.JWKS, w.door.other)
	w.iss.SetResponse(issuer.Discovery, w.door.other)
	if w.app, err = upstream.Start(upstream.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.app.Close)
	w.app.HandleEarly(serveApp)

	w.in = newSidecar(t, binary, "inbound", w.inboundYAML)
	w.in.start()
	w.out = newSidecar(t, binary, "outbound", w.outboundYAML)
	w.out.write("secret", w.door.current())
	w.out.start()
	w.in.awaitStatus("/readyz/inbound", 200)
	w.out.awaitStatus("/readyz/outbound", 200)
	return w
}

// run is the time that the plan has: the load, and beside it what the plan does to the pair.
func (w *world) run(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, w.plan.length)
	defer cancel()
	w.began = time.Now()
	var all sync.WaitGroup
	for _, f := range []func(context.Context){w.load, w.streams, w.weather, w.operate, w.watch, w.breathe} {
		all.Go(func() { f(ctx) })
	}
	all.Wait()
}

// sleep waits, and says whether the time has passed rather than ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
