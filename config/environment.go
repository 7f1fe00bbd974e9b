package config

import (
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const envPrefix = "SIDEPASS_"

// The environment is read into the same tree as the files, by walking the same
// types, and not by caarlos0/env: that sets Go values behind our back, so that a
// variable would have no place of its own, a list's index could not be checked
// against the file, "\," would be two values, and a parse error would echo a secret.

// variable is one environment variable that belongs to the configuration.
type variable struct {
	name, value string
	steps       []step
}

// step leads from a section to a key's value, and on to an entry if the key is a list of sections.
type step struct {
	field field
	index int // -1 for no list
}

// applyEnvironment sets the variables' values in the tree. Unknown names and gaps in
// the indices are problems.
func applyEnvironment(root *node, environ []string, c *collector) {
	var variables []variable
	for name, value := range environment(environ) {
		if value == "" || name == "SIDEPASS_CONFIG" {
			continue
		}
		steps, ok := resolveVariable(reflect.TypeFor[Config](), strings.TrimPrefix(name, envPrefix))
		switch {
		case ok:
			variables = append(variables, variable{name, value, steps})
		case serviceVariable.MatchString(name):
		default:
			hint := "unset it, or look the key up in the output of `sidepass config`"
			if near := nearestVariable(name); near != "" {
				hint = "did you mean " + near + "?"
			}
			c.add("", place{variable: name}, "unknown variable", hint)
		}
	}
	slices.SortFunc(variables, compareVariables)
	for _, v := range variables {
		setVariable(root, v, c)
	}
}

// serviceVariable matches what Kubernetes sets in every pod for a Service whose name begins with sidepass.
var serviceVariable = regexp.MustCompile(`^SIDEPASS_([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$`)

// environment picks our variables; of a name that is there twice the last one counts.
func environment(environ []string) map[string]string {
	ours := map[string]string{}
	for _, entry := range environ {
		if name, value, ok := strings.Cut(entry, "="); ok && strings.HasPrefix(name, envPrefix) {
			ours[name] = value
		}
	}
	return ours
}

// resolveVariable finds the value that a name without its prefix stands for.
func resolveVariable(t reflect.Type, name string) ([]step, bool) {
	for _, f := range fieldsOf(t) {
		rest, ok := strings.CutPrefix(name, strings.ToUpper(f.key))
		if !ok {
			continue
		}
		if rest == "" {
			if f.shape == leaf || f.shape == list {
				return []step{{f, -1}}, true
			}
			continue
		}
		if rest, ok = strings.CutPrefix(rest, "_"); !ok {
			continue
		}
		here, below := step{f, -1}, sectionType(f.typ)
		switch f.shape {
		case leaf, list:
			continue
		case things:
			digits, after, _ := strings.Cut(rest, "_")
			index, err := strconv.Atoi(digits)
			if err != nil || strconv.Itoa(index) != digits {
				continue
			}
			here.index, below, rest = index, f.typ.Elem(), after
		}
		if steps, ok := resolveVariable(below, rest); ok {
			return append([]step{here}, steps...), true
		}
	}
	return nil, false
}

// compareVariables orders lists' entries by index, so that each is appended in its turn.
func compareVariables(a, b variable) int {
	for i := range min(len(a.steps), len(b.steps)) {
		if a.steps[i].field.key != b.steps[i].field.key {
			break
		}
		if d := a.steps[i].index - b.steps[i].index; d != 0 {
			return d
		}
	}
	return strings.Compare(a.name, b.name)
}

func setVariable(root *node, v variable, c *collector) {
	at, here, path := place{variable: v.name}, root, ""
	for _, s := range v.steps {
		path = keyPath(path, s.field.key)
		next := here.keys[s.field.key]
		if s.field.shape == leaf || s.field.shape == list {
			here.keys[s.field.key] = variableNode(s.field, v.value, at)
			return
		}
		if next == nil {
			next = &node{shape: s.field.shape, keys: map[string]*node{}, origin: at}
			here.keys[s.field.key] = next
		}
		if s.field.shape == things {
			if s.index > len(next.items) {
				c.add(elementPath(path, len(next.items)), at, fmt.Sprintf("there is no entry %d before this one", len(next.items)),
					"number the entries without a gap, from 0 or on from the file's")
				return
			}
			if s.index == len(next.items) {
				next.items = append(next.items, &node{shape: section, keys: map[string]*node{}, origin: at})
			}
			next = next.items[s.index]
			path = elementPath(path, s.index)
		}
		if next.keys == nil { // the file's value is wrong, and has been reported
			return
		}
		here = next
	}
}

// variableNode is the node of a variable's value: for a list, its parts at the commas that no backslash precedes.
func variableNode(f field, value string, at place) *node {
	if f.shape == leaf {
		return &node{shape: leaf, text: value, origin: at}
	}
	out := &node{shape: list, origin: at}
	const comma = "\x00" // cannot be in a variable
	for part := range strings.SplitSeq(strings.ReplaceAll(value, `\,`, comma), ",") {
		part = strings.TrimSpace(strings.ReplaceAll(part, comma, ","))
		out.items = append(out.items, &node{shape: leaf, text: part, origin: at})
	}
	return out
}

// nearestVariable names the known variable that is most like an unknown one, with the
// indices of the unknown one.
func nearestVariable(name string) string {
	parts := strings.Split(strings.TrimPrefix(name, envPrefix), "_")
	var indices []string
	for i, part := range parts {
		if index, err := strconv.ParseUint(part, 10, 31); err == nil {
			indices = append(indices, strconv.FormatUint(index, 10))
			parts[i] = "0"
		}
	}
	near := nearest(strings.Join(parts, "_"), variableNames())
	if near == "" {
		return ""
	}
	parts = strings.Split(near, "_")
	for i, part := range parts {
		if part == "0" && len(indices) > 0 {
			parts[i], indices = indices[0], indices[1:]
		}
	}
	return envPrefix + strings.Join(parts, "_")
}

// variableNames lists the variables of all keys, without the prefix and with 0 for every index.
func variableNames() []string {
	names := map[string]bool{"CONFIG": true}
	var walk func(t reflect.Type, prefix string)
	walk = func(t reflect.Type, prefix string) {
		for _, f := range fieldsOf(t) {
			name := prefix + strings.ToUpper(f.key)
			switch f.shape {
			case section:
				walk(sectionType(f.typ), name+"_")
			case things:
				walk(f.typ.Elem(), name+"_0_")
			default:
				names[name] = true
			}
		}
	}
	walk(reflect.TypeFor[Config](), "")
	return slices.Sorted(maps.Keys(names))
}
