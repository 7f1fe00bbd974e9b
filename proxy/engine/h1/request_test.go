package h1

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// Each row breaks one thing; its twin does not, and is accepted.
var brokenRequests = []struct {
	name, text string
	want       error
	twin       string
}{
	// Lines (RFC 9112, section 2.2).
	{"bare LF after the request line", "GET / HTTP/1.1\nHost: a\r\n\r\n", ErrLine, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"bare LF after a field", "GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", ErrLine, "GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n\r\n"},
	{"bare LF for the empty line", "GET / HTTP/1.1\r\nHost: a\r\n\n", ErrLine, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"bare LFs only", "GET / HTTP/1.1\nHost: a\n\n", ErrLine, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"bare CR in the request line", lines("GET /\rHost: b HTTP/1.1", "Host: a"), ErrStart, lines("GET /Host:b HTTP/1.1", "Host: a")},
	{"bare CR in the target", lines("GET /a\rb HTTP/1.1", "Host: a"), ErrStart, lines("GET /ab HTTP/1.1", "Host: a")},
	{"bare CR after the version", lines("GET / HTTP/1.1\r", "Host: a"), ErrVersion, lines("GET / HTTP/1.1", "Host: a")},
	{"bare CR in a value", lines("GET / HTTP/1.1", "Host: a", "X: b\rY: c"), ErrField, lines("GET / HTTP/1.1", "Host: a", "X: b Y: c")},
	{"bare CR before a field", lines("GET / HTTP/1.1", "Host: a", "X: b\r Y: c"), ErrField, lines("GET / HTTP/1.1", "Host: a", "X: b  Y: c")},
	{"bare CR for a line end", "GET / HTTP/1.1\rHost: a\r\r\n\r\n", ErrStart, lines("GET / HTTP/1.1", "Host: a")},
	{"two CRs at a line end", lines("GET / HTTP/1.1", "Host: a\r"), ErrField, lines("GET / HTTP/1.1", "Host: a")},
	{"bare CR before a name", lines("GET / HTTP/1.1", "Host: a", "\rX: b"), ErrField, lines("GET / HTTP/1.1", "Host: a", "X: b")},
	{"a leading empty line", "\r\n" + lines("GET / HTTP/1.1", "Host: a"), ErrStart, lines("GET / HTTP/1.1", "Host: a")},
	{"a leading LF", "\n" + lines("GET / HTTP/1.1", "Host: a"), ErrLine, lines("GET / HTTP/1.1", "Host: a")},
	{"a leading space", lines(" GET / HTTP/1.1", "Host: a"), ErrStart, lines("GET / HTTP/1.1", "Host: a")},
	{"no end", "GET / HTTP/1.1\r\nHost: a\r\n", errMore, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"},

	// The request line (section 3).
	{"HTTP/0.9", lines("GET /", "Host: a"), ErrStart, lines("GET / HTTP/1.1", "Host: a")},
	{"HTTP/0.9 with a space", lines("GET / ", "Host: a"), ErrVersion, lines("GET / HTTP/1.1", "Host: a")},
	{"version 0.9", lines("GET / HTTP/0.9", "Host: a"), ErrVersion, lines("GET / HTTP/1.0", "Host: a")},
	{"version 1.2", lines("GET / HTTP/1.2", "Host: a"), ErrVersion, lines("GET / HTTP/1.1", "Host: a")},
	{"version 2.0", lines("GET / HTTP/2.0", "Host: a"), ErrVersion, lines("GET / HTTP/1.1", "Host: a")},
	{"version 1.10", lines("GET / HTTP/1.10", "Host: a"), ErrVersion, lines("GET / HTTP/1.1", "Host: a")},
	{"version 01.1", lines("GET / HTTP/01.1", "Host: a"), ErrVersion, lines("GET / HTTP/1.1", "Host: a")},
	{"version 1", lines("GET / HTTP/1", "Host: a"), ErrVersion, lines("GET / HTTP/1.1", "Host: a")},
	{"lower-case version", lines("GET / http/1.1", "Host: a"), ErrVersion, lines("GET / HTTP/1.1", "Host: a")},
	{"another protocol", lines("GET / RTSP/1.1", "Host: a"), ErrVersion, lines("GET / HTTP/1.1", "Host: a")},
	{"two versions", lines("GET / HTTP/1.1 HTTP/1.1", "Host: a"), ErrStart, lines("GET /HTTP/1.1 HTTP/1.1", "Host: a")},
	{"the preface of HTTP/2", lines("PRI * HTTP/2.0"), ErrVersion, lines("OPTIONS * HTTP/1.1", "Host: a")},
	{"two spaces before the target", lines("GET  / HTTP/1.1", "Host: a"), ErrStart, lines("GET / HTTP/1.1", "Host: a")},
	{"two spaces after the target", lines("GET /  HTTP/1.1", "Host: a"), ErrStart, lines("GET / HTTP/1.1", "Host: a")},
	{"a space in the target", lines("GET /a b HTTP/1.1", "Host: a"), ErrStart, lines("GET /a%20b HTTP/1.1", "Host: a")},
	{"a trailing space", lines("GET / HTTP/1.1 ", "Host: a"), ErrStart, lines("GET / HTTP/1.1", "Host: a")},
	{"a tab before the target", lines("GET\t/ HTTP/1.1", "Host: a"), ErrStart, lines("GET / HTTP/1.1", "Host: a")},
	{"a tab after the target", lines("GET /\tHTTP/1.1", "Host: a"), ErrStart, lines("GET / HTTP/1.1", "Host: a")},
	{"a tab in the target", lines("GET /a\tb HTTP/1.1", "Host: a"), ErrStart, lines("GET /a%09b HTTP/1.1", "Host: a")},
	{"a vertical tab after the target", lines("GET /\vHTTP/1.1", "Host: a"), ErrStart, lines("GET / HTTP/1.1", "Host: a")},
	{"NUL in the target", lines("GET /a\x00 HTTP/1.1", "Host: a"), ErrStart, lines("GET /a%00 HTTP/1.1", "Host: a")},
	{"DEL in the target", lines("GET /a\x7f HTTP/1.1", "Host: a"), ErrStart, lines("GET /a%7f HTTP/1.1", "Host: a")},
	{"NUL in the method", lines("GE\x00T / HTTP/1.1", "Host: a"), ErrStart, lines("GET / HTTP/1.1", "Host: a")},
	{"NUL in the version", lines("GET / HTTP/1.1\x00", "Host: a"), ErrVersion, lines("GET / HTTP/1.1", "Host: a")},
	{"8 bits in the method", lines("G\xc9T / HTTP/1.1", "Host: a"), ErrStart, lines("G-T / HTTP/1.1", "Host: a")},
	{"a method that is no token", lines("G(T / HTTP/1.1", "Host: a"), ErrStart, lines("G!T / HTTP/1.1", "Host: a")},
	{"a colon in the method", lines("GET: / HTTP/1.1", "Host: a"), ErrStart, lines("GET / HTTP/1.1", "Host: a")},
	{"no method", lines("/ HTTP/1.1", "Host: a"), ErrStart, lines("GET / HTTP/1.1", "Host: a")},
	{"an empty method", lines(" / HTTP/1.1", "Host: a"), ErrStart, lines("GET / HTTP/1.1", "Host: a")},
	{"no target", lines("GET HTTP/1.1", "Host: a"), ErrStart, lines("GET / HTTP/1.1", "Host: a")},
	{"an empty target", lines("GET  HTTP/1.1", "Host: a"), ErrStart, lines("GET / HTTP/1.1", "Host: a")},
	{"one word", lines("GET", "Host: a"), ErrStart, lines("GET / HTTP/1.1", "Host: a")},
	{"an answer", lines("HTTP/1.1 200 OK", "Host: a"), ErrStart, lines("GET / HTTP/1.1", "Host: a")},

	// Fields (sections 5.1 and 5.2).
	{"a folded line", lines("GET / HTTP/1.1", "Host: a", "X: b", " c"), ErrField, lines("GET / HTTP/1.1", "Host: a", "X: b", "c:")},
	{"a line folded with a tab", lines("GET / HTTP/1.1", "Host: a", "X: b", "\tc"), ErrField, lines("GET / HTTP/1.1", "Host: a", "X: b", "c:")},
	{"a folded line that looks like a field", lines("GET / HTTP/1.1", "Host: a", "X: b", " Y: c"), ErrField, lines("GET / HTTP/1.1", "Host: a", "X: b", "Y: c")},
	{"a line of white space", lines("GET / HTTP/1.1", "Host: a", " "), ErrField, lines("GET / HTTP/1.1", "Host: a")},
	{"white space before the first field", lines("GET / HTTP/1.1", " Host: a"), ErrField, lines("GET / HTTP/1.1", "Host: a")},
	{"a space before the colon", lines("GET / HTTP/1.1", "Host : a"), ErrField, lines("GET / HTTP/1.1", "Host: a")},
	{"a tab before the colon", lines("GET / HTTP/1.1", "Host\t: a"), ErrField, lines("GET / HTTP/1.1", "Host: a")},
	{"a space in a name", lines("GET / HTTP/1.1", "Host: a", "X Y: b"), ErrField, lines("GET / HTTP/1.1", "Host: a", "X-Y: b")},
	{"an empty name", lines("GET / HTTP/1.1", "Host: a", ": b"), ErrField, lines("GET / HTTP/1.1", "Host: a", "b: b")},
	{"no colon", lines("GET / HTTP/1.1", "Host: a", "X"), ErrField, lines("GET / HTTP/1.1", "Host: a", "X:")},
	{"a name that is no token", lines("GET / HTTP/1.1", "Host: a", "X(): b"), ErrField, lines("GET / HTTP/1.1", "Host: a", "X: b()")},
	{"8 bits in a name", lines("GET / HTTP/1.1", "Host: a", "X\xe9: b"), ErrField, lines("GET / HTTP/1.1", "Host: a", "X: b\xe9")},
	{"NUL in a name", lines("GET / HTTP/1.1", "Host: a", "X\x00: b"), ErrField, lines("GET / HTTP/1.1", "Host: a", "X: b")},
	{"NUL in a value", lines("GET / HTTP/1.1", "Host: a", "X: b\x00c"), ErrField, lines("GET / HTTP/1.1", "Host: a", "X: bc")},
	{"a vertical tab around a value", lines("GET / HTTP/1.1", "Host: a", "X:\vb"), ErrField, lines("GET / HTTP/1.1", "Host: a", "X:\tb")},
	{"a form feed after a value", lines("GET / HTTP/1.1", "Host: a", "X: b\f"), ErrField, lines("GET / HTTP/1.1", "Host: a", "X: b\t")},
	{"DEL in a value", lines("GET / HTTP/1.1", "Host: a", "X: \x7f"), ErrField, lines("GET / HTTP/1.1", "Host: a", "X: ~")},
	{"one field too many", lines("GET / HTTP/1.1", "Host: a", many("X: b", MaxFields)), ErrTooMany, lines("GET / HTTP/1.1", "Host: a", many("X: b", MaxFields-1))},

	// Content-Length (section 6.2 and 6.3).
	{"two lengths", lines("POST / HTTP/1.1", "Host: a", "Content-Length: 1", "Content-Length: 2"), ErrLength, lines("POST / HTTP/1.1", "Host: a", "Content-Length: 1", "Content-Length-2: 2")},
	{"the same length twice", lines("POST / HTTP/1.1", "Host: a", "Content-Length: 1", "content-length: 1"), ErrLength, lines("POST / HTTP/1.1", "Host: a", "content-length: 1")},
	{"a list of lengths", lines("POST / HTTP/1.1", "Host: a", "Content-Length: 5, 5"), ErrLength, lines("POST / HTTP/1.1", "Host: a", "Content-Length: 55")},
	{"a list without a space", lines("POST / HTTP/1.1", "Host: a", "Content-Length: 5,5"), ErrLength, lines("POST / HTTP/1.1", "Host: a", "Content-Length: 55")},
	{"a plus", lines("POST / HTTP/1.1", "Host: a", "Content-Length: +5"), ErrLength, lines("POST / HTTP/1.1", "Host: a", "Content-Length:  5")},
	{"a minus", lines("POST / HTTP/1.1", "Host: a", "Content-Length: -1"), ErrLength, lines("POST / HTTP/1.1", "Host: a", "Content-Length: 1")},
	{"minus nothing", lines("POST / HTTP/1.1", "Host: a", "Content-Length: -0"), ErrLength, lines("POST / HTTP/1.1", "Host: a", "Content-Length: 0")},
	{"a hexadecimal length", lines("POST / HTTP/1.1", "Host: a", "Content-Length: 0x5"), ErrLength, lines("POST / HTTP/1.1", "Host: a", "Content-Length: 05")},
	{"hexadecimal digits", lines("POST / HTTP/1.1", "Host: a", "Content-Length: a"), ErrLength, lines("POST / HTTP/1.1", "Host: a", "Content-Length: 10")},
	{"an Arabic digit", lines("POST / HTTP/1.1", "Host: a", "Content-Length: ٥"), ErrLength, lines("POST / HTTP/1.1", "Host: a", "Content-Length: 5")},
	{"an empty length", lines("POST / HTTP/1.1", "Host: a", "Content-Length:"), ErrLength, lines("POST / HTTP/1.1", "Host: a", "Content-Length:5")},
	{"a length with a space within", lines("POST / HTTP/1.1", "Host: a", "Content-Length: 5 5"), ErrLength, lines("POST / HTTP/1.1", "Host: a", "Content-Length: 5 ")},
	{"a length with a vertical tab", lines("POST / HTTP/1.1", "Host: a", "Content-Length: \v5"), ErrField, lines("POST / HTTP/1.1", "Host: a", "Content-Length: \t5")},
	{"a fraction", lines("POST / HTTP/1.1", "Host: a", "Content-Length: 5.0"), ErrLength, lines("POST / HTTP/1.1", "Host: a", "Content-Length: 50")},
	{"an exponent", lines("POST / HTTP/1.1", "Host: a", "Content-Length: 5e1"), ErrLength, lines("POST / HTTP/1.1", "Host: a", "Content-Length: 50")},
	{"an underscore", lines("POST / HTTP/1.1", "Host: a", "Content-Length: 1_0"), ErrLength, lines("POST / HTTP/1.1", "Host: a", "Content-Length: 10")},
	{"nineteen digits", lines("POST / HTTP/1.1", "Host: a", "Content-Length: 1000000000000000000"), ErrLength, lines("POST / HTTP/1.1", "Host: a", "Content-Length: 999999999999999999")},
	{"nineteen digits that are few", lines("POST / HTTP/1.1", "Host: a", "Content-Length: 0000000000000000005"), ErrLength, lines("POST / HTTP/1.1", "Host: a", "Content-Length: 000000000000000005")},
	{"2^64+5", lines("POST / HTTP/1.1", "Host: a", "Content-Length: 18446744073709551621"), ErrLength, lines("POST / HTTP/1.1", "Host: a", "Content-Length: 5")},
	{"a space before the length's colon", lines("POST / HTTP/1.1", "Host: a", "Content-Length : 5"), ErrField, lines("POST / HTTP/1.1", "Host: a", "Content-Length: 5")},

	// Transfer-Encoding (sections 6.1 and 7).
	{"length and chunked", lines("POST / HTTP/1.1", "Host: a", "Content-Length: 5", "Transfer-Encoding: chunked"), ErrBoth, lines("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked")},
	{"chunked and length", lines("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked", "Content-Length: 5"), ErrBoth, lines("POST / HTTP/1.1", "Host: a", "Content-Length: 5")},
	{"chunked and no length", lines("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked", "Content-Length: 0"), ErrBoth, lines("POST / HTTP/1.1", "Host: a", "Content-Length: 0")},
	{"an unknown coding", lines("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: xchunked"), ErrEncoding, lines("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked")},
	{"a longer coding", lines("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunkedx"), ErrEncoding, lines("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: Chunked")},
	{"chunked before another", lines("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked, identity"), ErrEncoding, lines("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked")},
	{"chunked after another", lines("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: identity, chunked"), ErrEncoding, lines("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: CHUNKED")},
	{"gzip", lines("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: gzip, chunked"), ErrEncoding, lines("POST / HTTP/1.1", "Host: a", "Content-Encoding: gzip", "Transfer-Encoding: chunked")},
	{"identity", lines("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: identity"), ErrEncoding, lines("POST / HTTP/1.1", "Host: a")},
	{"chunked twice", lines("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked, chunked"), ErrEncoding, lines("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked")},
	{"chunked on two lines", lines("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), ErrEncoding, lines("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked")},
	{"identity on another line", lines("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked", "transfer-encoding: identity"), ErrEncoding, lines("POST / HTTP/1.1", "Host: a", "transfer-encoding: chunked")},
	{"an empty coding", lines("POST / HTTP/1.1", "Host: a", "Transfer-Encoding:"), ErrEncoding, lines("POST / HTTP/1.1", "Host: a", "Transfer-Encoding:chunked")},
	{"an empty element", lines("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: ,chunked"), ErrEncoding, lines("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked")},
	{"a parameter", lines("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked;a=b"), ErrEncoding, lines("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked")},
	{"a quoted coding", lines("POST / HTTP/1.1", "Host: a", `Transfer-Encoding: "chunked"`), ErrEncoding, lines("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked")},
	{"a vertical tab before the coding", lines("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: \vchunked"), ErrField, lines("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: \tchunked")},
	{"a vertical tab after the coding", lines("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked\v"), ErrField, lines("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked\t")},
	{"a no-break space", lines("POST / HTTP/1.1", "Host: a", "Transfer-Encoding:\xa0chunked"), ErrEncoding, lines("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked")},
	{"a Kelvin sign for the k", lines("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chun\u212aed"), ErrEncoding, lines("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunKed")},
	{"a space before the coding's colon", lines("POST / HTTP/1.1", "Host: a", "Transfer-Encoding : chunked"), ErrField, lines("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked")},
	{"a folded coding", lines("POST / HTTP/1.1", "Host: a", "Transfer-Encoding:", " chunked"), ErrEncoding, lines("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked")},
	{"chunked in HTTP/1.0", lines("POST / HTTP/1.0", "Host: a", "Transfer-Encoding: chunked"), ErrEncoding, lines("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked")},
	{"chunked and length in HTTP/1.0", lines("POST / HTTP/1.0", "Host: a", "Content-Length: 5", "Transfer-Encoding: chunked"), ErrEncoding, lines("POST / HTTP/1.0", "Host: a", "Content-Length: 5")},

	// Host (section 3.2).
	{"no Host", lines("GET / HTTP/1.1", "X: a"), ErrHost, lines("GET / HTTP/1.0", "X: a")},
	{"no fields", lines("GET / HTTP/1.1"), ErrHost, lines("GET / HTTP/1.0")},
	{"no Host beside a whole URI", lines("GET http://a/ HTTP/1.1"), ErrHost, lines("GET http://a/ HTTP/1.1", "Host: a")},
	{"two Hosts", lines("GET / HTTP/1.1", "Host: a", "Host: b"), ErrHost, lines("GET / HTTP/1.1", "Host: a", "X-Host: b")},
	{"the same Host twice", lines("GET / HTTP/1.1", "Host: a", "host: a"), ErrHost, lines("GET / HTTP/1.1", "host: a")},
	{"an empty Host and another", lines("GET / HTTP/1.1", "Host:", "Host: a"), ErrHost, lines("GET / HTTP/1.1", "Host:")},
	{"two Hosts in HTTP/1.0", lines("GET / HTTP/1.0", "Host: a", "Host: b"), ErrHost, lines("GET / HTTP/1.0", "Host: a")},

	// Connection (RFC 9110, section 7.6.1).
	{"an option that is no token", lines("GET / HTTP/1.1", "Host: a", "Connection: x y"), ErrConnection, lines("GET / HTTP/1.1", "Host: a", "Connection: x, y")},
	{"a quoted option", lines("GET / HTTP/1.1", "Host: a", `Connection: "close"`), ErrConnection, lines("GET / HTTP/1.1", "Host: a", "Connection: close")},
	{"a semicolon", lines("GET / HTTP/1.1", "Host: a", "Connection: close; x"), ErrConnection, lines("GET / HTTP/1.1", "Host: a", "Connection: close, x")},
	{"8 bits in an option", lines("GET / HTTP/1.1", "Host: a", "Connection: close, \xe9"), ErrConnection, lines("GET / HTTP/1.1", "Host: a", "Connection: close, ,")},
	{"one option too many", lines("GET / HTTP/1.1", "Host: a", "Connection: "+strings.Repeat("x,", MaxFields+1)), ErrTooMany, lines("GET / HTTP/1.1", "Host: a", "Connection: "+strings.Repeat("x,", MaxFields))},
	{"options too long", lines("GET / HTTP/1.1", "Host: a", "Connection: a", "Connection: "+strings.Repeat("x", maxNamed)), ErrTooMany, lines("GET / HTTP/1.1", "Host: a", "Connection: a", "Connection: "+strings.Repeat("x", maxNamed-1))},
}

func many(line string, n int) string {
	return strings.TrimSuffix(strings.Repeat(line+"\r\n", n), "\r\n")
}

func TestBrokenRequests(t *testing.T) {
	var h Head // the same for all, as on a connection
	for _, c := range brokenRequests {
		if _, err := readRequest(&h, c.text); err != c.want {
			t.Errorf("%s: got %v, want %v, of %.200q", c.name, err, c.want, c.text)
		}
		if _, err := readRequest(&h, c.twin); err != nil {
			t.Errorf("%s, the twin: %v, of %.200q", c.name, err, c.twin)
		}
	}
}

// what is what a request or an answer was read as.
type what struct {
	Method, Target, Host          string
	Status                        int
	Phrase                        string
	Minor                         int
	Length                        int64
	Chunked, Close, Keep, Upgrade bool
	Fields                        string // "name=value" with kinds other than 0 as "kind:name=value"
	Persists                      bool
}

func whatOf(h *Head) what {
	var fields []string
	for _, f := range h.Fields {
		s := f.Name + "=" + f.Value
		if f.Kind != Other {
			s = names[f.Kind] + ":" + s
		}
		fields = append(fields, s)
	}
	return what{h.Method, h.Target, h.Host, h.Status, h.Phrase, h.Minor, h.Length, h.Chunked, h.Close, h.KeepAlive, h.UpgradeOption, strings.Join(fields, "|"), h.Persists()}
}

func TestRequests(t *testing.T) {
	var h Head
	long := "/" + strings.Repeat("x", 100_000)
	for _, c := range []struct {
		text string
		want what
	}{
		{lines("GET /a?b HTTP/1.1", "Host: a:1"), what{Method: "GET", Target: "/a?b", Host: "a:1", Minor: 1, Length: -1, Fields: "Host:Host=a:1", Persists: true}},
		{lines("GET / HTTP/1.0"), what{Method: "GET", Target: "/", Length: -1}},
		{lines("GET / HTTP/1.0", "Connection: Keep-Alive"), what{Method: "GET", Target: "/", Length: -1, Keep: true, Fields: "Connection:Connection=Keep-Alive", Persists: true}},
		{lines("GET / HTTP/1.0", "Connection: keep-alive, close"), what{Method: "GET", Target: "/", Length: -1, Keep: true, Close: true, Fields: "Connection:Connection=keep-alive, close"}},
		{lines("get / HTTP/1.1", "hOST:a"), what{Method: "get", Target: "/", Host: "a", Minor: 1, Length: -1, Fields: "Host:hOST=a", Persists: true}},
		{lines("A!#$%&'*+-.^_`|~9 * HTTP/1.1", "Host:"), what{Method: "A!#$%&'*+-.^_`|~9", Target: "*", Minor: 1, Length: -1, Fields: "Host:Host=", Persists: true}},
		{lines("GET "+long+" HTTP/1.1", "Host: a"), what{Method: "GET", Target: long, Host: "a", Minor: 1, Length: -1, Fields: "Host:Host=a", Persists: true}},
		{lines("GET http://u@b/\xe9\"<>%zz HTTP/1.1", "Host: a"), what{Method: "GET", Target: "http://u@b/\xe9\"<>%zz", Host: "a", Minor: 1, Length: -1, Fields: "Host:Host=a", Persists: true}},
		{lines("POST / HTTP/1.1", "Host: a", "CONTENT-LENGTH: \t 007\t "), what{Method: "POST", Target: "/", Host: "a", Minor: 1, Length: 7, Fields: "Host:Host=a|Content-Length:CONTENT-LENGTH=007", Persists: true}},
		{lines("POST / HTTP/1.1", "Host: a", "Content-Length: 999999999999999999"), what{Method: "POST", Target: "/", Host: "a", Minor: 1, Length: 999999999999999999, Fields: "Host:Host=a|Content-Length:Content-Length=999999999999999999", Persists: true}},
		{lines("POST / HTTP/1.1", "Host: a", "transfer-encoding:Chunked"), what{Method: "POST", Target: "/", Host: "a", Minor: 1, Length: -1, Chunked: true, Fields: "Host:Host=a|Transfer-Encoding:transfer-encoding=Chunked", Persists: true}},
		{lines("GET / HTTP/1.1", "Host: a", "Connection: x, CLOSE", "connection:,upgrade ,\t,"), what{Method: "GET", Target: "/", Host: "a", Minor: 1, Length: -1, Close: true, Upgrade: true, Fields: "Host:Host=a|Connection:Connection=x, CLOSE|Connection:connection=,upgrade ,\t,"}},
		{lines("GET / HTTP/1.1", "Host: a", "X: \t b \t c\xff \t", "x:", "X_Y::"), what{Method: "GET", Target: "/", Host: "a", Minor: 1, Length: -1, Fields: "Host:Host=a|X=b \t c\xff|x=|X_Y=:", Persists: true}},
	} {
		if _, err := readRequest(&h, c.text); err != nil || whatOf(&h) != c.want {
			t.Errorf("%.200q: %v, got\n%+v, want\n%+v", c.text, err, whatOf(&h), c.want)
		}
	}
}

func TestKinds(t *testing.T) {
	for k := Kind(1); int(k) < len(names); k++ {
		for _, name := range []string{names[k], strings.ToLower(names[k]), strings.ToUpper(names[k])} {
			if got := kindOf(name); got != k {
				t.Errorf("%s is of kind %d", name, got)
			}
		}
		for _, name := range []string{names[k] + "x", "x" + names[k], names[k][1:], strings.Repeat("x", len(names[k])), strings.ReplaceAll(names[k], "-", "_") + "_"} {
			if got := kindOf(name); got != Other {
				t.Errorf("%s is of kind %s", name, names[got])
			}
		}
	}
	if kindOf("Content_Length") != Other || kindOf("Transfer_Encoding") != Other {
		t.Error("an underscore is no hyphen")
	}
}

func TestLookUps(t *testing.T) {
	var h Head
	if _, err := readRequest(&h, lines("GET / HTTP/1.1", "Host: a", "Connection: x-a, close", "X-A: 1", "via: 1.1 v", "x-a: 2", "connection: X-B")); err != nil {
		t.Fatal(err)
	}
	first, n := h.First("X-a")
	got := fmt.Sprint(first, n, h.At("x-A", 0), h.At("x-A", 1), h.At("x-A", 2) == "", h.At("x-c", 0) == "", h.Named("X-A"), h.Named("x-b"), h.Named("close"), h.Named("x-c"))
	if want := fmt.Sprint("1", 2, "1", "2", true, true, true, true, false, false); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	// Nothing of it is left in the next.
	if _, err := readRequest(&h, lines("GET / HTTP/1.0")); err != nil || h.Named("x-a") || h.Close || h.Hosts != 0 || len(h.Fields) != 0 {
		t.Errorf("%v; something is left: %+v", err, h)
	}
	if !reflect.DeepEqual(h, Head{Method: "GET", Target: "/", Length: -1, Fields: h.Fields, options: h.options}) {
		t.Errorf("something is left: %+v", h)
	}
}
