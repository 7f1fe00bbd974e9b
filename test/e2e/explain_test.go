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
