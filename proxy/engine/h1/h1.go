// Package h1 reads the heads and the chunks of HTTP/1.1 messages (RFC 9112) strictly: it accepts what can be read in one way
// only, and nothing else. It knows no connections; an engine gives it the bytes.
//
// Where RFC 9112 lets a recipient choose, this is the choice, on requests and on answers alike:
//
//   - A line ends with CRLF. A bare LF or CR is refused (section 2.2), and so is an empty line before a message.
//   - There is one space between the parts of a first line (section 3) and no control character in it, and the version is HTTP/1.0 or
//     HTTP/1.1.
//   - No white space stands before a field's name or between it and its colon (section 5.1), and no line is folded (section 5.2).
//     A field's value has no control character but the tab (RFC 9110, section 5.5).
//   - Content-Length is there at most once and a plain number (section 6.3; "5, 5" is refused too), and never together with
//     Transfer-Encoding.
//   - Transfer-Encoding is there at most once, is "chunked" alone, in whatever case (section 7), and never in HTTP/1.0 (section 6.1).
//   - A request of HTTP/1.1 has exactly one Host, one of HTTP/1.0 at most one (section 3.2).
//   - Connection lists tokens (RFC 9110, section 7.6.1), and not too many.
//   - A chunk's size has at most 15 hexadecimal digits; its extensions are limited, read over and never sent on (section 7.1.1). Each
//     quoted string in them ends.
//     Trailer fields are held to the rules for fields, and to a size.
//
// What is refused ends the connection: where the next message begins is no longer sure.
package h1

import "strings"

// Problem is why a message is refused. Its text is a sentence that quotes nothing of the message.
type Problem string

func (p Problem) Error() string { return string(p) }

// The problems.
const (
	ErrLine         Problem = "A line does not end with CRLF (RFC 9112, section 2.2)."
	ErrStart        Problem = "The first line is not one that HTTP/1.1 allows (RFC 9112, sections 3 and 4)."
	ErrVersion      Problem = "The version is neither HTTP/1.0 nor HTTP/1.1 (RFC 9112, section 2.3)."
	ErrField        Problem = "A header field is not a name, a colon and a value, without control characters or folded lines (RFC 9112, section 5)."
	ErrTooMany      Problem = "The message has too many header fields, or Connection names too many."
	ErrLength       Problem = "Content-Length is not a single number (RFC 9112, section 6.3)."
	ErrEncoding     Problem = "Transfer-Encoding is something else than chunked, or does not go with the version (RFC 9112, section 6.1)."
	ErrBoth         Problem = "The message has both Content-Length and Transfer-Encoding (RFC 9112, section 6.3)."
	ErrHost         Problem = "The request does not have exactly one Host (RFC 9112, section 3.2)."
	ErrConnection   Problem = "Connection is not a list of tokens (RFC 9110, section 7.6.1)."
	ErrChunk        Problem = "The content is not framed as chunks (RFC 9112, section 7.1)."
	ErrTrailer      Problem = "The trailer fields are not valid, or too large (RFC 9112, section 7.1.2)."
	ErrContentBegun Problem = "An answer that has no content announces some (RFC 9110, section 8.6)."
)

// MaxFields is how many fields a head or a trailer section may have, and how many Connection may name.
const MaxFields = 500

// maxNamed is how long the names in Connection may be together: each field is compared with all of them.
const maxNamed = 8 << 10

// token are the characters of RFC 9110, section 5.6.2.
var token = table("!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")

func table(chars string) (t [256]bool) {
	for i := range len(chars) {
		t[chars[i]] = true
	}
	return t
}

// IsToken says whether s is a token.
func IsToken(s string) bool {
	for i := 0; i < len(s); i++ {
		if !token[s[i]] {
			return false
		}
	}
	return s != ""
}

// IsLine says whether s stays on its line, whoever reads it: it has no CR, LF or NUL (RFC 9110, section 5.5). It is quick with long values.
func IsLine(s string) bool {
	return strings.IndexByte(s, '\r') < 0 && strings.IndexByte(s, '\n') < 0 && strings.IndexByte(s, 0) < 0
}

// isValue says whether s has no control character but the tab.
func isValue(s string) bool {
	const each, high = 0x0101010101010101, 0x8080808080808080
	for len(s) >= 8 { // a token is long: eight bytes at once
		w := uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 | uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
		del := w ^ each*0x7f
		if ((w-each*' ')&^w|(del-each)&^del)&high != 0 && !isText(s[:8]) { // a byte is below the space, or DEL
			return false
		}
		s = s[8:]
	}
	return isText(s)
}

func isText(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// isTarget says whether s has no space and no control character.
func isTarget(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] <= ' ' || s[i] == 0x7f {
			return false
		}
	}
	return true
}

// trim takes away the optional white space around a value.
func trim(s string) string {
	for s != "" && (s[0] == ' ' || s[0] == '\t') {
		s = s[1:]
	}
	for s != "" && (s[len(s)-1] == ' ' || s[len(s)-1] == '\t') {
		s = s[:len(s)-1]
	}
	return s
}

// Same says whether two names are the same without regard to case. One of them must be ASCII, as all valid names are.
func Same(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := 0; i < len(a); i++ {
		x, y := a[i], b[i]
		if x == y {
			continue
		}
		if x|0x20 != y|0x20 || x|0x20 < 'a' || x|0x20 > 'z' {
			return false
		}
	}
	return true
}
