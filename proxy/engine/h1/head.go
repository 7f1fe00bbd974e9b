package h1

import (
	"bytes"
	"strings"
)

// Kind tells the fields apart that mean something to a proxy.
type Kind uint8

// The kinds. Other is every field that means nothing here.
const (
	Other Kind = iota
	Host
	ContentLength
	TransferEncoding
	Connection
	KeepAlive
	ProxyConnection
	ProxyAuthorization
	ProxyAuthenticate
	TE
	Trailer
	Upgrade
	Expect
	Via
	ContentType
	ProxyStatus
)

// names are the kinds' names, in the order of the kinds.
var names = [...]string{
	"", "Host", "Content-Length", "Transfer-Encoding", "Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authorization",
	"Proxy-Authenticate", "TE", "Trailer", "Upgrade", "Expect", "Via", "Content-Type", "Proxy-Status",
}

func kindOf(name string) Kind {
	switch len(name) {
	case 2:
		return is(name, TE, Other)
	case 3:
		return is(name, Via, Other)
	case 4:
		return is(name, Host, Other)
	case 6:
		return is(name, Expect, Other)
	case 7:
		return is(name, Upgrade, Trailer)
	case 10:
		return is(name, Connection, KeepAlive)
	case 12:
		return is(name, ContentType, ProxyStatus)
	case 14:
		return is(name, ContentLength, Other)
	case 16:
		return is(name, ProxyConnection, Other)
	case 17:
		return is(name, TransferEncoding, Other)
	case 18:
		return is(name, ProxyAuthenticate, Other)
	case 19:
		return is(name, ProxyAuthorization, Other)
	}
	return Other
}

func is(name string, a, b Kind) Kind {
	switch {
	case Same(name, names[a]):
		return a
	case b != Other && Same(name, names[b]):
		return b
	}
	return Other
}

// Field is one header field line. Its strings alias the bytes that were read.
type Field struct {
	Name, Value string
	Kind        Kind
}

// Head is the head of a message, and how its content is framed. Its strings alias the text that it was read from. The zero
// value is ready to be read into, again and again: it keeps its memory.
type Head struct {
	// Method and Target are a request's. The target has no space and no control character; more is not judged here.
	Method, Target string
	// Status and Phrase are an answer's.
	Status int
	Phrase string
	// Minor is the minor version: 0 or 1.
	Minor int
	// Fields are the header fields as they came, in their order.
	Fields []Field

	// Length is the length of the content as Content-Length has it; -1 without one.
	Length int64
	// Chunked says that the content is in chunks.
	Chunked bool
	// Host is the value of Host; Hosts is how many there are.
	Host  string
	Hosts int
	// Close and KeepAlive say that Connection has that option, and UpgradeOption that it has "upgrade".
	Close, KeepAlive, UpgradeOption bool

	options []string // those of Connection that name other fields
	named   int      // their length together
}

// Scan looks for the end of a head, or of a trailer section, in what was read of it. from is where an earlier call for the same
// bytes stopped, 0 at first. It returns the length with the empty line, or 0 and where to go on once there is more.
func Scan(b []byte, from int) (length, next int, err error) {
	for {
		i := bytes.IndexByte(b[from:], '\n')
		if i < 0 {
			return 0, len(b), nil
		}
		end := from + i
		switch {
		case end == 0 || b[end-1] != '\r':
			return 0, from, ErrLine
		case end == 1 || b[end-2] == '\n':
			return end + 1, end + 1, nil
		}
		from = end + 1
	}
}

// reset forgets the last message.
func (h *Head) reset() {
	*h = Head{Fields: h.Fields[:0], options: h.options[:0], Length: -1}
}

// ReadRequest reads a request's head: the text that [Scan] found, with its empty line.
func (h *Head) ReadRequest(text string) error {
	h.reset()
	line, rest, _ := strings.Cut(text, "\r\n")
	first, last := strings.IndexByte(line, ' '), strings.LastIndexByte(line, ' ')
	if first <= 0 || last <= first+1 || !IsToken(line[:first]) || !isTarget(line[first+1:last]) {
		return ErrStart
	}
	h.Method, h.Target = line[:first], line[first+1:last]
	if err := h.version(line[last+1:]); err != nil {
		return err
	}
	if err := h.fields(rest); err != nil {
		return err
	}
	if h.Hosts > 1 || h.Hosts == 0 && h.Minor == 1 {
		return ErrHost
	}
	return h.framing()
}

// ReadAnswer reads an answer's head: the text that [Scan] found, with its empty line. method is that of the request.
func (h *Head) ReadAnswer(text, method string) error {
	h.reset()
	line, rest, _ := strings.Cut(text, "\r\n")
	version, line, ok := strings.Cut(line, " ")
	if !ok {
		return ErrStart
	}
	if err := h.version(version); err != nil {
		return err
	}
	if len(line) < 3 || len(line) > 3 && line[3] != ' ' { // some servers leave out the space where there is no phrase
		return ErrStart
	}
	for _, c := range []byte(line[:3]) {
		if c < '0' || c > '9' {
			return ErrStart
		}
		h.Status = 10*h.Status + int(c-'0')
	}
	if h.Status < 100 {
		return ErrStart
	}
	if len(line) > 4 {
		h.Phrase = line[4:]
	}
	if !isValue(h.Phrase) {
		return ErrStart
	}
	if err := h.fields(rest); err != nil {
		return err
	}
	if err := h.framing(); err != nil {
		return err
	}
	return h.content(method)
}

// content settles how the content of an answer is framed (RFC 9112, section 6.3).
func (h *Head) content(method string) error {
	switch {
	case h.Status < 200 || h.Status == 204:
		if h.Chunked || h.Length > 0 {
			return ErrContentBegun
		}
		h.Length = 0
	case method == "HEAD" || h.Status == 304: // what is announced is not sent
		h.Chunked, h.Length = false, 0
	}
	return nil
}

func (h *Head) version(v string) error {
	switch v {
	case "HTTP/1.1":
		h.Minor = 1
	case "HTTP/1.0":
	default:
		return ErrVersion
	}
	return nil
}

// fields reads the field lines, up to and with the empty line.
func (h *Head) fields(text string) error {
	lengths, encodings := 0, 0
	for text != "\r\n" {
		end := strings.IndexByte(text, '\r')
		if end < 0 || len(text) < end+2 || text[end+1] != '\n' {
			return ErrField // a bare CR
		}
		f, ok := field(text[:end])
		if !ok {
			return ErrField
		}
		text = text[end+2:]
		if len(h.Fields) == MaxFields {
			return ErrTooMany
		}
		h.Fields = append(h.Fields, f)
		switch f.Kind {
		case Host:
			h.Host = f.Value
			h.Hosts++
		case ContentLength:
			if lengths++; lengths > 1 || !h.length(f.Value) {
				return ErrLength
			}
		case TransferEncoding:
			if encodings++; encodings > 1 || !Same(f.Value, "chunked") {
				return ErrEncoding
			}
			h.Chunked = true
		case Connection:
			if err := h.connection(f.Value); err != nil {
				return err
			}
		}
	}
	return nil
}

// field takes a line apart.
func field(line string) (Field, bool) {
	i := 0
	for i < len(line) && token[line[i]] {
		i++
	}
	if i == 0 || i == len(line) || line[i] != ':' {
		return Field{}, false
	}
	value := trim(line[i+1:])
	if !isValue(value) {
		return Field{}, false
	}
	return Field{Name: line[:i], Value: value, Kind: kindOf(line[:i])}, true
}

func (h *Head) length(s string) bool {
	if s == "" || len(s) > 18 {
		return false
	}
	n := int64(0)
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
		n = 10*n + int64(s[i]-'0')
	}
	h.Length = n
	return true
}

// connection reads the options of a Connection field.
func (h *Head) connection(value string) error {
	for value != "" {
		var option string
		option, value, _ = strings.Cut(value, ",")
		switch option = trim(option); {
		case option == "": // a list may have empty elements (RFC 9110, section 5.6.1)
		case !IsToken(option):
			return ErrConnection
		case Same(option, "close"):
			h.Close = true
		case Same(option, "keep-alive"):
			h.KeepAlive = true
		case Same(option, "upgrade"):
			h.UpgradeOption = true
		case len(h.options) == MaxFields, h.named+len(option) > maxNamed:
			return ErrTooMany // each field is looked up among them
		default:
			h.options = append(h.options, option)
			h.named += len(option)
		}
	}
	return nil
}

// framing holds the fields that frame the content against each other.
func (h *Head) framing() error {
	switch {
	case h.Chunked && h.Minor == 0:
		return ErrEncoding
	case h.Chunked && h.Length >= 0:
		return ErrBoth
	}
	return nil
}

// Named says whether Connection names a field, which is then for the next hop alone.
func (h *Head) Named(name string) bool {
	for _, o := range h.options {
		if Same(o, name) {
			return true
		}
	}
	return false
}

// Persists says whether the connection may carry another message after this one (RFC 9112, section 9.3).
func (h *Head) Persists() bool { return !h.Close && (h.Minor == 1 || h.KeepAlive) }

// First returns the value of the first line of a name, whatever its case, and how many lines there are.
func (h *Head) First(name string) (value string, lines int) {
	for i := range h.Fields {
		if Same(h.Fields[i].Name, name) {
			if lines == 0 {
				value = h.Fields[i].Value
			}
			lines++
		}
	}
	return value, lines
}

// At returns the value of line i, counted from 0, of a name; "" beyond the last.
func (h *Head) At(name string, i int) string {
	for j := range h.Fields {
		if Same(h.Fields[j].Name, name) {
			if i == 0 {
				return h.Fields[j].Value
			}
			i--
		}
	}
	return ""
}
