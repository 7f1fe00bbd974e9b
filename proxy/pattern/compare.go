package pattern

import (
	"fmt"
	"strings"
)

// relation says how what two patterns match relates: the first may match something that the second does not, and the
// other way round. Neither means that they match the same, both that neither is the more specific one.
type relation struct{ disjoint, first, second bool }

func (a relation) and(b relation) relation {
	return relation{a.disjoint || b.disjoint, a.first || b.first, a.second || b.second}
}

// conflict says why no precedence can be given to a or b, or returns "".
func conflict(a, b parsed) string {
	r := compareMethods(a.method, b.method).and(comparePaths(a.segments, b.segments))
	switch {
	case r.disjoint || r.first != r.second:
		return ""
	case r.first:
		return fmt.Sprintf("%q and %q both match requests like %s, and neither is the more specific one", a.text, b.text, common(a, b))
	}
	return fmt.Sprintf("%q and %q match the same requests", a.text, b.text)
}

func compareMethods(a, b string) relation {
	switch {
	case a == b:
		return relation{}
	case a == "", a == "GET" && b == "HEAD":
		return relation{first: true}
	case b == "", b == "GET" && a == "HEAD":
		return relation{second: true}
	}
	return relation{disjoint: true}
}

func comparePaths(a, b []segment) relation {
	var r relation
	for len(a) > 0 && len(b) > 0 {
		x, y := a[0], b[0]
		switch {
		case x.kind == tree || y.kind == tree:
			return r.and(relation{first: y.kind != tree, second: x.kind != tree})
		case x == y:
		case x.kind == wild && y.kind == literal:
			r.first = true
		case x.kind == literal && y.kind == wild:
			r.second = true
		default:
			return relation{disjoint: true}
		}
		a, b = a[1:], b[1:]
	}
	r.disjoint = len(a) != len(b)
	return r
}

// common is a request that both a and b match.
func common(a, b parsed) string {
	method := a.method
	if b.method == "HEAD" || method == "" {
		method = b.method
	}
	x, y := a.segments, b.segments
	if len(x) < len(y) {
		x, y = y, x
	}
	var s strings.Builder
	if method != "" {
		s.WriteString(method + " ")
	}
	for i, seg := range x {
		if i < len(y) && seg.kind != literal && y[i].kind != tree {
			seg = y[i]
		}
		s.WriteByte('/')
		switch seg.kind {
		case literal:
			s.WriteString(seg.text)
		case wild:
			s.WriteByte('x')
		}
	}
	return s.String()
}
