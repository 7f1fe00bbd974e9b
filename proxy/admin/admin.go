// Package admin is what an operator, Prometheus and the kubelet see of the sidecar: its metrics, its health, a status
// page, the log level, and the token API for callers that cannot use a proxy.
//
// There are two handlers for two listeners. [MetricsHandler] faces the network, and changes and reveals nothing.
// [Handler] faces an operator on the same host; a guard keeps browsers from being used against it. Neither knows where
// its facts come from: functions give them.
package admin

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/pprof"
	"strings"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/sidepass/sidepass/proxy"
)

// Options are what [Handler] serves. They are not changed later; a reload makes a new handler.
type Options struct {
	// Listen is the listener's address as it is configured: host:port, :port, or unix:….
	Listen string
	// Status gives the sidecar's state for / and /api/status. Required.
	Status func() Status
	// Config gives the effective configuration for /api/config as a JSON document, secrets redacted. Required.
	Config func() json.RawMessage
	// Events keeps open pages up to date, at /api/events; nil serves nothing there, and the pages are static.
	Events *Events
	// Level is served at /log/level; nil serves nothing there.
	Level *zap.AtomicLevel
	// Pprof serves /debug/pprof/.
	Pprof bool
	// TokenAPI serves /token, with the tokens that Token gives.
	TokenAPI bool
	// Token returns the route's token, from the cache where there is one. It may block until ctx ends, which it does
	// with the client's connection. An error that is no [TokenError] is answered with internal_error. Required with TokenAPI.
	Token func(ctx context.Context, route string) (TokenAnswer, error)
	// Observer is told of refusals; nil is not.
	Observer *Observer
}

type handler struct {
	Options
	guard guard
}

// Handler serves the admin listener: /, /api/status, /api/config, /api/events, /log/level, and where they are switched on
// /debug/pprof/ and /token.
func Handler(o Options) http.Handler {
	if o.Observer == nil {
		o.Observer = &Observer{}
	}
	return &handler{o, newGuard(o.Listen)}
}

// ServeHTTP judges in the order that the listeners for requests have: TRACE, the Host, the site, what is asked for.
func (a *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	guarded(w.Header())
	if r.Method == http.MethodTrace || r.Method == http.MethodConnect {
		a.Observer.reading(w, r)
		return
	}
	if reason, detail := a.guard.verdict(r); reason != proxy.OK {
		a.Observer.refuse(w, r, proxy.Verdict{Reason: reason, Detail: detail})
		return
	}
	path := r.URL.Path
	switch {
	case path == "/":
		a.page(w, r)
	case path == "/api/status":
		if a.Observer.reading(w, r) {
			document(w, http.StatusOK, a.status())
		}
	case path == "/api/config":
		if a.Observer.reading(w, r) {
			document(w, http.StatusOK, a.Config())
		}
	case path == "/api/events" && a.Events != nil:
		a.events(w, r)
	case path == "/log/level" && a.Level != nil:
		a.level(w, r)
	case path == "/token" && a.TokenAPI:
		a.token(w, r)
	case a.Pprof && strings.HasPrefix(path, pprofRoot):
		a.pprof(w, r)
	default:
		notFound(w)
	}
}

const pprofRoot = "/debug/pprof/"

// pprof serves the profiles. The command line is left out: nothing needs it, and what is in it is not ours to show.
func (a *handler) pprof(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case pprofRoot + "symbol":
		if a.Observer.allowed(w, r, http.MethodGet, http.MethodHead, http.MethodPost) {
			pprof.Symbol(w, r)
		}
	case pprofRoot + "profile":
		if a.Observer.reading(w, r) {
			pprof.Profile(w, r)
		}
	case pprofRoot + "trace":
		if a.Observer.reading(w, r) {
			pprof.Trace(w, r)
		}
	default:
		if a.Observer.reading(w, r) {
			pprof.Index(w, r)
		}
	}
}

// levels are those that the configuration knows.
var levels = map[string]zapcore.Level{
	"debug": zapcore.DebugLevel, "info": zapcore.InfoLevel, "warn": zapcore.WarnLevel, "error": zapcore.ErrorLevel,
}

type levelDocument struct {
	Level string `json:"level"`
}

// level shows or sets the log level. A form cannot set it: it has to be a PUT, which a browser sends for another site only after
// it has asked, and is not told that it may.
func (a *handler) level(w http.ResponseWriter, r *http.Request) {
	if !a.Observer.allowed(w, r, http.MethodGet, http.MethodHead, http.MethodPut) {
		return
	}
	if r.Method == http.MethodPut {
		level, problem := wantedLevel(w, r)
		if problem != "" {
			a.Observer.refuse(w, r, proxy.Verdict{Reason: proxy.MalformedRequest, Detail: problem})
			return
		}
		before := a.Level.Level()
		a.Level.SetLevel(level)
		if a.Observer.LevelSet != nil && level != before {
			a.Observer.LevelSet(before, level, r.RemoteAddr)
		}
	}
	document(w, http.StatusOK, levelDocument{a.Level.String()})
}

// wantedLevel reads the level from a PUT, or says what is wrong with it.
func wantedLevel(w http.ResponseWriter, r *http.Request) (zapcore.Level, string) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1024))
	var want levelDocument
	if err != nil || json.Unmarshal(body, &want) != nil {
		return 0, `The body is not {"level": "…"}.`
	}
	level, ok := levels[strings.ToLower(want.Level)]
	if !ok {
		return 0, "The level is debug, info, warn or error."
	}
	return level, ""
}
