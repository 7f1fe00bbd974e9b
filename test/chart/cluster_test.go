package chart

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sidepass/sidepass/test/localaddr"
)

// cluster is a kube-apiserver with its etcd, and nothing that would run a pod.
type cluster struct {
	url, kubeconfig string
	client          *http.Client
}

const clusterToken = "only-for-this-test"

// startCluster waits until it can be used. It ends with the test.
func startCluster(t *testing.T) *cluster {
	t.Helper()
	if testing.Short() {
		t.Skip("a whole API server takes longer than -short allows")
	}
	etcd, apiserver := tool(t, "etcd"), tool(t, "kube-apiserver")
	dir := t.TempDir()
	file := func(name, content string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	signing := file("service-accounts.pem", string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})))
	etcdURL, peerURL, port := "http://"+localaddr.Free(t), "http://"+localaddr.Free(t), strings.TrimPrefix(localaddr.Free(t), "127.0.0.1:")

	start(t, dir, nil, etcd, "--data-dir", filepath.Join(dir, "etcd"), "--unsafe-no-fsync", "--log-level=error",
		"--listen-client-urls", etcdURL, "--advertise-client-urls", etcdURL,
		"--listen-peer-urls", peerURL, "--initial-advertise-peer-urls", peerURL, "--initial-cluster", "default="+peerURL)
	start(t, dir, nil, apiserver, "--etcd-servers", etcdURL, "--bind-address=127.0.0.1", "--secure-port", port, "--cert-dir", filepath.Join(dir, "certs"),
		"--token-auth-file", file("tokens.csv", clusterToken+`,admin,1,"system:masters"`+"\n"), "--authorization-mode=RBAC", "--service-cluster-ip-range=10.0.0.0/24",
		"--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file", signing, "--service-account-signing-key-file", signing)

	c := &cluster{url: "https://127.0.0.1:" + port}
	cert := filepath.Join(dir, "certs/apiserver.crt")
	c.kubeconfig = file("kubeconfig", fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{name: test, cluster: {server: "%s", certificate-authority: "%s"}}]
users: [{name: admin, user: {token: "%s"}}]
contexts: [{name: test, context: {cluster: test, user: admin}}]
current-context: test
`, c.url, cert, clusterToken))
	eventually(t, "the API server's certificate", func() error {
		text, err := os.ReadFile(cert)
		if err != nil {
			return err
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(text) {
			return fmt.Errorf("%s has no certificate", cert)
		}
		c.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}}
		return nil
	})
	t.Cleanup(c.client.CloseIdleConnections)
	eventually(t, "the API server", func() error {
		if status, body := c.call(t, "GET", "/readyz", nil); status != 200 {
			return fmt.Errorf("%d %s", status, body)
		}
		return nil
	})
	return c
}

// call is one request to the API server; status is 0 if it cannot be reached.
func (c *cluster) call(t *testing.T, method, path string, object any) (status int, body string) {
	t.Helper()
	text, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), method, c.url+path, bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+clusterToken)
	r.Header.Set("Content-Type", "application/json")
	resp, err := c.client.Do(r)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(answer)
}

// create makes an object and says what became of it.
func (c *cluster) create(t *testing.T, path string, object any) map[string]any {
	t.Helper()
	status, body := c.call(t, "POST", path, object)
	if status != 201 {
		t.Fatalf("POST %s: %d %s", path, status, body)
	}
	return decode(t, body)
}

// namespace makes one that takes only pods of the restricted profile, with the service account that a controller would make.
func (c *cluster) namespace(t *testing.T, name string) {
	t.Helper()
	c.create(t, "/api/v1/namespaces", map[string]any{"metadata": map[string]any{"name": name, "labels": map[string]any{
		"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/enforce-version": "latest"}}})
	c.create(t, "/api/v1/namespaces/"+name+"/serviceaccounts", map[string]any{"metadata": map[string]any{"name": "default"}})
}

// admit has a pod go through admission and not be stored. Fields that no kind has are refused.
func (c *cluster) admit(t *testing.T, namespace string, pod any) (status int, body string) {
	t.Helper()
	return c.call(t, "POST", "/api/v1/namespaces/"+namespace+"/pods?dryRun=All&fieldValidation=Strict", pod)
}

// helm runs it against the cluster.
func (c *cluster) helm(t *testing.T, args ...string) string {
	t.Helper()
	out, err := helm(t, append(args, "--kubeconfig", c.kubeconfig)...)
	if err != nil {
		t.Fatalf("helm %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func decode(t *testing.T, text string) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return v
}

// start runs a process in a folder until the test ends. What it says is shown if the test fails.
func start(t *testing.T, dir string, env []string, name string, args ...string) {
	t.Helper()
	log, err := os.CreateTemp(t.TempDir(), filepath.Base(name))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env = dir, env
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		ended := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		ended.Stop()
		_ = log.Close()
		if t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("%s:\n%s", filepath.Base(name), text[max(0, len(text)-1500):])
		}
	})
}

// eventually asks again until there is no error.
func eventually(t *testing.T, what string, f func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if err = f(); err == nil {
			return
		}
	}
	t.Fatalf("%s: %v", what, err)
}
