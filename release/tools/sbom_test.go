package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// The list is what CycloneDX's own schema says it is, and the same for the same binary.
func TestSBOM(t *testing.T) {
	r := &release{
		name: "sidepass_v1.2.3_linux_amd64", version: "v1.2.3", time: time.Unix(1_790_000_000, 0).UTC(), content: []byte("binary"),
		build: &debug.BuildInfo{GoVersion: "go1.26.8", Main: debug.Module{Path: "github.com/sidepass/sidepass"},
			Settings: []debug.BuildSetting{{Key: "-trimpath", Value: "true"}, {Key: "GOARCH", Value: "amd64"}, {Key: "GOFIPS140", Value: "v1.0.0"}, {Key: "GOOS", Value: "linux"}}},
	}
	modules := []module{
		{path: "std", version: "1.26.8", licenses: []string{"BSD-3-Clause"}},
		{path: "example.com/m", version: "v1.0.0+incompatible", sum: "h1:sum=", licenses: []string{"Apache-2.0", "MIT"}},
	}
	var first, second bytes.Buffer
	for _, w := range []*bytes.Buffer{&first, &second} {
		if err := r.sbom(w, modules); err != nil {
			t.Fatal(err)
		}
	}
	if first.String() != second.String() {
		t.Error("the second list is not the same")
	}
	for _, want := range []string{
		`"pkg:golang/github.com/sidepass/sidepass@v1.2.3?goarch=amd64&goos=linux"`, `"pkg:golang/example.com/m@v1.0.0+incompatible"`, `"Apache-2.0 AND MIT"`,
		`"h1:sum="`, `"cdx:gomod:build:env:GOFIPS140"`, `"2026-09-21T14:13:20Z"`, `"9a3a45d01531a20e89ac6ae10b0b0beb0492acd7216a368aa062d1a5fecaf9cd"`,
	} {
		if !strings.Contains(first.String(), want) {
			t.Errorf("the list lacks %s:\n%s", want, first.String())
		}
	}

	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/CycloneDX/cyclonedx-go").Output()
	if err != nil {
		t.Fatal(err)
	}
	const cyclonedx = "http://cyclonedx.org/schema/"
	c := jsonschema.NewCompiler()
	for id, file := range map[string]string{"bom-1.6.schema.json": "bom-1.6.schema.json", "spdx.schema.json": "spdx.schema.json", "jsf-0.82.schema.json": "jsf-0.82.schemax.json"} {
		text, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "schema", file))
		if err != nil {
			t.Fatal(err)
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.AddResource(cyclonedx+id, doc); err != nil {
			t.Fatal(err)
		}
	}
	schema, err := c.Compile(cyclonedx + "bom-1.6.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	valid := func(change func(map[string]any)) error {
		var doc map[string]any
		if err := json.Unmarshal(first.Bytes(), &doc); err != nil {
			t.Fatal(err)
		}
		change(doc)
		return schema.Validate(doc)
	}
	if err := valid(func(map[string]any) {}); err != nil {
		t.Error(err)
	}
	if valid(func(doc map[string]any) { doc["serialNumber"] = "1" }) == nil {
		t.Error("the schema finds nothing wrong with a wrong number")
	}
}
