package revocation

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// entry is a line that was understood.
type entry struct {
	kind   kind
	sums   [members]sum
	timed  bool
	before int64 // microseconds since 1970
	until  int64 // when it ends, likewise; 0 is never, which no line says
}

// names are the members' names in the file.
var names = [members]string{issuer: "issuer", subject: "sub", client: "client_id", id: "jti"}

const issuedBefore = "issued_before"

// Why a line is not understood. None says what is in the line.
const (
	notJSON   = "it is not a JSON object"
	notUTF8   = "it is not valid UTF-8"
	twice     = "it names a member twice"
	notText   = "the value of jti, sub, client_id or issuer is not a text"
	emptyText = "the value of jti, sub, client_id or issuer is empty"
	notTime   = "issued_before is neither a time as in 2026-01-31T12:00:00Z (RFC 3339) nor a number of seconds since 1970"
	nothing   = "it has none of jti, sub, client_id and issuer"
	tooLong   = "it is longer than 64 KiB"
)

// parse reads a line, which is not empty. It returns why it could not, or "". What is not understood to the last member is not
// an entry: a misspelt issued_before would revoke too much, and a second jti, which another reader might take for the only
// one, too little.
func (e *entry) parse(line []byte) (why string) {
	if !utf8.Valid(line) {
		return notUTF8
	}
	s := scanner{text: line}
	if !s.is('{') {
		return notJSON
	}
	for first := true; !s.is('}'); first = false {
		if !first && !s.is(',') {
			return notJSON
		}
		name, ok := s.quoted()
		if !ok || !s.is(':') {
			return notJSON
		}
		if why := e.member(name, &s); why != "" {
			return why
		}
	}
	switch s.space(); {
	case s.at < len(s.text):
		return notJSON
	case e.kind == 0:
		return nothing
	}
	return ""
}

// member reads a member's value.
func (e *entry) member(name []byte, s *scanner) (why string) {
	if string(name) == issuedBefore {
		if e.timed {
			return twice
		}
		e.timed = true
		var ok bool
		if e.before, ok = s.time(); !ok {
			return notTime
		}
		return ""
	}
	for i := range names {
		if string(name) != names[i] {
			continue
		}
		bit := kind(1) << i
		if e.kind&bit != 0 {
			return twice
		}
		value, ok := s.quoted()
		switch {
		case !ok:
			return notText
		case len(value) == 0:
			return emptyText // it would match what a token lacks
		}
		e.kind |= bit
		e.sums[i] = sha256.Sum256(value)
		return ""
	}
	return fmt.Sprintf("it has a member %.40q, which has no meaning here", name)
}

// scanner reads the little of JSON that an entry may consist of.
type scanner struct {
	text []byte
	at   int
}

func (s *scanner) space() {
	for s.at < len(s.text) {
		switch s.text[s.at] {
		case ' ', '\t', '\r', '\n':
			s.at++
		default:
			return
		}
	}
}

// is passes over a character if it comes next.
func (s *scanner) is(c byte) bool {
	if s.space(); s.at == len(s.text) || s.text[s.at] != c {
		return false
	}
	s.at++
	return true
}

// quoted reads a text. Half a surrogate pair stands for nothing that a token could have: it is no text.
func (s *scanner) quoted() ([]byte, bool) {
	if !s.is('"') {
		return nil, false
	}
	start, escaped := s.at, false
	for ; s.at < len(s.text); s.at++ {
		switch c := s.text[s.at]; {
		case c == '"':
			value := s.text[start:s.at]
			s.at++
			if !escaped {
				return value, true
			}
			var out string
			if json.Unmarshal(s.text[start-1:s.at], &out) != nil || strings.ContainsRune(out, utf8.RuneError) {
				return nil, false
			}
			return []byte(out), true
		case c == '\\':
			escaped = true
			s.at++
		case c < ' ':
			return nil, false
		}
	}
	return nil, false
}

// The dates that can be written, from the year 1 to 9999. What is later is milliseconds by mistake.
const (
	firstSecond = -62135596800
	lastSecond  = 253402300799
)

// time reads a time, in either of its forms, as microseconds since 1970.
func (s *scanner) time() (micro int64, ok bool) {
	s.space()
	if s.at < len(s.text) && s.text[s.at] == '"' {
		text, ok := s.quoted()
		at, err := time.Parse(time.RFC3339, string(text))
		return at.UnixMicro(), ok && err == nil
	}
	start := s.at
	for s.at < len(s.text) && bytes.IndexByte([]byte("+-.0123456789Ee"), s.text[s.at]) >= 0 {
		s.at++
	}
	number := s.text[start:s.at]
	seconds, err := strconv.ParseFloat(string(number), 64)
	if err != nil || !json.Valid(number) || seconds < firstSecond || seconds > lastSecond {
		return 0, false
	}
	return int64(seconds * 1e6), true
}
