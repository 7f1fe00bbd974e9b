package pattern

import "strings"

// Match returns the value of the most specific entry for a method and a path as it came, percent-encoding included and
// query excluded. Method "" matches only patterns without a method. It does not allocate.
func (m *Matcher[T]) Match(method, path string) (value T, ok bool) {
	if !ordinary(path) {
		return value, false
	}
	l := m.find(method, path, false)
	if l == nil {
		return value, false
	}
	if l.tree && path[len(path)-1] != '/' {
		// A pattern for this very path with a slash at the end makes ServeMux redirect to it.
		if r := m.find(method, path, true); r != nil && (!r.tree || r.depth == strings.Count(path, "/")+1) {
			return value, false
		}
	}
	return l.value, true
}

// find looks path up, or path with a slash after it.
func (m *Matcher[T]) find(method, path string, slash bool) *leaf[T] {
	if l := m.methods[method].find(path, slash); l != nil {
		return l
	}
	if method == "HEAD" {
		if l := m.methods["GET"].find(path, slash); l != nil {
			return l
		}
	}
	return m.methods[""].find(path, slash)
}

// find tries the more specific first: since conflicting patterns are refused, the first that fits is the most
// specific one.
func (n *node[T]) find(path string, slash bool) *leaf[T] {
	if n == nil {
		return nil
	}
	if path == "" && slash {
		path, slash = "/", false
	}
	if path == "" {
		return n.here
	}
	if path == "/" {
		if n.end != nil {
			return n.end
		}
		return n.tree
	}
	segment, rest := path[1:], ""
	if i := strings.IndexByte(segment, '/'); i >= 0 {
		segment, rest = segment[:i], segment[i:]
	}
	if l := n.literal(segment).find(rest, slash); l != nil {
		return l
	}
	if l := n.wild.find(rest, slash); l != nil {
		return l
	}
	return n.tree
}

// literal is the child for a segment as it came.
func (n *node[T]) literal(segment string) *node[T] {
	if strings.IndexByte(segment, '%') < 0 {
		return n.literals[segment]
	}
	for text, child := range n.literals {
		if decodesTo(segment, text) {
			return child
		}
	}
	return nil
}

// ordinary says whether a path is one that is matched at all: it begins with a slash, no segment but the last is empty,
// none is a dot segment, and each percent sign is followed by two hexadecimal digits.
func ordinary(path string) bool {
	if path == "" || path[0] != '/' {
		return false
	}
	for rest := path[1:]; rest != ""; {
		segment, after, more := strings.Cut(rest, "/")
		if segment == "" || strings.IndexByte(segment, '%') >= 0 && !wellEncoded(segment) || decodesTo(segment, ".") || decodesTo(segment, "..") {
			return false
		}
		if !more {
			break
		}
		rest = after
	}
	return true
}

func wellEncoded(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			continue
		}
		if i+2 >= len(s) || unhex(s[i+1]) < 0 || unhex(s[i+2]) < 0 {
			return false
		}
		i += 2
	}
	return true
}

// decodesTo says whether a well-encoded segment decodes to text.
func decodesTo(segment, text string) bool {
	if len(segment) < len(text) || len(segment) > 3*len(text) {
		return false
	}
	for i := 0; i < len(segment); i++ {
		c := segment[i]
		if c == '%' {
			c = byte(unhex(segment[i+1])<<4 | unhex(segment[i+2]))
			i += 2
		}
		if text == "" || text[0] != c {
			return false
		}
		text = text[1:]
	}
	return text == ""
}

// unhex is the value of a hexadecimal digit, or -1.
func unhex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
