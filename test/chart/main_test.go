// Package chart holds the Helm chart against the tools that its users have: helm, promtool, and a real kube-apiserver with etcd. Those come
// from test/tools/build; a test whose tool is not there skips, and says so. There is no kubelet: pods are admitted and do not start. What would run in
// them is started as processes instead.
package chart

import (
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"go.yaml.in/yaml/v4"
)

const (
	chart = "../../charts/sidepass"
	image = "registry.example.com/sidepass:0.1.0"
)

var update = flag.Bool("update", false, "write the golden files and the chart's README anew")

// scratch is a folder that ends with the tests.
var scratch string

func TestMain(m *testing.M) {
	flag.Parse()
	dir, err := os.MkdirTemp("", "sidepass-chart-")
	if err != nil {
		panic(err)
	}
	scratch = dir
	code := m.Run()
	_ = os.RemoveAll(scratch)
	http.DefaultClient.CloseIdleConnections()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// tool is where test/tools/build puts a tool of the version that its go.mod names.
func tool(t *testing.T, name string) string {
	t.Helper()
	mod, err := os.ReadFile(filepath.Join("../tools", name, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	module := map[string]string{
		"helm": "helm.sh/helm/v4", "helm-unittest": "github.com/helm-unittest/helm-unittest", "promtool": "github.com/prometheus/prometheus",
		"etcd": "go.etcd.io/etcd/server/v3", "kube-apiserver": "k8s.io/kubernetes", "monitoring-crds": "github.com/prometheus-operator/prometheus-operator",
	}[name]
	version := regexp.MustCompile(`(?m)^(?:require|)\s*` + regexp.QuoteMeta(module) + ` (v\S+)`).FindSubmatch(mod)
	if version == nil {
		t.Fatalf("test/tools/%s/go.mod does not require %s", name, module)
	}
	cache := os.Getenv("XDG_CACHE_HOME")
	if cache == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			t.Skip("there is no home folder to find tools in: ", err)
		}
		cache = filepath.Join(home, ".cache")
	}
	file := filepath.Join(cache, "sidepass-tools", name+"-"+string(version[1]))
	if _, err := os.Stat(file); err != nil {
		t.Skipf("%s %s is not built: run test/tools/build %[1]s", name, version[1])
	}
	return file
}

// run starts a command and returns what it prints; its failure is in err.
func run(t *testing.T, env []string, name string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// helm runs it without the plugins and settings of whoever runs the test.
func helm(t *testing.T, args ...string) (string, error) {
	t.Helper()
	dir := t.TempDir()
	return run(t, []string{"HELM_CONFIG_HOME=" + dir, "HELM_CACHE_HOME=" + dir, "HELM_DATA_HOME=" + dir, "HELM_PLUGINS=" + dir}, tool(t, "helm"), args...)
}

// objects are the documents of a stream of YAML, without empty ones.
func objects(t *testing.T, text string) []map[string]any {
	t.Helper()
	var all []map[string]any
	d := yaml.NewDecoder(strings.NewReader(text))
	for {
		var o map[string]any
		if err := d.Decode(&o); err == io.EOF {
			return all
		} else if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		if o != nil {
			all = append(all, o)
		}
	}
}

// rendered are the objects that the chart comes to.
func rendered(t *testing.T, args ...string) []map[string]any {
	t.Helper()
	out, err := helm(t, append([]string{"template", "demo", chart, "--namespace", "shop"}, args...)...)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return objects(t, out)
}

// find is the one object of a kind and name.
func find(t *testing.T, all []map[string]any, kind, name string) map[string]any {
	t.Helper()
	for _, o := range all {
		if o["kind"] == kind && at(o, "metadata", "name") == name {
			return o
		}
	}
	t.Fatalf("there is no %s %s", kind, name)
	return nil
}

// at is what stands at a path of keys and indices, nil if there is nothing.
func at(v any, path ...any) any {
	for _, key := range path {
		switch k := key.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[k]
		case int:
			l, _ := v.([]any)
			if k >= len(l) {
				return nil
			}
			v = l[k]
		}
	}
	return v
}

// golden compares with a file, or writes it.
func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, got, 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	is, should := strings.Split(string(got), "\n"), strings.Split(string(want), "\n")
	for i := range max(len(is), len(should)) {
		if i >= len(is) || i >= len(should) || is[i] != should[i] {
			t.Errorf("not as in %s from line %d on (go test ./test/chart -update writes it anew):\n%s", file, i+1, strings.Join(is[min(i, len(is)):min(i+10, len(is))], "\n"))
			return
		}
	}
}
