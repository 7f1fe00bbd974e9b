package inbound

import (
	"strings"
	"unicode/utf8"

	"github.com/sidepass/sidepass/proxy"
)

// Ambiguity is an oddity of a path that two servers may read differently, and that can be let through nevertheless.
//
// What is let through is read like this, and the path goes on as it came. An encoded slash is part of its segment, and
// a semicolon too; where another reading (the slash decoded, the parameters stripped) falls under another rule, the
// path is refused all the same. Empty segments are skipped.
type Ambiguity string

// The ambiguities.
const (
	EncodedSlash Ambiguity = "encoded_slash" // %2F
	Semicolon    Ambiguity = "semicolon"     // ; and %3B
	EmptySegment Ambiguity = "empty_segment" // //
)

// oddity is a set of ambiguities.
type oddity uint8

const (
	encodedSlash oddity = 1 << iota
	semicolon
	emptySegment
)

func (a Ambiguity) oddity() oddity {
	switch a {
	case EncodedSlash:
		return encodedSlash
	case Semicolon:
		return semicolon
	case EmptySegment:
		return emptySegment
	}
	return 0
}

// checkPath refuses a path that could be read in more than one way, and returns what it holds of the oddities that are allowed.
func checkPath(t *proxy.Target, allowed oddity) (oddity, *refusal) {
	switch t.Form {
	case proxy.AsteriskForm:
		return 0, nil
	case proxy.AuthorityForm:
		return 0, &refusal{reason: proxy.MalformedRequest}
	}
	odd, problem := inspect(t.Path)
	if problem == "" {
		problem = (odd &^ allowed).problem()
	}
	if problem != "" {
		return 0, &refusal{reason: proxy.AmbiguousPath, detail: "The path " + problem + ", which servers read differently."}
	}
	return odd, nil
}

func (o oddity) problem() string {
	switch {
	case o&encodedSlash != 0:
		return "has an encoded slash (%2F)"
	case o&semicolon != 0:
		return "has a semicolon"
	case o&emptySegment != 0:
		return "has an empty segment (//)"
	}
	return ""
}

// inspect reads a path byte by byte, each decoded once, and says what is odd about it, or what about it is never let
// through. It does not allocate.
func inspect(path string) (odd oddity, problem string) {
	if path == "" || path[0] != '/' {
		return 0, "does not begin with a slash"
	}
	var (
		seg     span
		text    runes
		percent int // 1 after a decoded percent sign, 2 after a hexadecimal digit more
		first   = true
	)
	for i := 1; i < len(path); i++ {
		c, encoded := path[i], false
		if c == '%' {
			if i+2 >= len(path) || !isHex(path[i+1]) || !isHex(path[i+2]) {
				return 0, "has a percent sign without two hexadecimal digits"
			}
			c, encoded = unhex(path[i+1])<<4|unhex(path[i+2]), true
			i += 2
		}
		if c < ' ' || c == 0x7f {
			return 0, "has a control character"
		}
		if c == '\\' {
			return 0, "has a backslash"
		}
		if !text.add(c) {
			return 0, "is not UTF-8"
		}
		switch {
		case c == '%':
			percent = 1
		case percent == 0 || !isHex(c):
			percent = 0
		case percent == 2:
			return 0, "is percent-encoded twice"
		default:
			percent = 2
		}
		switch c {
		case '/':
			if encoded {
				odd |= encodedSlash
			}
			if seg.dotted() {
				return 0, "has a dot segment"
			}
			if seg.length == 0 {
				if first {
					return 0, "begins with two slashes" // many read what follows as a host
				}
				odd |= emptySegment
			}
			seg, first = span{}, false
		case ';':
			odd |= semicolon
			seg.parameters = true
		default:
			seg.add(c)
		}
	}
	if seg.dotted() {
		return 0, "has a dot segment"
	}
	if text.n > 0 {
		return 0, "is not UTF-8"
	}
	return odd, ""
}

// span is a segment as far as it was read, without its parameters: ..;x is a dot segment to a server that strips them.
type span struct {
	length, dots int
	parameters   bool
}

func (s *span) add(c byte) {
	if s.parameters {
		return
	}
	s.length++
	if c == '.' {
		s.dots++
	}
}

func (s *span) dotted() bool { return s.length == s.dots && (s.length == 1 || s.length == 2) }

// runes collects bytes until they are a character.
type runes struct {
	held [utf8.UTFMax]byte
	n    int
}

// add returns false when what was added is not UTF-8; overlong forms and surrogates are not.
func (u *runes) add(c byte) bool {
	if c < utf8.RuneSelf {
		return u.n == 0
	}
	u.held[u.n] = c
	u.n++
	if !utf8.FullRune(u.held[:u.n]) {
		return true
	}
	r, size := utf8.DecodeRune(u.held[:u.n])
	u.n = 0
	return r != utf8.RuneError || size > 1
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func unhex(c byte) byte {
	switch {
	case c <= '9':
		return c - '0'
	case c <= 'F':
		return c - 'A' + 10
	}
	return c - 'a' + 10
}

// otherReadings are the paths that a server might take an odd path for, beside the one that is matched.
func otherReadings(path string, odd oddity) []string {
	var out []string
	if odd&semicolon != 0 {
		out = append(out, collapsed(stripped(path)))
	}
	if odd&encodedSlash != 0 {
		slashes := strings.NewReplacer("%2f", "/", "%2F", "/").Replace(path)
		out = append(out, collapsed(slashes))
		if odd&semicolon != 0 {
			out = append(out, collapsed(stripped(slashes)))
		}
	}
	return out
}

// stripped is a path without parameters: what follows a semicolon, up to the next slash.
func stripped(path string) string {
	segments := strings.Split(strings.NewReplacer("%3b", ";", "%3B", ";").Replace(path), "/")
	for i, s := range segments {
		segments[i], _, _ = strings.Cut(s, ";")
	}
	return strings.Join(segments, "/")
}

// collapsed is a path without empty segments; a slash at its end stays.
func collapsed(path string) string {
	for strings.Contains(path, "//") {
		path = strings.ReplaceAll(path, "//", "/")
	}
	return path
}
