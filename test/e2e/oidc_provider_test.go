package e2e

import (
	"bufio"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/sidepass/sidepass/test/upstream"
)

// startOIDCProvider runs npm's oidc-provider, an authorization server that nobody here wrote, and returns its issuer
// identifier. clientKeys is the key set of its client `key`. The test is skipped where Node or the package is missing.
func startOIDCProvider(t *testing.T, clientKeys string, environ ...string) string {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("Node is not installed, so oidc-provider cannot run; install Node and run `npm ci` in test/e2e/idp")
	}
	if _, err := os.Stat(filepath.Join("idp", "node_modules", "oidc-provider")); err != nil {
		t.Skip("oidc-provider is not installed; run `npm ci` in test/e2e/idp")
	}
	cmd := exec.Command(node, "server.mjs")
	cmd.Dir, cmd.Env = "idp", []string{"CLIENT_SECRET=" + secret, "CLIENT_JWKS=" + clientKeys, "NODE_NO_WARNINGS=1", "HOME=" + t.TempDir()}
	cmd.Env = append(cmd.Env, environ...)
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
	issuer := startOIDCProvider(t, `{"keys":[]}`)
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

// The ways to prove who the client is that go without sending a secret, and tokens bound to a key.
func TestOIDCProviderClientAuthentication(t *testing.T) {
	type keyPair struct {
		name, algorithm string
		private         crypto.Signer
	}
	var pairs []keyPair
	var set jose.JSONWebKeySet
	add := func(algorithm string, private crypto.Signer, err error) {
		if err != nil {
			t.Fatal(err)
		}
		pairs = append(pairs, keyPair{strings.ToLower(algorithm), algorithm, private})
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: private.Public(), KeyID: strings.ToLower(algorithm), Algorithm: algorithm, Use: "sig"})
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	add("RS256", rsaKey, err)
	add("PS256", rsaKey, err)
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	add("ES256", ecKey, err)
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	add("EdDSA", edKey, err)
	published, err := json.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	iss, up := startOIDCProvider(t, string(published)), startUpstream(t)
	outbound := func(client string) *sidecar {
		t.Helper()
		s := launch(t, fmt.Sprintf("issuers: [{name: idp, url: %q, client: {%s}}]\noutbound:\n  listen: \"{out}\"\n  routes: [{name: orders, host: orders.internal, upstream: %q, resource: [\"https://es256.example\"], scopes: [\"read:orders\"]}]\n", iss, client, up.URL()))
		return s
	}
	called := func(t *testing.T, s *sidecar) upstream.Seen {
		t.Helper()
		want(t, get(t, s.proxied(), "http://orders.internal/x?q"), 200, "")
		seen, _ := up.Last()
		return seen
	}
	t.Run("client_secret_jwt", func(t *testing.T) {
		s := outbound(`id: jwt, auth_method: client_secret_jwt, secret_file: "{dir}/secret"`)
		s.awaitReady()
		called(t, s)
	})
	for _, p := range pairs {
		for _, audience := range []string{"issuer", "token_endpoint"} {
			t.Run("private_key_jwt "+p.algorithm+" for the "+audience, func(t *testing.T) {
				der, err := x509.MarshalPKCS8PrivateKey(p.private)
				if err != nil {
					t.Fatal(err)
				}
				file := filepath.Join(t.TempDir(), "key.pem")
				if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
					t.Fatal(err)
				}
				s := outbound(fmt.Sprintf("id: key, auth_method: private_key_jwt, key_id: %s, assertion_algorithm: %s, assertion_audience: %s, private_key_file: %q", p.name, p.algorithm, audience, file))
				s.awaitReady()
				called(t, s)
			})
		}
	}
	t.Run("DPoP with a nonce", func(t *testing.T) {
		s := outbound(`id: bound, secret_file: "{dir}/secret", dpop: true`)
		s.awaitReady()
		seen := called(t, s)
		token, ok := strings.CutPrefix(seen.Header.Get("Authorization"), "DPoP ")
		if !ok || len(seen.Header.Values("Dpop")) != 1 {
			t.Fatalf("the upstream saw %q and %d proofs", strings.SplitN(seen.Header.Get("Authorization"), " ", 2)[0], len(seen.Header.Values("Dpop")))
		}
		proof, err := jose.ParseSignedCompact(seen.Header.Get("Dpop"), []jose.SignatureAlgorithm{jose.ES256})
		if err != nil {
			t.Fatal(err)
		}
		key := proof.Signatures[0].Protected.JSONWebKey
		payload, err := proof.Verify(key)
		if err != nil {
			t.Fatal(err)
		}
		hash := sha256.Sum256([]byte(token))
		var claims struct{ Htm, Htu, Ath string }
		if err := json.Unmarshal(payload, &claims); err != nil || claims.Htm != "GET" || claims.Htu != up.URL()+"/x" || claims.Ath != base64.RawURLEncoding.EncodeToString(hash[:]) {
			t.Errorf("the proof is for %+v", claims)
		}
		thumbprint, err := key.Thumbprint(crypto.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
		if !strings.Contains(string(text), base64.RawURLEncoding.EncodeToString(thumbprint)) {
			t.Error("the token is not bound to the key of the proof")
		}
	})
}

// The client is known by its certificate (RFC 8705), and its tokens are bound to it.
func TestOIDCProviderClientCertificate(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, blocks ...*pem.Block) string {
		t.Helper()
		var text []byte
		for _, b := range blocks {
			text = append(text, pem.EncodeToMemory(b)...)
		}
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	selfSigned := func() (cert, key *pem.Block, parsed *x509.Certificate) {
		t.Helper()
		private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
		der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
		if err != nil {
			t.Fatal(err)
		}
		pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err = x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return &pem.Block{Type: "CERTIFICATE", Bytes: der}, &pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}, parsed
	}
	serverCert, serverKey, _ := selfSigned()
	clientCert, clientKey, certificate := selfSigned()
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: certificate.PublicKey, Certificates: []*x509.Certificate{certificate}, KeyID: "cert", Algorithm: "ES256", Use: "sig"}}})
	if err != nil {
		t.Fatal(err)
	}
	iss := startOIDCProvider(t, string(set), "TLS_FILE="+write("server.pem", serverCert, serverKey))
	up := startUpstream(t)
	s := start(t, fmt.Sprintf("issuers: [{name: idp, url: %q, ca_file: %q, client: {id: mtls, auth_method: tls_client_auth, cert_file: %q, key_file: %q}}]\noutbound:\n  listen: \"{out}\"\n  routes: [{name: orders, host: orders.internal, upstream: %q, resource: [\"https://es256.example\"]}]\n",
		iss, write("ca.pem", serverCert), write("client.pem", clientCert), write("client-key.pem", clientKey), up.URL()))
	want(t, get(t, s.proxied(), "http://orders.internal/"), 200, "")
	seen, _ := up.Last()
	digest := sha256.Sum256(certificate.Raw)
	text, _ := base64.RawURLEncoding.DecodeString(strings.Split(seen.Header.Get("Authorization"), ".")[1])
	if !strings.Contains(string(text), base64.RawURLEncoding.EncodeToString(digest[:])) {
		t.Errorf("the token is not bound to the certificate: %s", text)
	}
}
