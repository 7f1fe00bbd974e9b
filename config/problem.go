package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is one thing that is wrong with a configuration. It holds no secret.
type Problem struct {
	// Path is the value's place in the configuration: outbound.routes[0].upstream.
	Path string
	// File, Line and Column (from 1) say where it stands, as far as that is known.
	File         string
	Line, Column int
	// Source is the text of that line, with secrets masked; empty if it is not known.
	Source string
	// Variable is the environment variable that it comes from, instead of a file.
	Variable string
	// Message says what is wrong, Hint what to do.
	Message, Hint string
}

// String renders the problem as a sentence with its place, and the source line below it.
func (p Problem) String() string {
	var b strings.Builder
	switch {
	case p.Variable != "":
		b.WriteString(p.Variable + ": ")
	case p.Line > 0:
		fmt.Fprintf(&b, "%s:%d:%d: ", p.File, p.Line, p.Column)
	case p.File != "":
		b.WriteString(p.File + ": ")
	}
	if p.Path != "" {
		b.WriteString(p.Path + ": ")
	}
	b.WriteString(p.Message)
	if p.Hint != "" {
		b.WriteString("; " + p.Hint)
	}
	if p.Source != "" {
		fmt.Fprintf(&b, "\n%7d | %s", p.Line, p.Source)
	}
	return b.String()
}

// Problems is everything that is wrong with a configuration, in the order of the
// files' lines, then of the variables.
type Problems []Problem

// Error renders all problems, one below the other.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// collector gathers problems while a configuration is read. A value that has a
// problem gets no second one: what follows from the first would only confuse.
type collector struct {
	found  []finding
	failed map[string]bool
}

type finding struct {
	path string
	at   place
	fault
}

// place is where a value comes from: a file's line, a variable, or (zero) a default.
type place struct {
	source       *source
	line, column int
	variable     string
}

func newCollector() *collector { return &collector{failed: map[string]bool{}} }

// add records a problem of the value at path.
func (c *collector) add(path string, at place, message, hint string) {
	c.addFault(path, at, &fault{message, hint})
}

func (c *collector) addFault(path string, at place, f *fault) {
	c.found = append(c.found, finding{path, at, *f})
	c.failed[path] = true
}

// fails reports whether the value at path, or a section or list around it, has a problem already.
func (c *collector) fails(path string) bool {
	for path != "" {
		if c.failed[path] {
			return true
		}
		path = parentPath(path)
	}
	return false
}

// problems renders what was found, sorted and without repetition; nil if there is nothing.
func (c *collector) problems() Problems {
	var out Problems
	slices.SortStableFunc(c.found, func(a, b finding) int {
		order := func(f finding) int {
			switch {
			case f.at.source != nil:
				return f.at.source.order
			case f.at.variable != "":
				return 1 << 20
			}
			return 1 << 21
		}
		return cmp.Or(order(a)-order(b), a.at.line-b.at.line, a.at.column-b.at.column, strings.Compare(a.at.variable, b.at.variable))
	})
	for _, f := range c.found {
		p := Problem{Path: f.path, Variable: f.at.variable, Message: f.message, Hint: f.hint}
		if s := f.at.source; s != nil {
			p.File, p.Line, p.Column, p.Source = s.name, f.at.line, f.at.column, s.shown(f.at.line)
		}
		if !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
}

// parentPath is the path of the section or list around a value.
func parentPath(path string) string {
	return path[:max(strings.LastIndexAny(path, ".["), 0)]
}

// keyPath is the path of a section's key, elementPath of a list's element.
func keyPath(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func elementPath(path string, index int) string { return fmt.Sprintf("%s[%d]", path, index) }
