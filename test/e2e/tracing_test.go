package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sidepass/sidepass/test/issuer"
	"github.com/sidepass/sidepass/test/localaddr"
	"github.com/sidepass/sidepass/test/upstream"
)

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

const (
	theirTrace = "0af7651916cd43dd8448eb211c80319c"
	theirSpan  = "b7ad6b7169203331"
	theirs     = "00-" + theirTrace + "-" + theirSpan + "-01"
)

// eachEngine runs f with each engine, unless the run is for one of them.
func eachEngine(t *testing.T, f func(t *testing.T, engine string)) {
	engines := []string{"auto", "std"}
	if os.Getenv(engineVariable) != "" {
		engines = engines[:1] // the variable decides
	}
	for _, e := range engines {
		t.Run("engine "+e, func(t *testing.T) { t.Parallel(); f(t, e) })
	}
}

func tracingYAML(c *collector, engine string) string {
	return fmt.Sprintf("tracing: {endpoint: %q}\nengine: %s\n", c.URL, engine)
}

// A trace goes on through both sidecars: app, outbound, inbound, app; the token fetch is in it, and nothing that is secret.
func TestTraceThroughBothSidecars(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		c, app := startCollector(t), startUpstream(t)
		p := startPair(t, app.URL(), pairKeys{
			inbound: "  rules: [{name: read-orders, match: [\"GET /orders/{id}\"], scopes: [\"read:orders\"]}]\n" + tracingYAML(c, engine),
			more:    "tokens: {prefetch: false}\n" + tracingYAML(c, engine),
		})
		const canary = "canary-in-a-request"
		a := get(t, p.out.proxied(), "http://orders.internal/orders/7?key="+canary, "Traceparent", theirs, "Tracestate", "a=1", "Tracestate", "b=2,c=3",
			"Baggage", "user="+canary, "Authorization", "Bearer "+canary, "Cookie", canary, "User-Agent", canary)
		want(t, a, 200, "")

		is := func(kind, listener string) func(span) bool {
			return func(s span) bool { return s.trace == theirTrace && s.kind == kind && s.listener == listener }
		}
		of := func(parent span, kind string) func(span) bool {
			return func(s span) bool { return s.parent == parent.id && s.kind == kind }
		}
		outServer := c.find(t, "server, outbound", is("server", "outbound"))
		same(t, "parent of the first", outServer.parent, theirSpan)
		outClient := c.find(t, "client, outbound", of(outServer, "client"))
		inServer := c.find(t, "server, inbound", is("server", "inbound"))
		same(t, "parent inbound", inServer.parent, outClient.id)
		inClient := c.find(t, "client, inbound", of(inServer, "client"))
		wait := c.find(t, "wait for the token", of(outServer, "internal"))
		fetch := c.find(t, "token request", of(wait, "client"))

		seen, _ := app.Last()
		same(t, "traceparent at the app", seen.Header["Traceparent"], []string{"00-" + theirTrace + "-" + inClient.id + "-01"})
		same(t, "tracestate at the app", strings.Join(seen.Header["Tracestate"], ","), "a=1,b=2,c=3")
		same(t, "baggage at the app", seen.Header["Baggage"], []string{"user=" + canary})
		same(t, "tracestate of the span", outServer.state, "a=1,b=2,c=3")

		_, inPort, _ := net.SplitHostPort(p.in.address["in"])
		for _, e := range []struct {
			s    span
			name string
			want map[string]string
		}{
			{outServer, "GET orders", map[string]string{"http.request.method": "GET", "url.path": "/orders/7", "url.scheme": "http", "http.response.status_code": "200",
				"sidepass.route": "orders", "sidepass.reason": "ok", "sidepass.listener": "outbound"}},
			{outClient, "GET", map[string]string{"http.request.method": "GET", "url.path": "/orders/7", "url.scheme": "http", "http.response.status_code": "200",
				"server.address": "127.0.0.1", "server.port": inPort}},
			{inServer, "GET read-orders", map[string]string{"http.request.method": "GET", "url.path": "/orders/7", "url.scheme": "http", "http.response.status_code": "200",
				"sidepass.rule": "read-orders", "sidepass.reason": "ok", "sidepass.listener": "inbound", "sidepass.decision": "allow", "sidepass.issuer": "idp"}},
			{wait, "token orders", map[string]string{"sidepass.route": "orders", "sidepass.lookup": "miss"}},
			{fetch, "token request", map[string]string{"http.request.method": "POST", "sidepass.issuer": "idp", "sidepass.grant": "client_credentials",
				"sidepass.route": "orders", "sidepass.result": "ok"}},
		} {
			same(t, "name", e.s.name, e.name)
			same(t, "attributes of "+e.name, e.s.attributes, e.want)
			if e.s.failed || e.s.begun > e.s.ended || e.s.trace != theirTrace {
				t.Errorf("%+v", e.s)
			}
			same(t, "service", e.s.resource["service.name"], "sidepass")
		}
		if wait.begun > fetch.begun || wait.ended < fetch.ended || outServer.begun > wait.begun || outClient.begun < wait.ended {
			t.Errorf("these are not one within another, or one after another: %+v %+v %+v %+v", outServer, wait, fetch, outClient)
		}

		// The trace is the exemplar of the histograms, in the format that has them, and in the access log.
		const open = "application/openmetrics-text; version=1.0.0"
		exemplar := `# {trace_id="` + theirTrace + `"}`
		for s, names := range map[*sidecar][]string{
			p.out: {"sidepass_outbound_request_duration_seconds_bucket", "sidepass_token_request_duration_seconds_bucket"},
			p.in:  {"sidepass_inbound_request_duration_seconds_bucket"},
		} {
			page := get(t, direct, "http://"+s.address["metrics"]+"/metrics", "Accept", open)
			if !strings.HasPrefix(page.header.Get("Content-Type"), "application/openmetrics-text") {
				t.Errorf("content type %q", page.header.Get("Content-Type"))
			}
			for _, name := range names {
				if !slices.ContainsFunc(strings.Split(page.body, "\n"), func(l string) bool { return strings.HasPrefix(l, name) && strings.Contains(l, exemplar) }) {
					t.Errorf("%s has no exemplar", name)
				}
			}
			if plain := get(t, direct, "http://"+s.address["metrics"]+"/metrics"); strings.Contains(plain.body, theirTrace) {
				t.Error("the text format has no exemplars")
			}
			if !strings.Contains(s.log.String(), `"trace_id":"`+theirTrace+`"`) {
				t.Error("the access log does not name the trace")
			}
		}
		token := strings.TrimPrefix(seen.Header.Get("Authorization"), "Bearer ")
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, word := range []string{canary, secret, token} {
			if word == "" || strings.Contains(c.raw.String(), word) {
				t.Errorf("%q was exported", word)
			}
		}
	})
}

// What a request came with, and how it went on and ended.
func TestTraceOfOneRequest(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		c, app := startCollector(t), startUpstream(t)
		p := startPair(t, app.URL(), pairKeys{
			inbound: "  rules: [{name: audited, match: [/audited], mode: audit, scopes: [much]}, {name: all, match: [/]}]\n" + tracingYAML(c, engine),
			more:    tracingYAML(c, engine), routes: []string{`name: nowhere, host: nowhere.internal, upstream: "http://127.0.0.1:1", audience: ["https://orders"]`},
		})
		at := func(path string) func(span) bool {
			return func(s span) bool { return s.kind == "server" && s.attributes["url.path"] == path }
		}
		client := func(server span) []span {
			return slices.DeleteFunc(c.all(), func(s span) bool { return s.parent != server.id || s.kind != "client" })
		}
		app.Handle(func(w http.ResponseWriter, _ *http.Request, s upstream.Seen) bool {
			if s.Target == "/broken" {
				w.WriteHeader(http.StatusInternalServerError)
				return true
			}
			return false
		})
		header := func(target string) http.Header {
			i := slices.IndexFunc(app.Seen(), func(s upstream.Seen) bool { return s.Target == target })
			return app.Seen()[i].Header
		}
		direct := clientOf(t, p.in.address["in"], false)
		inbound := func(path string, header ...string) answer {
			return get(t, direct, "http://in.internal"+path, append(header, "Authorization", "Bearer "+mint(p.iss, nil))...)
		}

		// All is asked first: spans come a while later.
		type check func(t *testing.T)
		var checks []struct {
			name  string
			check check
		}
		ask := func(name string, f func() check) {
			checks = append(checks, struct {
				name  string
				check check
			}{name, f()})
		}
		ask("no parent", func() check {
			want(t, inbound("/orphan", "Tracestate", "stray=1"), 200, "")
			return func(t *testing.T) {
				s, h := c.find(t, "orphan", at("/orphan")), header("/orphan")
				same(t, "parent", s.parent, "")
				same(t, "traceparent", h.Get("Traceparent"), "00-"+s.trace+"-"+client(s)[0].id+"-01")
				same(t, "tracestate", h["Tracestate"], []string(nil))
			}
		})
		for i, parent := range [][]string{
			{"Traceparent", "00-" + theirTrace + "-xyz-01"},
			{"Traceparent", theirs, "Traceparent", "00-" + theirTrace + "-00f067aa0ba902b7-01"},
		} {
			path := fmt.Sprint("/unreadable", i)
			ask("a parent that nobody can read", func() check {
				want(t, inbound(path, parent...), 200, "")
				return func(t *testing.T) {
					if s := c.find(t, path, at(path)); s.parent != "" || s.trace == theirTrace {
						t.Errorf("%+v", s)
					}
					same(t, "traceparents at the app", len(header(path)["Traceparent"]), 1)
				}
			})
		}
		ask("a parent that is not recorded", func() check {
			want(t, inbound("/quiet", "Traceparent", theirs[:len(theirs)-1]+"0", "Tracestate", "a=1"), 200, "")
			return func(t *testing.T) {
				h := header("/quiet")
				if v := h.Get("Traceparent"); !strings.HasPrefix(v, "00-"+theirTrace+"-") || !strings.HasSuffix(v, "-00") {
					t.Errorf("traceparent at the app is %q", v)
				}
				same(t, "tracestate", h.Get("Tracestate"), "a=1")
				if slices.ContainsFunc(c.all(), at("/quiet")) {
					t.Error("it was recorded")
				}
			}
		})
		ask("refused by the gate", func() check {
			want(t, get(t, direct, "http://in.internal/refused", "Traceparent", theirs), 401, "no_token")
			return func(t *testing.T) {
				s := c.find(t, "refused", at("/refused"))
				same(t, "name", s.name, "GET all")
				same(t, "parent", s.parent, theirSpan)
				same(t, "why", []string{s.attributes["error.type"], s.reason, s.attributes["http.response.status_code"], s.attributes["sidepass.decision"]}, []string{"no_token", "no_token", "401", "deny"})
				same(t, "clients", len(client(s)), 0)
				if s.failed {
					t.Error("what the client did wrong is no error of this server")
				}
			}
		})
		ask("would have been refused", func() check {
			want(t, inbound("/audited"), 200, "")
			return func(t *testing.T) {
				s := c.find(t, "audited", at("/audited"))
				same(t, "why", []string{s.reason, s.attributes["sidepass.decision"], s.attributes["error.type"]}, []string{"insufficient_scope", "would_deny", ""})
			}
		})
		ask("refused before the gate", func() check {
			w := dialWire(t, p.in.address["in"])
			w.say("GET /%zz HTTP/1.1", "Host: a b", "")
			same(t, "status", w.hear("GET").status, 400)
			return func(t *testing.T) {
				if engine != "auto" || !lean() {
					t.Skip("net/http says so itself and tells nobody")
				}
				s := c.find(t, "malformed", func(s span) bool { return s.reason == "malformed_request" })
				same(t, "why", []string{s.name, s.attributes["error.type"], s.kind}, []string{"GET unmatched", "malformed_request", "server"})
			}
		})
		ask("the upstream fails", func() check {
			want(t, inbound("/broken"), 500, "")
			return func(t *testing.T) {
				s := c.find(t, "broken", at("/broken"))
				for _, s := range append(client(s), s) {
					if !s.failed || s.attributes["error.type"] != "500" {
						t.Errorf("%+v", s)
					}
				}
			}
		})
		ask("the upstream is not there", func() check {
			want(t, get(t, p.out.proxied(), "http://nowhere.internal/gone"), 502, "upstream_unreachable")
			return func(t *testing.T) {
				s := c.find(t, "gone", at("/gone"))
				for _, s := range append(client(s), s) {
					if !s.failed || s.attributes["error.type"] != "upstream_unreachable" {
						t.Errorf("%+v", s)
					}
				}
				same(t, "where", client(s)[0].attributes["server.port"], "1")
			}
		})
		ask("sent again", func() check {
			app := startUpstream(t)
			s := startBeside(t, outboundYAML(p.iss, "", ordersRoute(app.URL()))+tracingYAML(c, engine))
			var first atomic.Bool
			app.Handle(func(w http.ResponseWriter, _ *http.Request, _ upstream.Seen) bool {
				if first.Swap(true) {
					return false
				}
				w.WriteHeader(http.StatusUnauthorized)
				return true
			})
			want(t, get(t, s.proxied(), "http://orders.internal/again", "Traceparent", theirs), 200, "")
			return func(t *testing.T) {
				both := app.Seen()
				server := c.find(t, "again", at("/again"))
				same(t, "requests", len(both), 2)
				for i, status := range []string{"401", "200"} {
					sent := both[i].Header.Get("Traceparent")
					k := c.find(t, "try", func(s span) bool { return "00-"+s.trace+"-"+s.id+"-01" == sent })
					same(t, "parent", k.parent, server.id)
					same(t, "status", k.attributes["http.response.status_code"], status)
					same(t, "count", k.attributes["http.request.resend_count"], []string{"", "1"}[i])
				}
				wait := c.find(t, "the wait for a newer token", func(s span) bool { return s.parent == server.id && s.kind == "internal" })
				c.find(t, "the request for it", func(s span) bool { return s.parent == wait.id && s.name == "token request" })
			}
		})
		ask("no token", func() check {
			iss := startIssuer(t)
			s := startBeside(t, outboundYAML(iss, "", ordersRoute(app.URL()))+"tokens: {prefetch: false}\n"+tracingYAML(c, engine))
			iss.SetResponse(issuer.Token, issuer.Respond(400, `{"error":"invalid_client","error_description":"canary"}`))
			want(t, get(t, s.proxied(), "http://orders.internal/tokenless"), 502, "token_refused")
			return func(t *testing.T) {
				server := c.find(t, "tokenless", at("/tokenless"))
				wait := c.find(t, "wait", func(s span) bool { return s.parent == server.id })
				fetch := c.find(t, "fetch", func(s span) bool { return s.parent == wait.id })
				for s, why := range map[*span]string{&server: "token_refused", &wait: "invalid_client", &fetch: "invalid_client"} {
					if !s.failed || s.attributes["error.type"] != why {
						t.Errorf("%+v, want %s", s, why)
					}
				}
			}
		})
		ask("fetched ahead", func() check {
			return func(t *testing.T) {
				if !slices.ContainsFunc(c.all(), func(s span) bool {
					return s.name == "token request" && s.parent == "" && s.attributes["sidepass.result"] == "ok"
				}) {
					t.Error("no prefetch is a trace of its own")
				}
			}
		})
		for _, one := range checks {
			t.Run(one.name, one.check)
		}
	})
}

// Without tracing the fields of W3C Trace Context go both ways as they came, and no metric names a trace.
func TestTraceContextPassesUntraced(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		app := startUpstream(t)
		p := startPair(t, app.URL(), pairKeys{inbound: "engine: " + engine + "\n", more: "engine: " + engine + "\n"})
		want(t, get(t, p.out.proxied(), "http://orders.internal/", "Traceparent", theirs, "Tracestate", "a=1", "Tracestate", "b=2", "Baggage", "x=y"), 200, "")
		seen, _ := app.Last()
		same(t, "traceparent", seen.Header["Traceparent"], []string{theirs})
		same(t, "tracestate", seen.Header["Tracestate"], []string{"a=1", "b=2"})
		same(t, "baggage", seen.Header["Baggage"], []string{"x=y"})
		for _, s := range []*sidecar{p.in, p.out} {
			if page := get(t, direct, "http://"+s.address["metrics"]+"/metrics", "Accept", "application/openmetrics-text"); strings.Contains(page.body, "trace_id") {
				t.Error("an exemplar without tracing")
			}
			if strings.Contains(s.log.String(), "trace_id") {
				t.Error("a trace in the log")
			}
		}
	})
}

// Whatever the collector does, requests are answered, and the process ends.
func TestTraceCollectorTrouble(t *testing.T) {
	t.Parallel()
	var elsewhere, proxied atomic.Int32
	target := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	t.Cleanup(target.Close)
	proxy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { proxied.Add(1) }))
	t.Cleanup(proxy.Close)
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	endless := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := io.WriteString(w, strings.Repeat("canary", 1000)); err != nil {
				return
			}
		}
	}))
	t.Cleanup(endless.Close)
	redirecting := httptest.NewServer(http.RedirectHandler(target.URL, http.StatusTemporaryRedirect))
	t.Cleanup(redirecting.Close)
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "canary", http.StatusForbidden) }))
	t.Cleanup(refusing.Close)
	for _, c := range []struct{ name, endpoint, logged string }{
		{"down", "http://" + localaddr.Dead, "connection refused"},
		{"silent", "http://" + silent.Addr().String(), "the process ended"},
		{"endless", endless.URL, ""},
		{"redirecting", redirecting.URL, "redirects are not followed"},
		{"refusing", refusing.URL, "answered 403"},
		{"behind a proxy of the environment", "http://collector.invalid:4318", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			iss, app := startIssuer(t), startUpstream(t)
			s := startBeside(t, inboundYAML(iss, app.URL(), "")+fmt.Sprintf("tracing: {endpoint: %q}\n", c.endpoint))
			s.stop()
			s.spawnWith([]string{"HTTP_PROXY=" + proxy.URL, "http_proxy=" + proxy.URL}, "run", "--config", s.config)
			s.awaitReady()
			for range 20 {
				want(t, get(t, direct, "http://"+s.address["in"]+"/", "Authorization", "Bearer "+mint(iss, nil)), 200, "")
			}
			if c.logged == "redirects are not followed" || c.logged == "answered 403" {
				eventually(t, patience, "the log says so", func() bool { return strings.Contains(s.log.String(), c.logged) })
			}
			s.stop()
			same(t, "exit", s.exit(time.Second), 0)
			if c.logged != "" && (!strings.Contains(s.log.String(), c.logged) || !strings.Contains(s.log.String(), "spans were lost")) {
				t.Errorf("the log does not say what became of the spans:\n%s", s.log)
			}
			if strings.Contains(s.log.String(), "canary") || strings.Count(s.log.String(), "traces are being lost") > 1 {
				t.Errorf("log:\n%s", s.log)
			}
		})
	}
	t.Cleanup(func() {
		same(t, "requests to where a redirect led", elsewhere.Load(), 0)
		same(t, "requests to the proxy", proxied.Load(), 0)
	})
}

// What OpenTelemetry's variables say is honoured where the contract of the configuration has no key for it; what ended just before the
// end of the process is sent.
func TestTraceEnvironment(t *testing.T) {
	t.Parallel()
	c, other := startCollector(t), startCollector(t)
	iss, app := startIssuer(t), startUpstream(t)
	s := startBeside(t, inboundYAML(iss, app.URL(), "")+tracingYAML(c, "auto"))
	s.stop()
	s.spawnWith([]string{
		"OTEL_SERVICE_NAME=orders-sidecar", "OTEL_RESOURCE_ATTRIBUTES=deployment.environment.name=test,service.namespace=shop",
		"OTEL_EXPORTER_OTLP_HEADERS=x-api-key=canary%20key,x-team=a", "OTEL_EXPORTER_OTLP_TRACES_HEADERS=x-team=b",
		"OTEL_TRACES_SAMPLER=parentbased_always_off", "OTEL_EXPORTER_OTLP_ENDPOINT=" + other.URL, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=" + other.URL,
	}, "run", "--config", s.config)
	s.awaitReady()
	token := "Bearer " + mint(iss, nil)
	want(t, get(t, direct, "http://"+s.address["in"]+"/root", "Authorization", token), 200, "")
	want(t, get(t, direct, "http://"+s.address["in"]+"/child", "Authorization", token, "Traceparent", theirs), 200, "")
	s.stop()
	spans := c.all()
	if len(spans) != 2 || spans[0].trace != theirTrace || spans[1].trace != theirTrace {
		t.Fatalf("%+v", spans)
	}
	r := spans[0].resource
	same(t, "resource", []string{r["service.name"], r["service.namespace"], r["deployment.environment.name"]}, []string{"orders-sidecar", "shop", "test"})
	same(t, "headers", []string{c.header.Get("X-Api-Key"), c.header.Get("X-Team")}, []string{"canary key", "b"})
	same(t, "spans elsewhere", len(other.all()), 0)
	if strings.Contains(s.log.String(), "canary key") {
		t.Error("a header's value is in the log")
	}
}

// A changed endpoint waits for a restart.
func TestTraceEndpointNeedsRestart(t *testing.T) {
	t.Parallel()
	c, other := startCollector(t), startCollector(t)
	iss, app := startIssuer(t), startUpstream(t)
	y := inboundYAML(iss, app.URL(), "")
	s := startBeside(t, y+tracingYAML(c, "auto"))
	s.configure(y + tracingYAML(other, "auto"))
	eventually(t, patience, "the change waits", func() bool {
		return strings.Contains(get(t, direct, "http://"+s.address["admin"]+"/api/status").body, `"tracing"`)
	})
	if !strings.Contains(s.log.String(), `"restart_required":["tracing"]`) {
		t.Error("the log does not say so")
	}
	want(t, get(t, direct, "http://"+s.address["in"]+"/x", "Authorization", "Bearer "+mint(iss, nil)), 200, "")
	s.stop()
	if len(c.all()) == 0 || len(other.all()) != 0 {
		t.Errorf("%d spans to the old endpoint, %d to the new one", len(c.all()), len(other.all()))
	}
}
