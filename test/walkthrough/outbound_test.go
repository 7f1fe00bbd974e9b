package walkthrough

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/sidepass/sidepass/test/issuer"
	"github.com/sidepass/sidepass/test/upstream"
)

const (
	clients = root + "/examples/clients"
	secret  = "canary-never-printed"
)

// The page shows the programs of examples/clients, all of them and as they are.
func TestOutboundShowsTheClients(t *testing.T) {
	p := readPage(t, "outbound.md")
	link := regexp.MustCompile(`^\[(\S+)\]\(\.\./examples/clients/(\S+)\)$`)
	shown := map[string]bool{}
	for _, b := range p.blocks {
		m := link.FindStringSubmatch(b.above)
		if m == nil {
			continue
		}
		shown[m[2]] = true
		source, err := os.ReadFile(filepath.Join(clients, m[2]))
		switch {
		case err != nil:
			t.Error(err)
		case b.text == string(source):
		case *update:
			p.changes = append(p.changes, change{b, string(source)})
		default:
			t.Errorf("%s shows %s otherwise than it is: go test ./test/walkthrough -update", p.file, m[2])
		}
	}
	err := filepath.WalkDir(clients, func(path string, d fs.DirEntry, err error) error {
		if name, _ := filepath.Rel(clients, path); err == nil && !d.IsDir() && !shown[filepath.ToSlash(name)] {
			t.Errorf("%s does not show %s", p.file, name)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// runtimes are what a command of the page needs, by its first word. A JDK is known by its compiler.
var runtimes = map[string][]string{
	"sh": {"sh", "curl"}, "curl": {"curl"}, "go": {"go"}, "python3": {"python3"}, "node": {"node"}, "java": {"java", "javac"},
}

// works is what a client prints of a way that works.
var works = regexp.MustCompile(`(?m)^[A-Za-z ]+: (200|SERVING)$`)

// Each client does what the page says that it does, through a sidepass with the page's configuration.
func TestOutbound(t *testing.T) {
	t.Parallel()
	need(t, "bash")
	p := readPage(t, "outbound.md")
	w := newOutbound(t, p)
	exports := ""
	for _, s := range p.steps(t) {
		if strings.HasPrefix(s.commands, "export ") {
			exports += s.commands
			continue
		}
		name, _, _ := strings.Cut(s.commands, "\n")
		t.Run(name, func(t *testing.T) {
			need(t, runtimes[strings.Fields(name)[0]]...)
			if strings.Contains(name, "requests") && exec.CommandContext(t.Context(), "python3", "-c", "import requests").Run() != nil {
				t.Skip("Python's requests is not installed")
			}
			w.service.Reset()
			printed := w.shown.Replace(bash(t, w.dir, w.here.Replace(exports+s.commands)))
			p.printed(t, s, printed)
			if got, want := w.service.Count(), len(works.FindAllString(printed, -1)); got != want {
				t.Errorf("%d requests reached the service, and %d are said to have been answered there", got, want)
			}
			for _, seen := range w.service.Seen() {
				w.hasToken(t, seen)
			}
		})
	}
	if n := w.issuer.Calls(issuer.Token); n != 1 {
		t.Errorf("there were %d token requests; the page says that all ways share one", n)
	}
}

// outbound is what stands around the clients of the page.
type outbound struct {
	issuer  *issuer.Server
	service *upstream.Server
	dir     string            // a copy of examples/clients, with the addresses of this test
	here    *strings.Replacer // from the page's addresses and names to those of this test
	shown   *strings.Replacer // and back, for what is printed
}

// newOutbound runs a sidepass with the page's configuration between an issuer and a service that speaks HTTP and gRPC.
func newOutbound(t *testing.T, p *page) *outbound {
	t.Helper()
	w := &outbound{dir: t.TempDir()}
	var err error
	if w.issuer, err = issuer.Start(issuer.Options{Clients: []issuer.Client{{ID: "shop", Secret: secret}}, Algorithms: []string{"ES256"}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.issuer.Close() })
	if w.service, err = upstream.Start(upstream.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.service.Close)
	server := grpc.NewServer()
	t.Cleanup(server.Stop)
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	w.service.HandleEarly(func(rw http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
			return false
		}
		server.ServeHTTP(rw, r)
		return true
	})

	const secretFile = "client-secret"
	addresses := freeAddresses(t, 4)
	there := []string{"8401", "8404", "8405"} // the page's ports; no client says another number that has them
	var here, shown []string
	for i, page := range there {
		_, port, _ := strings.Cut(addresses[i], ":")
		here, shown = append(here, page, port), append(shown, "127.0.0.1:"+port, "127.0.0.1:"+page)
	}
	w.shown = strings.NewReplacer(shown...)
	w.here = strings.NewReplacer(append(here, "https://YOUR-TENANT.eu.auth0.com/", w.issuer.Issuer(), "YOUR-CLIENT-ID", "shop",
		"/run/secrets/auth0-client-secret", secretFile, "https://orders.example.com", w.service.URL())...)

	if err := os.CopyFS(w.dir, os.DirFS(clients)); err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(w.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(path, []byte(w.here.Replace(string(text))), 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"go.mod", "go.sum"} {
		copyFile(t, filepath.Join(root, name), filepath.Join(w.dir, name))
	}

	run := build(t)
	configuration := ""
	for _, b := range p.blocks {
		if b.language == "yaml" {
			configuration += b.text
		}
	}
	for name, text := range map[string]string{secretFile: secret, "sidepass.yaml": w.here.Replace(configuration)} {
		if err := os.WriteFile(filepath.Join(run, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	startSidepass(t, run, addresses[3], "SIDEPASS_OUTBOUND_LISTEN="+addresses[0], "SIDEPASS_ADMIN_LISTEN="+addresses[1])
	return w
}

// startSidepass runs the sidepass of a folder with the configuration there, until the test ends, and waits until it is ready.
func startSidepass(t *testing.T, dir, metrics string, environ ...string) {
	t.Helper()
	var log bytes.Buffer
	cmd := exec.Command(filepath.Join(dir, "sidepass"), "run")
	cmd.Dir, cmd.Env = dir, environment(append(environ, "SIDEPASS_METRICS_LISTEN="+metrics)...)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("sidepass ended with %v", err)
		}
		if t.Failed() {
			t.Logf("the log of sidepass:\n%s", &log)
		}
		if strings.Contains(log.String(), secret) || strings.Contains(log.String(), "eyJ") {
			t.Error("the secret or a token is in the log")
		}
	})
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if resp, err := http.Get("http://" + metrics + "/readyz"); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		if time.Now().After(end) {
			t.Fatal("sidepass is not ready after 20 s")
		}
	}
}

// hasToken says that a request came to the service with a token of the page's route, and nothing of the proxy's.
func (w *outbound) hasToken(t *testing.T, seen upstream.Seen) {
	t.Helper()
	if seen.Target != "/orders/1" && seen.Target != grpc_health_v1.Health_Check_FullMethodName {
		t.Errorf("the service was asked for %s", seen.Target)
	}
	var claims struct{ Iss, Aud, Scope string }
	_, token, _ := strings.Cut(seen.Header.Get("Authorization"), "Bearer ")
	if part := strings.Split(token, "."); len(part) == 3 {
		text, _ := base64.RawURLEncoding.DecodeString(part[1])
		_ = json.Unmarshal(text, &claims)
	}
	if len(seen.Header["Authorization"]) != 1 || claims.Iss != w.issuer.Issuer() || claims.Aud != "https://orders-api" || claims.Scope != "read:orders" {
		t.Errorf("%s %s came without the token of the route: %+v", seen.Method, seen.Target, claims)
	}
}
