// Package pattern matches a method and a path against the patterns of [net/http.ServeMux], without hosts: "GET
// /orders/{id}", "/files/{rest...}", "POST /orders", "GET /exact/{$}", "/tree/".
//
// Precedence is ServeMux's: the most specific pattern wins, whatever the order; GET also matches HEAD; a pattern without
// a method is less specific than one with; patterns of which neither is more specific are an error.
//
// It differs where a guard has to. The path is matched as it came: each segment is percent-decoded on its own and
// compared byte for byte, case included. Nothing is redirected: what ServeMux would answer with a redirect, an
// empty or dot segment within the path or a missing slash at its end, matches nothing. A dot segment counts however
// it is encoded, a malformed percent-encoding matches nothing, and %2F is part of a segment, never a slash.
package pattern

import (
	"errors"
	"fmt"
)

// Entry is a pattern and what it stands for.
type Entry[T any] struct {
	Pattern string
	Value   T
}

// Matcher finds the entry for a request. It is immutable and safe for concurrent use. The zero value matches nothing.
type Matcher[T any] struct {
	methods map[string]*node[T] // :: method, "" for any → what is below
}

// node is what may follow a prefix of a path.
type node[T any] struct {
	literals map[string]*node[T] // :: decoded segment → what is below it
	wild     *node[T]
	here     *leaf[T] // the path ends here
	end      *leaf[T] // a slash, and the path ends
	tree     *leaf[T] // a slash, and anything
}

type leaf[T any] struct {
	value T
	tree  bool
	depth int // segments of the pattern
}

// Compile makes a matcher. Its error holds every malformed pattern and every pair of patterns that conflict.
func Compile[T any](entries []Entry[T]) (*Matcher[T], error) {
	m := &Matcher[T]{methods: map[string]*node[T]{}}
	var problems []error
	var all []parsed
	for _, e := range entries {
		p, err := parse(e.Pattern)
		if err != nil {
			problems = append(problems, fmt.Errorf("pattern %q: %w", e.Pattern, err))
			continue
		}
		for _, other := range all {
			if why := conflict(other, p); why != "" {
				problems = append(problems, fmt.Errorf("patterns conflict: %s", why))
			}
		}
		all = append(all, p)
		m.add(p, e.Value)
	}
	if problems != nil {
		return nil, errors.Join(problems...)
	}
	return m, nil
}

func (m *Matcher[T]) add(p parsed, value T) {
	l := &leaf[T]{value: value, depth: len(p.segments)}
	n := m.methods[p.method]
	if n == nil {
		n = &node[T]{}
		m.methods[p.method] = n
	}
	for _, s := range p.segments {
		switch s.kind {
		case tree:
			l.tree = true
			n.tree = l
			return
		case end:
			n.end = l
			return
		case wild:
			if n.wild == nil {
				n.wild = &node[T]{}
			}
			n = n.wild
		default:
			if n.literals == nil {
				n.literals = map[string]*node[T]{}
			}
			next := n.literals[s.text]
			if next == nil {
				next = &node[T]{}
				n.literals[s.text] = next
			}
			n = next
		}
	}
	n.here = l
}
