package chart

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"github.com/sidepass/sidepass/config"
)

var injectorValues = []string{
	"--set", "image=" + image, "--set", "injector.enabled=true",
	"--set", "federated.audience=https://issuer.example.com",
	"--set", "injector.env.SIDEPASS_ISSUERS_0_URL=https://issuer.example.com",
	"--set", "injector.env.SIDEPASS_LOG_LEVEL=debug",
}

func readPod(t *testing.T, name string) map[string]any {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata/pods", name))
	if err != nil {
		t.Fatal(err)
	}
	return objects(t, string(text))[0]
}

// asAdmitted is a pod without what is different each time.
func asAdmitted(t *testing.T, body string) []byte {
	t.Helper()
	pod := decode(t, regexp.MustCompile(`kube-api-access-[a-z0-9]+`).ReplaceAllString(body, "kube-api-access-xxxxx"))
	metadata := pod["metadata"].(map[string]any)
	for _, key := range []string{"uid", "creationTimestamp", "managedFields", "resourceVersion", "generation"} {
		delete(metadata, key)
	}
	delete(pod, "status")
	text, err := yaml.Marshal(pod)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// pod is one that asks for a sidecar with these annotations.
func pod(annotations map[string]string) map[string]any {
	a := map[string]any{}
	for k, v := range annotations {
		a["sidepass.dev/"+k] = v
	}
	return map[string]any{
		"apiVersion": "v1", "kind": "Pod",
		"metadata": map[string]any{"name": "app", "labels": map[string]any{"sidepass.dev/inject": "true"}, "annotations": a},
		"spec": map[string]any{
			"securityContext": map[string]any{"runAsNonRoot": true, "seccompProfile": map[string]any{"type": "RuntimeDefault"}},
			"containers": []any{map[string]any{"name": "app", "image": "registry.example.com/app:1", "securityContext": map[string]any{
				"allowPrivilegeEscalation": false, "capabilities": map[string]any{"drop": []any{"ALL"}}}}},
		},
	}
}

// The whole of the injector, on a real API server whose namespace takes pods of the restricted profile only.
func TestInjector(t *testing.T) {
	c := startCluster(t)
	c.namespace(t, "shop")
	c.namespace(t, "sidepass-system")

	c.create(t, "/api/v1/namespaces", map[string]any{"metadata": map[string]any{"name": "open"}})
	c.create(t, "/api/v1/namespaces/open/serviceaccounts", map[string]any{"metadata": map[string]any{"name": "default"}})

	plain := readPod(t, "unlabelled.yaml")
	before, text := c.admit(t, "shop", plain)
	if before != 201 {
		t.Fatalf("%d %s", before, text)
	}
	untouched := asAdmitted(t, text)

	c.helm(t, append([]string{"install", "sidepass", chart, "--namespace", "sidepass-system"}, injectorValues...)...)
	c.injects(t)

	t.Run("pods", func(t *testing.T) {
		for _, name := range []string{"annotations", "config", "secret", "inbound"} {
			t.Run(name, func(t *testing.T) {
				status, body := c.admit(t, "shop", readPod(t, name+".yaml"))
				if status != 201 {
					t.Fatalf("%d %s", status, body)
				}
				golden(t, "testdata/pods/"+name+".golden.yaml", asAdmitted(t, body))
			})
		}
	})
	t.Run("a pod without the label is untouched", func(t *testing.T) {
		status, body := c.admit(t, "shop", plain)
		if got := asAdmitted(t, body); status != 201 || string(got) != string(untouched) {
			t.Errorf("%d, and it is another pod than before the injector:\n%s", status, got)
		}
	})
	t.Run("so is one that says false", func(t *testing.T) {
		p := pod(nil)
		p["metadata"].(map[string]any)["labels"] = map[string]any{"sidepass.dev/inject": "false"}
		status, body := c.admit(t, "shop", p)
		if got := decode(t, body); status != 201 || at(got, "spec", "initContainers") != nil {
			t.Errorf("%d %s", status, body)
		}
	})
	t.Run("one that has a sidepass keeps it", func(t *testing.T) {
		p := pod(map[string]string{"config": "shop"})
		own := map[string]any{"name": "sidepass", "image": "registry.example.com/sidepass:own", "restartPolicy": "Always",
			"securityContext": at(p, "spec", "containers", 0, "securityContext")}
		p["spec"].(map[string]any)["initContainers"] = []any{own}
		status, body := c.admit(t, "shop", p)
		got := decode(t, body)
		if status != 201 || at(got, "spec", "initContainers", 1) != nil || at(got, "spec", "initContainers", 0, "image") != own["image"] {
			t.Errorf("%d %s", status, body)
		}
	})
	t.Run("it is stored as it was admitted", func(t *testing.T) {
		c.create(t, "/api/v1/namespaces/shop/pods", readPod(t, "annotations.yaml"))
		_, body := c.call(t, "GET", "/api/v1/namespaces/shop/pods/orders", nil)
		golden(t, "testdata/pods/annotations.golden.yaml", asAdmitted(t, body))
	})
	t.Run("the page's own", func(t *testing.T) {
		p := at(pageDeployment(t), "spec", "template").(map[string]any)
		p["metadata"].(map[string]any)["name"] = "orders"
		if status, body := c.admit(t, "open", p); status != 201 || at(decode(t, body), "spec", "initContainers", 0, "name") != "sidepass" {
			t.Errorf("%d %s", status, body)
		}
	})
	t.Run("sentences", c.refusals)
	t.Run("every key of a route", c.routeKeys)
	t.Run("a pair of pods, as processes", func(t *testing.T) { c.pair(t, "shop") })

	t.Run("without an issuer or a federated audience", func(t *testing.T) {
		c.helm(t, "upgrade", "sidepass", chart, "--namespace", "sidepass-system", "--set", "image="+image, "--set", "injector.enabled=true")
		p := pod(map[string]string{"routes": "orders.internal audience=a", "client-id": "shop"})
		for _, want := range []string{"there is no issuer; set injector.env.SIDEPASS_ISSUERS_0_URL", "sidepass.dev/routes needs sidepass.dev/secret"} {
			eventually(t, want, func() error { return c.refused(t, p, want) })
		}
		if status, body := c.admit(t, "shop", pod(map[string]string{"config": "shop"})); status != 201 {
			t.Errorf("a pod with its own configuration: %d %s", status, body)
		}
	})
	t.Run("without its defaults", func(t *testing.T) {
		c.call(t, "DELETE", "/api/v1/namespaces/sidepass-system/configmaps/sidepass-defaults", nil)
		eventually(t, "a labelled pod is refused", func() error { return c.refused(t, pod(map[string]string{"config": "shop"}), "no params found") })
		if status, body := c.admit(t, "shop", plain); status != 201 {
			t.Errorf("a pod without the label: %d %s", status, body)
		}
	})
	t.Run("uninstalled", func(t *testing.T) {
		c.helm(t, "uninstall", "sidepass", "--namespace", "sidepass-system")
		eventually(t, "the label means nothing", func() error {
			if status, body := c.admit(t, "shop", pod(map[string]string{"config": "no name"})); status != 201 {
				return fmt.Errorf("%d %s", status, body)
			}
			return nil
		})
	})
}

// injects waits until the API server has heard of the policies: both take a moment, each its own.
func (c *cluster) injects(t *testing.T) {
	t.Helper()
	eventually(t, "the policy that injects", func() error {
		status, body := c.admit(t, "shop", pod(map[string]string{"config": "shop"}))
		if status == 201 && at(decode(t, body), "spec", "initContainers", 0, "name") == "sidepass" {
			return nil
		}
		return fmt.Errorf("%d %s", status, body)
	})
	eventually(t, "the policy that checks", func() error { return c.refused(t, pod(nil), "nothing is asked of sidepass") })
}

// refused says what happened if the pod was not refused with the sentence.
func (c *cluster) refused(t *testing.T, p any, sentence string) error {
	t.Helper()
	status, body := c.admit(t, "shop", p)
	message, _ := decode(t, body)["message"].(string)
	if status < 400 || status >= 500 || !strings.Contains(message, sentence) {
		return fmt.Errorf("%d %s, want a refusal with %q", status, body, sentence)
	}
	return nil
}

// Each row starts from what passes and breaks one thing. The sentence is the whole message, so no second fault comes of the first.
func (c *cluster) refusals(t *testing.T) {
	good := map[string]string{"routes": "orders.internal upstream=https://orders.example.com audience=https://orders-api", "client-id": "shop",
		"inbound-port": "8402", "audience": "https://shop-api"}
	configured := map[string]string{"config": "shop"}
	for _, p := range []map[string]string{good, configured} {
		if status, body := c.admit(t, "shop", pod(p)); status != 201 {
			t.Fatalf("%v: %d %s", p, status, body)
		}
	}
	for _, row := range []struct {
		from     map[string]string
		key      string
		value    string
		sentence string
	}{
		{good, "inboud-port", "1", `sidepass.dev/inboud-port is no annotation of sidepass; there are config, secret, inbound-port, app-port, audience, routes, client-id`},
		{configured, "config", "Shop Config", `sidepass.dev/config is "Shop Config", which is not the name of a ConfigMap`},
		{configured, "config", "", `sidepass.dev/config is "", which is not the name of a ConfigMap`},
		{configured, "secret", "a/b\nc", `sidepass.dev/secret is "a/b\nc", which is not the name of a Secret`},
		{good, "inbound-port", "http", `sidepass.dev/inbound-port is "http", which is not a port; write a number from 1 to 65535, in quotation marks`},
		{good, "inbound-port", "70000", `sidepass.dev/inbound-port is "70000", which is not a port; write a number from 1 to 65535, in quotation marks`},
		{good, "inbound-port", "08402", `sidepass.dev/inbound-port is "08402", which is not a port; write a number from 1 to 65535, in quotation marks`},
		{good, "inbound-port", "8403", `sidepass.dev/inbound-port is 8403, which is another port of sidepass; it has 8401, 8403 and 8404`},
		{good, "app-port", "-1", `sidepass.dev/app-port is "-1", which is not a port; write a number from 1 to 65535, in quotation marks`},
		{good, "app-port", "8402", `sidepass.dev/app-port is the port that sidepass itself listens on; let the app listen on another`},
		{configured, "app-port", "8402", `sidepass.dev/app-port is the port that sidepass itself listens on; let the app listen on another`},
		{configured, "audience", "a", `sidepass.dev/audience and sidepass.dev/config exclude each other; say it in the ConfigMap`},
		{configured, "routes", "orders.internal", `sidepass.dev/routes and sidepass.dev/config exclude each other; say it in the ConfigMap`},
		{configured, "client-id", "shop", `sidepass.dev/client-id and sidepass.dev/config exclude each other; say it in the ConfigMap`},
		{good, "audience", "-", `sidepass.dev/inbound-port and sidepass.dev/audience need each other; the audience is the one that callers' tokens are for`},
		{good, "inbound-port", "-", `sidepass.dev/inbound-port and sidepass.dev/audience need each other; the audience is the one that callers' tokens are for`},
		{good, "inbound-port", "", `sidepass.dev/inbound-port is "", which is not a port; write a number from 1 to 65535, in quotation marks`},
		{good, "audience", "", `sidepass.dev/audience is empty`},
		{good, "client-id", "", `sidepass.dev/client-id is empty`},
		{good, "routes", " \n", `sidepass.dev/routes is empty`},
		{good, "client-id", "-", `sidepass.dev/routes needs sidepass.dev/client-id`},
		{good, "routes", "upstream=https://orders.example.com audience=a", `sidepass.dev/routes: "upstream=https://orders.example.com audience=a" needs one host, prefix=… or listen=…`},
		{good, "routes", "orders.internal invoices.internal", `sidepass.dev/routes: "host=orders.internal host=invoices.internal" needs one host, prefix=… or listen=…`},
		{good, "routes", "orders.internal audience=a\nmail.internal upstrem=https://mail.example.com",
			`sidepass.dev/routes: "upstrem=https://mail.example.com" is not KEY=VALUE with one of the keys name, host, `},
		{good, "routes", "orders.internal audience=", `sidepass.dev/routes: "audience=" is not KEY=VALUE with one of the keys name, host, `},
	} {
		t.Run(row.key+" "+row.value, func(t *testing.T) {
			p := map[string]string{}
			for k, v := range row.from {
				p[k] = v
			}
			p[row.key] = row.value
			if row.value == "-" {
				delete(p, row.key)
			}
			_, body := c.admit(t, "shop", pod(p))
			message, _ := decode(t, body)["message"].(string)
			_, sentence, _ := strings.Cut(message, "denied request: ")
			if sentence != row.sentence && (!strings.HasSuffix(row.sentence, ", ") || !strings.HasPrefix(sentence, row.sentence) || strings.Contains(sentence, ";")) {
				t.Errorf("it says\n%s, want\n%s", message, row.sentence)
			}
		})
	}
	for name, row := range map[string]struct {
		change   func(metadata, spec map[string]any)
		sentence string
	}{
		"label": {func(m, _ map[string]any) { m["labels"] = map[string]any{"sidepass.dev/inject": "yes"} },
			`the label sidepass.dev/inject is "yes", which is neither "true" nor "false"`},
		"all at once": {func(m, _ map[string]any) {
			m["annotations"] = map[string]any{"sidepass.dev/config": "!", "sidepass.dev/app-port": "x"}
		},
			`sidepass.dev/config is "!", which is not the name of a ConfigMap; sidepass.dev/app-port is "x", which is not a port; write a number`},
	} {
		t.Run(name, func(t *testing.T) {
			p := pod(configured)
			row.change(p["metadata"].(map[string]any), p["spec"].(map[string]any))
			if err := c.refused(t, p, row.sentence); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("hostNetwork", func(t *testing.T) {
		// A namespace of the restricted profile would refuse it anyhow.
		p := pod(configured)
		p["spec"].(map[string]any)["hostNetwork"] = true
		status, body := c.admit(t, "open", p)
		if want := "the pod has hostNetwork, where everybody on the node would reach sidepass and get its tokens"; status == 201 || !strings.Contains(body, want) {
			t.Errorf("%d %s", status, body)
		}
	})
}

// Each key that a route has in the configuration can be said in the annotation, and becomes the variable of that key.
func (c *cluster) routeKeys(t *testing.T) {
	var keys, words []string
	route := reflect.TypeFor[config.Route]()
	for i := range route.NumField() {
		if name, _, _ := strings.Cut(route.Field(i).Tag.Get("yaml"), ","); name != "" && name != "-" {
			keys = append(keys, name)
		}
	}
	if len(keys) < 20 {
		t.Fatalf("the configuration of a route has the keys %v", keys)
	}
	for _, key := range keys {
		if !slices.Contains([]string{"host", "prefix", "listen"}, key) {
			words = append(words, key+"=x=y")
		}
	}
	for _, first := range []string{"orders.internal", "host=orders.internal", "prefix=/orders", "listen=127.0.0.1:8405"} {
		status, body := c.admit(t, "shop", pod(map[string]string{"client-id": "shop", "routes": first + "\t" + strings.Join(words, "  ")}))
		if status != 201 {
			t.Fatalf("%d %s", status, body)
		}
		env := environment(at(decode(t, body), "spec", "initContainers", 0))
		for _, word := range words {
			key, value, _ := strings.Cut(word, "=")
			if name := "SIDEPASS_OUTBOUND_ROUTES_0_" + strings.ToUpper(key); env[name] != value {
				t.Errorf("%s is %q, want %q", name, env[name], value)
			}
		}
	}
}

// environment is a container's env :: name → value.
func environment(container any) map[string]string {
	env := map[string]string{}
	list, _ := at(container, "env").([]any)
	for _, e := range list {
		env[at(e, "name").(string)], _ = at(e, "value").(string)
	}
	return env
}

// What the annotations come to is a configuration that sidepass takes; the admitted pods are as the API server gave them.
func TestInjectedEnvironment(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"token", "client-secret"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{"annotations": "federated 2 in", "secret": "client_secret_basic 1", "inbound": "client_secret_basic 0 in"} {
		var env []string
		for k, v := range environment(at(readPod(t, name+".golden.yaml"), "spec", "initContainers", 0)) {
			v = strings.NewReplacer("/var/run/secrets/sidepass", dir, "/etc/sidepass", dir).Replace(v)
			env = append(env, k+"="+v)
		}
		loaded, err := config.Load(config.LoadOptions{Environ: env})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		c, routes, inbound := loaded.Config, 0, ""
		if c.Outbound != nil {
			routes = len(c.Outbound.Routes)
		}
		if c.Inbound != nil {
			inbound = " in"
		}
		if got := fmt.Sprint(c.Issuers[0].Client.AuthMethod, " ", routes, inbound); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}
