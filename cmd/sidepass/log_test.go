package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/sidepass/sidepass/config"
	"github.com/sidepass/sidepass/proxy"
	"github.com/sidepass/sidepass/proxy/engine"
	"github.com/sidepass/sidepass/proxy/jwks"
	"github.com/sidepass/sidepass/proxy/outbound"
	"github.com/sidepass/sidepass/tokencache"
	"github.com/sidepass/sidepass/tokencache/source"
)

// An entry is one line, and nothing in it is a command to a terminal, wherever it stands.
func TestAnEntryIsOnePlainLine(t *testing.T) {
	for _, format := range []string{"json", "console"} {
		for name, text := range map[string]string{
			"plain":           "orders of café №1",
			"line feed":       "a\n{\"msg\":\"forged\"}",
			"carriage return": "a\r\rforged",
			"escape":          "a\x1b[2J\x1b]0;title\a",
			"C1":              "a\u009b2J\u0085",
			"DEL":             "a\x7f\x7f",
			"separators":      "a\u2028b\u2029",
			"direction":       "a\u202egpj.exe\u2066",
		} {
			var out bytes.Buffer
			log, requests, _ := newLogger(config.Log{Level: "info", Format: format}, &out)
			log.Info(text, zap.String("path", text), zap.Error(errors.New(text)))
			requests.Named("decision").Info("deny", zap.String("client", text))
			entries := strings.SplitAfter(out.String(), "\n")
			if len(entries) != 3 || entries[2] != "" {
				t.Errorf("%s, %s: want two lines, got %q", format, name, out.String())
			}
			if i := strings.IndexFunc(strings.ReplaceAll(out.String(), "\n", ""), commands); i >= 0 {
				t.Errorf("%s, %s: a command to the terminal is left: %q", format, name, out.String())
			}
			var fields map[string]any
			if format == "json" && (json.Unmarshal([]byte(entries[0]), &fields) != nil || fields["path"] != text || fields["msg"] != text) {
				t.Errorf("%s: the text does not read back as it was: %q", name, entries[0])
			}
		}
	}
}

// What is decided is written whatever the level is.
func TestTheLevelLeavesDecisionsAlone(t *testing.T) {
	var out bytes.Buffer
	log, requests, level := newLogger(config.Log{Level: "error", Format: "json"}, &out)
	log.Info("an event")
	if out.Len() > 0 {
		t.Errorf("below the level, and written: %s", &out)
	}
	requests.Named("decision").Info("deny")
	if !strings.Contains(out.String(), `"logger":"decision","msg":"deny"`) {
		t.Errorf("no decision: %s", &out)
	}
	setLevel(level, "info")
	log.Info("an event")
	if !strings.Contains(out.String(), "an event") {
		t.Errorf("the level is info again: %s", &out)
	}
}

// What goes on as it is, is said once; what changes all the time, once a minute; and what ends is said.
func TestStatesAreSaidOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s states
		for i, c := range []struct {
			after time.Duration
			state string
			said  bool
		}{
			{0, good, false}, {0, "timeout", true}, {time.Hour, "timeout", false}, {0, "unreachable", true}, {0, good, true},
			{time.Second, "unreachable", false}, {time.Second, "unreachable", false}, {time.Minute, "unreachable", true}, {0, good, true}, {0, good, false},
			{time.Second, "timeout", true}, {time.Second, good, false}, {time.Minute, good, true},
		} {
			time.Sleep(c.after)
			if got := s.turn(c.state, "token", "orders"); got != c.said {
				t.Errorf("%d: %q is said: %v, want %v", i, c.state, got, c.said)
			}
		}
		if !s.turn("timeout", "token", "billing") {
			t.Error("one thing's state is taken for another's")
		}
	})
}

// An outage is a line when it begins and one when it ends, however many ask meanwhile.
func TestAnOutageIsSaidOnce(t *testing.T) {
	core, logs := observer.New(zap.InfoLevel)
	s, err := newParts(sidecarOptions{Log: zap.New(core)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	o := s.process.observe
	orders := tokencache.Labels{Issuer: "idp", Grant: source.ClientCredentials, Routes: []string{"orders"}}
	exchanged := tokencache.Labels{Issuer: "idp", Grant: source.TokenExchange, Routes: []string{"mail"}}
	down := &tokencache.Failure{Result: tokencache.ResultUnreachable, Detail: "the issuer cannot be reached"}
	token := tokencache.NewToken("t", "", time.Now(), time.Hour)
	for _, c := range []struct {
		name  string
		do    func()
		words []string
	}{
		{"no token", func() { o.tokens.Failed(orders, down) }, []string{"no token"}},
		{"exchanges", func() { o.tokens.Failed(exchanged, down) }, []string{"no token"}},
		{"refused subjects", func() { o.tokens.Failed(exchanged, &tokencache.Failure{Result: "invalid_grant", Subject: true}) }, nil},
		{"refused for good", func() { o.tokens.Failed(orders, &tokencache.Failure{Result: "invalid_client"}) }, []string{"no token"}},
		{"a token again", func() { o.tokens.Stored(exchanged, token) }, []string{"token obtained"}},
		{"keys", func() { o.keys("idp").Refreshed(jwks.ResultUnreachable, 2, errors.New("down")) }, []string{"the keys could not be refreshed"}},
		{"keys again", func() { o.keys("idp").Refreshed("ok", 2, nil) }, []string{"keys refreshed"}},
		{"introspection", func() { o.introspect("idp").Asked(time.Second, errors.New("down")) }, []string{"the issuer could not be asked about a token"}},
		{"introspection again", func() { o.introspect("idp").Asked(time.Second, nil) }, []string{"the issuer answers about tokens again"}},
		{"401 that pass through", func() { o.outbound.Upstream401("orders", outbound.Suppressed) }, nil},
	} {
		for range 20 {
			c.do()
		}
		var words []string
		for _, e := range logs.TakeAll() {
			words = append(words, e.Message)
		}
		if strings.Join(words, ", ") != strings.Join(c.words, ", ") {
			t.Errorf("%s: the log has %q, want %q", c.name, words, c.words)
		}
	}
}

func BenchmarkDecisionLine(b *testing.B) {
	_, requests, _ := newLogger(config.Log{Level: "info", Format: "json"}, io.Discard)
	s := &sidecar{o: sidecarOptions{Requests: requests}}
	r := engine.Record{Listener: "inbound", Method: "GET", Host: "orders.example.com", Path: "/orders/12345", Remote: "10.0.0.7:43210", Status: 200, Reason: proxy.OK,
		Note: proxy.Note{Rule: "read-orders", Issuer: "auth0", Client: "Yq3kX1pVb0aB7TtO0mJ5yC2sQz8rLwEd", Decision: proxy.Allow}}
	b.ReportAllocs()
	for b.Loop() {
		s.decided("allow", &r)
	}
}
