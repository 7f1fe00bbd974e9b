package h1

import "testing"

// Each row breaks one thing; its twin does not, and is accepted.
var brokenAnswers = []struct {
	name, text string
	want       error
	twin       string
}{
	// Lines and fields, as in requests.
	{"bare LF after the status line", "HTTP/1.1 200 OK\nX: a\r\n\r\n", ErrLine, "HTTP/1.1 200 OK\r\nX: a\r\n\r\n"},
	{"bare LFs only", "HTTP/1.1 200 OK\nX: a\n\n", ErrLine, "HTTP/1.1 200 OK\r\nX: a\r\n\r\n"},
	{"bare CR in the phrase", lines("HTTP/1.1 200 O\rK"), ErrStart, lines("HTTP/1.1 200 O K")},
	{"bare CR after the status", lines("HTTP/1.1 200\rOK"), ErrStart, lines("HTTP/1.1 200 OK")},
	{"bare CR in a value", lines("HTTP/1.1 200 OK", "X: b\rY: c"), ErrField, lines("HTTP/1.1 200 OK", "X: b Y: c")},
	{"a leading empty line", "\r\n" + lines("HTTP/1.1 200 OK"), ErrStart, lines("HTTP/1.1 200 OK")},
	{"a folded line", lines("HTTP/1.1 200 OK", "X: a", " b"), ErrField, lines("HTTP/1.1 200 OK", "X: a", "b:")},
	{"a space before the colon", lines("HTTP/1.1 200 OK", "Content-Length : 5"), ErrField, lines("HTTP/1.1 200 OK", "Content-Length: 5")},
	{"NUL in a value", lines("HTTP/1.1 200 OK", "X: \x00"), ErrField, lines("HTTP/1.1 200 OK", "X: 0")},
	{"no colon", lines("HTTP/1.1 200 OK", "<html>"), ErrField, lines("HTTP/1.1 200 OK", "html: <html>")},
	{"one field too many", lines("HTTP/1.1 200 OK", many("X: b", MaxFields+1)), ErrTooMany, lines("HTTP/1.1 200 OK", many("X: b", MaxFields))},
	{"an option that is no token", lines("HTTP/1.1 200 OK", "Connection: x y"), ErrConnection, lines("HTTP/1.1 200 OK", "Connection: x, y")},

	// The status line (RFC 9112, section 4).
	{"HTTP/0.9", lines("<html>"), ErrStart, lines("HTTP/1.1 200 OK")},
	{"HTTP/0.9 with a space", lines("<html lang=en>"), ErrVersion, lines("HTTP/1.1 200 OK")},
	{"a request", lines("GET / HTTP/1.1"), ErrVersion, lines("HTTP/1.1 200 OK")},
	{"version 2.0", lines("HTTP/2.0 200 OK"), ErrVersion, lines("HTTP/1.0 200 OK")},
	{"version 1.2", lines("HTTP/1.2 200 OK"), ErrVersion, lines("HTTP/1.1 200 OK")},
	{"lower-case version", lines("http/1.1 200 OK"), ErrVersion, lines("HTTP/1.1 200 OK")},
	{"another protocol", lines("ICY 200 OK"), ErrVersion, lines("HTTP/1.0 200 OK")},
	{"no status", lines("HTTP/1.1"), ErrStart, lines("HTTP/1.1 200")},
	{"an empty status", lines("HTTP/1.1 "), ErrStart, lines("HTTP/1.1 200 ")},
	{"two spaces", lines("HTTP/1.1  200 OK"), ErrStart, lines("HTTP/1.1 200  OK")},
	{"a tab before the status", lines("HTTP/1.1\t200 OK"), ErrVersion, lines("HTTP/1.1 200 OK")},
	{"a tab after the status", lines("HTTP/1.1 200\tOK"), ErrStart, lines("HTTP/1.1 200 \tOK")},
	{"two digits", lines("HTTP/1.1 20 OK"), ErrStart, lines("HTTP/1.1 200 OK")},
	{"four digits", lines("HTTP/1.1 2000 OK"), ErrStart, lines("HTTP/1.1 200 0 OK")},
	{"letters", lines("HTTP/1.1 2OO OK"), ErrStart, lines("HTTP/1.1 200 OK")},
	{"a sign", lines("HTTP/1.1 +20 OK"), ErrStart, lines("HTTP/1.1 200 OK")},
	{"status 099", lines("HTTP/1.1 099 OK"), ErrStart, lines("HTTP/1.1 100 OK")},
	{"status 000", lines("HTTP/1.1 000 OK"), ErrStart, lines("HTTP/1.1 999 OK")},
	{"NUL in the phrase", lines("HTTP/1.1 200 O\x00K"), ErrStart, lines("HTTP/1.1 200 O\tK\xe9")},
	{"DEL in the phrase", lines("HTTP/1.1 200 O\x7fK"), ErrStart, lines("HTTP/1.1 200 O~K")},

	// Framing (section 6).
	{"length and chunked", lines("HTTP/1.1 200 OK", "Content-Length: 5", "Transfer-Encoding: chunked"), ErrBoth, lines("HTTP/1.1 200 OK", "Transfer-Encoding: chunked")},
	{"two lengths", lines("HTTP/1.1 200 OK", "Content-Length: 1", "Content-Length: 2"), ErrLength, lines("HTTP/1.1 200 OK", "Content-Length: 1")},
	{"the same length twice", lines("HTTP/1.1 200 OK", "Content-Length: 1", "Content-Length: 1"), ErrLength, lines("HTTP/1.1 200 OK", "Content-Length: 1")},
	{"a list of lengths", lines("HTTP/1.1 200 OK", "Content-Length: 5, 5"), ErrLength, lines("HTTP/1.1 200 OK", "Content-Length: 55")},
	{"a plus", lines("HTTP/1.1 200 OK", "Content-Length: +5"), ErrLength, lines("HTTP/1.1 200 OK", "Content-Length:  5")},
	{"a minus", lines("HTTP/1.1 200 OK", "Content-Length: -1"), ErrLength, lines("HTTP/1.1 200 OK", "Content-Length: 1")},
	{"an unknown coding", lines("HTTP/1.1 200 OK", "Transfer-Encoding: gzip, chunked"), ErrEncoding, lines("HTTP/1.1 200 OK", "Transfer-Encoding: chunked")},
	{"identity", lines("HTTP/1.1 200 OK", "Transfer-Encoding: identity"), ErrEncoding, lines("HTTP/1.1 200 OK")},
	{"chunked on two lines", lines("HTTP/1.1 200 OK", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), ErrEncoding, lines("HTTP/1.1 200 OK", "Transfer-Encoding: chunked")},
	{"chunked in HTTP/1.0", lines("HTTP/1.0 200 OK", "Transfer-Encoding: chunked"), ErrEncoding, lines("HTTP/1.0 200 OK", "Content-Length: 5")},
	{"a 204 with a length", lines("HTTP/1.1 204 No Content", "Content-Length: 5"), ErrContentBegun, lines("HTTP/1.1 204 No Content", "Content-Length: 0")},
	{"a 204 in chunks", lines("HTTP/1.1 204 No Content", "Transfer-Encoding: chunked"), ErrContentBegun, lines("HTTP/1.1 205 Reset Content", "Transfer-Encoding: chunked")},
	{"a 100 with a length", lines("HTTP/1.1 100 Continue", "Content-Length: 5"), ErrContentBegun, lines("HTTP/1.1 100 Continue")},
	{"a 103 in chunks", lines("HTTP/1.1 103 Early Hints", "Transfer-Encoding: chunked"), ErrContentBegun, lines("HTTP/1.1 103 Early Hints", "Link: a")},
	{"a 199 with a length", lines("HTTP/1.1 199 X", "Content-Length: 5"), ErrContentBegun, lines("HTTP/1.1 200 X", "Content-Length: 5")},
	{"a 304 with two lengths", lines("HTTP/1.1 304 Not Modified", "Content-Length: 5", "Content-Length: 5"), ErrLength, lines("HTTP/1.1 304 Not Modified", "Content-Length: 5")},
	{"a 304 with both", lines("HTTP/1.1 304 Not Modified", "Content-Length: 5", "Transfer-Encoding: chunked"), ErrBoth, lines("HTTP/1.1 304 Not Modified", "Transfer-Encoding: chunked")},
}

func TestBrokenAnswers(t *testing.T) {
	var h Head
	for _, c := range brokenAnswers {
		for _, method := range []string{"GET", "HEAD"} { // what has no content is held to the same rules
			if _, err := readAnswer(&h, c.text, method); err != c.want {
				t.Errorf("%s %s: got %v, want %v, of %.200q", method, c.name, err, c.want, c.text)
			}
			if _, err := readAnswer(&h, c.twin, method); err != nil {
				t.Errorf("%s %s, the twin: %v, of %.200q", method, c.name, err, c.twin)
			}
		}
	}
}

func TestAnswers(t *testing.T) {
	var h Head
	length, chunked := "Content-Length:Content-Length=5", "Transfer-Encoding:Transfer-Encoding=chunked"
	for _, c := range []struct {
		method, text string
		want         what
	}{
		{"GET", lines("HTTP/1.1 200 OK"), what{Status: 200, Phrase: "OK", Minor: 1, Length: -1, Persists: true}}, // to the end of the connection
		{"GET", lines("HTTP/1.0 200 OK"), what{Status: 200, Phrase: "OK", Length: -1}},
		{"GET", lines("HTTP/1.0 200 OK", "Connection: keep-alive", "Content-Length: 5"), what{Status: 200, Phrase: "OK", Length: 5, Keep: true, Fields: "Connection:Connection=keep-alive|" + length, Persists: true}},
		{"GET", lines("HTTP/1.1 999"), what{Status: 999, Minor: 1, Length: -1, Persists: true}},
		{"GET", lines("HTTP/1.1 404 "), what{Status: 404, Minor: 1, Length: -1, Persists: true}},
		{"GET", lines("HTTP/1.1 404  Not\tFound\xe9 "), what{Status: 404, Phrase: " Not\tFound\xe9 ", Minor: 1, Length: -1, Persists: true}},
		{"GET", lines("HTTP/1.1 200 OK", "Content-Length: 5"), what{Status: 200, Phrase: "OK", Minor: 1, Length: 5, Fields: length, Persists: true}},
		{"GET", lines("HTTP/1.1 200 OK", "Transfer-Encoding: chunked"), what{Status: 200, Phrase: "OK", Minor: 1, Length: -1, Chunked: true, Fields: chunked, Persists: true}},
		{"GET", lines("HTTP/1.1 200 OK", "Connection: close"), what{Status: 200, Phrase: "OK", Minor: 1, Length: -1, Close: true, Fields: "Connection:Connection=close"}},
		{"GET", lines("HTTP/1.1 101 Switching Protocols", "Connection: upgrade", "Upgrade: a"), what{Status: 101, Phrase: "Switching Protocols", Minor: 1, Upgrade: true, Fields: "Connection:Connection=upgrade|Upgrade:Upgrade=a", Persists: true}},
		// What has no content, whatever it announces (section 6.3).
		{"HEAD", lines("HTTP/1.1 200 OK", "Content-Length: 5"), what{Status: 200, Phrase: "OK", Minor: 1, Fields: length, Persists: true}},
		{"HEAD", lines("HTTP/1.1 200 OK", "Transfer-Encoding: chunked"), what{Status: 200, Phrase: "OK", Minor: 1, Fields: chunked, Persists: true}},
		{"HEAD", lines("HTTP/1.1 200 OK"), what{Status: 200, Phrase: "OK", Minor: 1, Persists: true}},
		{"head", lines("HTTP/1.1 200 OK", "Content-Length: 5"), what{Status: 200, Phrase: "OK", Minor: 1, Length: 5, Fields: length, Persists: true}}, // methods are case-sensitive
		{"GET", lines("HTTP/1.1 304 Not Modified", "Content-Length: 5"), what{Status: 304, Phrase: "Not Modified", Minor: 1, Fields: length, Persists: true}},
		{"GET", lines("HTTP/1.1 304 Not Modified", "Transfer-Encoding: chunked"), what{Status: 304, Phrase: "Not Modified", Minor: 1, Fields: chunked, Persists: true}},
		{"GET", lines("HTTP/1.1 204 No Content"), what{Status: 204, Phrase: "No Content", Minor: 1, Persists: true}},
		{"GET", lines("HTTP/1.1 103 Early Hints"), what{Status: 103, Phrase: "Early Hints", Minor: 1, Persists: true}},
	} {
		if _, err := readAnswer(&h, c.text, c.method); err != nil || whatOf(&h) != c.want {
			t.Errorf("%s %q: %v, got\n%+v, want\n%+v", c.method, c.text, err, whatOf(&h), c.want)
		}
	}
}

// What follows an answer is left for whoever wonders what it is.
func TestTwoAnswers(t *testing.T) {
	var h Head
	one, other := lines("HTTP/1.1 200 OK", "Content-Length: 0"), lines("HTTP/1.1 403 Forbidden", "Content-Length: 0")
	if rest, err := readAnswer(&h, one+other, "GET"); err != nil || rest != other || h.Status != 200 || h.Length != 0 {
		t.Errorf("%v: %d, length %d, left %q", err, h.Status, h.Length, rest)
	}
}
