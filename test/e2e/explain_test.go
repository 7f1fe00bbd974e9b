package e2e

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
)

// explain says what the running sidecar does: the same verdict and code, for each request.
func TestExplainAgreesWithTheSidecar(t *testing.T) {
	iss, app := startIssuer(t), startUpstream(t)
	s := start(t, inboundYAML(iss, app.URL(), orderRules))
	good := mint(iss, nil)
	for _, c := range []struct{ name, method, path, token string }{
		{"good", "GET", "/orders/1", good},
		{"no token", "GET", "/orders/1", ""},
		{"anonymous", "GET", "/healthz", ""},
		{"wrong audience", "GET", "/orders/1", mint(iss, map[string]any{"aud": "https://x"})},
		{"expired", "GET", "/orders/1", mint(iss, map[string]any{"exp": 1})},
		{"tampered", "GET", "/orders/1", tampered(good)},
		{"missing scope", "GET", "/orders/1", mint(iss, map[string]any{"scope": ""})},
		{"no rule", "PUT", "/orders/1", good},
		{"ambiguous path", "GET", "/orders/..%2f1", good},
	} {
		t.Run(c.name, func(t *testing.T) {
			var header []string
			if c.token != "" {
				header = []string{"Authorization", "Bearer " + c.token}
			}
			served := do(t, direct, c.method, "http://"+s.address["in"]+c.path, nil, header...)
			cmd := exec.CommandContext(t.Context(), binary, "explain", "inbound", "--config", s.config, "--method", c.method, "--path", c.path, "--token", "-", "--output", "json")
			cmd.Stdin = strings.NewReader(c.token)
			out, err := cmd.Output()
			var e struct {
				Allowed bool
				Status  int
				Code    string
			}
			if json.Unmarshal(out, &e) != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if e.Allowed != (served.status == 200) || (err == nil) != e.Allowed || e.Status != 0 && e.Status != served.status || served.reason() != "" && e.Code != served.reason() {
				t.Errorf("the sidecar says %d %q, explain says %+v and exits with %v", served.status, served.reason(), e, err)
			}
			if len(c.token) > 40 && strings.Contains(string(out), c.token[len(c.token)-40:]) {
				t.Error("explain prints the token's signature")
			}
		})
	}
}

// A check that fails shows what the token says beside what is required, in text and in JSON; nothing of the token itself is printed.
func TestExplainShowsWhatWasCompared(t *testing.T) {
	iss, app := startIssuer(t), startUpstream(t)
	s := start(t, inboundYAML(iss, app.URL(), orderRules))
	good, foreign, bare := mint(iss, nil), mint(iss, map[string]any{"aud": "https://x"}), mint(iss, map[string]any{"scope": "write:orders"})
	for _, c := range []struct {
		name, path, token string
		step              string
		want, lacks       []string
	}{
		{"another audience", "/orders/1", foreign, "audience", []string{"failed", "said https://x", "required "}, nil},
		{"another scope", "/orders/1", bare, "scopes", []string{"failed", "said write:orders", "required ", "read:orders"}, nil},
		{"the twin", "/orders/1", good, "scopes", []string{"ok"}, []string{"failed"}},
		{"pasted with its scheme", "/orders/1", "Bearer " + good, "scopes", []string{"ok"}, []string{"failed"}},
		{"no token", "/orders/1", "", "credentials", []string{"no"}, nil},
		{"a path that comes first", "/orders/..%2f1", good, "path", []string{"failed"}, []string{"ok"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, output := range []string{"text", "json"} {
				cmd := exec.CommandContext(t.Context(), binary, "explain", "inbound", "--config", s.config, "--path", c.path, "--token", "-", "--output", output)
				cmd.Stdin = strings.NewReader(c.token)
				out, _ := cmd.Output()
				if len(c.token) > 40 && strings.Contains(string(out), c.token[len(c.token)-40:]) {
					t.Errorf("%s prints the token's signature", output)
				}
				if output == "json" {
					if !strings.Contains(string(out), `"`+c.step+`"`) {
						t.Errorf("no step %s in %s", c.step, out)
					}
					continue
				}
				line := ""
				for l := range strings.Lines(string(out)) {
					if strings.HasPrefix(l, c.step+" ") {
						line = l
					}
				}
				for _, w := range c.want {
					if !strings.Contains(line, w) {
						t.Errorf("no %q in %q of\n%s", w, line, out)
					}
				}
				for _, w := range c.lacks {
					if strings.Contains(line, w) {
						t.Errorf("%q in %q", w, line)
					}
				}
			}
		})
	}
}
