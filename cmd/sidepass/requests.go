package main

import (
	"io"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/sidepass/sidepass/proxy"
	"github.com/sidepass/sidepass/proxy/admin"
	"github.com/sidepass/sidepass/proxy/engine"
)

// longest is how many bytes of one thing that a request brought go into its line. Container runtimes cut lines of 16 KiB and more:
// what follows the cut would begin a line that the sender has written.
const longest = 1024

// clip shortens what a request brought.
func clip(key, value string) zap.Field {
	if len(value) > longest {
		value = value[:longest] + "…"
	}
	return zap.String(key, value)
}

// clipped shortens each line of net/http and crypto/tls, which quote what a client sent.
type clipped struct{ io.Writer }

func (w clipped) Write(line []byte) (int, error) {
	if len(line) <= longest {
		return w.Writer.Write(line)
	}
	if _, err := w.Writer.Write(append(line[:longest:longest], "…"...)); err != nil {
		return 0, err
	}
	return len(line), nil
}

// given is a field for a value that not every line has.
func given(key, value string) zap.Field {
	if value == "" {
		return zap.Skip()
	}
	return clip(key, value)
}

// decisionOf is what was decided about an inbound request. One that was refused before the gate was asked was denied.
func decisionOf(r *engine.Record) proxy.Decision {
	if r.Note.Decision == "" && r.Instance != "" {
		return proxy.Deny
	}
	return r.Note.Decision
}

// decided writes the line of a decision. It needs no other line to be understood. The token's subject is not in it: it may be a person.
func (s *sidecar) decided(decision proxy.Decision, r *engine.Record) {
	reason, detail := r.Reason, r.Detail
	if judged := r.Note.Judged; judged != "" && judged != reason {
		reason, detail = judged, ""
	}
	s.o.Requests.Named("decision").Info(string(decision), zap.String("reason", string(reason)), given("detail", detail),
		zap.String("rule", r.Note.Rule), zap.String("issuer", r.Note.Issuer), clip("client", r.Note.Client),
		clip("method", r.Method), clip("host", r.Host), clip("path", r.Path), zap.Int("status", r.Status), zap.String("remote", r.Remote),
		zap.String("instance", r.Instance), given("trace_id", traceID(r.Note)))
}

// toldBy says whether a decision's line tells everything that was wrong with a request: of one that was let through in audit mode
// something else can go wrong afterwards.
func toldBy(decision proxy.Decision, r *engine.Record) bool {
	return decision == proxy.Deny || decision == proxy.WouldDeny && r.Instance == "" && r.Ended == "" && r.Status > 0 && r.Status < 500
}

// refusals has what admin and metrics refuse logged like the requests of the other listeners.
func (s *sidecar) refusals(listener string) *admin.Observer {
	return &admin.Observer{Refused: func(r admin.Refused) {
		status := r.Reason.Status()
		if !s.logs.wants(status, r.Reason, false) {
			return
		}
		s.o.Requests.Named("access").Info(listener, zap.String("listener", listener), clip("method", r.Method), clip("path", r.Path), zap.Int("status", status),
			zap.String("reason", string(r.Reason)), given("detail", r.Detail), zap.String("remote", r.Remote), zap.String("instance", r.Instance))
	}, LevelSet: func(from, to zapcore.Level, remote string) {
		s.o.Requests.Info("the log level was changed on admin", zap.Stringer("from", from), zap.Stringer("to", to), zap.String("remote", remote))
	}}
}

// issuerOf is the issuer whose tokens a route sends; "" for a word that is no route.
func (s *sidecar) issuerOf(route string) string {
	if g := s.current.Load(); g != nil {
		for _, r := range g.routes {
			if r.config.Name == route {
				return r.config.Issuer
			}
		}
	}
	return ""
}
