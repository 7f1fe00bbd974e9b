package chart

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sidepass/sidepass/config"
)

// operator is what a cluster with the Prometheus Operator says of itself.
var operator = []string{"--api-versions", "monitoring.coreos.com/v1/PodMonitor", "--api-versions", "monitoring.coreos.com/v1/PrometheusRule"}

// kinds are those of objects, with how many there are of each.
func kinds(all []map[string]any) map[string]int {
	n := map[string]int{}
	for _, o := range all {
		n[o["kind"].(string)]++
	}
	return n
}

func TestLint(t *testing.T) {
	files, err := filepath.Glob("testdata/values/*.yaml")
	if err != nil || len(files) < 4 {
		t.Fatal(files, err)
	}
	for _, args := range append([][]string{nil}, inPairs("--values", files)...) {
		if out, err := helm(t, append([]string{"lint", "--strict", chart}, args...)...); err != nil {
			t.Errorf("helm lint %v: %v\n%s", args, err, out)
		}
	}
}

func inPairs(flag string, values []string) (pairs [][]string) {
	for _, v := range values {
		pairs = append(pairs, []string{flag, v})
	}
	return pairs
}

// What the chart comes to under each values file, as a whole.
func TestTemplates(t *testing.T) {
	for _, name := range []string{"demo", "injector", "monitoring", "everything"} {
		t.Run(name, func(t *testing.T) {
			args := append([]string{"template", "demo", chart, "--namespace", "shop", "--values", "testdata/values/" + name + ".yaml"}, operator...)
			out, err := helm(t, args...)
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if name == "demo" { // the others' objects are the API server's and the suites' to judge
				golden(t, "testdata/values/"+name+".golden", []byte(out))
			}
			for _, o := range objects(t, out) {
				restricted(t, o)
			}
		})
	}
}

// restricted looks at every container of an object, whatever kind it has.
func restricted(t *testing.T, o map[string]any) {
	t.Helper()
	spec := at(o, "spec")
	if o["kind"] != "Pod" {
		spec = at(o, "spec", "template", "spec")
	}
	if spec == nil {
		return
	}
	for _, list := range []string{"initContainers", "containers"} {
		all, _ := at(spec, list).([]any)
		for _, c := range all {
			name := at(c, "name")
			for _, row := range []struct {
				path []any
				want any
			}{
				{[]any{"securityContext", "runAsNonRoot"}, true},
				{[]any{"securityContext", "readOnlyRootFilesystem"}, true},
				{[]any{"securityContext", "allowPrivilegeEscalation"}, false},
				{[]any{"securityContext", "capabilities", "drop", 0}, "ALL"},
				{[]any{"securityContext", "seccompProfile", "type"}, "RuntimeDefault"},
				{[]any{"resources", "limits", "cpu"}, nil},
			} {
				if got := at(c, row.path...); got != row.want {
					t.Errorf("%s %s: %v is %v, want %v", o["kind"], name, row.path, got, row.want)
				}
			}
			if at(c, "resources", "limits", "memory") == nil {
				t.Errorf("%s %s has no memory limit", o["kind"], name)
			}
		}
		if list == "initContainers" && len(all) > 0 && (at(all[0], "name") != "sidepass" || at(all[0], "restartPolicy") != "Always" || at(all[0], "args") != nil) {
			t.Errorf("%s: the first init container is %v", o["kind"], all[0])
		}
	}
}

// Nothing is on by itself, so that a chart which depends on this one gets helpers and no objects.
func TestNothingByDefault(t *testing.T) {
	if all := rendered(t); len(all) > 0 {
		t.Errorf("it makes %v", kinds(all))
	}
}

// Where the cluster lacks an API, what needs it is left out, or says so where the chart would be useless without.
func TestMissingAPIs(t *testing.T) {
	if got := kinds(rendered(t, "--values", "testdata/values/monitoring.yaml")); got["PodMonitor"]+got["PrometheusRule"] != 0 || got["NetworkPolicy"] != 1 {
		t.Errorf("without the operator it makes %v", got)
	}
	out, err := helm(t, "template", "demo", chart, "--values", "testdata/values/injector.yaml", "--kube-version", "1.35.0")
	if err == nil || !strings.Contains(out, "the cluster has no admissionregistration.k8s.io/v1 MutatingAdmissionPolicy, which came with Kubernetes 1.36") {
		t.Errorf("on Kubernetes 1.35: %v\n%s", err, out)
	}
	if out, err := helm(t, "template", "demo", chart, "--values", "testdata/values/demo.yaml", "--kube-version", "1.28.0"); err == nil {
		t.Errorf("on Kubernetes 1.28, which has no native sidecars by default, it makes\n%s", out)
	}
}

// Values that mean nothing are refused, by the schema or by a sentence.
func TestValues(t *testing.T) {
	for set, want := range map[string]string{
		"demo.enabled=true":                            "say where your cluster finds sidepass's image",
		"demo.enabled=true,image=sidepass":             "with a tag or a digest",
		"demo.enabled=true,image=r:5000/sidepass":      "with a tag or a digest",
		"imagee=a:1":                                   "imagee",
		"injector.env.LOG_LEVEL=debug":                 "LOG_LEVEL",
		"resources.limits.memory=1.5Gi":                "memory",
		"resources.limits.cpu=1":                       "cpu",
		"inboundPort=70000":                            "inboundPort",
		"federated.expirationSeconds=60":               "expirationSeconds",
		"demo.clientSecret=":                           "clientSecret",
		"podMonitor.enabled=yes,podMonitor.interval=1": "podMonitor",
	} {
		if out, err := helm(t, "template", "demo", chart, "--set", set); err == nil || !strings.Contains(out, want) {
			t.Errorf("%s: %v, want a refusal with %q\n%s", set, err, want, out)
		}
	}
}

// The limit is said in all the ways that Kubernetes has for whole units.
func TestGOMEMLIMIT(t *testing.T) {
	for limit, want := range map[string]string{"128Mi": "120795955", "1Gi": "966367641", "100M": "90000000", "1G": "900000000", "524288Ki": "483183820", "200000k": "180000000", "134217728": "120795955"} {
		all := rendered(t, "--set", "demo.enabled=true,image="+image, "--set-string", "resources.limits.memory="+limit)
		got := environment(at(find(t, all, "Deployment", "demo-sidepass-orders"), "spec", "template", "spec", "initContainers", 0))["GOMEMLIMIT"]
		if got != want {
			t.Errorf("%s: %s, want %s", limit, got, want)
		}
	}
}

// The test suites of the chart itself.
func TestHelmUnittest(t *testing.T) {
	out, err := run(t, nil, tool(t, "helm-unittest"), "--strict", chart)
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if !strings.Contains(out, "Test Suites:") {
		t.Errorf("it ran no suite:\n%s", out)
	}
}

// examples/chart with this chart as its dependency, which helm would fetch.
func library(t *testing.T) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "shop")
	if err := os.CopyFS(dir, os.DirFS("../../examples/chart")); err != nil {
		t.Fatal(err)
	}
	if out, err := helm(t, "package", chart, "--destination", filepath.Join(dir, "charts")); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}

func TestLibrary(t *testing.T) {
	out, err := helm(t, "template", "shop", library(t))
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	golden(t, "testdata/library.golden", []byte(out))
	all := objects(t, out)
	if got := kinds(all); len(all) != 3 || got["Deployment"] != 1 || got["Job"] != 1 || got["ConfigMap"] != 1 {
		t.Errorf("it makes %v", got)
	}
	for _, o := range all {
		if o["kind"] == "Deployment" {
			o = map[string]any{"kind": "Deployment", "spec": map[string]any{"template": map[string]any{"spec": map[string]any{
				"initContainers": at(o, "spec", "template", "spec", "initContainers")}}}}
			restricted(t, o)
		}
	}
	// Its configuration is one that sidepass takes, with the token where the chart mounts it.
	text := at(find(t, all, "ConfigMap", "shop-sidepass"), "data", "sidepass.yaml").(string)
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "sidepass.yaml")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(text, "/var/run/secrets/sidepass/token", token)), 0o600); err != nil {
		t.Fatal(err)
	}
	loaded, err := config.Load(config.LoadOptions{Files: []string{file}})
	if err != nil {
		t.Fatal(err)
	}
	if got := loaded.Config.Issuers[0].Client.AssertionFile; got != token {
		t.Errorf("the assertion comes from %s", got)
	}
	mounts := at(find(t, all, "Deployment", "shop"), "spec", "template", "spec", "initContainers", 0, "volumeMounts").([]any)
	if !slices.ContainsFunc(mounts, func(m any) bool {
		return at(m, "name") == "sidepass-token" && at(m, "mountPath") == "/var/run/secrets/sidepass"
	}) {
		t.Errorf("the token is not mounted: %v", mounts)
	}
}

// A real API server takes all of it, with fields that no kind has refused: helm applies strictly.
func TestInstall(t *testing.T) {
	c := startCluster(t)
	crds := tool(t, "monitoring-crds")
	c.namespace(t, "shop")
	c.namespace(t, "plain")

	// Without the Prometheus Operator: what needs it is left out, and the notes say so.
	out := c.helm(t, "install", "plain", chart, "--namespace", "plain", "--values", "testdata/values/monitoring.yaml")
	for _, want := range []string{"the cluster has no PodMonitor", "the cluster has no PrometheusRule"} {
		if !strings.Contains(out, want) {
			t.Errorf("the notes do not say %q:\n%s", want, out)
		}
	}
	files, err := filepath.Glob(filepath.Join(crds, "*.yaml"))
	if err != nil || len(files) != 2 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		c.create(t, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", objects(t, string(text))[0])
	}
	eventually(t, "the operator's kinds", func() error {
		_, body := c.call(t, "GET", "/apis/monitoring.coreos.com/v1", nil)
		if !strings.Contains(body, "PodMonitor") || !strings.Contains(body, "PrometheusRule") {
			return errors.New("not yet")
		}
		return nil
	})
	for release, args := range map[string][]string{
		"everything": {chart, "--values", "testdata/values/everything.yaml"},
		"monitoring": {chart, "--values", "testdata/values/monitoring.yaml"},
		"library":    {library(t), "--set", "sidepass.image=" + image},
	} {
		c.helm(t, append([]string{"install", release, "--namespace", "shop"}, args...)...)
	}
	// What they made, as the API server has it; the test's pod, which helm makes later, is admitted too.
	for path, want := range map[string]int{
		"/apis/apps/v1/namespaces/shop/deployments":                               4,
		"/apis/batch/v1/namespaces/shop/jobs":                                     1,
		"/apis/monitoring.coreos.com/v1/namespaces/shop/podmonitors":              2,
		"/apis/monitoring.coreos.com/v1/namespaces/shop/prometheusrules":          2,
		"/apis/monitoring.coreos.com/v1/namespaces/plain/podmonitors":             0,
		"/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies":              2,
		"/apis/admissionregistration.k8s.io/v1/mutatingadmissionpolicies":         1,
		"/apis/admissionregistration.k8s.io/v1/mutatingadmissionpolicybindings":   1,
		"/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies":       1,
		"/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings": 1,
	} {
		status, body := c.call(t, "GET", path, nil)
		items, _ := at(decode(t, body), "items").([]any)
		if status != 200 || len(items) != want {
			t.Errorf("%s: %d, %d of them, want %d", path, status, len(items), want)
		}
	}
	// The pods that a controller would make of them are ones that the namespace's restricted profile takes.
	for _, path := range []string{"/apis/apps/v1/namespaces/shop/deployments", "/apis/batch/v1/namespaces/shop/jobs"} {
		_, body := c.call(t, "GET", path, nil)
		for _, o := range at(decode(t, body), "items").([]any) {
			p := at(o, "spec", "template").(map[string]any)
			p["metadata"].(map[string]any)["name"] = "of-" + at(o, "metadata", "name").(string)
			if at(p, "spec", "restartPolicy") == nil {
				t.Errorf("%s has no pod", path)
			}
			delete(p["metadata"].(map[string]any), "creationTimestamp")
			if status, body := c.admit(t, "shop", p); status != 201 {
				t.Errorf("%s: %d %s", at(p, "metadata", "name"), status, body)
			}
		}
	}
	test := find(t, rendered(t, "--values", "testdata/values/everything.yaml"), "Pod", "demo-sidepass-test")
	delete(test["metadata"].(map[string]any), "namespace")
	if status, body := c.admit(t, "shop", test); status != 201 {
		t.Errorf("the pod of helm test: %d %s", status, body)
	}
	for _, release := range []string{"everything", "monitoring", "library"} {
		c.helm(t, "uninstall", release, "--namespace", "shop")
	}
}
