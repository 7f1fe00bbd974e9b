package h1

import (
	"bytes"
	"fmt"
	"io"
	"net/http/httputil"
	"strings"
	"testing"
)

// Each row breaks one thing; its twin does not. An error of nil is content that has not ended yet.
var brokenChunks = []struct {
	name, text string
	want       error
	twin       string
}{
	// Sizes.
	{"no size", "\r\na\r\n0\r\n\r\n", ErrChunk, "1\r\na\r\n0\r\n\r\n"},
	{"a size that is none", "z\r\na\r\n0\r\n\r\n", ErrChunk, "1\r\na\r\n0\r\n\r\n"},
	{"0x", "0x1\r\na\r\n0\r\n\r\n", ErrChunk, "01\r\na\r\n0\r\n\r\n"},
	{"a last size of 0x0", "1\r\na\r\n0x0\r\n\r\n", ErrChunk, "1\r\na\r\n00\r\n\r\n"},
	{"a minus", "-1\r\na\r\n0\r\n\r\n", ErrChunk, "1\r\na\r\n0\r\n\r\n"},
	{"minus nothing", "1\r\na\r\n-0\r\n\r\n", ErrChunk, "1\r\na\r\n0\r\n\r\n"},
	{"a plus", "+1\r\na\r\n0\r\n\r\n", ErrChunk, "1\r\na\r\n0\r\n\r\n"},
	{"a space before the size", " 1\r\na\r\n0\r\n\r\n", ErrChunk, "1\r\na\r\n0\r\n\r\n"},
	{"a space after the size", "1 \r\na\r\n0\r\n\r\n", ErrChunk, "1 ;\r\na\r\n0\r\n\r\n"},
	{"a tab after the size", "1\t\r\na\r\n0\r\n\r\n", ErrChunk, "1\t;\r\na\r\n0\r\n\r\n"},
	{"a space within the size", "1 1\r\na\r\n0\r\n\r\n", ErrChunk, "1\r\na\r\n0\r\n\r\n"},
	{"an underscore", "1_0\r\n0123456789abcdef\r\n0\r\n\r\n", ErrChunk, "10\r\n0123456789abcdef\r\n0\r\n\r\n"},
	{"an Arabic digit", "١\r\na\r\n0\r\n\r\n", ErrChunk, "1\r\na\r\n0\r\n\r\n"},
	{"NUL after the size", "1\x00\r\na\r\n0\r\n\r\n", ErrChunk, "1\r\na\r\n0\r\n\r\n"},
	{"a vertical tab after the size", "1\v;\r\na\r\n0\r\n\r\n", ErrChunk, "1\t;\r\na\r\n0\r\n\r\n"},
	{"sixteen digits", "0000000000000001\r\na\r\n0\r\n\r\n", ErrChunk, "000000000000001\r\na\r\n0\r\n\r\n"},
	{"2^63", "8000000000000000\r\na", ErrChunk, "1\r\na\r\n0\r\n\r\n"},
	{"2^64+1", "10000000000000001\r\na\r\n0\r\n\r\n", ErrChunk, "1\r\na\r\n0\r\n\r\n"},
	{"a size that only fits in 64 bits", "ffffffffffffffff\r\na", ErrChunk, "f\r\n0123456789abcde\r\n0\r\n\r\n"},

	// Line ends.
	{"bare LF after the size", "1\na\r\n0\r\n\r\n", ErrChunk, "1\r\na\r\n0\r\n\r\n"},
	{"bare CR after the size", "1\ra\r\n0\r\n\r\n", ErrChunk, "1\r\na\r\n0\r\n\r\n"},
	{"two CRs after the size", "1\r\r\na\r\n0\r\n\r\n", ErrChunk, "1\r\na\r\n0\r\n\r\n"},
	{"bare LF after the content", "1\r\na\n0\r\n\r\n", ErrChunk, "1\r\na\r\n0\r\n\r\n"},
	{"bare CR after the content", "1\r\na\r0\r\n\r\n", ErrChunk, "1\r\na\r\n0\r\n\r\n"},
	{"bare CR and something after the content", "1\r\na\r;0\r\n\r\n", ErrChunk, "1\r\na\r\n0\r\n\r\n"},
	{"another byte for the CR after the content", "1\r\na;\n0\r\n\r\n", ErrChunk, "1\r\na\r\n0\r\n\r\n"},
	{"no line end after the content", "1\r\na0\r\n\r\n", ErrChunk, "1\r\na\r\n0\r\n\r\n"},
	{"more content than the size", "1\r\nab\r\n0\r\n\r\n", ErrChunk, "2\r\nab\r\n0\r\n\r\n"},
	{"less content than the size", "3\r\na\r\n0\r\n\r\n", ErrChunk, "1\r\na\r\n0\r\n\r\n"},
	{"bare LF after the last size", "1\r\na\r\n0\n\r\n", ErrChunk, "1\r\na\r\n0\r\n\r\n"},
	{"bare LF at the end", "1\r\na\r\n0\r\n\n", ErrTrailer, "1\r\na\r\n0\r\n\r\n"},
	{"no end", "1\r\na\r\n0\r\n", nil, "1\r\na\r\n0\r\n\r\n"},
	{"half an end", "1\r\na\r\n0\r\n\r", nil, "1\r\na\r\n0\r\n\r\n"},
	{"no last chunk", "1\r\na\r\n", nil, "1\r\na\r\n0\r\n\r\n"},
	{"an empty line for the last chunk", "1\r\na\r\n\r\n", ErrChunk, "1\r\na\r\n0\r\n\r\n"},
	{"nothing", "", nil, "0\r\n\r\n"},

	// Extensions (section 7.1.1).
	{"an extension without a semicolon", "1 a=b\r\na\r\n0\r\n\r\n", ErrChunk, "1 ;a=b\r\na\r\n0\r\n\r\n"},
	{"another sign for the semicolon", "1,a=b\r\na\r\n0\r\n\r\n", ErrChunk, "1;a=b\r\na\r\n0\r\n\r\n"},
	{"bare LF in an extension", "1;a\nb\r\na\r\n0\r\n\r\n", ErrChunk, "1;ab\r\na\r\n0\r\n\r\n"},
	{"bare LF after an extension", "1;a\na\r\n0\r\n\r\n", ErrChunk, "1;a\r\na\r\n0\r\n\r\n"},
	{"bare CR in an extension", "1;a\rb\r\na\r\n0\r\n\r\n", ErrChunk, "1;ab\r\na\r\n0\r\n\r\n"},
	{"NUL in an extension", "1;a\x00b\r\na\r\n0\r\n\r\n", ErrChunk, "1;a\tb\r\na\r\n0\r\n\r\n"},
	{"a string with a line end", "1;a=\"\r\na\r\n0\r\n\r\n\"\r\n0\r\n\r\n", ErrChunk, "1;a=\"\"\r\na\r\n0\r\n\r\n"},
	{"a string with a line end after a backslash", "1;a=\"\\\r\na\r\n0\r\n\r\n", ErrChunk, "1;a=\"\\\\\"\r\na\r\n0\r\n\r\n"},
	{"a string whose end is escaped", "1;a=\"b\\\"\r\na\r\n0\r\n\r\n", ErrChunk, "1;a=\"b\\\"\"\r\na\r\n0\r\n\r\n"},
	{"a backslash that is in no string", "1;a=\\\"\r\na\r\n0\r\n\r\n", ErrChunk, "1;a=\\\"\"\r\na\r\n0\r\n\r\n"},
	{"a control character after a backslash", "1;a=\"\\\x01\"\r\na\r\n0\r\n\r\n", ErrChunk, "1;a=\"\\1\"\r\na\r\n0\r\n\r\n"},
	{"a string that does not end in the last chunk", "1\r\na\r\n0;\"\r\n\r\n", ErrChunk, "1\r\na\r\n0;\"\"\r\n\r\n"},
	{"a long extension", "1;" + strings.Repeat("a", maxChunkLine-2) + "\r\na\r\n0\r\n\r\n", ErrChunk, "1;" + strings.Repeat("a", maxChunkLine-3) + "\r\na\r\n0\r\n\r\n"}, // with its CR
	{"a long extension that has no end", "1;" + strings.Repeat("a", maxChunkLine), ErrChunk, "1;\r\na\r\n0\r\n\r\n"},
	{"many extensions", strings.Repeat("1;"+strings.Repeat("a", 127)+"\r\na\r\n", maxExtensions/128) + "0;\r\n\r\n", ErrChunk, strings.Repeat("1;"+strings.Repeat("a", 127)+"\r\na\r\n", maxExtensions/128) + "0\r\n\r\n"},

	// Trailer fields (section 7.1.2).
	{"bare LF after a trailer field", "0\r\nX: a\n\r\n", ErrTrailer, "0\r\nX: a\r\n\r\n"},
	{"bare CR in a trailer field", "0\r\nX: a\rb\r\n\r\n", ErrTrailer, "0\r\nX: ab\r\n\r\n"},
	{"NUL in a trailer field", "0\r\nX: a\x00\r\n\r\n", ErrTrailer, "0\r\nX: a0\r\n\r\n"},
	{"a folded trailer field", "0\r\nX: a\r\n b\r\n\r\n", ErrTrailer, "0\r\nX: a\r\nb:\r\n\r\n"},
	{"a space before a trailer field's colon", "0\r\nX : a\r\n\r\n", ErrTrailer, "0\r\nX: a\r\n\r\n"},
	{"a trailer field without a name", "0\r\n: a\r\n\r\n", ErrTrailer, "0\r\nX: a\r\n\r\n"},
	{"a request after the last size", "0\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", ErrTrailer, "0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"a trailer field that frames", "0\r\nContent-Length: 5\r\n\r\n", ErrTrailer, "0\r\nX-Content-Length: 5\r\n\r\n"},
	{"a trailer field that frames nothing", "0\r\ncontent-length: 0\r\n\r\n", ErrTrailer, "0\r\ncontent_length: 0\r\n\r\n"},
	{"a trailer field that encodes", "0\r\nTransfer-Encoding: chunked\r\n\r\n", ErrTrailer, "0\r\nContent-Encoding: x\r\n\r\n"},
	{"a trailer field that routes", "0\r\nHost: b\r\n\r\n", ErrTrailer, "0\r\nX-Host: b\r\n\r\n"},
	{"a trailer section that is too long", "0\r\nX: " + strings.Repeat("a", maxTrailer-6) + "\r\n\r\n", ErrTrailer, "0\r\nX: " + strings.Repeat("a", maxTrailer-7) + "\r\n\r\n"},
	{"a trailer section that has no end", "0\r\nX: " + strings.Repeat("a", maxTrailer), ErrTrailer, "0\r\nX: a\r\n\r\n"},
	{"one trailer field too many", "0\r\n" + many("X: a", MaxFields+1) + "\r\n\r\n", ErrTrailer, "0\r\n" + many("X: a", MaxFields) + "\r\n\r\n"},
}

func TestBrokenChunks(t *testing.T) {
	for _, c := range brokenChunks {
		for how, read := range map[string]func(string) decoded{"at once": atOnce, "byte by byte": byteByByte} {
			if got := read(c.text); got.err != c.want || got.done {
				t.Errorf("%s, %s: got %v, done %v; want %v", c.name, how, got.err, got.done, c.want)
			}
			if got := read(c.twin); got.err != nil || !got.done {
				t.Errorf("%s, the twin, %s: got %v, done %v", c.name, how, got.err, got.done)
			}
		}
	}
}

func TestChunks(t *testing.T) {
	for text, want := range map[string]decoded{
		"0\r\n\r\n":                                           {},
		"5\r\nhello\r\n0\r\n\r\nnext":                         {content: "hello", rest: "next"},
		"5\r\nhel\r\n\r\n0\r\n\r\n":                           {content: "hel\r\n"},
		"1\r\na\r\n2\r\nbc\r\n000\r\n\r\n":                    {content: "abc"},
		"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n\r\n": {content: "01234567890123456789", rest: "\r\n"},
		"1 \t;a;b = c;d=\"e\\\"f;\xe9\"\r\na\r\n0;x\r\n\r\n":  {content: "a"},
		"0\r\nX: a\r\ny:\r\nTrailer: z\r\n\r\nnext":           {trailer: "X=a|y=|Trailer:Trailer=z", rest: "next"},
	} {
		want.done = true
		if got := atOnce(text); got != want {
			t.Errorf("%q: got %+v, want %+v", text, got, want)
		}
		cuts(text, func(how string, read func() decoded) {
			if got := read(); got != want {
				t.Errorf("%q, %s: got %+v, want %+v", text, how, got, want)
			}
		})
	}
}

// A decoder that is used again begins anew.
func TestChunksAgain(t *testing.T) {
	var c Chunks
	for _, text := range []string{"1\r\na\r\n0\r\nX: a\r\n\r\n", "1;" + strings.Repeat("x", 200) + "\r\n", "zz\r\n", "0\r\nX: a", "5\r\nab", strings.Repeat("1;"+strings.Repeat("x", 200)+"\r\na\r\n", maxExtensions/201)} {
		c.Reset()
		_ = run(&c, []string{text})
		c.Reset()
		if got, want := run(&c, []string{"2;" + strings.Repeat("x", 200) + "\r\nbc\r\n0\r\n\r\n"}), (decoded{content: "bc", done: true}); got != want {
			t.Errorf("after %q: got %+v", text, got)
		}
	}
}

// After the end nothing more is read.
func TestChunksEnd(t *testing.T) {
	var c Chunks
	must(t, drain(&c, []byte("0\r\n\r\n")))
	if n, content, err := c.Next([]byte("1\r\na\r\n")); n != 0 || len(content) != 0 || err != nil || !c.Done() {
		t.Errorf("%v: %d bytes are used up, content %q", err, n, content)
	}
}

func TestChunksNeedNoMoreThanEnough(t *testing.T) {
	const content = 100_000
	text := fmt.Sprintf("%x;%s\r\n%s\r\n0\r\nX: %s\r\n\r\n", content, strings.Repeat("a", maxChunkLine-8), strings.Repeat("b", content), strings.Repeat("c", maxTrailer-7))
	var c Chunks
	r, buf, w, got := strings.NewReader(text), make([]byte, Enough), 0, 0
	for !c.Done() {
		n, part, err := c.Next(buf[:w])
		if err != nil {
			t.Fatal(err)
		}
		got += len(part)
		w = copy(buf, buf[n:w])
		if n == 0 && w == len(buf) {
			t.Fatal("the buffer is full, and nothing gets on")
		}
		m, _ := r.Read(buf[w:])
		w += m
	}
	if got != content || r.Len() != 0 {
		t.Errorf("got %d bytes, %d are left", got, r.Len())
	}
}

func TestAppendChunk(t *testing.T) {
	for _, n := range []int{1, 9, 10, 15, 16, 17, 255, 256, 4095, 4096, 32 << 10, 1 << 40, 1<<63 - 1} {
		if got, want := string(AppendChunk([]byte("x"), n)), fmt.Sprintf("x%x\r\n", n); got != want {
			t.Errorf("%d: got %q, want %q", n, got, want)
		}
	}
	b := append(append(AppendChunk(nil, 300), bytes.Repeat([]byte("a"), 300)...), "\r\n0\r\n\r\n"...)
	if got := atOnce(string(b)); got.err != nil || len(got.content) != 300 || !got.done {
		t.Errorf("we read what we write as %v, %d bytes", got.err, len(got.content))
	}
	if got, err := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(b))); err != nil || len(got) != 300 {
		t.Errorf("net/http reads it as %v, %d bytes", err, len(got))
	}
}

// decoded is what was read of content in chunks.
type decoded struct {
	content, trailer, rest string
	done                   bool
	err                    error
}

// run reads pieces as an engine reads a connection: what is not used up comes again, with more after it.
func run(c *Chunks, pieces []string) (out decoded) {
	var content []byte
	var buf []byte
	for _, piece := range pieces {
		buf = append(buf, piece...)
		for !c.Done() {
			n, part, err := c.Next(buf)
			if len(part) > n || n > len(buf) {
				panic("more content than was used up")
			}
			content = append(content, part...)
			buf = buf[n:]
			if err != nil {
				return decoded{content: string(content), rest: string(buf), err: err}
			}
			if n == 0 {
				break
			}
		}
	}
	out = decoded{content: string(content), rest: string(buf), done: c.Done()}
	if out.done {
		out.trailer = whatOf(&Head{Fields: c.Trailer()}).Fields
	}
	return out
}

func atOnce(text string) decoded { return run(new(Chunks), []string{text}) }

func byteByByte(text string) decoded { return run(new(Chunks), strings.Split(text, "")) }

// cuts reads text byte by byte, and in two pieces in every way, and in three.
func cuts(text string, check func(how string, read func() decoded)) {
	check("byte by byte", func() decoded { return byteByByte(text) })
	for i := range len(text) + 1 {
		check(fmt.Sprintf("cut at %d", i), func() decoded { return run(new(Chunks), []string{text[:i], text[i:]}) })
		for j := i; j < len(text); j++ {
			check(fmt.Sprintf("cut at %d and %d", i, j), func() decoded { return run(new(Chunks), []string{text[:i], text[i:j], text[j:]}) })
		}
	}
}
