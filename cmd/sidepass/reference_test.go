package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/sidepass/sidepass/config"
)

var writeReference = flag.Bool("reference", false, "write the tables of docs/configuration.md anew")

const (
	referencePage   = "../../docs/configuration.md"
	referenceMarker = "<!-- From here on written by: go test ./cmd/sidepass -run TestConfigurationReference -reference -->\n"
)

// key is one key of the configuration, as the reference shows it.
type key struct {
	path    string // outbound.routes[].host
	field   reflect.StructField
	meaning string
}

// sectionOf is the section that a type stands for, or nil: a struct that has keys, a pointer to one, a list of them.
func sectionOf(t reflect.Type) (section reflect.Type, listed bool) {
	if t.Kind() == reflect.Slice {
		t, listed = t.Elem(), true
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || t.NumField() == 0 || t.Field(0).Tag.Get("yaml") == "" {
		return nil, false
	}
	return t, listed
}

// schemaObject is what the tables need of an object of the JSON Schema.
type schemaObject struct {
	Properties map[string]struct{ Description string }
}

// sections calls f for each section with keys that are values, in the order of their definition. "" is the file itself.
func sections(t *testing.T, f func(path, meaning string, keys []key)) {
	t.Helper()
	data, err := config.Schema()
	if err != nil {
		t.Fatal(err)
	}
	var whole struct {
		schemaObject
		Defs map[string]schemaObject `json:"$defs"`
	}
	if err := json.Unmarshal(data, &whole); err != nil {
		t.Fatal(err)
	}
	var walk func(typ reflect.Type, path, meaning string, described schemaObject)
	walk = func(typ reflect.Type, path, meaning string, described schemaObject) {
		var keys []key
		var below []func()
		for field := range typ.Fields() {
			name := field.Tag.Get("yaml")
			k := key{path: strings.TrimPrefix(path+"."+name, "."), field: field, meaning: described.Properties[name].Description}
			if k.meaning == "" {
				t.Errorf("the schema does not describe %s", k.path)
			}
			section, listed := sectionOf(field.Type)
			switch {
			case section == nil:
				keys = append(keys, k)
			case listed:
				below = append(below, func() { walk(section, k.path+"[]", k.meaning, whole.Defs[section.Name()]) })
			default:
				below = append(below, func() { walk(section, k.path, k.meaning, whole.Defs[section.Name()]) })
			}
		}
		if len(keys) > 0 {
			f(path, meaning, keys)
		}
		for _, b := range below {
			b()
		}
	}
	walk(reflect.TypeFor[config.Config](), "", "", whole.schemaObject)
}

func (k key) variable() string {
	return "SIDEPASS_" + strings.ToUpper(strings.NewReplacer("[]", "_0", ".", "_").Replace(k.path))
}

// kind is how a value is written.
func (k key) kind() string {
	if values := k.field.Tag.Get("enum"); values != "" {
		list := "`" + strings.ReplaceAll(values, ",", "`, `") + "`"
		if k.field.Type.Kind() == reflect.Slice {
			return "list of " + list
		}
		return list
	}
	switch k.field.Tag.Get("file") {
	case "secret", "private key", "sealing keys", "redis URL":
		return "file, secret"
	case "":
	default:
		return "file"
	}
	switch k.field.Type {
	case reflect.TypeFor[config.Secret]():
		return "text, secret"
	case reflect.TypeFor[[]config.Param]():
		return "list of `name=value`, the values secret"
	case reflect.TypeFor[[]config.ClaimValue]():
		return "list of `claim=value`"
	case reflect.TypeFor[[]config.ClaimHeader]():
		return "list of `claim=Header`"
	case reflect.TypeFor[[]netip.Prefix]():
		return "list of networks"
	case reflect.TypeFor[[]string]():
		return "list of texts"
	case reflect.TypeFor[time.Duration]():
		return "duration"
	case reflect.TypeFor[config.Size]():
		return "size"
	case reflect.TypeFor[config.URL]():
		return "URL"
	case reflect.TypeFor[config.Upstream]():
		return "URL without a path, or `unix:/path`"
	case reflect.TypeFor[config.Listen]():
		return "address, or `unix:/path`"
	}
	switch k.field.Type.Kind() {
	case reflect.Bool:
		return "`true`, `false`"
	case reflect.Int, reflect.Float64:
		return "number"
	}
	return "text"
}

// reload is what a reload does with another value, asked of what decides it.
func (k key) reload(t *testing.T, load func() *config.Config) string {
	t.Helper()
	held := func(from, to reflect.Value) bool {
		old, now := load(), load()
		k.in(old).Set(from)
		k.in(now).Set(to)
		waiting, err := holdBack(old, now)
		if err != nil {
			t.Fatalf("%s: %v", k.path, err)
		}
		return len(waiting) > 0
	}
	live := "live"
	if k.field.Tag.Get("file") != "" {
		live = "live, its content too"
	}
	nothing, one, another := reflect.Zero(k.field.Type), k.value(t, 1), k.value(t, 2)
	switch {
	case held(one, another):
		return "restart"
	case held(nothing, one):
		return live + "; on or off: restart"
	}
	return live
}

// in is the key's value in a configuration, of the first entry of lists.
func (k key) in(c *config.Config) reflect.Value {
	v := reflect.ValueOf(c).Elem()
	for step := range strings.SplitSeq(k.path, ".") {
		name, listed := strings.CutSuffix(step, "[]")
		for field := range v.Type().Fields() {
			if field.Tag.Get("yaml") == name {
				v = v.FieldByIndex(field.Index)
				break
			}
		}
		if listed {
			v = v.Index(0)
		}
		if v.Kind() == reflect.Pointer {
			v = v.Elem()
		}
	}
	return v
}

// value is the n-th of some values that differ, legal or not.
func (k key) value(t *testing.T, n int) reflect.Value {
	t.Helper()
	v := reflect.New(k.field.Type).Elem()
	var parsed any
	var err error
	switch k.field.Type {
	case reflect.TypeFor[config.Secret]():
		parsed = config.NewSecret(fmt.Sprint(n))
	case reflect.TypeFor[config.URL]():
		parsed, err = config.ParseURL(fmt.Sprintf("https://%d.example", n))
	case reflect.TypeFor[config.Upstream]():
		parsed, err = config.ParseUpstream(fmt.Sprintf("https://%d.example", n))
	case reflect.TypeFor[config.Listen]():
		parsed, err = config.ParseListen(fmt.Sprintf("127.0.0.1:%d", n))
	}
	if err != nil {
		t.Fatal(err)
	}
	switch {
	case parsed != nil:
		v.Set(reflect.ValueOf(parsed))
	case v.Kind() == reflect.Slice:
		v.Set(reflect.MakeSlice(k.field.Type, n, n))
	case v.Kind() == reflect.Bool:
		v.SetBool(n == 1)
	case v.CanInt():
		v.SetInt(int64(n))
	case v.CanFloat():
		v.SetFloat(float64(n))
	default:
		v.SetString(fmt.Sprint(n))
	}
	return v
}

// tables are the part of the page that is written by this test.
func tables(t *testing.T, load func() *config.Config) string {
	t.Helper()
	var b strings.Builder
	sections(t, func(path, meaning string, keys []key) {
		if path == "" {
			path, meaning = "Outside of the sections", "Only this one."
		} else {
			path = "`" + path + "`"
		}
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n| key, variable | value | default | what it is | reload |\n|---|---|---|---|---|\n", path, meaning)
		for _, k := range keys {
			standard := ""
			if d := k.field.Tag.Get("default"); d != "" {
				standard = "`" + d + "`"
			}
			fmt.Fprintf(&b, "| `%s`<br>`%s` | %s | %s | %s | %s |\n", k.field.Tag.Get("yaml"), k.variable(), k.kind(), standard,
				strings.ReplaceAll(k.meaning, "|", "\\|"), k.reload(t, load))
		}
	})
	return b.String()
}

// The page: an example that has every key, with its default where there is one, and tables that are what the code says.
func TestConfigurationReference(t *testing.T) {
	page, err := os.ReadFile(referencePage)
	if err != nil {
		t.Fatal(err)
	}
	head, tail, marked := strings.Cut(string(page), referenceMarker)
	block := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindStringSubmatch(head)
	if !marked || block == nil {
		t.Fatal("the page has no example, or no marker after it")
	}
	example := block[1]

	dir := t.TempDir()
	for name, content := range map[string]string{"client-secret": "s", "token-key": strings.Repeat("A", 43) + "=", "redis-url": "redis://redis:6379/0"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "sidepass.yaml")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(example, "/run/secrets", dir)), 0o600); err != nil {
		t.Fatal(err)
	}
	load := func() *config.Config {
		loaded, err := config.Load(config.LoadOptions{Files: []string{file}})
		if err != nil {
			t.Fatalf("the example cannot be used:\n%v", err)
		}
		return loaded.Config
	}
	load()
	t.Run("the example has every key", func(t *testing.T) { hasEveryKey(t, example) })

	want := tables(t, load)
	if *writeReference {
		if err := os.WriteFile(referencePage, []byte(head+referenceMarker+want), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if tail != want {
		is, should := strings.Split(tail, "\n"), strings.Split(want, "\n")
		for i := range should {
			if i >= len(is) || is[i] != should[i] {
				t.Fatalf("the tables are not what the code says; go test ./cmd/sidepass -run TestConfigurationReference -reference writes them anew. The first line that differs should be\n%s", should[i])
			}
		}
		t.Fatal("the tables have lines that the code does not know")
	}
}

// hasEveryKey looks at an example, with what is commented out in it: `# key: value`.
func hasEveryKey(t *testing.T, example string) {
	t.Helper()
	all := regexp.MustCompile(`(?m)^( *)# ([a-z_]+: )`).ReplaceAllString(example, "$1$2")
	var tree map[string]any
	if err := yaml.Unmarshal([]byte(all), &tree); err != nil {
		t.Fatalf("with everything in it, it is no YAML: %v", err)
	}
	shown := map[string]string{} // :: path → its first value
	var walk func(path string, v any)
	walk = func(path string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for name, below := range v {
				walk(strings.TrimPrefix(path+"."+name, "."), below)
			}
		case []any:
			if len(v) > 0 {
				if _, section := v[0].(map[string]any); section {
					for _, below := range v {
						walk(path+"[]", below)
					}
					return
				}
			}
			if _, again := shown[path]; !again {
				shown[path] = strings.Join(strings.Fields(strings.Trim(fmt.Sprint(v), "[]")), ",")
			}
		default:
			if _, again := shown[path]; !again {
				shown[path] = fmt.Sprint(v)
			}
		}
	}
	walk("", tree)
	var known []string
	sections(t, func(_, _ string, keys []key) {
		for _, k := range keys {
			known = append(known, k.path)
			value, ok := shown[k.path]
			if standard := k.field.Tag.Get("default"); !ok {
				t.Errorf("%s is not there", k.path)
			} else if standard != "" && value != standard {
				t.Errorf("%s is %s, and by default %s", k.path, value, standard)
			}
		}
	})
	for path := range shown {
		if !slices.Contains(known, path) {
			t.Errorf("%s is no key", path)
		}
	}
}
