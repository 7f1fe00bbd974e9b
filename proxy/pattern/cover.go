package pattern

import (
	"cmp"
	"net/url"
	"slices"
	"strings"
)

// Order compares patterns for a list of them: of two of which one is more specific, that one comes first. Patterns that have nothing in
// common have a place too, literal segments before wildcards. A pattern that is none comes last.
func Order(a, b string) int {
	x, errX := parse(a)
	y, errY := parse(b)
	if errX != nil || errY != nil {
		return cmp.Or(cmp.Compare(flag(errX != nil), flag(errY != nil)), cmp.Compare(a, b))
	}
	// What is more specific has, where the two first differ, the segment that matches less.
	return cmp.Or(
		slices.CompareFunc(x.segments, y.segments, func(s, t segment) int { return cmp.Or(cmp.Compare(s.kind, t.kind), cmp.Compare(s.text, t.text)) }),
		cmp.Compare(flag(x.method == ""), flag(y.method == "")),
		cmp.Compare(flag(x.method == "GET"), flag(y.method == "GET")), // which matches HEAD too
		cmp.Compare(a, b),
	)
}

func flag(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Example is a request that a pattern matches.
type Example struct{ Method, Path string }

// Examples are requests that stand for everything that a pattern matches, as far as the others can tell it apart: if a
// more specific one of the others takes each of them, it takes all the rest too, and the pattern never gets a request.
// Wildcards are filled in with a text, and a method with a word, that is in none of them. nil for a pattern that is none.
func Examples(pattern string, others []string) []Example {
	p, err := parse(pattern)
	if err != nil {
		return nil
	}
	fresh, depth := "x", len(p.segments)
	for _, o := range append([]string{pattern}, others...) {
		q, _ := parse(o)
		depth = max(depth, len(q.segments))
		for _, s := range q.segments {
			for s.kind == literal && strings.HasPrefix(s.text, fresh) {
				fresh += "x"
			}
		}
	}
	methods := []string{p.method}
	switch p.method {
	case "":
		methods = []string{"SIDEPASS-" + strings.ToUpper(fresh)}
	case "GET":
		methods = []string{"GET", "HEAD"}
	}
	var out []Example
	for _, path := range examplePaths(p.segments, fresh, depth) {
		for _, m := range methods {
			out = append(out, Example{m, path})
		}
	}
	return out
}

// examplePaths are paths for segments; what is left to a tree is one segment deeper than any pattern can tell apart.
func examplePaths(segments []segment, fresh string, depth int) []string {
	var path strings.Builder
	for _, s := range segments {
		path.WriteByte('/')
		switch s.kind {
		case literal:
			path.WriteString(url.PathEscape(s.text))
		case wild:
			path.WriteString(fresh)
		}
	}
	out := []string{path.String()}
	if segments[len(segments)-1].kind != tree {
		return out
	}
	for range depth - len(segments) + 2 {
		path.WriteString(fresh)
		out = append(out, path.String(), path.String()+"/")
		path.WriteByte('/')
	}
	return out
}
