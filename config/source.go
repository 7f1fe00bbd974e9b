package config

import (
	"cmp"
	"reflect"
	"slices"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v4"
)

// source is the text of one file, which can show its lines without what is secret.
type source struct {
	name  string
	order int // which file this is
	lines []string
	// nodes is the file's tree in the order of the text, masked those of it that must not
	// be shown. Without nodes nothing is known about a line, and only key words are shown.
	nodes  []*yaml.Node
	masked map[*yaml.Node]bool
}

// newSource splits a text where the YAML scanner does.
func newSource(name string, order int, text string) *source {
	text = strings.TrimPrefix(text, "\ufeff")
	text = strings.NewReplacer("\r\n", "\n", "\r", "\n", "\u0085", "\n", "\u2028", "\n", "\u2029", "\n").Replace(text)
	return &source{name: name, order: order, lines: strings.Split(text, "\n"), masked: map[*yaml.Node]bool{}}
}

// mask hides a node and everything below it, also what an alias there stands for. A null
// has something to hide only in an anchor or a tag: an unquoted secret may begin with & or !.
func (s *source) mask(n *yaml.Node) {
	if n == nil || s.masked[n] || isNull(n) && n.Anchor == "" && n.Style&yaml.TaggedStyle == 0 {
		return
	}
	s.masked[n] = true
	for _, child := range n.Content {
		s.mask(child)
	}
	s.mask(n.Alias)
}

// shown returns a line with secrets masked, or "" if there is no such line.
func (s *source) shown(line int) string {
	if line < 1 || line > len(s.lines) {
		return ""
	}
	text := s.lines[line-1]
	if s.nodes == nil {
		text = keyWords(text)
	} else {
		text = s.maskLine(line, []rune(text))
	}
	text = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) || r == '\t' {
			return r
		}
		return '·'
	}, strings.TrimRight(text, " \t"))
	if r := []rune(text); len(r) > 160 {
		text = string(r[:160]) + "…"
	}
	return text
}

// maskLine hides what belongs to a masked node: from its start to the end of its
// line, and all that follows up to the next node. That may hide too much, never too
// little, on a line where a node begins, and problems have no other lines.
func (s *source) maskLine(line int, text []rune) string {
	hidden := -1 // column from which the line is hidden
	from := 0    // column up to which it is: a masked value of an earlier line ends here
	for i, n := range s.nodes {
		if !s.masked[n] || n.Line > line {
			continue
		}
		if n.Line == line && (hidden < 0 || n.Column-1 < hidden) {
			hidden = n.Column - 1
		}
		// The last line of a value that began above: more than indentation stands before the next node.
		if i+1 < len(s.nodes) && n.Line < line && s.nodes[i+1].Line == line {
			if end := min(s.nodes[i+1].Column-1, len(text)); strings.Trim(string(text[:end]), " -") != "" {
				from = max(from, end)
			}
		}
	}
	out := string(text)
	if hidden >= 0 {
		out = string(text[:min(hidden, len(text))]) + redacted
	}
	if from > 0 {
		if hidden >= 0 && hidden <= from {
			return redacted
		}
		out = redacted + string([]rune(out)[min(from, len([]rune(out))):])
	}
	return out
}

// documentOrder lists a tree's nodes as they follow each other in the text.
func documentOrder(root *yaml.Node) []*yaml.Node {
	var nodes []*yaml.Node
	var walk func(*yaml.Node)
	walk = func(n *yaml.Node) {
		if n.Kind != yaml.DocumentNode {
			nodes = append(nodes, n)
		}
		for _, child := range n.Content {
			walk(child)
		}
	}
	walk(root)
	slices.SortStableFunc(nodes, func(a, b *yaml.Node) int {
		return cmp.Or(a.Line-b.Line, a.Column-b.Column)
	})
	return nodes
}

// keyWords shows of a line that could not be understood only what is a key of the
// configuration, and its punctuation: any other word may be a secret.
func keyWords(text string) string {
	known := map[string]bool{}
	var collect func(reflect.Type)
	collect = func(t reflect.Type) {
		for _, f := range fieldsOf(t) {
			known[f.key] = true
			switch f.shape {
			case section:
				collect(sectionType(f.typ))
			case things:
				collect(f.typ.Elem())
			}
		}
	}
	collect(reflect.TypeFor[Config]())
	known["-"] = true
	var out, word strings.Builder
	flush := func() {
		switch {
		case word.Len() == 0:
		case known[word.String()]:
			out.WriteString(word.String())
		default:
			out.WriteString("…")
		}
		word.Reset()
	}
	for _, r := range text {
		if strings.ContainsRune(" \t:,[]{}\"'", r) {
			flush()
			out.WriteRune(r)
		} else {
			word.WriteRune(r)
		}
	}
	flush()
	return out.String()
}
