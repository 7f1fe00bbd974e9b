package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sidepass/sidepass/test/localaddr"
)

// quietly runs a sidecar with the log that an operator has who configures nothing, and the given variables.
func quietly(t testing.TB, yaml string, environ ...string) *sidecar {
	t.Helper()
	s := launch(t, yaml)
	s.stop()
	s.spawnWith(append([]string{"SIDEPASS_LOG_LEVEL=info", "SIDEPASS_LOG_ACCESS=errors", "SIDEPASS_LOG_DECISIONS=refusals"}, environ...), "run", "--config", s.config)
	s.awaitReady()
	return s
}

// lines are the lines of a JSON log that hold a text.
func (s *sidecar) lines(t testing.TB, text string) (out []map[string]any) {
	t.Helper()
	for line := range strings.Lines(s.log.String()) {
		if !strings.HasSuffix(line, "\n") { // still being written
			continue
		}
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Fatalf("this line is no JSON: %q", line)
		}
		if strings.Contains(line, text) {
			out = append(out, fields)
		}
	}
	return out
}

// logWorld is a sidecar with both directions.
func logWorld(t *testing.T, environ ...string) (*sidecar, func(change map[string]any) string) {
	t.Helper()
	iss, app := startIssuer(t), startUpstream(t)
	yaml := outboundYAML(iss, "", ordersRoute(app.URL()),
		fmt.Sprintf(`name: down, host: down.internal, upstream: "http://%s", audience: ["https://down"]`, localaddr.Dead)) +
		fmt.Sprintf("inbound:\n  listen: \"{in}\"\n  upstream: %q\n  trust: [{audiences: [\"https://orders\"]}]\n  rules:\n", app.URL()) +
		"    - {name: read, match: [\"/orders/{id}\"], scopes: [\"read:orders\"]}\n" +
		"    - {name: watched, match: [\"GET /watched\"], mode: audit}\n" +
		fmt.Sprintf("    - {name: watched-gone, match: [\"GET /watched/gone\"], mode: audit, upstream: \"http://%s\"}\n", localaddr.Dead) +
		fmt.Sprintf("    - {name: gone, match: [\"GET /gone\"], upstream: \"http://%s\"}\n", localaddr.Dead)
	return quietly(t, yaml, environ...), func(change map[string]any) string { return "Bearer " + mint(iss, change) }
}

// Each refusal is one line, and who was refused can name it: also where the answer has no body to name it in.
func TestLogHasOneLineARefusal(t *testing.T) {
	t.Parallel()
	for _, engine := range []string{"auto", "std"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			s, bearer := logWorld(t, "SIDEPASS_ENGINE="+engine)
			in, out, admin, metrics := "http://"+s.address["in"], "http://"+s.address["out"], "http://"+s.address["admin"], "http://"+s.address["metrics"]
			h2c := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{Protocols: new(http.Protocols), DisableKeepAlives: true}}
			h2c.Transport.(*http.Transport).Protocols.SetUnencryptedHTTP2(true)
			grpc := []string{"Content-Type", "application/grpc", "Te", "trailers"}
			poor := bearer(map[string]any{"scope": "other"})
			for _, c := range []struct {
				name        string
				client      *http.Client
				method, url string
				header      []string
				reason      string
				line        string // what else the line says
			}{
				{"no token", direct, "GET", in + "/orders/1", nil, "no_token", "decision deny rule=read issuer= client= status=401"},
				{"HEAD", direct, "HEAD", in + "/orders/1", nil, "no_token", "decision deny rule=read method=HEAD"},
				{"HTTP/2", h2c, "GET", in + "/orders/1?secret=query", nil, "no_token", "decision deny path=/orders/1"},
				{"gRPC", h2c, "POST", in + "/orders/1", grpc, "no_token", "decision deny rule=read status=200"},
				{"gRPC over HTTP/1.1", direct, "POST", in + "/orders/1", grpc[:2], "no_token", "decision deny rule=read"},
				{"scope", direct, "GET", in + "/orders/1", []string{"Authorization", poor}, "insufficient_scope", "decision deny issuer=idp client=svc status=403"},
				{"no rule", direct, "GET", in + "/else", []string{"Authorization", poor}, "no_rule", "decision deny rule=unmatched issuer=idp client=svc"},
				{"TRACE", direct, "TRACE", in + "/orders/1", nil, "method_not_allowed", "decision deny"},
				{"path", direct, "GET", in + "/orders/..%2f1", nil, "ambiguous_path", "decision deny"},
				{"large", direct, "GET", in + "/orders/1", []string{"X-Large", strings.Repeat("x", 70<<10)}, "headers_too_large", ""},
				{"app down", direct, "GET", in + "/gone", []string{"Authorization", poor}, "upstream_unreachable", "access inbound rule=gone issuer=idp client=svc status=502"},

				{"no route", s.proxied(), "GET", "http://else.internal/", nil, "no_route", "access outbound route=unmatched status=403"},
				{"no route, HTTP/2", h2c, "GET", out + "/nothing", nil, "no_route", "access outbound"},
				{"no route, gRPC", h2c, "POST", out + "/nothing", grpc, "no_route", "access outbound status=200"},
				{"upstream down", s.proxied(), "GET", "http://down.internal/", nil, "upstream_unreachable", "access outbound route=down issuer=idp status=502"},
				{"upstream down, HEAD", s.proxied(), "HEAD", "http://down.internal/", nil, "upstream_unreachable", "access outbound route=down"},

				{"admin", direct, "POST", admin + "/api/status", nil, "method_not_allowed", "access admin status=405"},
				{"metrics", direct, "DELETE", metrics + "/metrics", nil, "method_not_allowed", "access metrics status=405"},
			} {
				a := do(t, c.client, c.method, c.url, nil, c.header...)
				instance := a.header.Get("Sidepass-Instance")
				if a.reason() != c.reason || !strings.HasPrefix(instance, "urn:uuid:") {
					t.Errorf("%s: got %d %q as %q, want %q with an instance", c.name, a.status, a.reason(), instance, c.reason)
					continue
				}
				var problem struct{ Instance string }
				if _ = json.Unmarshal([]byte(a.body), &problem); a.body != "" && problem.Instance != instance {
					t.Errorf("%s: the body has the instance %q, and the header %q", c.name, problem.Instance, instance)
				}
				var lines []map[string]any
				eventually(t, 10*time.Second, c.name+": the refusal is in the log", func() bool { lines = s.lines(t, instance); return len(lines) > 0 })
				if len(lines) != 1 || lines[0]["reason"] != c.reason || lines[0]["instance"] != instance {
					t.Errorf("%s: want one line with the reason, got %v", c.name, lines)
				}
				for i, word := range strings.Fields(c.line) {
					key, value, pair := strings.Cut(word, "=")
					if !pair {
						key, value = []string{"logger", "msg"}[i], word
					}
					if got := fmt.Sprint(lines[0][key]); got != value {
						t.Errorf("%s: %s is %q, want %q: %v", c.name, key, got, value, lines[0])
					}
				}
			}

			// The twins: what passes has no line, and what passes in audit mode has one.
			before := len(s.lines(t, ""))
			want(t, get(t, direct, in+"/orders/1", "Authorization", bearer(nil)), 200, "")
			want(t, get(t, s.proxied(), "http://orders.internal/1"), 200, "")
			if a := get(t, direct, in+"/watched"); a.status != 200 || a.header.Get("Sidepass-Instance") != "" {
				t.Errorf("in audit mode: %d %v", a.status, a.header)
			}
			eventually(t, 10*time.Second, "audit mode has its line", func() bool { return len(s.lines(t, "")) > before })
			if l := s.lines(t, "")[before:]; len(l) != 1 || l[0]["msg"] != "would_deny" || l[0]["reason"] != "no_token" || l[0]["rule"] != "watched" || l[0]["status"] != 200.0 {
				t.Errorf("want one line, got %v", l)
			}

			// What audit mode let through and then failed has both: what was decided, and what happened.
			failed := get(t, direct, in+"/watched/gone")
			want(t, failed, 502, "upstream_unreachable")
			eventually(t, 10*time.Second, "both lines", func() bool { return len(s.lines(t, failed.header.Get("Sidepass-Instance"))) == 2 })
			if l := s.lines(t, failed.header.Get("Sidepass-Instance")); l[0]["msg"] != "would_deny" || l[0]["reason"] != "no_token" || l[1]["logger"] != "access" || l[1]["reason"] != "upstream_unreachable" {
				t.Errorf("got %v", l)
			}
			would := func(reason string) float64 {
				return s.metric("sidepass_inbound_requests_total", `decision="would_deny"`, `reason="`+reason+`"`)
			}
			if judged, failed := would("no_token"), would("upstream_unreachable"); judged != 2 || failed != 0 {
				t.Errorf("the metrics count what was decided: want 2 and 0, got %v and %v", judged, failed)
			}
			if strings.Contains(s.log.String(), "secret=query") {
				t.Error("a query is in the log")
			}
		})
	}
}

// Nothing that a path or a claim holds ends a line, or reaches a terminal as a command.
func TestLogCannotBeForged(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"json", "console"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			s, bearer := logWorld(t, "SIDEPASS_LOG_FORMAT="+format, "SIDEPASS_LOG_DECISIONS=all", "SIDEPASS_LOG_ACCESS=all")
			forged := "svc\r\n{\"logger\":\"decision\",\"msg\":\"allow\"}\n\x1b[2J\u009b2J\u202e\u2028\x7f"
			for range 2 { // the second time from the cache of verified tokens
				a := get(t, direct, "http://"+s.address["in"]+"/orders/1", "Authorization", bearer(map[string]any{"client_id": forged}))
				want(t, a, 200, "")
			}
			want(t, get(t, direct, "http://"+s.address["in"]+"/orders/1%0d%0a%1b%5b2J"), 400, "ambiguous_path")
			long := "/" + strings.Repeat("a", 20<<10)
			want(t, get(t, direct, "http://"+s.address["in"]+long), 401, "no_token")
			count := func() int { return strings.Count(s.log.String(), "decision") }
			eventually(t, 10*time.Second, "the decisions are in the log", func() bool { return strings.Contains(s.log.String(), "aaaa") && count() >= 4 })
			s.stop()
			log := s.log.String()
			for line := range strings.Lines(log) {
				if len(line) > 8<<10 {
					t.Errorf("a line of %d bytes", len(line))
				}
				if at := strings.IndexFunc(strings.TrimSuffix(line, "\n"), func(r rune) bool {
					return r != '\t' && r < 0x20 || r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x202e
				}); at >= 0 {
					t.Errorf("a character that a terminal obeys: %q", line)
				}
				if strings.HasPrefix(line, "{") != (format == "json") {
					t.Errorf("a line that is not %s: %q", format, line)
				}
			}
			if format != "json" {
				return
			}
			if decided := s.lines(t, `"logger":"decision"`); len(decided) != 4 || decided[0]["client"] != forged || decided[1]["client"] != forged {
				t.Errorf("want four decisions, and the client as it was: %v", decided)
			}
		})
	}
}

// The level is the log's; what is decided is written whatever it is. It changes at run time and outlives a reload.
func TestLogLevelAtRunTime(t *testing.T) {
	t.Parallel()
	s, _ := logWorld(t)
	admin := "http://" + s.address["admin"] + "/log/level"
	set := func(level string) {
		t.Helper()
		if a := do(t, direct, "PUT", admin, strings.NewReader(`{"level":"`+level+`"}`), "Content-Type", "application/json"); a.status != 200 {
			t.Fatalf("%d %s", a.status, a.body)
		}
		if a := get(t, direct, admin); !strings.Contains(a.body, `"`+level+`"`) {
			t.Errorf("the level is %s, want %s", a.body, level)
		}
	}
	reloads := func() float64 { return s.metric("sidepass_config_reloads_total", `result="ok"`) }
	reload := func() {
		t.Helper()
		before := reloads()
		s.signal(syscall.SIGHUP)
		eventually(t, 10*time.Second, "it has reloaded", func() bool { return reloads() > before })
	}
	set("error")
	reload()
	a := get(t, direct, "http://"+s.address["in"]+"/orders/1")
	eventually(t, 10*time.Second, "the refusal has its line", func() bool { return len(s.lines(t, a.header.Get("Sidepass-Instance"))) == 1 })
	if l := s.lines(t, `"reloaded"`); len(l) != 0 {
		t.Errorf("the level is error, and the log says %v", l)
	}
	set("info")
	reload()
	eventually(t, 10*time.Second, "the log says what it said before", func() bool { return len(s.lines(t, `"reloaded"`)) == 1 })
	if a := do(t, direct, "PUT", admin, strings.NewReader(`{"level":"debug"}`), "Content-Type", "application/json", "Origin", "https://evil.example"); a.status != 403 {
		t.Errorf("another site may set the level: %d", a.status)
	}
}

// Plain HTTP to a listener that speaks TLS is answered, and the answer is in the log.
func TestLogHasPlainHTTPToTLS(t *testing.T) {
	t.Parallel()
	if os.Getenv(engineVariable) == "std" {
		t.Skip("net/http answers this before a request exists")
	}
	iss, app, ca, files := startIssuer(t), startUpstream(t), newAuthority(t, "CA"), newMount(t)
	files.pair(ca.issue("service-b.internal"))
	s := quietly(t, inboundYAML(iss, app.URL(), files.yaml("")), "SIDEPASS_LOG_FORMAT=json")
	a := get(t, direct, "http://"+s.address["in"]+"/orders/1")
	want(t, a, 400, "malformed_request")
	var lines []map[string]any
	eventually(t, 10*time.Second, "it is in the log", func() bool { lines = s.lines(t, a.header.Get("Sidepass-Instance")); return len(lines) > 0 })
	if len(lines) != 1 || lines[0]["logger"] != "http" {
		t.Errorf("want one line, got %v", lines)
	}
}

// An upstream that says more than it was asked for makes net/http say so, in a line of ours, and without what it was.
func TestLogHasNothingThatCameUnasked(t *testing.T) {
	up := rawUpstream(t, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\ncanary-5c1e")
	s := startBeside(t, "engine: std\n"+outboundYAML(startIssuer(t), "", ordersRoute(up.URL())))
	want(t, get(t, s.proxied(), "http://orders.internal/"), 200, "")
	eventually(t, 5*time.Second, "the line", func() bool { return strings.Contains(s.log.String(), "Unsolicited response") })
	for line := range strings.Lines(s.log.String()) {
		if !json.Valid([]byte(line)) || strings.Contains(line, "canary") {
			t.Errorf("the log has %s", line)
		}
	}
}
