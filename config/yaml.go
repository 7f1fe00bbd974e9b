package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v4"
)

// node is a value before it is typed, from a file or a variable. It has the shape
// that its field asks for, holds known keys only, and says where it comes from.
type node struct {
	shape  shape
	text   string           // leaf
	keys   map[string]*node // section
	items  []*node          // list, things
	origin place
}

func emptyRoot() *node { return &node{shape: section, keys: map[string]*node{}} }

// maxNodes bounds a file: aliases of aliases grow without end.
const maxNodes = 100_000

// readYAML reads one file's tree; data is UTF-8. What is wrong goes to the collector; a nil node
// means that nothing could be read.
func readYAML(src *source, data []byte, c *collector) *node {
	loader, err := yaml.NewLoader(bytes.NewReader(data))
	if err != nil {
		c.add("", place{source: src}, "cannot be read as YAML", "save it as a YAML file")
		return nil
	}
	var doc yaml.Node
	if err := loader.Load(&doc); errors.Is(err, io.EOF) {
		return emptyRoot()
	} else if err != nil {
		c.syntax(src, err)
		return nil
	}
	var second yaml.Node
	switch err := loader.Load(&second); {
	case err == nil:
		c.add("", place{source: src, line: second.Line, column: second.Column}, "there is a second document", "keep one YAML document in a file; --config may be given several times")
		return nil
	case !errors.Is(err, io.EOF):
		c.syntax(src, err)
		return nil
	}
	src.nodes = documentOrder(&doc)
	s := shaper{src: src, problems: c}
	return s.section(reflect.TypeFor[Config](), doc.Content[0], "", s.at(doc.Content[0]))
}

// syntax reports what the YAML library could not understand. Its message is shown
// only without the text that it may quote: an unquoted secret may begin with * or &.
func (c *collector) syntax(src *source, err error) {
	at, message := place{source: src}, "is not YAML"
	var le *yaml.LoadError
	if errors.As(err, &le) {
		at.line, at.column = le.Mark.Line, le.Mark.Column
		message = le.Message
		if strings.HasPrefix(message, "unknown anchor") {
			message = "found an alias (*name) without an anchor"
		}
	}
	if at.line > 0 && at.line <= len(src.lines) && strings.HasPrefix(strings.TrimLeft(src.lines[at.line-1], " "), "\t") {
		c.add("", at, "a tab indents here", "YAML takes spaces only")
		return
	}
	c.add("", at, message, "check the indentation and the quotes; a value that begins with * & ! % @ or holds \": \" needs quotes")
}

// shaper gives a file's tree the shape that the configuration's types ask for.
type shaper struct {
	src      *source
	problems *collector
	count    int
}

func (s *shaper) at(n *yaml.Node) place {
	return place{source: s.src, line: n.Line, column: n.Column}
}

// follow resolves aliases; nil when there are too many nodes to go on.
func (s *shaper) follow(n *yaml.Node, path string) *yaml.Node {
	for n.Kind == yaml.AliasNode && n.Alias != nil {
		n = n.Alias
	}
	if s.count++; s.count == maxNodes {
		s.problems.add(path, s.at(n), "the file is too large", fmt.Sprintf("a configuration has at most %d values, aliases included", maxNodes))
	}
	if s.count >= maxNodes {
		s.src.mask(n)
		return nil
	}
	return n
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// wrong reports a value of the wrong shape and hides its text: nobody knows what it was meant to be.
func (s *shaper) wrong(n *yaml.Node, path, message, hint string) *node {
	s.src.mask(n)
	s.problems.add(path, s.at(n), message, hint)
	return nil
}

// value shapes the value of a field. keyAt is the place of its key, for what has no
// place of its own. It returns nil for a value that is unset or wrong.
func (s *shaper) value(f field, n *yaml.Node, path string, keyAt place) *node {
	if f.secret() {
		s.src.mask(n)
	}
	if n = s.follow(n, path); n == nil {
		return nil
	}
	switch f.shape {
	case section:
		return s.section(sectionType(f.typ), n, path, keyAt)
	case leaf:
		if isNull(n) {
			s.src.mask(n)
			return nil
		}
		return s.scalar(n, path)
	}
	out := &node{shape: f.shape, origin: keyAt}
	switch {
	case isNull(n):
		s.src.mask(n)
		return out
	case n.Kind == yaml.MappingNode:
		return s.wrong(n, path, "must be a list, not keys and values", "begin each entry with \"- \"")
	case n.Kind != yaml.SequenceNode:
		if f.shape == things || mayHoldCredentials(n.Value) {
			s.src.mask(n)
		}
		s.problems.add(path, s.at(n), "must be a list, not a single value", "put it in brackets: [value]")
		return nil
	}
	for i, item := range n.Content {
		itemPath := elementPath(path, i)
		item := s.follow(item, itemPath)
		var shaped *node
		switch {
		case item == nil:
		case f.shape == things:
			shaped = s.section(f.typ.Elem(), item, itemPath, s.at(item))
		case isNull(item):
			s.wrong(item, itemPath, "is empty", "remove the entry, or give it a value")
		default:
			shaped = s.scalar(item, itemPath)
		}
		// A wrong entry stays in the list, so that the others keep their indices.
		if shaped == nil {
			shaped = &node{shape: f.shape, origin: s.at(n)}
			if f.shape == list {
				shaped.shape = leaf
			} else {
				shaped.shape = section
			}
		}
		out.items = append(out.items, shaped)
	}
	return out
}

func (s *shaper) scalar(n *yaml.Node, path string) *node {
	if n.Kind != yaml.ScalarNode {
		what := "a list"
		if n.Kind == yaml.MappingNode {
			what = "keys and values"
		}
		return s.wrong(n, path, "must be a single value, not "+what, "a value that begins with [ or { needs quotes")
	}
	if mayHoldCredentials(n.Value) {
		s.src.mask(n)
	}
	return &node{shape: leaf, text: n.Value, origin: s.at(n)}
}

func (s *shaper) section(t reflect.Type, n *yaml.Node, path string, keyAt place) *node {
	out := &node{shape: section, keys: map[string]*node{}, origin: keyAt}
	if isNull(n) {
		s.src.mask(n)
		return out
	}
	if n.Kind != yaml.MappingNode {
		what := "a single value"
		if n.Kind == yaml.SequenceNode {
			what = "a list"
		}
		return s.wrong(n, path, "must be keys and values, not "+what, "write \"key: value\" lines; its keys are "+strings.Join(keysOf(t), ", "))
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		f, known := findField(t, key)
		switch line, again := seen[key.Value]; {
		case key.Kind != yaml.ScalarNode:
			s.src.mask(value)
			s.wrong(key, path, "a key must be a single word", "the keys here are "+strings.Join(keysOf(t), ", "))
		case key.Tag == "!!merge":
			s.src.mask(value)
			s.problems.add(path, s.at(key), "merge keys (<<) are not supported", "write the keys out, or give several --config files")
		case !known:
			s.src.mask(value)
			s.unknown(t, key, path, isNull(value) && n.Style&yaml.FlowStyle != 0)
		case again:
			s.src.mask(value)
			s.problems.add(keyPath(path, key.Value), s.at(key), fmt.Sprintf("the key is there twice; the first is in line %d", line), "remove one of them")
		default:
			if v := s.value(f, value, keyPath(path, f.key), s.at(key)); v != nil {
				out.keys[f.key] = v
			}
		}
		seen[key.Value] = key.Line
	}
	return out
}

// unknown reports a key that the section does not have. In {secret: a,b} the key b
// is a piece of a value, so a bare word in braces is not shown.
func (s *shaper) unknown(t reflect.Type, key *yaml.Node, path string, bareWord bool) {
	hint := "the keys here are " + strings.Join(keysOf(t), ", ")
	if near := nearest(key.Value, keysOf(t)); near != "" {
		hint = "did you mean `" + near + "`?"
		s.problems.failed[keyPath(path, near)] = true // so that it is not reported as missing
	}
	name := key.Value
	if bareWord || mayHoldCredentials(name) || len(name) > 60 || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		s.src.mask(key)
		name = redacted
	}
	s.problems.add(keyPath(path, name), s.at(key), "unknown key", hint)
}

func findField(t reflect.Type, key *yaml.Node) (field, bool) {
	for _, f := range fieldsOf(t) {
		if key.Kind == yaml.ScalarNode && f.key == key.Value {
			return f, true
		}
	}
	return field{}, false
}

func keysOf(t reflect.Type) []string {
	var keys []string
	for _, f := range fieldsOf(t) {
		keys = append(keys, f.key)
	}
	return keys
}
