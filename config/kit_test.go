package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// canary is the secret that no output may hold.
const canary = "canary-7f3a91"

// wholeYAML is a valid configuration with every key in it. {{DIR}} is the folder of [fixtures].
const wholeYAML = `issuers:
  - name: auth0
    url: https://tenant.auth0.com/
    token_endpoint: https://tenant.auth0.com/oauth/token
    jwks_uri: ""
    jwks_file: "{{DIR}}/jwks.json"
    jwks_token_file: "{{DIR}}/secret"
    introspection_endpoint: https://tenant.auth0.com/introspect
    ca_file: "{{DIR}}/cert.pem"
    allow_http: false
    proxy_url: http://user:canary-7f3a91@proxy.example.com:3128
    timeout: 5s
    client:
      id: my-client
      auth_method: client_secret_basic
      secret: canary-7f3a91
      secret_file: ""
      private_key_file: "{{DIR}}/key.pem"
      key_id: k1
      assertion_algorithm: ES256
      assertion_audience: issuer
      assertion_cert_file: "{{DIR}}/cert.pem"
      assertion_file: "{{DIR}}/secret"
      cert_file: "{{DIR}}/cert.pem"
      key_file: "{{DIR}}/key.pem"
      dpop: false
  - name: okta
    url: https://okta.example.com

outbound:
  listen: 127.0.0.1:8401
  allow_remote: false
  unmatched: deny
  connect: deny
  names: [sidecar, "sidecar:8401"]
  proxy_url: http://proxy.example.com:3128
  routes:
    - name: orders
      host: orders.internal
      paths: ["/orders/{id}", /files/]
      upstream: https://orders.example.com
      scheme: https
      issuer: auth0
      audience: [https://orders-api]
      resource: [urn:orders]
      scopes: [read:orders]
      token_params: ["tenant=canary-7f3a91"]
      grant: client_credentials
      fallback: deny
      authorization: replace
      timeout: 30s
      retry_on_401: idempotent
      connect: deny
      protocol: same
      ca_file: "{{DIR}}/cert.pem"
      server_name: orders.example.com
    - prefix: /stock
      upstream: http://stock.example.com:8080
      issuer: auth0
    - listen: unix:{{DIR}}/route.sock?mode=0660
      upstream: unix:/run/app.sock
      issuer: auth0

inbound:
  listen: :8402
  upstream: http://127.0.0.1:8080
  protocol: same
  mode: audit
  trust:
    - issuer: auth0
      audiences: ["https://service-b"]
      allow_missing_audience: false
      algorithms: [RS256, ES512]
      clients: [svc-a, svc-b]
      introspect: true
      profile: jwt
      scope_claims: [scope, /realm_access/roles]
      required_claims: ["token_use=access"]
      max_token_age: 0s
    - issuer: okta
      allow_missing_audience: true
      clients: [svc-c]
  leeway: 30s
  max_header_bytes: 64KiB
  introspection_cache: 60s
  authorization: forward
  streams: keep
  claim_headers: [sub=X-Token-Subject, /org/name=X-Org]
  trusted_proxies: [10.0.0.0/8, 192.0.2.7]
  tls: {cert_file: "{{DIR}}/cert.pem", key_file: "{{DIR}}/key.pem", client_ca_file: "{{DIR}}/cert.pem", client_auth: request}
  ambiguous_paths: [encoded_slash]
  resource: https://api.example.com/orders
  rules:
    - name: read
      match: ["GET /orders/{id}", GET /orders]
      scopes: [read:orders]
      any_scope: [tier:gold, admin]
      clients: [svc-a]
      claims: ["department=finance", "/org/tier=gold"]
      issuers: [auth0]
      upstream: http://127.0.0.1:9090
      mode: enforce
    - match: [POST /orders]
      issuers: ["*"]
    - match: [GET /healthz]
      allow: anonymous
  jwks_refresh: 15m
  jwks_max_stale: 24h
  jwks_min_interval: 10s
  revocation_file: /run/revoked.jsonl
  revocation_redis_url: redis://:canary-7f3a91@redis:6379/0

tokens:
  refresh_at: 0.8
  min_remaining: 10s
  default_lifetime: 5m
  prefetch: true
  max_entries: 10000
  replay_limit: 64KiB
  max_requests_per_hour: 0
  encryption_key_file: "{{DIR}}/sealing"
  state_dir: /var/lib/sidepass
  shared:
    redis_url: rediss://:canary-7f3a91@redis:6379/0
    redis_url_file: ""

metrics: {listen: ":8403"}
admin: {listen: "127.0.0.1:8404", allow_remote: false, pprof: false, token_api: false}
log: {level: info, format: auto, access: errors, decisions: refusals}
engine: auto
tracing: {endpoint: "http://127.0.0.1:4318"}
shutdown: {delay: 0s, timeout: 25s}
`

// outboundYAML is a small valid configuration.
const outboundYAML = `issuers:
  - url: https://idp.example.com
    client: {id: svc, secret: canary-7f3a91}
outbound:
  routes:
    - host: orders.internal
`

// inboundYAML is another.
const inboundYAML = `issuers:
  - url: https://idp.example.com
inbound:
  trust:
    - audiences: [https://service-b]
`

var certificate = sync.OnceValues(func() (cert, key []byte) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	if err != nil {
		panic(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		panic(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
})

// fixtures makes a folder with the files that wholeYAML names, and some bad ones.
func fixtures(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	cert, key := certificate()
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	otherDER, err := x509.MarshalECPrivateKey(other)
	if err != nil {
		t.Fatal(err)
	}
	sealing := base64.StdEncoding.EncodeToString(make([]byte, 32)) + "\n"
	for name, data := range map[string][]byte{
		"secret": []byte(canary + "\n"), "empty": []byte(" \n"), "cert.pem": cert, "key.pem": key,
		"other.pem": pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: otherDER}),
		"key.jwk":   []byte(`{"kty":"EC","crv":"P-256","d":"` + canary + `"}`), "public.jwk": []byte(`{"kty":"EC"}`),
		"jwks.json": []byte(`{"keys":[{"kty":"EC"}]}`), "no-keys.json": []byte(`{"keys":[]}`),
		"sealing": []byte(sealing + sealing), "bad-sealing": []byte(sealing + canary + "\n"),
		"redis": []byte("redis://:" + canary + "@redis:6379/0"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// writeConfig writes a configuration into a folder, with {{DIR}} filled in.
func writeConfig(t testing.TB, dir, text string) string {
	t.Helper()
	file := filepath.Join(dir, "sidepass.yaml")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(text, "{{DIR}}", dir)), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// replace changes the one occurrence of old; an empty old changes nothing.
func replace(t testing.TB, text, old, new string) string {
	t.Helper()
	if old == "" {
		return text
	}
	if n := strings.Count(text, old); n != 1 {
		t.Fatalf("%q is there %d times, want once", old, n)
	}
	return strings.Replace(text, old, new, 1)
}

// load reads one text, with variables.
func load(t testing.TB, text string, environ ...string) (*Loaded, Problems) {
	t.Helper()
	dir := fixtures(t)
	for i := range environ {
		environ[i] = strings.ReplaceAll(environ[i], "{{DIR}}", dir)
	}
	var files []string
	if text != "" {
		files = []string{writeConfig(t, dir, text)}
	}
	return result(t, LoadOptions{Files: files, Environ: environ})
}

// result calls Load, and checks what holds for every call: one of the two, and no secret in a problem.
func result(t testing.TB, o LoadOptions) (*Loaded, Problems) {
	t.Helper()
	l, err := Load(o)
	if (l == nil) == (err == nil) {
		t.Fatalf("Load returned %v and %v, want exactly one", l, err)
	}
	var ps Problems
	if err != nil && !errors.As(err, &ps) || err != nil && len(ps) == 0 {
		t.Fatalf("the error is %T, want Problems", err)
	}
	if strings.Contains(ps.Error(), canary) {
		t.Errorf("a problem shows the secret:\n%v", ps)
	}
	return l, ps
}

// mustLoad is load for a configuration that has to be valid.
func mustLoad(t testing.TB, text string, environ ...string) *Loaded {
	t.Helper()
	l, ps := load(t, text, environ...)
	if ps != nil {
		t.Fatalf("unexpected problems:\n%v", ps)
	}
	return l
}
