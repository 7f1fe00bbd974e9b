package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/sidepass/sidepass/config"
)

// reloads runs until ctx ends: SIGHUP reloads, and so does a change of the configuration or of a file that it names.
func (s *sidecar) reloads(ctx context.Context) error {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	w := &watcher{files: s.watched, changed: s.reload, asked: hangup, log: s.o.Log}
	return w.run(ctx)
}

// watched names every file and directory whose change matters now.
func (s *sidecar) watched() []string {
	names := slices.Clone(s.o.Watch)
	for _, r := range s.current.Load().loaded.References() {
		names = append(names, r.File)
	}
	return names
}

// reload reads the configuration anew and installs it, whole or not at all. What needs a restart is held back, logged
// and shown in the status; the rest applies to all requests that start from now on.
func (s *sidecar) reload(ctx context.Context) {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	err := s.tryReload(ctx)
	s.metrics.ConfigReload(err == nil, time.Now())
	if err == nil {
		return
	}
	var problems config.Problems
	if errors.As(err, &problems) {
		for _, p := range problems {
			s.o.Log.Error("the configuration cannot be used; the old one stays", zap.String("problem", p.String()))
		}
		return
	}
	s.o.Log.Error("the configuration cannot be used; the old one stays", zap.Error(err))
}

func (s *sidecar) tryReload(ctx context.Context) error {
	loaded, err := s.o.Load(s.process.files.known)
	if err != nil {
		return err
	}
	waiting, err := holdBack(s.current.Load().loaded.Config, loaded.Config)
	if err != nil {
		return err
	}
	if len(waiting) > 0 {
		if err := loaded.Recheck(); err != nil {
			return errors.New("what needs a restart (" + strings.Join(waiting, ", ") + ") stays as it is until then, and does not go with the rest:\n" + err.Error())
		}
	}
	for _, u := range loaded.Unusable {
		s.metrics.FileReloadFailure(u.Key)
		s.o.Log.Error("a file cannot be used; its last good content stays in use", zap.String("key", u.Path), zap.String("file", u.File), zap.String("reason", u.Reason))
	}
	keeping, err := s.process.openState(loaded)
	if err != nil {
		return err
	}
	g, err := s.process.build(loaded, s.bound)
	if err != nil {
		return err
	}
	s.startKeys(g)
	s.awaitKeys(ctx, g)
	s.install(g)
	s.keepIn(keeping, g)
	s.stopKeys(g)
	s.rereadKeys(ctx, g)
	s.prefetch(g, false)
	s.announce(loaded.Config)
	s.restart.Store(&waiting)
	if len(waiting) > 0 {
		s.o.Log.Warn("reloaded; some changes wait for a restart", zap.Strings("restart_required", waiting))
	} else {
		s.o.Log.Info("reloaded")
	}
	return nil
}

// rereadKeys reads key sets that come from a file, which may be what has changed.
func (s *sidecar) rereadKeys(ctx context.Context, g *generation) {
	for _, t := range g.trusted {
		if t.config.JWKSFile != "" {
			if _, err := t.keys.Reload(ctx); err != nil {
				s.o.Log.Warn("the key set could not be read again", zap.String("issuer", t.config.Name), zap.Error(err))
			}
		}
	}
}

// awaitKeys gives new issuers' keys the time of one attempt, so that the first tokens under the new configuration can be judged.
func (s *sidecar) awaitKeys(ctx context.Context, g *generation) {
	for _, t := range g.trusted {
		deadline := time.After(t.config.Timeout)
		for !t.keys.Ready() && t.keys.Status().Attempted.IsZero() {
			select {
			case <-deadline:
				return
			case <-ctx.Done():
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	}
}

// holdBack puts back into a new configuration what needs a restart to change, and names it. What is put back may not go
// with the rest, so that the whole is to be validated again.
func holdBack(old, now *config.Config) (waiting []string, err error) {
	keep := func(key string, changed bool, restore func()) {
		if changed {
			waiting = append(waiting, key)
			restore()
		}
	}
	keep("metrics.listen", old.Metrics.Listen != now.Metrics.Listen, func() { now.Metrics.Listen = old.Metrics.Listen })
	keep("admin.listen", old.Admin.Listen != now.Admin.Listen, func() { now.Admin.Listen = old.Admin.Listen })
	keep("engine", old.Engine != now.Engine, func() { now.Engine = old.Engine })
	keep("log.format", old.Log.Format != now.Log.Format, func() { now.Log.Format = old.Log.Format })
	keep("tracing", old.Tracing.Endpoint.String() != now.Tracing.Endpoint.String(), func() { now.Tracing = old.Tracing })
	// A direction that comes has no listener yet; one that goes keeps what it has.
	keep("inbound", (old.Inbound == nil) != (now.Inbound == nil), func() {
		now.Inbound = old.Inbound
		if old.Inbound != nil {
			for _, t := range old.Inbound.Trust {
				err = errors.Join(err, keepIssuer(old, now, t.Issuer))
			}
		}
	})
	keep("outbound", (old.Outbound == nil) != (now.Outbound == nil), func() {
		now.Outbound = old.Outbound
		if old.Outbound != nil {
			for _, r := range old.Outbound.Routes {
				err = errors.Join(err, keepIssuer(old, now, r.Issuer))
			}
		}
	})
	if old.Inbound != nil {
		keep("inbound.listen", old.Inbound.Listen != now.Inbound.Listen, func() { now.Inbound.Listen = old.Inbound.Listen })
		keep(inboundTLS, old.Inbound.TLS.Enabled() != now.Inbound.TLS.Enabled(), func() { now.Inbound.TLS = old.Inbound.TLS })
		keep("inbound.max_header_bytes", old.Inbound.MaxHeaderBytes != now.Inbound.MaxHeaderBytes, func() { now.Inbound.MaxHeaderBytes = old.Inbound.MaxHeaderBytes })
		keep("inbound.trusted_proxies", !slices.Equal(old.Inbound.TrustedProxies, now.Inbound.TrustedProxies), func() { now.Inbound.TrustedProxies = old.Inbound.TrustedProxies })
	}
	if old.Outbound != nil {
		keep("outbound.listen", old.Outbound.Listen != now.Outbound.Listen, func() { now.Outbound.Listen = old.Outbound.Listen })
		routes, routesErr := holdBackRoutes(old, now)
		waiting, err = append(waiting, routes...), errors.Join(err, routesErr)
	}
	slices.Sort(waiting)
	return waiting, err
}

// holdBackRoutes keeps the routes with a listener of their own as they are open now.
func holdBackRoutes(old, now *config.Config) (waiting []string, err error) {
	routes := slices.Clone(now.Outbound.Routes)
	for i, r := range routes {
		before := slices.IndexFunc(old.Outbound.Routes, func(o config.Route) bool { return o.Name == r.Name && o.Listen.IsSet() })
		switch {
		case before >= 0 && !r.Listen.IsSet(), before < 0 && r.Listen.IsSet():
			waiting = append(waiting, "outbound.routes["+r.Name+"].listen")
			if before >= 0 {
				routes[i] = old.Outbound.Routes[before]
				err = errors.Join(err, keepIssuer(old, now, routes[i].Issuer))
			} else {
				routes[i].Name = "" // dropped below
			}
		case before >= 0 && old.Outbound.Routes[before].Listen != r.Listen:
			waiting = append(waiting, "outbound.routes["+r.Name+"].listen")
			routes[i].Listen = old.Outbound.Routes[before].Listen
		}
	}
	routes = slices.DeleteFunc(routes, func(r config.Route) bool { return r.Name == "" })
	for _, o := range old.Outbound.Routes {
		if o.Listen.IsSet() && !slices.ContainsFunc(now.Outbound.Routes, func(r config.Route) bool { return r.Name == o.Name }) {
			waiting = append(waiting, "outbound.routes["+o.Name+"].listen")
			routes = append(routes, o)
			err = errors.Join(err, keepIssuer(old, now, o.Issuer))
		}
	}
	now.Outbound.Routes = routes
	return waiting, err
}

// keepIssuer keeps an issuer that something held back still needs, and our client there where there is none any more. One of that
// name that is another server now cannot take its place.
func keepIssuer(old, now *config.Config, name string) error {
	same := func(i config.Issuer) bool { return i.Name == name }
	was := slices.IndexFunc(old.Issuers, same)
	if was < 0 {
		return nil
	}
	before := old.Issuers[was]
	is := slices.IndexFunc(now.Issuers, same)
	if is < 0 {
		now.Issuers = append(now.Issuers, before)
		return nil
	}
	if !sameServer(now.Issuers[is], before) {
		return fmt.Errorf("issuers[%s]: is another server now, and what needs a restart still uses the old one; give the new one another name, or restart", name)
	}
	if now.Issuers[is].Client.ID == "" {
		now.Issuers[is].Client = before.Client
	}
	return nil
}
