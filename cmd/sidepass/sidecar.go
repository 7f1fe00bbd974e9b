package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"maps"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/sidepass/sidepass/config"
	"github.com/sidepass/sidepass/proxy"
	"github.com/sidepass/sidepass/proxy/admin"
	"github.com/sidepass/sidepass/proxy/dpop"
	"github.com/sidepass/sidepass/proxy/engine"
	"github.com/sidepass/sidepass/proxy/introspect"
	"github.com/sidepass/sidepass/proxy/jwks"
	"github.com/sidepass/sidepass/proxy/outbound"
	"github.com/sidepass/sidepass/proxy/pattern"
	"github.com/sidepass/sidepass/proxy/verify"
	"github.com/sidepass/sidepass/tokencache"
)

// sidecarOptions are what a sidecar is given by the command that runs it.
type sidecarOptions struct {
	// Load reads the configuration anew, for a reload.
	Load func(keepsLastGood func(file string) bool) (*config.Loaded, error)
	// Watch names the configuration files and directories whose change reloads; nil watches nothing.
	Watch []string
	Log   *zap.Logger
	// Requests takes access and decision lines, whatever Level is; nil is Log.
	Requests *zap.Logger
	Level    zap.AtomicLevel
}

// sidecar is one running sidepass: its listeners, and the generation of gates that serves them.
type sidecar struct {
	o       sidecarOptions
	process *process
	metrics *admin.Metrics
	health  *admin.Health
	started time.Time
	serving atomic.Bool // the listeners are open and the first attempts under way
	logs    logChoice
	recent  admin.Refusals
	history *admin.History
	events  *admin.Events

	bound     map[string]string // :: listener → bound address
	listeners []*listener
	admin     atomic.Pointer[http.Handler]
	out, in   engine.Generations

	current    atomic.Pointer[generation]
	prefetches sync.WaitGroup
	awaited    sync.Map // :: route → the first attempt at its token, made at start, has not ended

	reloading   sync.Mutex
	restart     atomic.Pointer[[]string]
	running     map[keysKey]context.CancelFunc    // under reloading
	group       errgroup.Group                    // refreshes of keys and revocations
	revocations map[revokedKey]context.CancelFunc // end their refresh
	synced      synced
	keysCtx     context.Context
	keysStop    context.CancelFunc
}

// listener is an open listener and what serves it.
type listener struct {
	name string
	net.Listener
	server interface {
		Serve(net.Listener) error
		Shutdown(context.Context) error
	}
}

// newSidecar opens the listeners and builds the first generation. Nothing is served before run. An error decides the
// exit code: 2 for a configuration that cannot be used, 1 for a machine on which it cannot run.
func newSidecar(loaded *config.Loaded, o sidecarOptions) (*sidecar, error) {
	s, err := newParts(o)
	if err != nil {
		return nil, fail(exitFailed, err)
	}
	if err := s.begin(loaded); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// newParts makes what every generation shares. It listens nowhere and makes no call; close it.
func newParts(o sidecarOptions) (*sidecar, error) {
	if o.Requests == nil {
		o.Requests = o.Log
	}
	version, commit := buildInfo()
	s := &sidecar{
		o: o, started: time.Now(), bound: map[string]string{}, running: map[keysKey]context.CancelFunc{}, revocations: map[revokedKey]context.CancelFunc{},
		metrics: admin.NewMetrics(admin.Build{Version: version, Commit: commit, GoVersion: runtime.Version()}), health: &admin.Health{},
	}
	s.history, s.events = admin.NewHistory(s.metrics), admin.NewEvents()
	s.keysCtx, s.keysStop = context.WithCancel(context.Background())
	s.process = &process{
		issuers: map[issuerKey]*authServer{}, keys: map[keysKey]*jwks.Keys{}, guards: map[string]*outbound.Guard{},
		via: map[string]string{outboundListener: pseudonym(), inboundListener: pseudonym()}, files: files{good: map[string][]byte{}},
		budgets: map[string]*tokencache.Budget{}, revoked: map[revokedKey]revokedSource{},
	}
	s.process.observe = s.observers()
	var errKey, errCache, errAnswers error
	s.process.dpop, errKey = dpop.NewKey()
	s.process.verified, errCache = verify.NewCache(0)
	s.process.answers, errAnswers = introspect.NewCache(0)
	s.process.tokens = tokencache.New(tokencache.Options{Observer: s.process.observe.tokens})
	return s, errors.Join(errKey, errCache, errAnswers)
}

func (s *sidecar) begin(loaded *config.Loaded) error {
	tracer, err := newTracer(loaded.Config.Tracing, s.o.Log)
	if err != nil {
		return fail(exitUnusable, err)
	}
	s.process.tracing = tracer
	if err := s.listen(loaded.Config); err != nil {
		return fail(exitFailed, err)
	}
	keeping, err := s.process.openState(loaded)
	if err != nil {
		return fail(exitUnusable, err)
	}
	if keeping.dir != nil {
		s.process.kept.found = keeping.dir.Load()
	}
	s.process.shares = true
	g, err := s.process.build(loaded, s.bound)
	if err != nil {
		return fail(exitUnusable, err)
	}
	s.setReadiness(loaded.Config)
	s.install(g)
	s.restore(g)
	s.keepIn(keeping, g)
	s.metrics.ConfigLoaded(time.Now())
	return nil
}

// pseudonym is a name for Via that tells neither host nor service (RFC 9110, section 7.6.3).
func pseudonym() string {
	b := make([]byte, 6)
	_, _ = rand.Read(b)
	return "sidepass-" + hex.EncodeToString(b)
}

// listen opens every listener of the configuration.
func (s *sidecar) listen(c *config.Config) error {
	errorLog := log.New(clipped{zap.NewStdLog(s.o.Log.Named("http")).Writer()}, "", 0)
	open := func(name, key string, l config.Listen, server func() *listener) error {
		if l.Off() || !l.IsSet() {
			return nil
		}
		opened, err := engine.Listen(l.Network, l.Address, fs.FileMode(l.Mode))
		if err != nil {
			return fmt.Errorf("%s: cannot listen on %s: %w; another process may have it, or the address is not this machine's", key, l, err)
		}
		made := server()
		made.name, made.Listener = name, opened
		s.listeners = append(s.listeners, made)
		s.bound[name] = opened.Addr().String()
		if l.Network == "unix" {
			s.bound[name] = "unix:" + l.Address
		}
		return nil
	}
	carry := func(o engine.Options) func() *listener {
		return func() *listener {
			o.ErrorLog, o.Observer, o.Std = errorLog, s.process.observe.engine(o.Name), c.Engine == "std"
			return &listener{server: engine.New(o)}
		}
	}
	plain := func(h http.Handler) func() *listener {
		return func() *listener {
			server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10, ErrorLog: errorLog}
			server.RegisterOnShutdown(s.events.End)
			return &listener{server: server}
		}
	}
	if in := c.Inbound; in != nil {
		if err := open(inboundListener, "inbound.listen", in.Listen, carry(engine.Options{
			Name: inboundListener, Generations: &s.in, Via: s.process.via[inboundListener], MaxHeaderBytes: int(in.MaxHeaderBytes),
			Forwarded: &engine.Forwarded{Trusted: in.TrustedProxies}, TLSConfig: s.serverTLS(in.TLS),
		})); err != nil {
			return err
		}
	}
	if out := c.Outbound; out != nil {
		o := engine.Options{Generations: &s.out, Via: s.process.via[outboundListener], ViaOnAnswers: true}
		o.Name = outboundListener
		if err := open(outboundListener, "outbound.listen", out.Listen, carry(o)); err != nil {
			return err
		}
		for _, r := range out.Routes {
			o.Name = routeListener(r.Name)
			if err := open(o.Name, "outbound.routes["+r.Name+"].listen", r.Listen, carry(o)); err != nil {
				return err
			}
		}
	}
	if err := open(metricsListener, "metrics.listen", c.Metrics.Listen, plain(admin.MetricsHandler(s.metrics, s.health, s.refusals(metricsListener)))); err != nil {
		return err
	}
	return open(adminListener, "admin.listen", c.Admin.Listen, plain(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		(*s.admin.Load()).ServeHTTP(w, r)
	})))
}

// install makes a generation the one that requests get from now on.
func (s *sidecar) install(g *generation) {
	c := g.loaded.Config
	for _, f := range g.activate {
		f()
	}
	s.process.issuers, s.process.keys, s.process.trusted, s.process.tls = g.issuers, g.keys, g.trusted, g.tls
	if was := s.logs.current.Swap(&c.Log); was == nil || was.Level != c.Log.Level {
		setLevel(s.o.Level, c.Log.Level) // a level that an operator set on admin outlives other changes
	}
	s.metrics.Describe(labels(g.loaded))
	for _, r := range g.routes {
		if st := r.status(time.Now()); st.Token != nil {
			s.metrics.TokenObtained(r.config.Name, st.LastSuccess)
			s.metrics.TokenExpiry(r.config.Name, st.Token.Expiry)
		}
	}
	for _, t := range g.trusted {
		if t.keyless() {
			s.metrics.JWKSNone(t.config.Name)
		}
	}
	if g.tls != nil {
		s.metrics.CertificateNotAfter(inboundTLS, g.tls.Certificates[0].Leaf.NotAfter)
	}
	for _, i := range g.issuers {
		if i.next == nil {
			continue
		}
		for key, end := range i.next.ends {
			s.metrics.CertificateNotAfter(clientCertificate(i.config.Name, key), end)
		}
	}
	s.loadRevocations(g)
	s.runShared(g)
	s.current.Store(g)
	s.setAdmin(g)
	var users atomic.Int32 // directions whose requests run under this generation
	release := func() {
		if users.Add(-1) == 0 {
			g.close()
		}
	}
	users.Add(1) // this function
	if g.outbound != nil {
		users.Add(1)
		s.out.Swap(g.outbound, release)
	}
	if g.inbound != nil {
		users.Add(1)
		s.in.Swap(g.inbound, release)
	}
	release()
}

func (s *sidecar) setAdmin(g *generation) {
	c := g.loaded.Config
	level := s.o.Level
	h := admin.Handler(admin.Options{
		Listen: c.Admin.Listen.String(), Status: s.status, Level: &level, Pprof: c.Admin.PProf, Observer: s.refusals(adminListener),
		TokenAPI: c.Admin.TokenAPI, Token: s.token, Events: s.events,
		Config: func() json.RawMessage {
			b, err := json.Marshal(s.current.Load().loaded.Effective()) // a page outlives a reload
			if err != nil {
				return json.RawMessage("null")
			}
			return b
		},
	})
	s.admin.Store(&h)
}

// run serves until ctx ends, then drains and returns. It may be called once.
func (s *sidecar) run(ctx context.Context) error {
	defer s.close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g := s.current.Load()
	var servers, reloads errgroup.Group
	if s.o.Load != nil {
		reloads.Go(func() error { return s.reloads(ctx) })
	}
	failed := make(chan error, len(s.listeners))
	for _, l := range s.listeners {
		s.o.Log.Info("listening", zap.String("listener", l.name), zap.String("address", s.bound[l.name]), zap.Bool("tls", l.name == inboundListener && g.tls != nil))
		servers.Go(func() error {
			if err := l.server.Serve(l.Listener); err != nil && !errors.Is(err, http.ErrServerClosed) {
				failed <- fmt.Errorf("the listener %s ended: %w", l.name, err)
			}
			return nil
		})
	}
	s.announce(g.loaded.Config)
	s.group.Go(func() error { return s.process.tracing.Run(s.keysCtx) })
	s.group.Go(func() error { return s.history.Run(s.keysCtx) })
	s.runKeys(g)
	s.prefetch(g, true)
	s.serving.Store(true)
	s.group.Go(func() error {
		s.prefetches.Wait()
		select {
		case <-time.After(time.Second): // keys and the first probes
			releaseStartPages()
		case <-s.keysCtx.Done():
		}
		return nil
	})
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	cancel()
	s.drain()
	_ = servers.Wait()
	_ = reloads.Wait()
	return err
}

// announce logs what an operator should know of a configuration.
func (s *sidecar) announce(c *config.Config) {
	doubts := func(in, name string, patterns []string) {
		for _, p := range patterns {
			for _, d := range pattern.Doubts(p) {
				s.o.Log.Warn("this pattern hardly means what it says", zap.String(in, name), zap.String("pattern", p), zap.String("problem", d.Says), zap.String("advice", d.Do))
			}
		}
	}
	if c.Inbound != nil {
		for _, r := range c.Inbound.Rules {
			doubts("rule", r.Name, r.Match)
		}
	}
	if c.Outbound == nil {
		return
	}
	for _, r := range c.Outbound.Routes {
		doubts("route", r.Name, r.Paths)
		if upstream, inClear := tokenInClear(r); inClear {
			s.o.Log.Warn("this route sends its token over plain HTTP to another machine; use an https upstream where there is one",
				zap.String("route", r.Name), zap.String("upstream", upstream))
		}
	}
}

// tokenInClear says whether a route sends its token over plain HTTP to another machine, and to which.
func tokenInClear(r config.Route) (upstream string, inClear bool) {
	scheme, host := r.Upstream.Scheme, r.Upstream.Host
	if !r.Upstream.IsSet() {
		scheme, host = r.Scheme, r.Host
	}
	return scheme + "://" + host, scheme == "http" && r.Upstream.Socket == "" && !loopback(host)
}

// loopback says whether an authority is this machine's own.
func loopback(authority string) bool {
	host, _, ok := proxy.SplitAuthority(authority)
	ip := net.ParseIP(host)
	return ok && (host == "localhost" || ip != nil && ip.IsLoopback())
}

// runKeys is startKeys at start, where a reload may already be under way.
func (s *sidecar) runKeys(g *generation) {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	s.startKeys(g)
}

// startKeys starts the refresh of the key sets that a generation needs and that is not running. The caller holds reloading.
func (s *sidecar) startKeys(g *generation) {
	for key, keys := range g.keys {
		if s.running[key] != nil {
			continue
		}
		ctx, stop := context.WithCancel(s.keysCtx)
		s.running[key] = stop
		s.group.Go(func() error { return keys.Run(ctx) })
	}
}

// stopKeys ends the refresh of key sets that no configuration names any more.
func (s *sidecar) stopKeys(g *generation) {
	for key, stop := range s.running {
		if g.keys[key] == nil {
			stop()
			delete(s.running, key)
		}
	}
}

// prefetch asks for each route's token once in its life, in the background: a reload does not wake an idle route. At
// start readiness waits for the attempts to end.
func (s *sidecar) prefetch(g *generation, atStart bool) {
	if !g.loaded.Config.Tokens.Prefetch {
		return
	}
	for _, r := range g.routes {
		if r.exchange != nil || r.status(time.Now()).Attempts > 0 {
			continue
		}
		if atStart {
			s.awaited.Store(r.config.Name, true)
		}
		s.prefetches.Go(func() {
			defer s.awaited.Delete(r.config.Name)
			if s.firstToken(s.keysCtx, r.entry) == tokencache.SharedHit {
				s.metrics.TokenCacheLookup(r.config.Name, string(tokencache.SharedHit))
			}
		})
	}
}

// firstToken makes the first attempt at a token. A server that is only just starting, as in a compose file, gets a second chance at once.
func (s *sidecar) firstToken(ctx context.Context, e *tokencache.Entry) tokencache.Lookup {
	_, lookup, err := e.Get(ctx)
	var f *tokencache.Failure
	if !errors.As(err, &f) || f.Kind == tokencache.Refused || f.RetryAfter > 2*time.Second {
		return lookup
	}
	select {
	case <-time.After(f.RetryAfter):
		_, lookup, _ = e.Get(ctx)
	case <-ctx.Done():
	}
	return lookup
}

// drain ends the serving: readiness first, then the network's way in, then the app's way out, which it may need to the last.
func (s *sidecar) drain() {
	c := s.current.Load().loaded.Config.Shutdown
	s.health.Drain()
	s.o.Log.Info("draining", zap.Duration("delay", c.Delay), zap.Duration("timeout", c.Timeout))
	time.Sleep(c.Delay)
	ctx, cancel := context.WithTimeout(context.Background(), c.Timeout)
	defer cancel()
	shutdown := func(match func(name string) bool) {
		var group errgroup.Group
		for _, l := range s.listeners {
			if match(l.name) {
				group.Go(func() error { return l.server.Shutdown(ctx) })
			}
		}
		if err := group.Wait(); err != nil {
			s.o.Log.Warn("requests were cut off at the end of shutdown.timeout", zap.Error(err))
		}
	}
	shutdown(func(name string) bool { return name == inboundListener })
	shutdown(func(name string) bool { return strings.HasPrefix(name, outboundListener) })
	shutdown(func(name string) bool { return name == metricsListener || name == adminListener })
	s.process.tracing.Flush(ctx)
}

// close ends what run or newSidecar started, and waits for it.
func (s *sidecar) close() {
	for _, l := range s.listeners {
		_ = l.Close()
	}
	s.keysStop()
	s.process.tokens.Close()
	if s.process.shared != nil {
		s.process.shared.stop()
	}
	s.process.answers.Close()
	s.prefetches.Wait()
	_ = s.group.Wait()
	for _, i := range s.process.issuers {
		i.http.CloseIdle()
	}
	if g := s.current.Load(); g != nil {
		g.close()
	}
}

// addresses returns where the listeners are bound.
func (s *sidecar) addresses() map[string]string { return maps.Clone(s.bound) }

// awaitReady waits until the sidecar is ready, or says what is missing.
func (s *sidecar) awaitReady(ctx context.Context) error {
	deadline := time.After(10 * time.Second)
	for {
		missing := s.missing()
		if len(missing) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-deadline:
			return fmt.Errorf("not ready: %s", strings.Join(missing, "; "))
		case <-time.After(5 * time.Millisecond):
		}
	}
}
