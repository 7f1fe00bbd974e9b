package chart

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func page(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/kubernetes.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// pageDeployment is the one object that docs/kubernetes.md shows; TestInjector has its pod admitted.
func pageDeployment(t *testing.T) map[string]any {
	t.Helper()
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(page(t), -1)
	if len(blocks) != 1 {
		t.Fatalf("the page has %d objects", len(blocks))
	}
	return objects(t, blocks[0][1])[0]
}

// The way from nothing to a pair is five commands, and what each command installs is what the chart can make.
func TestPageCommands(t *testing.T) {
	text := strings.ReplaceAll(page(t), "\\\n", "")
	block := regexp.MustCompile("(?s)## From nothing.*?```\n(.*?)```").FindStringSubmatch(text)
	if block == nil || strings.Count(block[1], "\n") != 5 {
		t.Fatalf("they are %q", block)
	}
	commands := regexp.MustCompile(`(?m)^helm install (.*)$`).FindAllStringSubmatch(text, -1)
	if len(commands) != 2 {
		t.Fatalf("there are %d", len(commands))
	}
	for _, c := range commands {
		args := strings.Fields(strings.Replace(c[1], "charts/sidepass", chart, 1))
		args = slices.DeleteFunc(args, func(a string) bool { return a == "--wait" || a == "--create-namespace" })
		out, err := helm(t, append([]string{"template"}, args...)...)
		if err != nil || len(objects(t, out)) < 5 {
			t.Errorf("helm install %s: %v\n%s", c[1], err, out)
		}
	}
}

// The page and the values explain every annotation that there is.
func TestPageAnnotations(t *testing.T) {
	template, err := os.ReadFile(chart + "/templates/_injector.tpl")
	if err != nil {
		t.Fatal(err)
	}
	list := regexp.MustCompile(`range \$i, \$name := list ([^}]*) \}\}`).FindSubmatch(template)
	if list == nil {
		t.Fatal("the template has no list of them")
	}
	var explained, known []string
	for _, m := range regexp.MustCompile("(?m)^\\| `sidepass.dev/([a-z-]+)` \\|").FindAllStringSubmatch(page(t), -1) {
		explained = append(explained, m[1])
	}
	for name := range strings.FieldsSeq(string(list[1])) {
		known = append(known, strings.Trim(name, `"`))
	}
	slices.Sort(known)
	slices.Sort(explained)
	if !slices.Equal(known, explained) {
		t.Errorf("the page explains %v, and there are %v", explained, known)
	}
}
