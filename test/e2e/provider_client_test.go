package e2e

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sidepass/sidepass/test/issuer"
)

// clientKeys are those of the calling service, made once.
var clientKeys = sync.OnceValues(func() (map[string]crypto.Signer, error) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	return map[string]crypto.Signer{"EC": ec, "RSA": r}, err
})

// clientFiles are a key, its self-signed certificate and both as PEM files.
type clientFiles struct {
	public      crypto.PublicKey
	certificate *x509.Certificate
	key, cert   string
}

func newClientFiles(t *testing.T, kind string) clientFiles {
	t.Helper()
	all, err := clientKeys()
	if err != nil {
		t.Fatal(err)
	}
	key := all[kind]
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	f := clientFiles{public: key.Public(), key: filepath.Join(t.TempDir(), "key.pem"), cert: filepath.Join(t.TempDir(), "cert.pem")}
	if f.certificate, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{f.key: {Type: "PRIVATE KEY", Bytes: pkcs8}, f.cert: {Type: "CERTIFICATE", Bytes: der}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// startOrSkip is startBeside. The test is skipped where the binary says that what it needs is not built yet, and only then.
func startOrSkip(t *testing.T, yaml, feature string) *sidecar {
	t.Helper()
	s := launch(t, yaml)
	eventually(t, patience, "the sidecar is ready or has ended", func() bool {
		select {
		case <-s.ended:
			return true
		default:
			return s.probe("/readyz") == 200
		}
	})
	select {
	case <-s.ended:
		if log := s.log.String(); strings.Contains(log, feature+" is not built yet in this version of sidepass") {
			t.Skipf("%s is not built yet in this version of sidepass", feature)
		}
		return startBeside(t, yaml) // a port was taken, or it says why
	default:
		return s
	}
}

// Each way to authenticate, as each provider wants it; and with one thing wrong, which it refuses.
func TestProviderClientAuthentication(t *testing.T) {
	t.Parallel()
	apis := []issuer.API{{ID: "api://orders", AppID: ordersAppID, Scopes: []string{"read"}, Roles: []string{"Orders.Read"}}}
	for _, c := range []struct {
		profile issuer.Profile
		method  string
		kind    string // of its key
		client  string // keys of the client section, as in a flow mapping; KEY and CERT are files
		wrong   string // the same with a mistake, "" to leave it
		route   string
		app     func(*issuer.App, clientFiles)
	}{
		{issuer.Auth0, "client_secret_basic", "", "secret_file: PLAIN", "secret: canary-wrong", `audience: ["api://orders"]`, withPlainSecret},
		{issuer.Auth0, "client_secret_json", "", "secret_file: SECRET", "secret: canary-wrong", `audience: ["api://orders"]`, withSecret},
		{issuer.Okta, "client_secret_post", "", "secret_file: SECRET", "secret: canary-wrong", "scopes: [read]", withSecret},
		{issuer.EntraV2, "client_secret_post", "", "secret_file: SECRET", "secret: canary-wrong", `scopes: ["api://orders/.default"]`, withSecret},
		{issuer.Keycloak, "client_secret_post", "", "secret_file: SECRET", "secret: canary-wrong", "scopes: [read]", withSecret},
		{issuer.Hydra, "client_secret_basic", "", "secret_file: SECRET", "secret: canary-wrong", `audience: ["api://orders"]`, withSecret},
		{issuer.PingOne, "client_secret_basic_raw", "", "secret_file: SECRET", "secret: canary-wrong", "scopes: [read]", withSecret},

		{issuer.Auth0, "private_key_jwt", "RSA", "private_key_file: KEY, assertion_algorithm: PS256, key_id: k1", "private_key_file: KEY, assertion_audience: token_endpoint",
			`audience: ["api://orders"]`, withKey},
		{issuer.Okta, "private_key_jwt", "EC", "private_key_file: KEY, key_id: k1, assertion_audience: token_endpoint", "private_key_file: KEY, key_id: k1",
			"scopes: [read]", withKey},
		{issuer.EntraV2, "private_key_jwt", "RSA", "private_key_file: KEY, assertion_cert_file: CERT, assertion_algorithm: PS256, assertion_audience: token_endpoint",
			"private_key_file: KEY, assertion_cert_file: CERT, assertion_audience: \"https://elsewhere.example\"", `scopes: ["api://orders/.default"]`, withCertificate},
		{issuer.EntraV1, "private_key_jwt", "RSA", "private_key_file: KEY, assertion_cert_file: CERT, assertion_algorithm: RS256, assertion_audience: token_endpoint",
			"private_key_file: KEY, assertion_cert_file: CERT, assertion_algorithm: RS512, assertion_audience: token_endpoint", `resource: ["api://orders"]`, withCertificate},
		{issuer.Keycloak, "private_key_jwt", "EC", "private_key_file: KEY", "private_key_file: KEY, assertion_audience: \"https://elsewhere.example\"",
			"scopes: [read]", withKey},
		{issuer.Hydra, "private_key_jwt", "RSA", "private_key_file: KEY, assertion_audience: token_endpoint", "private_key_file: KEY",
			`audience: ["api://orders"]`, withKey},
		{issuer.ZITADEL, "private_key_jwt", "RSA", "private_key_file: KEY, assertion_algorithm: RS256, key_id: k1", "private_key_file: KEY, assertion_algorithm: PS256, key_id: k1",
			"scopes: [openid]", withKey},
		{issuer.Duende, "private_key_jwt", "EC", "private_key_file: KEY", "private_key_file: KEY, assertion_audience: \"https://elsewhere.example\"",
			"scopes: [read]", withKey},
		{issuer.PingOne, "private_key_jwt", "RSA", "private_key_file: KEY", "private_key_file: KEY, assertion_algorithm: PS256",
			"scopes: [read]", withKey},
		{issuer.Okta, "client_secret_jwt", "", "secret_file: SECRET, assertion_audience: token_endpoint", "secret_file: SECRET",
			"scopes: [read]", withSecret},
		{issuer.Keycloak, "client_secret_jwt", "", "secret_file: SECRET", "secret_file: SECRET, assertion_audience: \"https://elsewhere.example\"",
			"scopes: [read]", withSecret},
		{issuer.Auth0, "tls_client_auth", "EC", "cert_file: CERT, key_file: KEY", "", `audience: ["api://orders"]`, withCertificate},
		{issuer.Keycloak, "tls_client_auth", "RSA", "cert_file: CERT, key_file: KEY", "", "scopes: [read]", withCertificate},
	} {
		t.Run(string(c.profile)+" "+c.method, func(t *testing.T) {
			t.Parallel()
			sendsSecret := strings.HasPrefix(c.method, "client_secret_") && c.method != "client_secret_jwt"
			app, up := issuer.App{ID: "shop", APIs: []string{"api://orders"}}, startUpstream(t)
			files := clientFiles{}
			if c.kind != "" {
				files = newClientFiles(t, c.kind)
			}
			c.app(&app, files)
			twin := app // two clients, so that they share no token
			twin.ID = "wrong"
			iss := startProvider(t, c.profile, issuer.Tenant{APIs: apis, Apps: []issuer.App{app, twin}})
			dir := t.TempDir()
			ca, secretFile, plainFile := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "client-secret"), filepath.Join(dir, "plain-secret")
			for name, content := range map[string]string{ca: string(iss.CA()), secretFile: secret, plainFile: plainSecret} {
				if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			entry := func(name, id, client string) string {
				more := ""
				if c.method == "tls_client_auth" {
					more = ", ca_file: " + ca
				}
				client = strings.NewReplacer("KEY", files.key, "CERT", files.cert, "SECRET", secretFile, "PLAIN", plainFile).Replace(client)
				return fmt.Sprintf("  - {name: %s, url: %q%s, client: {id: %s, auth_method: %s, %s}}\n", name, iss.Issuer(), more, id, c.method, client)
			}
			route := func(name string) string {
				return fmt.Sprintf("    - {name: %[1]s, host: %[1]s.internal, issuer: %[1]s, upstream: %[2]q, %[3]s}\n", name, up.URL(), c.route)
			}
			issuers, routes := entry("orders", "shop", c.client), route("orders")
			if c.wrong != "" {
				issuers, routes = issuers+entry("wrong", "wrong", c.wrong), routes+route("wrong")
			}
			s := startOrSkip(t, "issuers:\n"+issuers+"outbound:\n  listen: \"{out}\"\n  routes:\n"+routes, c.method)
			want(t, get(t, s.proxied(), "http://orders.internal/orders/1"), 200, "")
			seen, _ := up.Last()
			if !strings.HasPrefix(seen.Header.Get("Authorization"), "Bearer ") {
				t.Error("the app did not get a token")
			}
			for _, call := range iss.TokenCalls() {
				if !sendsSecret && (call.Authorization != "" || call.Form.Has("client_secret")) {
					t.Error("a secret was sent beside the assertion or the certificate")
				}
				if assertion := call.Form.Get("client_assertion"); assertion != "" && strings.Contains(s.log.String(), assertion[strings.LastIndexByte(assertion, '.'):]) {
					t.Error("the signature of an assertion is in the log")
				}
			}
			if c.wrong == "" {
				return
			}
			a := get(t, s.proxied(), "http://wrong.internal/orders/1")
			want(t, a, 502, "token_refused")
			told := regexp.MustCompile("assertion")
			if sendsSecret {
				told = regexp.MustCompile("secret|credentials")
			}
			if detail := problemOf(a).Detail; !told.MatchString(detail) {
				t.Errorf("the answer does not name the %s, which is to be checked: %s", told, detail)
			}
			if strings.Contains(a.body+s.log.String(), "canary") {
				t.Error("a secret is in the answer or in the log")
			}
		})
	}
}

func withSecret(a *issuer.App, _ clientFiles)      { a.Secret = secret }
func withPlainSecret(a *issuer.App, _ clientFiles) { a.Secret = plainSecret }
func withKey(a *issuer.App, f clientFiles)         { a.Keys = []crypto.PublicKey{f.public} }
func withCertificate(a *issuer.App, f clientFiles) {
	a.Certificates = []*x509.Certificate{f.certificate}
}

// A Kubernetes service account's token stands for the client at Entra ID. The file is read again at each request.
func TestProviderWorkloadIdentity(t *testing.T) {
	t.Parallel()
	const subject, audience = "system:serviceaccount:shop:shop", "api://AzureADTokenExchange"
	cluster, up := startIssuer(t), startUpstream(t)
	iss := startProvider(t, issuer.EntraV2, issuer.Tenant{
		APIs: []issuer.API{{ID: "api://orders", AppID: ordersAppID}, {ID: "api://stock", AppID: legacyAppID}},
		Apps: []issuer.App{{ID: shopAppID, Federated: []issuer.Federated{{Issuer: cluster.Issuer(), Subject: subject, Audience: audience, Keys: cluster.Keys()}}}},
	})
	file := filepath.Join(t.TempDir(), "token")
	project := func(sub string) {
		token := cluster.Mint(map[string]any{"sub": sub, "aud": []string{audience}, "client_id": nil})
		if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	project(subject)
	s := startOrSkip(t, fmt.Sprintf("issuers: [{name: entra, url: %q, client: {id: %s, auth_method: federated, assertion_file: %q}}]\ntokens: {prefetch: false}\n"+
		"outbound:\n  listen: \"{out}\"\n  routes:\n    - {name: orders, host: orders.internal, upstream: %[4]q, scopes: [\"api://orders/.default\"]}\n"+
		"    - {name: stock, host: stock.internal, upstream: %[4]q, scopes: [\"api://stock/.default\"]}\n", iss.Issuer(), shopAppID, file, up.URL()), "federated")
	want(t, get(t, s.proxied(), "http://orders.internal/"), 200, "")
	project("system:serviceaccount:shop:other")
	a := get(t, s.proxied(), "http://stock.internal/")
	want(t, a, 502, "token_refused")
	if !strings.Contains(problemOf(a).Detail, "federated credential") {
		t.Errorf("the answer does not say what to look at: %s", a.body)
	}
	want(t, get(t, s.proxied(), "http://orders.internal/"), 200, "") // it has its token
}
