package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sidepass/sidepass/test/issuer"
	"github.com/sidepass/sidepass/test/localaddr"
	"github.com/sidepass/sidepass/test/upstream"
)

// The authorization server is down at start: the sidecar runs, says so, answers 503 with Retry-After, and recovers by itself.
func TestIssuerDownAtStart(t *testing.T) {
	iss, up := startIssuer(t), startUpstream(t)
	iss.Down(true)
	s := start(t, outboundYAML(iss, "", ordersRoute(up.URL()))) // /readyz: an outage must not take every pod out
	client := s.proxied()
	a := get(t, client, "http://orders.internal/")
	want(t, a, 503, "token_unavailable")
	if n, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || n < 1 || n > 10 {
		t.Errorf("Retry-After is %q", a.header.Get("Retry-After"))
	}
	if code := s.probe("/readyz/outbound"); code != 503 {
		t.Errorf("/readyz/outbound is strict, and there is no token: got %d", code)
	}
	if !strings.Contains(s.log.String(), "no token") {
		t.Error("the log does not say that there is no token")
	}
	if up.Count() != 0 {
		t.Error("the upstream saw a request without a token")
	}
	iss.Down(false)
	eventually(t, 10*time.Second, "a token once the server is back", func() bool {
		a, err := try(client, "GET", "http://orders.internal/", nil)
		return err == nil && a.status == 200
	})
	if code := s.probe("/readyz/outbound"); code != 200 {
		t.Errorf("/readyz/outbound with a token: got %d", code)
	}
}

func TestKeysDownAtStart(t *testing.T) {
	iss, app := startIssuer(t), startUpstream(t)
	iss.Down(true)
	s := launch(t, inboundYAML(iss, app.URL(), ""))
	eventually(t, 5*time.Second, "the sidecar lives", func() bool { return s.probe("/livez") == 200 })
	if code := s.probe("/readyz"); code != 503 {
		t.Errorf("/readyz without keys: got %d", code)
	}
	call := func() answer {
		a, _ := try(direct, "GET", "http://"+s.address["in"]+"/", nil, "Authorization", "Bearer "+mint(iss, nil))
		return a
	}
	a := call()
	want(t, a, 503, "keys_unavailable")
	if a.header.Get("Retry-After") == "" {
		t.Error("503 without Retry-After")
	}
	iss.Down(false)
	eventually(t, 10*time.Second, "tokens are judged once the keys are there", func() bool { return call().status == 200 })
	if code := s.probe("/readyz"); code != 200 {
		t.Errorf("/readyz with keys: got %d", code)
	}
}

// An issuer that has no keys, because all its tokens are opaque, can be one to be ready with. One that has some cannot without them.
func TestReadyWithOpaqueTokensAlone(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		endpoint   issuer.Endpoint
		status     int
		metadata   string
		configured bool // introspection_endpoint
		ready      bool
	}{
		"metadata without jwks_uri":                          {issuer.Discovery, 200, `"introspection_endpoint":"$IDP/introspect"`, false, true},
		"and nowhere to ask":                                 {issuer.Discovery, 200, `"token_endpoint":"$IDP/token"`, false, false},
		"no metadata":                                        {issuer.Discovery, 404, "", true, true},
		"no metadata, and nowhere to ask":                    {issuer.Discovery, 404, "", false, false},
		"metadata that fail":                                 {issuer.Discovery, 503, "", true, false},
		"a key set that fails":                               {issuer.JWKS, 500, "", true, false},
		"a key set that is gone, though the metadata has it": {issuer.JWKS, 404, "", true, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			iss, app := startIssuer(t), startUpstream(t)
			body := ""
			if c.metadata != "" {
				body = fmt.Sprintf(`{"issuer":%q,%s}`, iss.Issuer(), strings.ReplaceAll(c.metadata, "$IDP", iss.Issuer()))
			}
			iss.SetResponse(c.endpoint, issuer.Respond(c.status, body))
			client := `, client: {id: svc, secret_file: "{dir}/secret"}`
			if c.configured {
				client += fmt.Sprintf(", introspection_endpoint: %q", iss.Issuer()+"/introspect")
			}
			y := strings.Replace(inboundYAML(iss, app.URL(), ""), `"}]`, `"`+client+"}]", 1)
			s := launch(t, strings.Replace(y, "trust: [{", "trust: [{introspect: true, ", 1))
			call := func(token string) answer {
				a, _ := try(direct, "GET", "http://"+s.address["in"]+"/", nil, "Authorization", "Bearer "+token)
				return a
			}
			good := iss.MintOpaque(map[string]any{"aud": "https://orders"})
			eventually(t, 20*time.Second, "the sidecar has asked for keys", func() bool {
				return c.ready && s.probe("/readyz") == 200 || !c.ready && s.probe("/livez") == 200 && strings.Contains(s.log.String(), "the keys could not be refreshed")
			})
			probes := func(lax, strict int) {
				t.Helper()
				if l, s := s.probe("/readyz"), s.probe("/readyz/inbound"); l != lax || s != strict {
					t.Errorf("/readyz %d and /readyz/inbound %d, want %d and %d", l, s, lax, strict)
				}
			}
			if !c.ready {
				probes(503, 503)
				return
			}
			probes(200, 200)
			want(t, call(good), 200, "")
			want(t, call(mint(iss, nil)), 503, "keys_unavailable")
			if strings.Contains(get(t, direct, "http://"+s.address["metrics"]+"/metrics").body, "sidepass_jwks_keys{") {
				t.Error("a metric says that keys are missing")
			}
			iss.Down(true)
			want(t, call("another"), 503, "introspection_unavailable")
			eventually(t, 10*time.Second, "the strict probe sees it", func() bool { return call("another").status == 503 && s.probe("/readyz/inbound") == 503 })
			if code := s.probe("/readyz"); code != 200 {
				t.Errorf("/readyz in an outage: %d", code)
			}
			s.configure(strings.Replace(y, "trust: [{", "jwks_refresh: 2m\n  trust: [{introspect: true, ", 1))
			s.signal(syscall.SIGHUP)
			eventually(t, 10*time.Second, "the reload is done", func() bool { return strings.Contains(s.log.String(), `"reloaded"`) })
			if code := s.probe("/readyz"); code != 200 {
				t.Errorf("/readyz after a reload in an outage: %d", code)
			}
			iss.Down(false)
			eventually(t, 10*time.Second, "tokens are asked about again", func() bool { return call("another").status == 401 })
			probes(200, 200)
		})
	}
}

func TestWrongSecretIsRefusedForGood(t *testing.T) {
	iss, up := startIssuer(t), startUpstream(t)
	s := launch(t, outboundYAML(iss, "", ordersRoute(up.URL())))
	s.stop()
	s.write("secret", "wrong")
	s.spawn()
	s.awaitReady()
	a := get(t, s.proxied(), "http://orders.internal/")
	want(t, a, 502, "token_refused")
	if !strings.Contains(a.body, "invalid_client") {
		t.Errorf("the answer does not say what the server said: %s", a.body)
	}
	// SIGHUP reads the secret again, and forgets the refusal at once.
	s.write("secret", secret)
	s.signal(syscall.SIGHUP)
	eventually(t, 3*time.Second, "the new secret is used", func() bool {
		a, err := try(s.proxied(), "GET", "http://orders.internal/", nil)
		return err == nil && a.status == 200
	})
}

func TestAppDownAndBack(t *testing.T) {
	iss := startIssuer(t)
	address := localaddr.Free(t)
	s := start(t, inboundYAML(iss, "http://"+address, ""))
	call := func() answer {
		return get(t, direct, "http://"+s.address["in"]+"/", "Authorization", "Bearer "+mint(iss, nil))
	}
	want(t, call(), 502, "upstream_unreachable")
	app := &http.Server{Addr: address, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "up") })}
	go func() { _ = app.ListenAndServe() }()
	defer app.Close()
	eventually(t, 5*time.Second, "the app is reached once it is up", func() bool { return call().status == 200 })
}

// Nothing that arrives can end the process, and the app sees none of it.
func TestGarbage(t *testing.T) {
	iss, app := startIssuer(t), startUpstream(t)
	_, inbound, _ := strings.Cut(inboundYAML(iss, app.URL(), ""), "\n")
	s := start(t, outboundYAML(iss, "", ordersRoute(app.URL()))+inbound)
	for _, listener := range []string{"in", "out", "metrics", "admin"} {
		for _, bytes := range []string{strings.Repeat("\x00\x01\x02\x03", 8), "GET\r\nno-such-thing\r\n", "GET / HTTP/9.9\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", strings.Repeat("A", 100_000),
			"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\nHost: localhost\r\n\r\n",
			"GET /a b HTTP/1.1\r\nHost: localhost\r\n\r\n", "GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: xchunked\r\n\r\n", "GET / HTTP/1.1\r\nHost: localhost\r\nBad Name: x\r\n\r\n"} {
			reply, closed := rawUntilClosed(t, s.address[listener], bytes+"\r\n\r\n")
			if !closed || !strings.HasPrefix(reply, "HTTP/1.1 4") && !strings.HasPrefix(reply, "HTTP/1.1 50") && reply != "" {
				t.Errorf("%s: %.20q: closed %v, got %.100q", listener, bytes, closed, reply)
			}
		}
	}
	if n := app.Count(); n != 0 {
		t.Errorf("the app saw %d requests", n)
	}
	want(t, get(t, direct, "http://"+s.address["in"]+"/", "Authorization", "Bearer "+mint(iss, nil)), 200, "")
}

func TestSIGTERMLetsRequestsFinish(t *testing.T) {
	iss := startIssuer(t)
	up := startUpstream(t)
	inside := make(chan struct{}, 1)
	up.Handle(func(w http.ResponseWriter, r *http.Request, _ upstream.Seen) bool {
		inside <- struct{}{}
		time.Sleep(700 * time.Millisecond)
		return false
	})
	s := start(t, outboundYAML(iss, "", ordersRoute(up.URL())))
	got := make(chan string, 1)
	client := s.proxied()
	go func() {
		a, err := try(client, "GET", "http://orders.internal/", nil)
		got <- fmt.Sprint(a.status, err)
	}()
	<-inside
	s.signal(syscall.SIGTERM)
	if g := <-got; g != "200 <nil>" {
		t.Errorf("the request in flight got %s", g)
	}
	if code := s.exit(5 * time.Second); code != 0 {
		t.Errorf("exit %d, want 0", code)
	}
}

// 100 reloads under load lose no request, keep the token, and leave nothing behind.
func TestReloadUnderLoad(t *testing.T) {
	iss, up := startIssuer(t), startUpstream(t)
	yaml := outboundYAML(iss, "", ordersRoute(up.URL()))
	s := start(t, yaml)
	client := s.proxied()
	want(t, get(t, client, "http://orders.internal/"), 200, "")
	before := s.metric("go_goroutines")
	var stop atomic.Bool
	var requests atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for !stop.Load() {
				a, err := try(client, "GET", "http://orders.internal/", nil)
				if err != nil || a.status != 200 {
					t.Errorf("during a reload: %d %v", a.status, err)
					return
				}
				requests.Add(1)
			}
		})
	}
	for n := range 100 {
		s.configure(yaml + fmt.Sprintf("shutdown: {timeout: %ds}\n", n+1))
		s.signal(syscall.SIGHUP)
		eventually(t, 5*time.Second, "the reload is done", func() bool {
			return s.metric("sidepass_config_reloads_total", `result="ok"`) >= float64(n+1)
		})
	}
	stop.Store(true)
	wg.Wait()
	t.Logf("%d requests during 100 reloads", requests.Load())
	if n := len(iss.TokenCalls()); n != 1 {
		t.Errorf("%d token requests, want 1: a reload that changes nothing about tokens keeps them", n)
	}
	client.CloseIdleConnections()
	eventually(t, 10*time.Second, "no goroutine is left behind", func() bool { return s.metric("go_goroutines") <= before+10 })
}

func TestReloadOfABadConfigurationChangesNothing(t *testing.T) {
	iss, up := startIssuer(t), startUpstream(t)
	yaml := outboundYAML(iss, "", ordersRoute(up.URL()))
	s := start(t, yaml)
	s.write("sidepass.yaml", "outbound: {liste: x}\n")
	s.signal(syscall.SIGHUP)
	eventually(t, 5*time.Second, "the failure is counted", func() bool { return s.metric("sidepass_config_reloads_total", `result="error"`) == 1 })
	want(t, get(t, s.proxied(), "http://orders.internal/"), 200, "")
	if !strings.Contains(s.log.String(), "liste") {
		t.Error("the log does not say what is wrong")
	}
	// The twin: a change that can be used is.
	s.configure(strings.Replace(yaml, "name: orders,", "name: orders, authorization: reject,", 1))
	s.signal(syscall.SIGHUP)
	eventually(t, 5*time.Second, "the good one is used", func() bool {
		a, err := try(s.proxied(), "GET", "http://orders.internal/", nil, "Authorization", "Bearer x")
		return err == nil && a.status == 400
	})
}

func TestUnusableConfiguration(t *testing.T) {
	dir := t.TempDir()
	write := func(yaml string) {
		if err := os.WriteFile(filepath.Join(dir, "sidepass.yaml"), []byte(yaml), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct{ yaml, want string }{
		"unknown key":     {"outbound:\n  routs: []\n", "sidepass.yaml:2:3: outbound.routs: unknown key"},
		"nothing to run":  {"log: {level: info}\n", "neither an outbound nor an inbound"},
		"two at once":     {"outbound: {listen: x, unmatched: maybe}\n", "outbound.unmatched"},
		"remote outbound": {"outbound: {listen: \":8401\"}\n", "allow_remote"},
	} {
		t.Run(name, func(t *testing.T) {
			write(c.yaml)
			code, out, errs := run(t, dir, nil)
			if code != 2 || !strings.Contains(errs, c.want) || out != "" {
				t.Errorf("exit %d, want 2 and %q on standard error, got\n%s%s", code, c.want, out, errs)
			}
		})
	}
}

func TestPortInUse(t *testing.T) {
	iss, up := startIssuer(t), startUpstream(t)
	s := start(t, outboundYAML(iss, "", ordersRoute(up.URL())))
	code, _, errs := run(t, s.dir, nil, "run", "--config", s.config)
	if code != 1 || !strings.Contains(errs, s.address["out"]) {
		t.Errorf("exit %d %s", code, errs)
	}
}

// Configured by environment alone, as a container is.
func TestEnvironmentAlone(t *testing.T) {
	iss, up := startIssuer(t), startUpstream(t)
	s := launch(t, outboundYAML(iss, "", ordersRoute(up.URL())))
	s.stop()
	environ := []string{"SIDEPASS_ISSUERS_0_URL=" + iss.Issuer(), "SIDEPASS_ISSUERS_0_CLIENT_ID=svc", "SIDEPASS_ISSUERS_0_CLIENT_SECRET=" + secret,
		"SIDEPASS_OUTBOUND_LISTEN=" + s.address["out"], "SIDEPASS_OUTBOUND_ROUTES_0_HOST=orders.internal", "SIDEPASS_OUTBOUND_ROUTES_0_UPSTREAM=" + up.URL(),
		"SIDEPASS_OUTBOUND_ROUTES_0_AUDIENCE=a,b", "SIDEPASS_METRICS_LISTEN=" + s.address["metrics"], "SIDEPASS_ADMIN_LISTEN=off"}
	s.spawnWith(environ)
	s.awaitReady()
	want(t, get(t, s.proxied(), "http://orders.internal/"), 200, "")
	if calls := iss.TokenCalls(); fmt.Sprint(calls[len(calls)-1].Form["audience"]) != "[a b]" {
		t.Errorf("audience %v", calls[len(calls)-1].Form["audience"])
	}
	code, out, errs := run(t, t.TempDir(), environ, "healthcheck")
	if code != 0 {
		t.Errorf("healthcheck: exit %d %s%s", code, out, errs)
	}
	s.stop()
	if code, _, _ := run(t, t.TempDir(), environ, "healthcheck"); code != 1 {
		t.Errorf("healthcheck of nothing: exit %d, want 1", code)
	}
}

func TestDemoOnce(t *testing.T) {
	code, out, errs := run(t, t.TempDir(), nil, "demo", "--once")
	if code != 0 {
		t.Fatalf("exit %d\n%s%s", code, out, errs)
	}
	for _, reason := range []string{"no_token", "wrong_audience", "insufficient_scope", "bad_signature", "no_route", "2 token requests"} {
		if !strings.Contains(out, reason) {
			t.Errorf("the demo does not show %s", reason)
		}
	}
	if strings.Contains(out+errs, "eyJ") {
		t.Error("the demo prints a token")
	}
}
