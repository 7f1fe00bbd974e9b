package main

import (
	"cmp"
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
}

func (s *sidecar) observers() observers {
	log, m := s.o.Log, s.metrics
	return observers{
		tokens: tokencache.Observer{
			Requested: func(l tokencache.Labels, result string, took time.Duration) {
				m.TokenRequest(l.Issuer, first(l.Routes), l.Grant, result, took)
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
				log.Log(level, "token obtained", zap.String("issuer", l.Issuer), zap.Strings("routes", l.Routes), zap.Time("expires", t.Expiry), zap.String("scope", t.Scope))
			},
			Taken: func(l tokencache.Labels, t *tokencache.Token) {
				for _, r := range l.Routes {
					m.TokenObtained(r, time.Now())
					m.TokenExpiry(r, t.Expiry)
				}
				log.Info("token taken from the shared cache", zap.String("issuer", l.Issuer), zap.Strings("routes", l.Routes), zap.Time("expires", t.Expiry), zap.String("scope", t.Scope))
			},
			Failed: func(l tokencache.Labels, f *tokencache.Failure) {
				log.Warn("no token", zap.String("issuer", l.Issuer), zap.Strings("routes", l.Routes), zap.String("result", f.Result),
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
					m.TokenRequest(l.Issuer, first(l.Routes), l.Grant, result, took)
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
				log.Info("the upstream refused the token", zap.String("route", route), zap.String("action", string(action)))
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
				m.JWKSRefresh(issuer, err == nil)
				if err != nil {
					log.Warn("the keys could not be refreshed", zap.String("issuer", issuer), zap.String("result", result), zap.Int("keys", keys), zap.Error(err))
					return
				}
				m.JWKSKeys(issuer, keys, time.Now())
				log.Debug("keys refreshed", zap.String("issuer", issuer), zap.Int("keys", keys))
			}}
		},
		introspect: func(issuer string) introspect.Observer {
			return introspect.Observer{
				CacheLookup: func(result string) { m.VerifiedTokenLookup(result != verify.CacheMiss) },
				Asked: func(took time.Duration, err error) {
					if err != nil {
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
		engine: func(listener string) engine.Observer {
			done := s.outboundDone
			if listener == inboundListener {
				done = s.inboundDone
			}
			return engine.Observer{Done: done}
		},
	}
}

func first(routes []string) string {
	if len(routes) == 0 {
		return ""
	}
	return routes[0]
}

func (s *sidecar) outboundDone(r engine.Record) {
	s.metrics.Outbound(r.Note.Rule, r.Status, r.Reason, r.Duration)
	s.metrics.Engine(r.Engine == engine.Lean)
	if s.logs.wants(r.Status, r.Reason) {
		s.access("outbound", r, zap.String("route", r.Note.Rule))
	}
}

func (s *sidecar) inboundDone(r engine.Record) {
	decision, reason := r.Note.Decision, r.Reason
	s.metrics.Inbound(r.Note.Rule, r.Note.Issuer, decision, reason, r.Duration)
	s.metrics.Engine(r.Engine == engine.Lean)
	if s.logs.wants(r.Status, cmp.Or(r.Ended, r.Reason)) {
		s.access("inbound", r, zap.String("rule", r.Note.Rule))
	}
	if s.logs.wantsDecision(decision) {
		s.o.Log.Named("decision").Info(string(decision), zap.String("reason", string(reason)), zap.String("rule", r.Note.Rule), zap.String("issuer", r.Note.Issuer),
			zap.String("client", r.Note.Client), zap.String("method", r.Method), zap.String("path", r.Path), zap.String("remote", r.Remote), zap.String("instance", r.Instance))
	}
}

// access writes one line a request. The path is logged without its query, where some put tokens.
func (s *sidecar) access(direction string, r engine.Record, rule zap.Field) {
	fields := []zap.Field{zap.String("listener", r.Listener), rule, zap.String("method", r.Method), zap.String("host", r.Host), zap.String("path", r.Path),
		zap.Int("status", r.Status), zap.String("reason", string(r.Reason)), zap.Duration("duration", r.Duration), zap.String("upstream", r.Upstream),
		zap.String("remote", r.Remote), zap.Int64("received", r.Received), zap.Int64("sent", r.Sent)}
	if r.Ended != "" {
		fields = append(fields, zap.String("ended", string(r.Ended)))
	}
	if r.Again {
		fields = append(fields, zap.Bool("again", true))
	}
	if r.Instance != "" {
		fields = append(fields, zap.String("instance", r.Instance))
	}
	if r.Err != nil {
		fields = append(fields, zap.Error(r.Err))
	}
	s.o.Log.Named("access").Info(direction, fields...)
}

// logChoice is log.access and log.decisions of the current configuration.
type logChoice struct{ current atomic.Pointer[config.Log] }

func (l *logChoice) wants(status int, reason proxy.Reason) bool {
	switch l.current.Load().Access {
	case "all":
		return true
	case "errors":
		return status >= 500 || status == 0 || reason != proxy.OK
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
			l.Certificates = []string{inboundTLS}
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
