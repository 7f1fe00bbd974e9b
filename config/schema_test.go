package config

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	reflector "github.com/invopop/jsonschema"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"
)

var update = flag.Bool("update", false, "write golden files and schema.json anew")

const title = "sidepass configuration"

// generateSchema makes the schema of the types in this package.
func generateSchema(t *testing.T) []byte {
	t.Helper()
	r := reflector.Reflector{
		BaseSchemaID: "https://github.com/sidepass/sidepass", ExpandedStruct: true, FieldNameTag: "yaml",
		RequiredFromJSONSchemaTags: true, Mapper: leafSchema,
	}
	if err := r.AddGoComments("github.com/sidepass/sidepass/config", ".", reflector.WithFullComment()); err != nil {
		t.Fatal(err)
	}
	for name, comment := range r.CommentMap { // wrapped lines of source are one line of text
		r.CommentMap[name] = strings.Join(strings.Fields(comment), " ")
	}
	// The path of the parsed directory is not part of the import path.
	for name, comment := range r.CommentMap {
		r.CommentMap[strings.Replace(name, "/config/.", "/config.", 1)] = comment
	}
	s := r.Reflect(&Config{})
	s.Title = title
	describe(t, s, s.Definitions, reflect.TypeFor[Config]())
	out, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return append(out, '\n')
}

// leafSchema is the schema of a value that is a struct in Go and a text in a file.
func leafSchema(t reflect.Type) *reflector.Schema {
	text := func(pattern string) *reflector.Schema { return &reflector.Schema{Type: "string", Pattern: pattern} }
	switch t {
	case reflect.TypeFor[time.Duration]():
		return text(`^([0-9.]+(ns|us|µs|ms|s|m|h))+$|^0$`)
	case reflect.TypeFor[Size]():
		return &reflector.Schema{OneOf: []*reflector.Schema{{Type: "integer", Minimum: "0"}, text(`^[0-9]+ ?([KMG]i?B|kB|B)?$`)}}
	case reflect.TypeFor[Secret]():
		return &reflector.Schema{Type: "string", WriteOnly: true}
	case reflect.TypeFor[URL]():
		return text(`^(https?://[^#]+)?$`)
	case reflect.TypeFor[Upstream]():
		return text(`^(https?://[^/?#@]+/?|unix:/[^?]*)?$`)
	case reflect.TypeFor[Listen]():
		return text(`^(off|.*:[0-9]+|unix:/[^?]*(\?mode=[0-7]+)?)?$`)
	case reflect.TypeFor[Param](), reflect.TypeFor[ClaimHeader]():
		return text(`^[^=].*=`)
	case reflect.TypeFor[ClaimValue]():
		return text(`^[^=]+=.`)
	case reflect.TypeFor[netip.Prefix]():
		return text(`^[0-9a-fA-F.:]+(/[0-9]+)?$`)
	}
	return nil
}

// describe adds what the reflector does not know: defaults, legal values, lists that may
// not be empty, and sections that are present when they are null.
func describe(t *testing.T, s *reflector.Schema, defs reflector.Definitions, typ reflect.Type) {
	t.Helper()
	for _, f := range fieldsOf(typ) {
		p, ok := s.Properties.Get(f.key)
		if !ok {
			t.Fatalf("the schema of %s lacks %s", typ, f.key)
		}
		if p.Description == "" {
			t.Errorf("%s.%s has no comment, so no description", typ, f.key)
		}
		var enum []any
		for _, value := range f.enum {
			enum = append(enum, value)
		}
		one := uint64(1)
		switch f.shape {
		case section:
			elem := sectionType(f.typ)
			describe(t, defs[elem.Name()], defs, elem)
			if f.typ.Kind() == reflect.Pointer {
				p.OneOf = []*reflector.Schema{{Ref: p.Ref}, {Type: "null"}}
				p.Ref = ""
			}
			continue
		case things:
			describe(t, defs[f.typ.Elem().Name()], defs, f.typ.Elem())
		case list:
			p.Items.Enum = enum
			if p.Items.MinLength = &one; f.fallback != "" {
				var all []any
				for value := range strings.SplitSeq(f.fallback, ",") {
					all = append(all, value)
				}
				p.Default = all
			}
		default:
			if p.Enum = enum; enum != nil && f.fallback == "" {
				p.Enum = append(enum, "")
			}
			p.Default = defaultOf(f)
			switch {
			case p.Type != "integer" && p.Type != "number":
			case f.positive:
				p.ExclusiveMinimum = "0"
			default:
				p.Minimum = "0"
			}
		}
		if f.guard {
			p.MinItems = &one
		}
	}
}

func defaultOf(f field) any {
	switch f.typ.Kind() {
	case reflect.Bool:
		return f.fallback == "true"
	case reflect.Int, reflect.Float64:
		n, _ := strconv.ParseFloat(f.fallback, 64)
		return n
	}
	if f.fallback == "" {
		return nil
	}
	return f.fallback
}

func TestSchemaIsCurrent(t *testing.T) {
	want := generateSchema(t)
	if *update {
		if err := os.WriteFile("schema.json", want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got, _ := Schema(); !bytes.Equal(got, want) {
		t.Error("schema.json is not what the types say; run go test ./config -run TestSchemaIsCurrent -update")
	}
}

// TestSchemaHasEveryKey keeps the published names: they are the users' interface.
func TestSchemaHasEveryKey(t *testing.T) {
	data, _ := Schema()
	var s struct {
		Title      string
		Properties map[string]any
		Additional *bool `json:"additionalProperties"`
	}
	if err := json.Unmarshal(data, &s); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"issuers", "outbound", "inbound", "tokens", "metrics", "admin", "log", "shutdown", "engine", "tracing"} {
		if s.Properties[key] == nil {
			t.Errorf("the schema lacks %s", key)
		}
	}
	if s.Title != title || s.Additional == nil || *s.Additional {
		t.Errorf("title %q, additionalProperties %v", s.Title, s.Additional)
	}
}

// TestSchemaAgreesWithLoad: a file with a wrong shape is refused by both, a good one by neither.
func TestSchemaAgreesWithLoad(t *testing.T) {
	data, _ := Schema()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("schema.json", doc); err != nil {
		t.Fatal(err)
	}
	compiled, err := c.Compile("schema.json")
	if err != nil {
		t.Fatalf("the schema is not valid: %v", err)
	}
	dir := fixtures(t)
	for _, x := range []struct {
		name, old, new string
		good           bool
	}{
		{name: "whole", good: true},
		{name: "unknown key", old: "unmatched: deny", new: "unmatchd: deny"},
		{name: "unknown key of a rule", old: "any_scope:", new: "anyscope:"},
		{name: "not a legal value", old: "unmatched: deny", new: "unmatched: drop"},
		{name: "a legal value", old: "unmatched: deny", new: "unmatched: passthrough", good: true},
		{name: "not a duration", old: "leeway: 30s", new: "leeway: 30 seconds"},
		{name: "another duration", old: "leeway: 30s", new: "leeway: 1m30s", good: true},
		{name: "an empty guard", old: `audiences: ["https://service-b"]`, new: "audiences: []"},
		{name: "a single value for a list", old: `audiences: ["https://service-b"]`, new: "audiences: https://service-b"},
		{name: "HS256", old: "algorithms: [RS256, ES512]", new: "algorithms: [HS256]"},
		{name: "off", old: `metrics: {listen: ":8403"}`, new: "metrics: {listen: off}", good: true},
		{name: "a size", old: "replay_limit: 64KiB", new: "replay_limit: 1 MiB", good: true},
		{name: "a size in bytes", old: "replay_limit: 64KiB", new: "replay_limit: 4096", good: true},
		{name: "not a size", old: "replay_limit: 64KiB", new: "replay_limit: large"},
		{name: "a text for a number", old: "max_entries: 10000", new: "max_entries: many"},
	} {
		t.Run(x.name, func(t *testing.T) {
			text := replace(t, wholeYAML, x.old, x.new)
			_, loadErr := Load(LoadOptions{Files: []string{writeConfig(t, dir, text)}})
			var value any
			if err := yaml.Load([]byte(strings.ReplaceAll(text, "{{DIR}}", dir)), &value); err != nil {
				t.Fatal(err)
			}
			schemaErr := compiled.Validate(jsonValue(t, value))
			if (loadErr == nil) != x.good || (schemaErr == nil) != x.good {
				t.Errorf("want good=%v\nLoad: %v\nschema: %v", x.good, loadErr, schemaErr)
			}
		})
	}
	t.Run("a section that is null is there", func(t *testing.T) {
		file := filepath.Join(dir, "null.yaml")
		if err := os.WriteFile(file, []byte("outbound:\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if l, err := Load(LoadOptions{Files: []string{file}}); err != nil || l.Config.Outbound == nil {
			t.Errorf("Load: %v", err)
		}
		if err := compiled.Validate(map[string]any{"outbound": nil}); err != nil {
			t.Error(err)
		}
	})
}

// jsonValue turns what YAML gave into what the validator takes.
func jsonValue(t *testing.T, value any) any {
	t.Helper()
	data, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	out, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return out
}
