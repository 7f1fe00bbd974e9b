package chart

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

// values are values.yaml and values.schema.json.
func values(t *testing.T) (defaults, schema map[string]any) {
	t.Helper()
	text, err := os.ReadFile(chart + "/values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, &defaults); err != nil {
		t.Fatal(err)
	}
	if text, err = os.ReadFile(chart + "/values.schema.json"); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	return defaults, schema
}

// walk calls f for each key that the schema knows, parents first, in the order of the names.
func walk(schema map[string]any, path []any, f func(path []any, s map[string]any)) {
	properties, _ := schema["properties"].(map[string]any)
	names := make([]string, 0, len(properties))
	for name := range properties {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		p := append(slices.Clone(path), name)
		s := properties[name].(map[string]any)
		f(p, s)
		walk(s, p, f)
	}
}

// values.yaml and its schema have the same keys, and each of them says what it is.
func TestSchemaIsWhole(t *testing.T) {
	defaults, schema := values(t)
	known := map[string]bool{}
	walk(schema, nil, func(path []any, s map[string]any) {
		known[fmt.Sprint(path)] = true
		if path[0] == "global" {
			return
		}
		if s["description"] == nil {
			t.Errorf("%v has no description", path)
		}
		if _, there := at(defaults, path[:len(path)-1]...).(map[string]any)[path[len(path)-1].(string)]; !there {
			t.Errorf("%v is not in values.yaml", path)
		}
		if s["properties"] != nil && s["additionalProperties"] != false {
			t.Errorf("%v takes keys that nothing reads", path)
		}
	})
	var check func(path []any, v map[string]any)
	check = func(path []any, v map[string]any) {
		for key, value := range v {
			p := append(slices.Clone(path), key)
			if !known[fmt.Sprint(p)] {
				if len(path) < 2 || path[len(path)-1] != "labels" {
					t.Errorf("%v is not in the schema", p)
				}
				continue
			}
			if m, ok := value.(map[string]any); ok {
				check(p, m)
			}
		}
	}
	check(nil, defaults)
}

// The chart's README is made of the schema's descriptions and of the defaults.
func TestReadmeIsGenerated(t *testing.T) {
	defaults, schema := values(t)
	var b strings.Builder
	b.WriteString(`# The Helm chart of sidepass

A sidecar has no Deployment of its own. This chart has what goes around it; everything is off until a value turns it on.

| part | what it does |
|---|---|
| helpers | ` + "`{{ include \"sidepass.container\" .Values.sidepass }}`" + `, and volumes, probes, the app's variables: for your own chart, which has this one as its dependency |
| ` + "`injector`" + ` | adds the sidecar to pods with the label ` + "`sidepass.dev/inject: \"true\"`" + `, without a webhook (Kubernetes 1.36) |
| ` + "`demo`" + ` | two services, each with its sidecar, and a development issuer; ` + "`helm test`" + ` calls one through the other |
| ` + "`podMonitor`, `prometheusRule`, `dashboard`, `networkPolicy`" + ` | for all pods with a sidecar |

How to use each of them: [docs/kubernetes.md](../../docs/kubernetes.md). What to do about an alert: [docs/runbook.md](../../docs/runbook.md).

## Values

Made from values.yaml and values.schema.json by ` + "`go test ./test/chart -run Readme -update`" + `.

| key | default | |
|---|---|---|
`)
	walk(schema, nil, func(path []any, s map[string]any) {
		if path[0] == "global" {
			return
		}
		var names []string
		for _, p := range path {
			names = append(names, p.(string))
		}
		value := ""
		if s["properties"] == nil {
			text, err := json.Marshal(at(defaults, path...))
			if err != nil {
				t.Fatal(err)
			}
			value = "`" + string(text) + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", strings.Join(names, "."), value, s["description"])
	})
	golden(t, chart+"/README.md", []byte(b.String()))
}
