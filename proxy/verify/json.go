package verify

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Bounds of a header or a payload. The token's own length bounds its text already.
const (
	maxText   = 1<<16 - 1 // so that an offset fits 16 bits
	maxDepth  = 32
	maxValues = 4096
	// Names are compared often, and with escapes that is dear. Those who escape slashes have a few.
	maxEscapedNames = 100
)

// Why a text is not accepted. encoding/json would take some of it: it replaces bad UTF-8 and lone surrogates and lets the
// last of two equal names win (RFC 7515, sections 4 and 10.12; RFC 8725bis, section 3.7).
var (
	errJSON      = errors.New("is not JSON")
	errUTF8      = errors.New("is not valid UTF-8")
	errSurrogate = errors.New("has half a surrogate pair")
	errDuplicate = errors.New("names a member twice")
	errTooMuch   = errors.New("is nested too deeply or has too many values")
	errObject    = errors.New("is not a JSON object")
)

type kind uint8

const (
	object kind = iota
	array
	text
	number
	boolean
	null
)

// span is a part of the text.
type span struct{ from, to uint16 }

// node is a value of a document. The values that an object or array holds follow it.
type node struct {
	name          span // of a member, without quotes
	value         span // a text without quotes, anything else whole
	next          uint16
	kind          kind
	escaped       bool // the value has escapes
	nameIsEscaped bool
}

// document is a JSON text that was read strictly: one allocation for its text and one for its values, without pointers,
// since thousands of them are kept. The zero value has no values. It is immutable and safe for concurrent use.
type document struct {
	text  string
	nodes []node // the root first
}

// parseObject reads a text that must be a JSON object in which no name appears twice at any level.
func parseObject(s string) (document, error) {
	if len(s) > maxText {
		return document{}, errTooMuch
	}
	if !utf8.ValidString(s) {
		return document{}, errUTF8
	}
	p := parser{text: s, nodes: make([]node, 0, min(64, 1+strings.Count(s, ",")+strings.Count(s, "{")+strings.Count(s, "[")))}
	p.space()
	if p.peek() != '{' {
		return document{}, errObject
	}
	if err := p.read(node{}, 0); err != nil {
		return document{}, err
	}
	if p.space(); p.at != len(s) {
		return document{}, errJSON
	}
	return document{s, p.nodes}, nil
}

type parser struct {
	text         string
	at           int
	nodes        []node
	escapedNames int
}

// peek returns the next byte; 0, which no JSON has outside of a string, at the end.
func (p *parser) peek() byte {
	if p.at < len(p.text) {
		return p.text[p.at]
	}
	return 0
}

func (p *parser) space() {
	for p.at < len(p.text) {
		switch p.text[p.at] {
		case ' ', '\t', '\n', '\r':
			p.at++
		default:
			return
		}
	}
}

// read reads one value; n has its name already.
func (p *parser) read(n node, depth int) error {
	if depth == maxDepth || len(p.nodes) == maxValues {
		return errTooMuch
	}
	self := len(p.nodes)
	p.nodes = append(p.nodes, n)
	start := p.at
	var err error
	switch c := p.peek(); {
	case c == '{':
		n.kind = object
		err = p.members(self, depth)
	case c == '[':
		n.kind = array
		err = p.elements(depth)
	case c == '"':
		n.kind = text
		n.value, n.escaped, err = p.quoted()
	case c == '-' || c >= '0' && c <= '9':
		n.kind = number
		err = p.number()
	case p.word("true") || p.word("false"):
		n.kind = boolean
	case p.word("null"):
		n.kind = null
	default:
		err = errJSON
	}
	if err != nil {
		return err
	}
	if n.kind != text {
		n.value = span{uint16(start), uint16(p.at)}
	}
	n.next = uint16(len(p.nodes))
	p.nodes[self] = n
	return nil
}

func (p *parser) word(w string) bool {
	if strings.HasPrefix(p.text[p.at:], w) {
		p.at += len(w)
		return true
	}
	return false
}

// members reads an object, whose node is self.
func (p *parser) members(self, depth int) error {
	p.at++ // {
	count := 0
	for p.space(); p.peek() != '}'; p.space() {
		if count > 0 {
			if p.peek() != ',' {
				return errJSON
			}
			p.at++
			p.space()
		}
		var n node
		var err error
		if n.name, n.nameIsEscaped, err = p.quoted(); err != nil {
			return err
		}
		if n.nameIsEscaped {
			if p.escapedNames++; p.escapedNames > maxEscapedNames {
				return errTooMuch
			}
		}
		if p.space(); p.peek() != ':' {
			return errJSON
		}
		p.at++
		p.space()
		if err := p.read(n, depth+1); err != nil {
			return err
		}
		count++
	}
	p.at++ // }
	return p.unique(self, count)
}

func (p *parser) elements(depth int) error {
	p.at++ // [
	for first := true; ; first = false {
		p.space()
		if p.peek() == ']' && first {
			break
		}
		if err := p.read(node{}, depth+1); err != nil {
			return err
		}
		if p.space(); p.peek() == ']' {
			break
		}
		if p.peek() != ',' {
			return errJSON
		}
		p.at++
	}
	p.at++ // ]
	return nil
}

// unique checks that the members of the object that was just read have different names.
func (p *parser) unique(self, count int) error {
	d := document{p.text, p.nodes}
	const few = 16
	var seen map[string]struct{}
	if count > few {
		seen = make(map[string]struct{}, count)
	}
	for i := self + 1; i < len(p.nodes); i = int(p.nodes[i].next) {
		name := d.name(i)
		if seen != nil {
			if _, twice := seen[name]; twice {
				return errDuplicate
			}
			seen[name] = struct{}{}
			continue
		}
		for j := self + 1; j < i; j = int(p.nodes[j].next) {
			if d.name(j) == name {
				return errDuplicate
			}
		}
	}
	return nil
}

// quoted reads a string and returns where it is, without its quotes.
func (p *parser) quoted() (where span, escaped bool, err error) {
	if p.peek() != '"' {
		return span{}, false, errJSON
	}
	p.at++
	start := p.at
	for p.at < len(p.text) {
		switch c := p.text[p.at]; {
		case c == '"':
			where = span{uint16(start), uint16(p.at)}
			p.at++
			return where, escaped, nil
		case c < ' ':
			return span{}, false, errJSON
		case c == '\\':
			escaped = true
			if err := p.escape(); err != nil {
				return span{}, false, err
			}
		default:
			p.at++
		}
	}
	return span{}, false, errJSON
}

func (p *parser) escape() error {
	p.at++ // the backslash
	switch c := p.peek(); c {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		p.at++
		return nil
	case 'u':
		p.at++
		r, err := p.hex4()
		if err != nil || r < 0xd800 || r > 0xdfff {
			return err
		}
		if r > 0xdbff || !p.word(`\u`) {
			return errSurrogate
		}
		if r, err = p.hex4(); err == nil && (r < 0xdc00 || r > 0xdfff) {
			return errSurrogate
		}
		return err
	}
	return errJSON
}

func (p *parser) hex4() (uint64, error) {
	if p.at+4 > len(p.text) {
		return 0, errJSON
	}
	r, err := strconv.ParseUint(p.text[p.at:p.at+4], 16, 16)
	if err != nil {
		return 0, errJSON
	}
	p.at += 4
	return r, nil
}

// number reads a number by the grammar of RFC 8259, section 6.
func (p *parser) number() error {
	if p.peek() == '-' {
		p.at++
	}
	switch {
	case p.peek() == '0':
		p.at++
	case !p.digits():
		return errJSON
	}
	if p.peek() == '.' {
		p.at++
		if !p.digits() {
			return errJSON
		}
	}
	if c := p.peek(); c == 'e' || c == 'E' {
		p.at++
		if c := p.peek(); c == '+' || c == '-' {
			p.at++
		}
		if !p.digits() {
			return errJSON
		}
	}
	return nil
}

func (p *parser) digits() bool {
	start := p.at
	for c := p.peek(); c >= '0' && c <= '9'; c = p.peek() {
		p.at++
	}
	return p.at > start
}

// raw returns a part of the text.
func (d document) raw(s span) string { return d.text[s.from:s.to] }

// name returns the name of the member at i.
func (d document) name(i int) string { return d.decoded(d.nodes[i].name, d.nodes[i].nameIsEscaped) }

// decoded resolves escapes. It allocates only where there are any.
func (d document) decoded(s span, escaped bool) string {
	if !escaped {
		return d.raw(s)
	}
	var out string
	_ = json.Unmarshal([]byte(d.text[s.from-1:s.to+1]), &out) // a string that was read already
	return out
}

// str returns the text at i; ok is false for anything that is not a text.
func (d document) str(i int) (s string, ok bool) {
	if d.nodes[i].kind != text {
		return "", false
	}
	return d.decoded(d.nodes[i].value, d.nodes[i].escaped), true
}

// member finds a member of the object at i. Names match exactly (RFC 7515, section 10.13).
func (d document) member(i int, name string) (int, bool) {
	if i >= len(d.nodes) || d.nodes[i].kind != object {
		return 0, false
	}
	for j := i + 1; j < int(d.nodes[i].next); j = int(d.nodes[j].next) {
		if d.name(j) == name {
			return j, true
		}
	}
	return 0, false
}

// each yields the values in the array or object at i.
func (d document) each(i int) func(yield func(int) bool) {
	return func(yield func(int) bool) {
		for j := i + 1; j < int(d.nodes[i].next); j = int(d.nodes[j].next) {
			if !yield(j) {
				return
			}
		}
	}
}

// find returns the value that a name or a JSON Pointer (RFC 6901), which begins with "/", leads to.
func (d document) find(path string) (int, bool) {
	if !strings.HasPrefix(path, "/") {
		return d.member(0, path)
	}
	i, ok := 0, len(d.nodes) > 0
	for rest, more := path[1:], true; ok && more; {
		var step string
		step, rest, more = strings.Cut(rest, "/")
		if strings.Contains(step, "~") {
			step = strings.ReplaceAll(strings.ReplaceAll(step, "~1", "/"), "~0", "~")
		}
		if d.nodes[i].kind == array {
			i, ok = d.element(i, step)
		} else {
			i, ok = d.member(i, step)
		}
	}
	return i, ok
}

// element finds an array's element by its decimal index.
func (d document) element(i int, index string) (int, bool) {
	want, err := strconv.ParseUint(index, 10, 16)
	if err != nil || strconv.FormatUint(want, 10) != index {
		return 0, false
	}
	for j := range d.each(i) {
		if want == 0 {
			return j, true
		}
		want--
	}
	return 0, false
}

// is says whether the value at i is want: a text of that content, a number or truth value written so, or an array with
// such an element.
func (d document) is(i int, want string) bool {
	switch n := d.nodes[i]; n.kind {
	case text:
		s, _ := d.str(i)
		return s == want
	case number, boolean:
		return d.raw(n.value) == want
	case array:
		for j := range d.each(i) {
			if k := d.nodes[j].kind; k != array && d.is(j, want) {
				return true
			}
		}
	}
	return false
}

// value makes the Go value at i: string, json.Number, bool, nil, []any or map[string]any.
func (d document) value(i int) any {
	switch n := d.nodes[i]; n.kind {
	case text:
		s, _ := d.str(i)
		return s
	case number:
		return json.Number(d.raw(n.value))
	case boolean:
		return d.raw(n.value) == "true"
	case array:
		out := []any{}
		for j := range d.each(i) {
			out = append(out, d.value(j))
		}
		return out
	case object:
		out := map[string]any{}
		for j := range d.each(i) {
			out[d.name(j)] = d.value(j)
		}
		return out
	}
	return nil
}
