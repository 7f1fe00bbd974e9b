package main

import (
	"cmp"
	"context"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/sidepass/sidepass/config"
	"github.com/sidepass/sidepass/proxy"
	"github.com/sidepass/sidepass/proxy/admin"
	"github.com/sidepass/sidepass/proxy/engine"
	"github.com/sidepass/sidepass/proxy/inbound"
	"github.com/sidepass/sidepass/proxy/introspect"
	"github.com/sidepass/sidepass/proxy/jwks"
	"github.com/sidepass/sidepass/proxy/outbound"
	"github.com/sidepass/sidepass/proxy/revocation"
	revocationredis "github.com/sidepass/sidepass/proxy/revocation/redis"
	"github.com/sidepass/sidepass/proxy/tracing"
	"github.com/sidepass/sidepass/proxy/verify"
	"github.com/sidepass/sidepass/state"
	"github.com/sidepass/sidepass/tokencache"
	"github.com/sidepass/sidepass/tokencache/redis"
	"github.com/sidepass/sidepass/tokencache/source"
)

// observers hang the log and the metrics on what the packages report. Nothing that they are told holds a secret.
type observers struct {
	tokens     tokencache.Observer
	shared     redis.Observer
	source     func(tokencache.Labels, *tokencache.Budget) source.Observer
	outbound   outbound.Observer
	inbound    inbound.Observer
	verify     verify.Observer
	keys       func(issuer string) jwks.Observer
	introspect func(issuer string) introspect.Observer
	revocation func(revokedKey) (revocation.Observer, revocationredis.Observer)
	state      state.Observer
	engine     func(listener string) engine.Observer
	explain    func() bool                             // whether inbound's next refusal is to be explained
	answers    func(issuer string, res *http.Response) // to all calls to it; nil is nobody
}

func (s *sidecar) observers() observers {
	log, m := s.o.Log, s.metrics
	var known states // what goes on as it is, is not said again
	return observers{
		tokens: tokencache.Observer{
			Requesting: func(ctx context.Context, l tokencache.Labels) context.Context {
				return s.process.tracing.Requesting(ctx, l.Issuer, l.Grant, first(l.Routes))
			},
			Requested: func(ctx context.Context, l tokencache.Labels, result string, took time.Duration) {
				m.TokenRequest(l.Issuer, first(l.Routes), l.Grant, result, took, s.process.tracing.Requested(ctx, result))
				log.Debug("token request", zap.String("issuer", l.Issuer), zap.Strings("routes", l.Routes), zap.String("result", result), zap.Duration("took", took))
			},
			Stored: func(l tokencache.Labels, t *tokencache.Token) {
				for _, r := range l.Routes {
					m.TokenObtained(r, time.Now())
					if l.Grant == source.ClientCredentials {
						m.TokenExpiry(r, t.Expiry) // an exchanged token is one of many
					}
				}
				level := zap.InfoLevel
				if l.Grant != source.ClientCredentials {
					level = zap.DebugLevel // one for each subject
				}
				if known.turn(good, tokenOf(l)...) {
					level = zap.InfoLevel
				}
				log.Log(level, "token obtained", zap.String("issuer", l.Issuer), zap.Strings("routes", l.Routes), zap.Time("expires", t.Expiry), zap.String("scope", t.Scope))
			},
			Taken: func(l tokencache.Labels, t *tokencache.Token) {
				for _, r := range l.Routes {
					m.TokenObtained(r, time.Now())
					m.TokenExpiry(r, t.Expiry)
				}
				known.turn(good, tokenOf(l)...)
				log.Info("token taken from the shared cache", zap.String("issuer", l.Issuer), zap.Strings("routes", l.Routes), zap.Time("expires", t.Expiry), zap.String("scope", t.Scope))
			},
			Failed: func(l tokencache.Labels, f *tokencache.Failure) {
				level := zap.WarnLevel
				if f.Subject || !known.turn(f.Result, tokenOf(l)...) { // one caller's, told by its request's own line; or said already
					level = zap.DebugLevel
				}
				log.Log(level, "no token", zap.String("issuer", l.Issuer), zap.Strings("routes", l.Routes), zap.String("result", f.Result),
					zap.Stringer("kind", f.Kind), zap.Duration("retry_after", f.RetryAfter), zap.String("detail", f.Detail))
			},
			Panicked: func(l tokencache.Labels, stack []byte) {
				log.Error("a token request panicked; please report this", zap.Strings("routes", l.Routes), zap.ByteString("stack", stack))
			},
		},
		shared: redis.Observer{Changed: func(up bool, why string) {
			m.SharedUp(up)
			if up {
				log.Info("tokens are shared with other replicas")
				return
			}
			log.Warn("tokens are not shared with other replicas: the shared cache cannot be used; this replica goes on by itself", zap.String("reason", why))
		}},
		source: func(l tokencache.Labels, budget *tokencache.Budget) source.Observer {
			var once sync.Once // a narrowed scope is counted each time and logged once
			return source.Observer{
				Again: func(result string, took time.Duration) {
					m.TokenRequest(l.Issuer, first(l.Routes), l.Grant, result, took, "")
				},
				Narrowed: func(asked, granted []string) {
					for _, r := range l.Routes {
						m.ScopeNarrowed(r)
					}
					once.Do(func() {
						log.Warn("fewer scopes were granted than asked for; see what the application is granted at the authorization server",
							zap.String("issuer", l.Issuer), zap.Strings("routes", l.Routes), zap.Strings("asked", asked), zap.Strings("granted", granted))
					})
				},
				Quota: func(bucket string, remaining float64) { m.QuotaRemaining(l.Issuer, bucket, remaining) },
				Skew:  func(ahead time.Duration) { m.ClockSkew(l.Issuer, ahead) },
			}
		},
		outbound: outbound.Observer{
			Lookup: func(route string, result tokencache.Lookup) { m.TokenCacheLookup(route, string(result)) },
			Upstream401: func(route string, action outbound.Action) {
				m.Upstream401(route, string(action))
				level := zap.InfoLevel
				if action == outbound.Suppressed { // each of its answers; the others are at most one in 30 s
					level = zap.DebugLevel
				}
				log.Log(level, "the upstream refused the token", zap.String("route", route), zap.String("action", string(action)))
			},
		},
		inbound: inbound.Observer{
			ClaimDropped: func(claim, header string) {
				log.Debug("a claim cannot be a header's value and was not passed on", zap.String("claim", claim), zap.String("header", header))
			},
		},
		verify: verify.Observer{CacheLookup: func(result string) { m.VerifiedTokenLookup(result != verify.CacheMiss) }},
		keys: func(issuer string) jwks.Observer {
			return jwks.Observer{Refreshed: func(result string, keys int, err error) {
				if result == jwks.ResultNone {
					m.JWKSNone(issuer)
					if known.turn(result, "keys", issuer) {
						log.Info("the issuer has no keys: it is asked about each token, and JWTs of it cannot be verified", zap.String("issuer", issuer))
					}
					return
				}
				m.JWKSRefresh(issuer, err == nil)
				if err != nil {
					level := zap.WarnLevel
					if !known.turn(result, "keys", issuer) {
						level = zap.DebugLevel
					}
					log.Log(level, "the keys could not be refreshed", zap.String("issuer", issuer), zap.String("result", result), zap.Int("keys", keys), zap.Error(err))
					return
				}
				m.JWKSKeys(issuer, keys, time.Now())
				level := zap.DebugLevel
				if known.turn(good, "keys", issuer) {
					level = zap.InfoLevel
				}
				log.Log(level, "keys refreshed", zap.String("issuer", issuer), zap.Int("keys", keys))
			}, Skew: func(ahead time.Duration) { m.ClockSkew(issuer, ahead) }}
		},
		introspect: func(issuer string) introspect.Observer {
			return introspect.Observer{
				CacheLookup: func(result string) { m.VerifiedTokenLookup(result != verify.CacheMiss) },
				Asked: func(took time.Duration, err error) {
					switch {
					case err == nil && known.turn(good, "introspection", issuer):
						log.Info("the issuer answers about tokens again", zap.String("issuer", issuer))
					case err != nil && known.turn("unavailable", "introspection", issuer):
						log.Warn("the issuer could not be asked about a token", zap.String("issuer", issuer), zap.Duration("took", took), zap.Error(err))
					}
				},
			}
		},
		state: state.Observer{
			Ignored: func(why error, files int) {
				log.Warn("files in tokens.state_dir are not used", zap.Int("files", files), zap.String("reason", why.Error()))
			},
			Failed: func(err error) {
				log.Error("tokens.state_dir cannot be written; keys and tokens will not survive a restart until it can", zap.Error(err))
			},
			Mended: func() { log.Info("tokens.state_dir can be written again") },
		},
		revocation: s.revocationObservers,
		explain:    s.recent.Wanted,
		engine: func(listener string) engine.Observer {
			done, direction := s.outboundDone, tracing.Outbound
			if listener == inboundListener {
				done, direction = s.inboundDone, tracing.Inbound
			}
			tracer := s.process.tracing
			if tracer == nil {
				return engine.Observer{Done: done}
			}
			return engine.Observer{Done: func(r engine.Record) {
				tracer.Done(direction, r)
				done(r)
			}}
		},
	}
}

// tokenOf names a token for [states].
func tokenOf(l tokencache.Labels) []string {
	return append([]string{"token", l.Issuer, l.Grant}, l.Routes...)
}

func first(routes []string) string {
	if len(routes) == 0 {
		return ""
	}
	return routes[0]
}

func (s *sidecar) outboundDone(r engine.Record) {
	s.metrics.Outbound(r.Note.Rule, r.Status, r.Reason, r.Duration, traceID(r.Note))
	s.metrics.Engine(r.Engine == engine.Lean)
	if r.Reason != proxy.OK {
		s.remember(outboundListener, &r)
	}
	if s.logs.wants(r.Status, r.Reason, false) {
		s.access("outbound", r, zap.String("route", r.Note.Rule), given("issuer", s.issuerOf(r.Note.Rule)))
	}
}

func (s *sidecar) inboundDone(r engine.Record) {
	decision, reason := decisionOf(&r), cmp.Or(r.Note.Judged, r.Reason)
	s.metrics.Inbound(r.Note.Rule, r.Note.Issuer, decision, reason, r.Duration, traceID(r.Note))
	s.metrics.Engine(r.Engine == engine.Lean)
	if r.Reason != proxy.OK {
		s.remember(inboundListener, &r)
	}
	told := false
	if s.logs.wantsDecision(decision) {
		s.decided(decision, &r)
		told = toldBy(decision, &r)
	}
	if s.logs.wants(r.Status, cmp.Or(r.Ended, r.Reason), told) {
		s.access("inbound", r, zap.String("rule", r.Note.Rule), given("issuer", r.Note.Issuer), given("client", r.Note.Client))
	}
}

// access writes one line a request. The path is logged without its query, where some put tokens.
func (s *sidecar) access(direction string, r engine.Record, judged ...zap.Field) {
	fields := []zap.Field{zap.String("listener", r.Listener)}
	fields = append(append(fields, judged...), clip("method", r.Method), clip("host", r.Host), clip("path", r.Path),
		zap.Int("status", r.Status), zap.String("reason", string(r.Reason)), given("detail", r.Detail), zap.Duration("duration", r.Duration), zap.String("upstream", r.Upstream),
		zap.String("remote", r.Remote), zap.Int64("received", r.Received), zap.Int64("sent", r.Sent))
	if r.Ended != "" {
		fields = append(fields, zap.String("ended", string(r.Ended)))
	}
	if r.Again {
		fields = append(fields, zap.Bool("again", true))
	}
	if r.Instance != "" {
		fields = append(fields, zap.String("instance", r.Instance))
	}
	if id := traceID(r.Note); id != "" {
		fields = append(fields, zap.String("trace_id", id))
	}
	if r.Err != nil && (r.Detail == "" || !strings.Contains(r.Err.Error(), r.Detail)) {
		fields = append(fields, zap.Error(r.Err))
	}
	s.o.Requests.Named("access").Info(direction, fields...)
}

// logChoice is log.access and log.decisions of the current configuration.
type logChoice struct{ current atomic.Pointer[config.Log] }

// wants says whether a request gets an access line; told, that another line has said already what was wrong with it.
func (l *logChoice) wants(status int, reason proxy.Reason, told bool) bool {
	switch l.current.Load().Access {
	case "all":
		return true
	case "errors":
		return !told && (status >= 500 || status == 0 || reason != proxy.OK)
	}
	return false
}

func (l *logChoice) wantsDecision(d proxy.Decision) bool {
	switch l.current.Load().Decisions {
	case "all":
		return d != ""
	case "refusals":
		return d == proxy.Deny || d == proxy.WouldDeny
	}
	return false
}

// labels are the label values that a configuration allows.
func labels(loaded *config.Loaded) admin.Labels {
	var l admin.Labels
	c := loaded.Config
	l.Shared = sharesTokens(c)
	for _, r := range loaded.References() {
		l.Files = append(l.Files, r.Key)
	}
	for _, i := range c.Issuers {
		for _, f := range [...]struct{ key, file string }{{"cert_file", i.Client.CertFile}, {"assertion_cert_file", i.Client.AssertionCertFile}} {
			if f.file != "" {
				l.Certificates = append(l.Certificates, clientCertificate(i.Name, f.key))
			}
		}
	}
	if c.Outbound != nil {
		l.Outbound = &admin.OutboundLabels{}
		for _, r := range c.Outbound.Routes {
			l.Outbound.Routes = append(l.Outbound.Routes, admin.Route{Name: r.Name, Issuer: r.Issuer, Grant: r.Grant})
		}
	}
	if c.Inbound != nil {
		l.Revocations = c.Inbound.RevocationFile != "" || c.Inbound.RevocationRedisURL.IsSet()
		if c.Inbound.RevocationFile != "" {
			l.Files = append(l.Files, revocationFile)
		}
		if c.Inbound.TLS.Enabled() {
			l.Certificates = append(l.Certificates, inboundTLS)
		}
		l.Inbound = &admin.InboundLabels{Audit: c.Inbound.Mode == "audit"}
		for _, t := range c.Inbound.Trust {
			l.Inbound.Issuers = append(l.Inbound.Issuers, t.Issuer)
		}
		for _, r := range c.Inbound.Rules {
			l.Inbound.Rules = append(l.Inbound.Rules, admin.Rule{Name: r.Name, Issuers: r.Issuers, Audit: r.Mode == "audit"})
		}
	}
	return l
}
