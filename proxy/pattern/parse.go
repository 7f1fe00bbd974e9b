package pattern

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"strings"
	"unicode"
)

// kind says what a segment of a pattern matches.
type kind uint8

const (
	literal kind = iota // one segment that decodes to exactly this text
	wild                // {name}: one segment
	end                 // {$}: the slash at the end of a path, and nothing after it
	tree                // {name...}, or a slash at the end of a pattern: all that is left, the slash alone included
)

// segment is one piece of a pattern; end and tree are always the last.
type segment struct {
	kind kind
	text string // of a literal, percent-decoded
}

// parsed is a pattern taken apart.
type parsed struct {
	text     string // as it was written
	method   string // "" is any
	segments []segment
}

// split parts a pattern's method, where it has one, from its path.
func split(s string) (method, path string, has bool) {
	i := strings.IndexAny(s, " \t")
	if i < 0 {
		return "", s, false
	}
	return s[:i], strings.TrimLeft(s[i+1:], " \t"), true
}

// parse takes a pattern apart. Its error says what is wrong, without the pattern.
func parse(s string) (parsed, error) {
	p := parsed{text: s}
	method, rest, has := split(s)
	if p.method = method; has && !isMethod(method) {
		return p, fmt.Errorf("%q is not an HTTP method", method)
	}
	slash := strings.IndexByte(rest, '/')
	switch {
	case rest == "":
		return p, errors.New("it has no path; write for instance GET /orders/{id}")
	case slash < 0:
		return p, errors.New("the path has to begin with a slash")
	case slash > 0:
		return p, errors.New("it names a host; write the path alone, with or without a method before it")
	}
	if clean := cleaned(rest); clean != rest {
		return p, fmt.Errorf("a path with empty or dot segments never matches; write %s", clean)
	}
	names := map[string]bool{}
	pieces := strings.Split(rest[1:], "/")
	for i, piece := range pieces {
		last := i == len(pieces)-1
		seg, name, err := parseSegment(piece, last)
		if err != nil {
			return p, err
		}
		if name != "" && names[name] {
			return p, fmt.Errorf("the wildcard name %s appears twice", name)
		}
		names[name] = true
		p.segments = append(p.segments, seg)
	}
	return p, nil
}

// parseSegment reads the text between two slashes; name is that of a wildcard.
func parseSegment(s string, last bool) (seg segment, name string, err error) {
	if s == "" { // only the last can be: parse refuses empty ones elsewhere
		return segment{kind: tree}, "", nil
	}
	brace := strings.IndexByte(s, '{')
	if brace < 0 {
		if decoded, err := url.PathUnescape(s); err == nil {
			s = decoded
		}
		if s == "." || s == ".." {
			return seg, "", errors.New("a path with a dot segment never matches, however it is encoded")
		}
		return segment{literal, s}, "", nil
	}
	if brace > 0 || s[len(s)-1] != '}' {
		return seg, "", fmt.Errorf("a wildcard has to be a whole segment, which %s is not", s)
	}
	name, seg.kind = s[1:len(s)-1], wild
	if name == "$" {
		name, seg.kind = "", end
	} else {
		if before, ok := strings.CutSuffix(name, "..."); ok {
			name, seg.kind = before, tree
		}
		if !isIdentifier(name) {
			return seg, "", fmt.Errorf("the name of the wildcard %s is not an identifier", s)
		}
	}
	if seg.kind != wild && !last {
		return seg, "", fmt.Errorf("%s can only be the last segment", s)
	}
	return seg, name, nil
}

// cleaned is the path without empty and dot segments, its trailing slash kept.
func cleaned(p string) string {
	c := path.Clean(p)
	if c != "/" && strings.HasSuffix(p, "/") {
		c += "/"
	}
	return c
}

// isMethod says whether s is a token of RFC 9110, section 5.6.2.
func isMethod(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		alnum := c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !alnum && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != ""
}

// isIdentifier says whether s is an identifier of Go, which is what ServeMux asks of a wildcard's name.
func isIdentifier(s string) bool {
	for i, r := range s {
		if r != '_' && !unicode.IsLetter(r) && (i == 0 || !unicode.IsDigit(r)) {
			return false
		}
	}
	return s != ""
}
