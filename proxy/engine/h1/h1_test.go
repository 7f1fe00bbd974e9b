package h1

import (
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// errMore says that a head has no end.
const errMore Problem = "more"

// lines joins lines and an empty one to a head.
func lines(l ...string) string { return strings.Join(l, "\r\n") + "\r\n\r\n" }

// readRequest does with text what an engine does with a connection.
func readRequest(h *Head, text string) (rest string, err error) {
	n, err := scan(text)
	if err != nil {
		return text, err
	}
	return text[n:], h.ReadRequest(text[:n])
}

func readAnswer(h *Head, text, method string) (rest string, err error) {
	n, err := scan(text)
	if err != nil {
		return text, err
	}
	return text[n:], h.ReadAnswer(text[:n], method)
}

func scan(text string) (int, error) {
	n, _, err := Scan([]byte(text), 0)
	if err == nil && n == 0 {
		err = errMore
	}
	return n, err
}

func TestScan(t *testing.T) {
	for text, want := range map[string]struct {
		length int
		err    error
	}{
		"":                                  {0, nil},
		"\r":                                {0, nil},
		"\r\n":                              {2, nil},
		"a":                                 {0, nil},
		"a\r\n":                             {0, nil},
		"a\r\n\r":                           {0, nil},
		"a\r\n\r\n":                         {5, nil},
		"a\r\n\r\nb\r\n\r\n":                {5, nil},
		"a\r\nb: c\r\n\r\nrest":             {11, nil},
		"a\r\r\n\r\n":                       {6, nil}, // the CR within the line is for those who read the line
		"\n":                                {0, ErrLine},
		"a\n":                               {0, ErrLine},
		"a\r\n\n":                           {0, ErrLine},
		"a\r\nb\n\r\n":                      {0, ErrLine},
		"a\r\nb\r\n\n":                      {0, ErrLine},
		"a\nb: c\r\n\r\n":                   {0, ErrLine},
		"a\r\nb: c\r\n \r\n\r\n":            {14, nil},
		"a\r\nb: " + strings.Repeat("c", 9): {0, nil},
	} {
		if n, _, err := Scan([]byte(text), 0); n != want.length || err != want.err {
			t.Errorf("%q: got %d, %v; want %d, %v", text, n, err, want.length, want.err)
		}
		// As it comes, a byte at a time, each place is looked at once.
		from := 0
		for i := range len(text) + 1 {
			n, next, err := Scan([]byte(text[:i]), from)
			if next < from || next > i || n == 0 && err == nil && next != i {
				t.Fatalf("%q: goes on at %d after %d", text[:i], next, from)
			}
			if from = next; n == 0 && err == nil && i < len(text) {
				continue
			}
			if n != want.length || err != want.err {
				t.Errorf("%q, byte by byte: got %d, %v after %d bytes; want %d, %v", text, n, err, i, want.length, want.err)
			}
			break
		}
	}
}

func TestIsToken(t *testing.T) {
	const others = "!#$%&'*+-.^_`|~"
	for c := range 256 {
		alnum := c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		want := alnum || c < 0x80 && strings.ContainsRune(others, rune(c))
		for _, s := range []string{string([]byte{byte(c)}), string([]byte{'a', byte(c)}), string([]byte{byte(c), 'a'})} {
			if IsToken(s) != want {
				t.Errorf("IsToken(%q) is %v", s, !want)
			}
		}
	}
	if IsToken("") {
		t.Error("nothing is no token")
	}
}

func TestIsLine(t *testing.T) {
	for s, want := range map[string]bool{"": true, "a b\t\xff": true, "a\r": false, "\nb": false, "a\x00b": false, strings.Repeat("a", 100) + "\r\nX: b": false} {
		if IsLine(s) != want {
			t.Errorf("IsLine(%q) is %v", s, !want)
		}
	}
}

func TestSame(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"", "", true},
		{"host", "HOST", true},
		{"X-a", "x-A", true},
		{"a", "ab", false},
		{"a_b", "a-b", false},
		{"^", "~", false}, // these differ in the bit that tells cases apart
		{"[", "{", false},
		{"@", "`", false},
		{"\x00", " ", false},
		{"0", "\x10", false},
		{"k", "\u212a", false},
		{"\xc1", "\xe1", false},
	} {
		if Same(c.a, c.b) != c.want || Same(c.b, c.a) != c.want {
			t.Errorf("Same(%q, %q) is %v", c.a, c.b, !c.want)
		}
	}
}

func TestProblemsQuoteNothing(t *testing.T) {
	var h Head
	_, err := readRequest(&h, lines("GET / HTTP/1.1", "Host: a", "Authorization: Bearer secret\x00"))
	if err != ErrField || strings.Contains(err.Error(), "secret") {
		t.Errorf("got %v", err)
	}
}

func TestNoAllocations(t *testing.T) {
	request := lines("POST /orders/1?x=1 HTTP/1.1", "Host: orders.internal", "User-Agent: test", "Accept: */*", "Connection: keep-alive, x-a, x-b", "X-A: 1", "X-B: 2",
		"Content-Type: application/json", "Transfer-Encoding: chunked", "Via: 1.1 a", "TE: trailers", "Expect: 100-continue")
	answer := lines("HTTP/1.1 200 OK", "Date: Mon, 02 Jan 2026 15:04:05 GMT", "Content-Type: text/plain", "Content-Length: 5", "Connection: close, x-a", "X-A: 1")
	content := []byte("5;a=\"b\"\r\nhello\r\n6\r\n world\r\n0\r\n\r\n")
	var (
		h    Head
		c    Chunks
		read = []byte(request)
		size []byte
	)
	for name, f := range map[string]func(){
		"Scan":    func() { n, _, err := Scan(read, 0); must(t, err); want(t, n, len(read)) },
		"request": func() { must(t, h.ReadRequest(request)) },
		"answer":  func() { must(t, h.ReadAnswer(answer, "GET")) },
		"look-ups": func() {
			_, _ = h.First("x-a")
			_ = h.At("x-b", 0)
			_ = h.Named("x-a")
			_ = h.Persists()
		},
		"chunks":         func() { c.Reset(); must(t, drain(&c, content)) },
		"a chunk's size": func() { size = AppendChunk(size[:0], 1<<40) },
	} {
		f()
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, got, want int) {
	t.Helper()
	if got != want {
		t.Fatalf("got %d, want %d", got, want)
	}
}

func drain(c *Chunks, b []byte) error {
	for !c.Done() {
		n, _, err := c.Next(b)
		if err != nil {
			return err
		}
		if n == 0 {
			return errMore
		}
		b = b[n:]
	}
	return nil
}

func TestEveryByteOfAValueIsLookedAt(t *testing.T) {
	for n := 1; n < 26; n++ {
		for at := range n {
			for c := range 256 {
				b := []byte(strings.Repeat("~ \t\xff", n))[:n]
				b[at] = byte(c)
				if got, want := isValue(string(b)), c == '\t' || c >= ' ' && c != 0x7f; got != want {
					t.Fatalf("%q: %v", b, got)
				}
			}
		}
	}
}
