package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sidepass/sidepass/test/upstream"
)

// startOIDCProvider runs npm's oidc-provider, an authorization server that nobody here wrote, and returns its issuer
// identifier. The test is skipped where Node or the package is missing.
func startOIDCProvider(t *testing.T) string {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("Node is not installed, so oidc-provider cannot run; install Node and run `npm ci` in test/e2e/idp")
	}
	if _, err := os.Stat(filepath.Join("idp", "node_modules", "oidc-provider")); err != nil {
		t.Skip("oidc-provider is not installed; run `npm ci` in test/e2e/idp")
	}
	cmd := exec.Command(node, "server.mjs")
	cmd.Dir, cmd.Env = "idp", []string{"CLIENT_SECRET=" + secret, "NODE_NO_WARNINGS=1", "HOME=" + t.TempDir()}
	stderr := &output{}
	cmd.Stderr = stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close() // it ends with its standard input
		time.AfterFunc(5*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	var started struct{ Issuer string }
	if err != nil || json.Unmarshal([]byte(line), &started) != nil {
		t.Fatalf("oidc-provider did not start: %v\n%s", err, stderr)
	}
	return started.Issuer
}

// Outbound obtains tokens by `resource`, inbound verifies them by discovery and key set, and the pair works together.
func TestOIDCProvider(t *testing.T) {
	issuer := startOIDCProvider(t)
	app, err := upstream.Start(upstream.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer app.Close()

	for _, method := range []string{"basic", "post"} {
		t.Run("client_secret_"+method, func(t *testing.T) {
			service := start(t, fmt.Sprintf(`
issuers: [{name: idp, url: %q}]
inbound:
  listen: "{in}"
  upstream: %q
  trust: [{audiences: ["https://rs256.example", "https://es256.example", "https://eddsa.example"]}]
  claim_headers: [client_id=X-Client]
  rules:
    - {name: read, match: ["GET /orders/{id}"], scopes: ["read:orders"]}
    - {name: write, match: ["POST /orders"], scopes: ["write:orders"]}
`, issuer, app.URL()))
			var routes strings.Builder
			for _, alg := range []string{"rs256", "es256", "eddsa"} {
				fmt.Fprintf(&routes, "    - {name: %[1]s, host: %[1]s.internal, upstream: %[2]q, resource: [\"https://%[1]s.example\"], scopes: [\"read:orders\"]}\n", alg, "http://"+service.address["in"])
			}
			caller := start(t, fmt.Sprintf(`
issuers: [{name: idp, url: %q, client: {id: %s, auth_method: client_secret_%s, secret_file: "{dir}/secret"}}]
outbound:
  listen: "{out}"
  routes:
%s    - {name: refused, host: refused.internal, upstream: %q, resource: ["https://unknown.example"]}
`, issuer, method, method, routes.String(), "http://"+service.address["in"]))
			client := caller.proxied()
			for _, alg := range []string{"rs256", "es256", "eddsa"} {
				want(t, get(t, client, "http://"+alg+".internal/orders/1"), 200, "")
				seen, _ := app.Last()
				if got := seen.Header.Get("X-Client"); got != method {
					t.Errorf("%s: the app saw the client %q, want %q", alg, got, method)
				}
			}
			before := app.Count()
			denied := do(t, client, "POST", "http://rs256.internal/orders", nil)
			want(t, denied, 403, "") // the service's sidecar's answer, not that of the app's
			if !strings.Contains(denied.header.Get("Www-Authenticate"), `scope="write:orders"`) {
				t.Errorf("the answer does not name the scope: %v", denied.header)
			}
			refused := get(t, client, "http://refused.internal/orders/1")
			want(t, refused, 502, "token_refused")
			if !strings.Contains(refused.body, "invalid_target") {
				t.Errorf("the answer does not say what the server said: %s", refused.body)
			}
			if n := app.Count() - before; n != 0 {
				t.Errorf("the app saw %d refused requests", n)
			}
			if n := caller.metric("sidepass_token_requests_total", `result="ok"`); n != 3 {
				t.Errorf("%v token requests for three resources, want 3", n)
			}
		})
	}
}
