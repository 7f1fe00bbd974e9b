package chart

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sidepass/sidepass/test/localaddr"
)

// binary is sidepass, built once.
var binary = sync.OnceValues(func() (string, error) {
	file := filepath.Join(scratch, "sidepass")
	out, err := exec.Command("go", "build", "-o", file, "../../cmd/sidepass").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return file, nil
})

func sidepass(t *testing.T) string {
	t.Helper()
	file, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// sidecar is a pod's first init container as a process: its env, its mounts, no arguments. What a kubelet would give it, and a machine
// that others use cannot, is replaced: the folders that volumes are mounted at, and listeners on free ports.
type sidecar struct{ outbound, metrics string }

// startSidecar runs it. files are those of /etc/sidepass :: name → content; hosts are other names for addresses of this machine.
func startSidecar(t *testing.T, container any, files map[string]string, hosts *strings.Replacer) sidecar {
	t.Helper()
	s, dir := sidecar{localaddr.Free(t), localaddr.Free(t)}, t.TempDir()
	place := func(text string) string { return hosts.Replace(strings.ReplaceAll(text, "/etc/sidepass", dir)) }
	env := []string{"SIDEPASS_METRICS_LISTEN=" + s.metrics, "SIDEPASS_ADMIN_LISTEN=off"}
	calls := false
	for name, content := range files {
		calls = calls || strings.Contains(content, "\noutbound:")
		if err := os.WriteFile(filepath.Join(dir, name), []byte(place(content)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, value := range environment(container) {
		calls = calls || strings.HasPrefix(name, "SIDEPASS_OUTBOUND_")
		env = append(env, name+"="+place(value))
	}
	if calls {
		env = append(env, "SIDEPASS_OUTBOUND_LISTEN="+s.outbound)
	}
	slices.Sort(env)
	start(t, dir, env, sidepass(t)) // the image's working folder is /etc/sidepass

	for _, probe := range []string{"startupProbe", "readinessProbe"} {
		get := at(container, probe, "httpGet")
		if at(get, "port") != "metrics" {
			t.Fatalf("%s: %v", probe, get)
		}
		eventually(t, probe, func() error {
			status, body := ask(t, http.DefaultClient, "http://"+s.metrics+at(get, "path").(string))
			if status != 200 {
				return fmt.Errorf("%d %s", status, body)
			}
			return nil
		})
	}
	return s
}

// client is an app that has http_proxy.
func (s sidecar) client(t *testing.T) *http.Client {
	t.Helper()
	transport := &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: s.outbound})}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func ask(t *testing.T, c *http.Client, url string) (status int, body string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(r)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(text)
}

// startIssuer runs the development issuer, which knows one client.
func startIssuer(t *testing.T, id, secret string) (address string) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "secret")
	if err := os.WriteFile(file, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	address = localaddr.Free(t)
	start(t, dir, nil, sidepass(t), "issuer", "--listen", address, "--issuer", "http://"+address, "--client-id", id, "--client-secret-file", file)
	eventually(t, "the issuer", func() error {
		if status, body := ask(t, http.DefaultClient, "http://"+address+"/.well-known/openid-configuration"); status != 200 {
			return fmt.Errorf("%d %s", status, body)
		}
		return nil
	})
	return address
}

// startApp is what the pod's own container would be.
func startApp(t *testing.T, answer string) (address string) {
	t.Helper()
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, answer) }))
	t.Cleanup(app.Close)
	return app.Listener.Addr().String()
}

func portOf(t *testing.T, address string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// Two pods as the API server admitted them, configured by annotations alone, call each other.
func (c *cluster) pair(t *testing.T, namespace string) {
	issuer, app, inbound := startIssuer(t, "shop", "a-secret"), startApp(t, "an order"), localaddr.Free(t)
	c.helm(t, "upgrade", "sidepass", chart, "--namespace", "sidepass-system", "--set", "image="+image, "--set", "injector.enabled=true",
		"--set", "injector.env.SIDEPASS_ISSUERS_0_URL=http://"+issuer)
	admitted := func(annotations map[string]string) (container any) {
		t.Helper()
		eventually(t, "a pod with the new defaults", func() error {
			status, body := c.admit(t, namespace, pod(annotations))
			container = at(decode(t, body), "spec", "initContainers", 0)
			if status != 201 || environment(container)["SIDEPASS_ISSUERS_0_URL"] != "http://"+issuer {
				return fmt.Errorf("%d %s", status, body)
			}
			return nil
		})
		return container
	}
	startSidecar(t, admitted(map[string]string{"inbound-port": portOf(t, inbound), "app-port": portOf(t, app), "audience": "https://orders-api"}),
		nil, strings.NewReplacer())
	shop := startSidecar(t, admitted(map[string]string{"secret": "shop", "client-id": "shop",
		"routes": "orders.internal upstream=http://" + inbound + " audience=https://orders-api"}),
		map[string]string{"client-secret": "a-secret"}, strings.NewReplacer())

	if status, body := ask(t, shop.client(t), "http://orders.internal/orders/1"); status != 200 || body != "an order" {
		t.Errorf("through sidepass: %d %s", status, body)
	}
	if status, body := ask(t, http.DefaultClient, "http://"+inbound+"/orders/1"); status != 401 || !strings.Contains(body, "no_token") {
		t.Errorf("without a token: %d %s", status, body)
	}
}

// The demo's configurations as processes, and the very script that `helm test` runs in its pod.
func TestDemoRuns(t *testing.T) {
	for _, command := range []string{"sh", "curl", "seq"} {
		if _, err := exec.LookPath(command); err != nil {
			t.Skip("the demo's script needs ", command)
		}
	}
	all := rendered(t, "--set", "demo.enabled=true", "--set", "image="+image)
	files := func(name string) map[string]string {
		t.Helper()
		files := map[string]string{}
		for _, source := range at(find(t, all, "Deployment", name), "spec", "template", "spec", "volumes", 0, "projected", "sources").([]any) {
			data := at(source, "configMap", "name")
			kind, field := "ConfigMap", "data"
			if data == nil {
				kind, field, data = "Secret", "stringData", at(source, "secret", "name")
			}
			for k, v := range at(find(t, all, kind, data.(string)), field).(map[string]any) {
				files[k] = v.(string)
			}
		}
		return files
	}
	container := func(name string) any {
		t.Helper()
		return at(find(t, all, "Deployment", name), "spec", "template", "spec", "initContainers", 0)
	}
	// The issuer with the arguments of its pod.
	issuer, secret := localaddr.Free(t), filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(files("demo-sidepass-shop")["client-secret"]), 0o600); err != nil {
		t.Fatal(err)
	}
	inbound, app := localaddr.Free(t), startApp(t, "an order")
	hosts := strings.NewReplacer("demo-sidepass-issuer:9000", issuer, "http://demo-sidepass-orders", "http://"+inbound, "127.0.0.1:8080", app,
		":9000", issuer, "/run/secrets/shop/client-secret", secret)
	var args []string
	for _, a := range at(find(t, all, "Deployment", "demo-sidepass-issuer"), "spec", "template", "spec", "containers", 0, "args").([]any) {
		args = append(args, hosts.Replace(a.(string)))
	}
	start(t, t.TempDir(), nil, sidepass(t), args...)

	orders := files("demo-sidepass-orders")
	orders["sidepass.yaml"] = strings.Replace(orders["sidepass.yaml"], "inbound:", "inbound:\n  listen: "+inbound, 1)
	startSidecar(t, container("demo-sidepass-orders"), orders, hosts)
	shop := startSidecar(t, container("demo-sidepass-shop"), files("demo-sidepass-shop"), hosts)

	test := at(find(t, all, "Pod", "demo-sidepass-test"), "spec", "containers", 0)
	command := at(test, "command").([]any)
	var env []string
	for name, value := range environment(test) {
		env = append(env, name+"="+strings.ReplaceAll(value, "127.0.0.1:8401", shop.outbound))
	}
	script := hosts.Replace(command[2].(string))
	out, err := run(t, env, command[0].(string), command[1].(string), script)
	if err != nil || !strings.Contains(out, "through sidepass: 200\n") || !strings.Contains(out, "without a token: 401\n") {
		t.Errorf("%v\n%s", err, out)
	}
	// Without its sidepass the same script fails.
	if out, err := run(t, []string{"http_proxy=", "HTTP_PROXY="}, command[0].(string), command[1].(string), script); err == nil {
		t.Errorf("it passes without sidepass:\n%s", out)
	}
}
