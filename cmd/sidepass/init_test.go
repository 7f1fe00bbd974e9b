package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.yaml.in/yaml/v4"

	"github.com/sidepass/sidepass/config"
	"github.com/sidepass/sidepass/scaffold"
	"github.com/sidepass/sidepass/test/issuer"
	"github.com/sidepass/sidepass/test/localaddr"
	"github.com/sidepass/sidepass/test/upstream"
)

// initialized runs `sidepass init --yes` in a folder of its own and returns what it wrote, by name.
func initialized(t *testing.T, args ...string) map[string]string {
	t.Helper()
	dir := t.TempDir()
	var out, errs bytes.Buffer
	args = append([]string{"init", "--yes", "--output", filepath.Join(dir, "sidepass.yaml")}, args...)
	if code := execute(args, streams{strings.NewReader(""), &out, &errs}, nil); code != 0 {
		t.Fatalf("%q exits with %d: %s", args, code, &errs)
	}
	texts := map[string]string{}
	if err := fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			b, readErr := os.ReadFile(filepath.Join(dir, name))
			texts[name], err = string(b), readErr
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return texts
}

var namedFile = regexp.MustCompile(`(_file: )(/[^ \n]+)`)

// What is written for each provider and direction can be used as it is, once the files that it names are there.
func TestInitWritesWhatCanBeUsed(t *testing.T) {
	authority, err := os.ReadFile(filepath.Join("testdata", "authority.pem"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range scaffold.Providers() {
		directions := []string{"inbound"}
		if p.InboundOnly == "" {
			directions = append(directions, "outbound", "both")
		}
		for _, direction := range directions {
			t.Run(p.Name+" "+direction, func(t *testing.T) {
				text := initialized(t, "--provider", p.Name, "--direction", direction)["sidepass.yaml"]
				dir := t.TempDir()
				for _, m := range namedFile.FindAllStringSubmatch(text, -1) {
					content := []byte("a-secret")
					if strings.HasPrefix(text[strings.Index(text, m[0])-2:], "ca") {
						content = authority
					}
					if err := os.WriteFile(filepath.Join(dir, filepath.Base(m[2])), content, 0o600); err != nil {
						t.Fatal(err)
					}
				}
				file := filepath.Join(dir, "sidepass.yaml")
				if err := os.WriteFile(file, []byte(namedFile.ReplaceAllStringFunc(text, func(s string) string {
					key, path, _ := strings.Cut(s, " ")
					return key + " " + filepath.Join(dir, filepath.Base(path))
				})), 0o600); err != nil {
					t.Fatal(err)
				}
				for _, command := range [][]string{{"config"}, {"check", "--offline"}} {
					var out, errs bytes.Buffer
					if code := execute(append(command, "--config", file), streams{strings.NewReader(""), &out, &errs}, nil); code != 0 {
						t.Errorf("%v exits with %d:\n%s%s\n%s", command, code, &out, &errs, text)
					}
				}
				loaded, err := config.Load(config.LoadOptions{Files: []string{file}})
				if err != nil {
					t.Fatal(err)
				}
				c := loaded.Config
				if (c.Outbound != nil) != (direction != "inbound") || (c.Inbound != nil) != (direction != "outbound") {
					t.Errorf("want %s, got:\n%s", direction, text)
				}
				if c.Issuers[0].Client.Secret.IsSet() || c.Outbound == nil && c.Issuers[0].Client.ID != "" {
					t.Errorf("a secret, or a client that nobody needs:\n%s", text)
				}
				if in := c.Inbound; in != nil && (len(in.Rules) != 2 || in.Rules[0].Anonymous() || !slices.Equal(in.Rules[1].Match, []string{"GET /healthz"}) ||
					p.NeedsScopes && len(in.Rules[0].Scopes) == 0 || p.NeedsCallers && len(in.Rules[0].Clients)+len(in.Trust[0].Clients) == 0) {
					t.Errorf("more is open than GET /healthz:\n%s", text)
				}
			})
		}
	}
}

// Around the configuration: what is mounted is where the configuration looks for it, and the ports are the listeners'.
func TestInitAround(t *testing.T) {
	texts := initialized(t, "--provider", "keycloak", "--direction", "both", "--with", "kubernetes", "--name", "shop")
	var deployment struct {
		Spec struct {
			Template struct {
				Metadata struct{ Labels, Annotations map[string]string }
			}
		}
	}
	documents := strings.SplitAfter(texts["sidepass-kubernetes.yaml"], "\n---\n")
	if err := yaml.Unmarshal([]byte(documents[len(documents)-1]), &deployment); err != nil || len(documents) != 2 {
		t.Fatalf("%d documents: %v", len(documents), err)
	}
	pod := deployment.Spec.Template.Metadata
	if want := map[string]string{"sidepass.dev/config": "shop-sidepass", "sidepass.dev/secret": "shop-sidepass", "sidepass.dev/inbound-port": "8402"}; !maps.Equal(pod.Annotations, want) {
		t.Errorf("the pod's annotations are %v, want %v", pod.Annotations, want)
	}
	if pod.Labels["sidepass.dev/inject"] != "true" || !strings.Contains(texts["sidepass.yaml"], "secret_file: /etc/sidepass/client-secret\n") {
		t.Errorf("labels %v, and\n%s", pod.Labels, texts["sidepass.yaml"])
	}

	texts = initialized(t, "--provider", "keycloak", "--direction", "both", "--with", "compose", "--name", "shop")
	var compose struct {
		Services map[string]struct {
			Environment map[string]string
			Ports       []string
			NetworkMode string `yaml:"network_mode"`
			Configs     []struct{ Source, Target string }
			Secrets     []struct{ Source, Target string }
		}
		Configs, Secrets map[string]struct{ File string }
	}
	if err := yaml.Unmarshal([]byte(texts["compose.sidepass.yaml"]), &compose); err != nil {
		t.Fatal(err)
	}
	sidecar := compose.Services["shop-sidepass"]
	if sidecar.NetworkMode != "service:shop" || compose.Services["shop"].Environment["http_proxy"] != "http://127.0.0.1:8401" || !slices.Equal(compose.Services["shop"].Ports, []string{"8402:8402"}) {
		t.Errorf("got %+v", compose.Services)
	}
	if c, s := sidecar.Configs[0], sidecar.Secrets[0]; c.Target != "/etc/sidepass/sidepass.yaml" || compose.Configs[c.Source].File != "./sidepass.yaml" ||
		!strings.Contains(texts["sidepass.yaml"], "secret_file: "+s.Target+"\n") || compose.Secrets[s.Source].File == "" {
		t.Errorf("got %+v", compose)
	}
}

// What init says of answers that it cannot use, and of those that it can.
func TestInitSays(t *testing.T) {
	entra := []string{"--provider", "Azure", "--direction", "outbound", "--output", "-"}
	for _, tc := range []struct {
		args      []string
		code      int
		says, not string
	}{
		{[]string{"--provider", "kubernetes", "--direction", "outbound"}, 2, "Kubernetes gives pods their tokens itself", "\n"},
		{[]string{"--provider", "other", "--direction", "sideways"}, 2, "is no direction", "\n"},
		{[]string{}, 2, "--provider: name one, or other", "\n"},
		{[]string{"--provider", "other", "--client-id", ""}, 2, "--client-id: the value is empty", "space"},
		{[]string{"--provider", "other", "--client-id", "a b"}, 2, `--client-id: "a b" has a space in it`, "empty"},
		{append(entra, "--route-upstream", "http://orders.example.com"), 0, "The token goes to http://orders.example.com in clear", ""},
		{append(entra, "--route-upstream", "http://127.0.0.1:9"), 0, "", "in clear"},
		{append(entra, "--route-upstream", "https://orders.example.com"), 0, "", "in clear"},
		{[]string{"--provider", "auth0", "--direction", "outbound", "--secret-file", "/a b"}, 0, "    install -m 600 /dev/stdin '/a b'\n", ""},
		{[]string{"--provider", "auth0", "--direction", "outbound", "--with", "compose"}, 0, "readable by sidepass alone\n", "install"},
	} {
		t.Chdir(t.TempDir())
		var out, errs bytes.Buffer
		code := execute(append([]string{"init", "--yes"}, tc.args...), streams{strings.NewReader(""), &out, &errs}, nil)
		text := strings.TrimSuffix(out.String()+errs.String(), "\n")
		if code != tc.code || !strings.Contains(text, tc.says) || tc.not != "" && strings.Contains(text, tc.not) {
			t.Errorf("%q exits with %d, and says %s", tc.args, code, text)
		}
	}
}

func TestDemoNamesItsStatusPages(t *testing.T) {
	var out bytes.Buffer
	(&demoWorld{out: &out, admin: "127.0.0.1:1", inboundAdmin: "127.0.0.1:2"}).leaveUp()
	for _, want := range []string{"the app:     http://127.0.0.1:1/", "the service: http://127.0.0.1:2/"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in %s", want, &out)
		}
	}
	for name, yaml := range map[string]string{"inbound": demoInbound("http://i", "s"), "outbound": demoOutbound("http://i", "f", "in")} {
		if !strings.Contains(yaml, `admin: {listen: "LISTEN:`) {
			t.Errorf("the %s sidecar has no status page", name)
		}
	}
}

// What was written works: the app's call gets a token, passes the inbound side, and reaches the app; without a token it does not.
func TestInitRoundTrip(t *testing.T) {
	app, err := upstream.Start(upstream.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(app.Close)
	server, err := issuer.Start(issuer.Options{Algorithms: []string{"ES256"}, Clients: []issuer.Client{{ID: "shop", Secret: "s"}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	secret, in, out := filepath.Join(t.TempDir(), "secret"), localaddr.Free(t), localaddr.Free(t)
	if err := os.WriteFile(secret, []byte("s"), 0o600); err != nil {
		t.Fatal(err)
	}
	at, err := url.Parse(app.URL())
	if err != nil {
		t.Fatal(err)
	}
	text := initialized(t, "--provider", "other", "--direction", "both", "--issuer", server.Issuer(), "--client-id", "shop", "--secret-file", secret,
		"--route-host", "shop.internal", "--route-upstream", "http://"+in, "--route-audience", "https://shop", "--route-scopes", "read",
		"--audience", "https://shop", "--scopes", "read", "--app-port", at.Port())["sidepass.yaml"]
	file := filepath.Join(t.TempDir(), "sidepass.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	loaded, err := config.Load(config.LoadOptions{Files: []string{file}, Environ: []string{
		"SIDEPASS_INBOUND_LISTEN=" + in, "SIDEPASS_OUTBOUND_LISTEN=" + out, "SIDEPASS_METRICS_LISTEN=off", "SIDEPASS_ADMIN_LISTEN=off", // they are others' in a test
	}})
	if err != nil {
		t.Fatal(err)
	}
	s, err := newSidecar(loaded, sidecarOptions{Log: zap.NewNop(), Level: zap.NewAtomicLevel()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	if err := s.awaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{Proxy: func(r *http.Request) (*url.URL, error) {
		if r.URL.Hostname() == "shop.internal" {
			return &url.URL{Scheme: "http", Host: out}, nil
		}
		return nil, nil
	}, DisableKeepAlives: true}
	client := &http.Client{Timeout: 20 * time.Second, Transport: transport}
	for target, want := range map[string]int{"http://shop.internal/carts/1": 200, "http://" + in + "/carts/1": 401, "http://" + in + "/healthz": 200} {
		resp, err := client.Get(target)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s is answered with %d, want %d", target, resp.StatusCode, want)
		}
	}
	if got := app.Seen(); len(got) != 2 {
		t.Errorf("the app saw %d requests, want 2", len(got))
	}
}
