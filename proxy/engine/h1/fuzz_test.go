package h1

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"reflect"
	"strings"
	"testing"

	"github.com/sidepass/sidepass/test/corpus"
)

// The judge of this grammar is net/http, which reads the same messages on the other sides of real connections. What we accept it
// must read as the same message that ends at the same byte; we may refuse more. These are the known differences:
//
//   - It parses a request's target, and refuses some that we pass on as they came (RFC 9110, section 7.7). It gets "/" instead.
//   - It refuses a Trailer field that announces fields which frame a message (RFC 9110, section 6.6.2). To us the field says nothing:
//     trailer fields that do so are refused when they come.
//   - It refuses white space between a chunk's size and its extensions, which recipients are to read over (RFC 9112, section 7.1.1).
//   - It adds a Cache-Control for "Pragma: no-cache" and takes away some fields that it has understood.

// seed adds a seed, unless it is long: that makes fuzzing slow, and limits have rows in tables.
func seed(f *testing.F, text string, more ...any) {
	if len(text) < 1000 {
		f.Add(append([]any{text}, more...)...)
	}
}

// Law: a request that ReadRequest accepts is the same request to net/http: method, target, version, fields, Host, whether the
// connection persists, content, trailer fields, and what follows. Where to us its end is missing, so it is to net/http.
func FuzzRequest(f *testing.F) {
	corpus.Add(f)
	for _, c := range brokenRequests {
		seed(f, c.text+"hello")
		seed(f, c.twin+"5\r\nhello\r\n0\r\n\r\nGET / HTTP/1.1\r\n")
	}
	for _, c := range brokenChunks {
		seed(f, lines("PUT http://b/?c HTTP/1.1", "Host: a", "Transfer-Encoding: chunked", "Trailer: X")+c.text)
	}
	seed(f, lines("GET / HTTP/1.0", "Pragma: no-cache", "Connection: x, keep-alive", "connection: close", "X: 1", "x: 2"))
	f.Fuzz(func(t *testing.T, text string) {
		var h Head
		rest, err := readRequest(&h, text)
		if err != nil {
			return
		}
		br, target := reader(text), h.Target
		r, err := http.ReadRequest(br)
		if err != nil {
			br, target = reader(strings.Replace(text, " "+target+" ", " / ", 1)), "/"
			r, err = http.ReadRequest(br)
		}
		switch {
		case err != nil && framesTrailer(&h):
			return
		case err != nil:
			t.Fatalf("net/http refuses %q: %v", text, err)
		case r.Method != h.Method, r.RequestURI != target, r.ProtoMajor != 1, r.ProtoMinor != h.Minor, r.Close == h.Persists():
			t.Fatalf("%q: net/http reads %+v", text, r)
		case r.Host != h.Host && r.URL.Host == "", h.Hosts > 1 || h.Hosts == 0 && (h.Minor == 1 || r.Header["Host"] != nil):
			t.Fatalf("%q: net/http reads the host %q, we %q", text, r.Host, h.Host)
		case h.Chunked != (r.ContentLength < 0), !h.Chunked && r.ContentLength != max(h.Length, 0):
			t.Fatalf("%q: net/http reads the length %d, we %d", text, r.ContentLength, h.Length)
		}
		sameFields(t, text, &h, r.Header, "Host")
		if !h.Chunked {
			h.Length = max(h.Length, 0)
		}
		sameContent(t, &h, text, rest, br, r.Body, &r.Trailer)
	})
}

// Law: an answer that ReadAnswer accepts is the same answer to net/http, as above.
func FuzzAnswer(f *testing.F) {
	corpus.Add(f)
	for i, c := range brokenAnswers {
		seed(f, c.text+"hello", i%2 == 0)
		seed(f, c.twin+"5\r\nhello\r\n0\r\n\r\nHTTP/1.1 ", i%3 == 0)
	}
	for _, c := range brokenChunks {
		seed(f, lines("HTTP/1.1 200 OK", "Transfer-Encoding: chunked", "Trailer: X")+c.text, false)
	}
	f.Fuzz(func(t *testing.T, text string, head bool) {
		method := "GET"
		if head {
			method = "HEAD"
		}
		var h Head
		rest, err := readAnswer(&h, text, method)
		if err != nil {
			return
		}
		br := reader(text)
		r, err := http.ReadResponse(br, &http.Request{Method: method})
		switch {
		case err != nil && framesTrailer(&h):
			return
		case err != nil:
			t.Fatalf("net/http refuses %q: %v", text, err)
		}
		status, toEnd := strings.TrimRight(fmt.Sprintf("%03d %s", h.Status, h.Phrase), " "), !h.Chunked && h.Length < 0
		if r.StatusCode != h.Status || strings.TrimRight(r.Status, " ") != status || r.ProtoMajor != 1 || r.ProtoMinor != h.Minor || r.Close == (h.Persists() && !toEnd) {
			t.Fatalf("%q: net/http reads %+v", text, r)
		}
		if h.Close {
			r.Header.Del("Connection")
			sameFields(t, text, &h, r.Header, "Connection")
		} else {
			sameFields(t, text, &h, r.Header, "")
		}
		if toEnd {
			h.Length = int64(len(rest))
		}
		sameContent(t, &h, text, rest, br, r.Body, &r.Trailer)
	})
}

// Law: content in chunks is read the same in whatever pieces it comes, and is the same to net/http: content, trailer fields, and what
// follows. Where to us its end is missing, so it is to net/http.
func FuzzChunks(f *testing.F) {
	corpus.Add(f)
	for i, c := range brokenChunks {
		seed(f, c.text, uint16(i), uint16(2*i))
		seed(f, c.twin, uint16(i/2), uint16(3*i))
	}
	f.Fuzz(func(t *testing.T, text string, i, j uint16) {
		got := atOnce(text)
		a, b := min(int(i), len(text)), min(int(i)+int(j), len(text))
		for how, other := range map[string]decoded{
			"byte by byte":                        byteByByte(text),
			fmt.Sprintf("cut at %d and %d", a, b): run(new(Chunks), []string{text[:a], text[a:b], text[b:]}),
		} {
			// Where in it an error is found depends on what is there.
			if other.err != got.err || other.done != got.done || got.done && other != got || other.content != got.content {
				t.Fatalf("%q: got %+v at once, %+v %s", text, got, other, how)
			}
		}
		if got.err != nil {
			return
		}
		br := reader(lines("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked") + text)
		r, err := http.ReadRequest(br)
		if err != nil {
			t.Fatal(err)
		}
		sameContent(t, &Head{Chunked: true}, text, text, br, r.Body, &r.Trailer)
	})
}

// reader has room for the longest trailer section that we accept.
func reader(text string) *bufio.Reader {
	return bufio.NewReaderSize(strings.NewReader(text), 2*maxTrailer)
}

// framesTrailer says whether a Trailer field announces what net/http does not want there.
func framesTrailer(h *Head) bool {
	for _, f := range h.Fields {
		for name := range strings.SplitSeq(f.Value, ",") {
			switch kindOf(trim(name)) {
			case ContentLength, TransferEncoding, Trailer:
				if f.Kind == Trailer && h.Chunked {
					return true
				}
			}
		}
	}
	return false
}

// sameFields compares the fields but for one, and for those that net/http has taken away or added.
func sameFields(t *testing.T, text string, h *Head, got http.Header, but string) {
	t.Helper()
	want := http.Header{}
	chunked := false // h.Chunked says otherwise where there is no content
	for _, f := range h.Fields {
		name := textproto.CanonicalMIMEHeaderKey(f.Name)
		want[name] = append(want[name], f.Value)
		chunked = chunked || f.Kind == TransferEncoding
	}
	delete(want, but)
	delete(want, "Transfer-Encoding")
	if chunked {
		delete(want, "Trailer")
	}
	if p := want["Pragma"]; p != nil && p[0] == "no-cache" && want["Cache-Control"] == nil {
		want["Cache-Control"] = []string{"no-cache"}
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%q: net/http reads %q, want %q", text, got, want)
	}
}

// sameContent compares the content, which h frames in rest, with that which net/http reads from body, and what either leaves.
func sameContent(t *testing.T, h *Head, text, rest string, br *bufio.Reader, body io.Reader, trailer *http.Header) {
	t.Helper()
	ours := decoded{content: rest[:min(max(h.Length, 0), int64(len(rest)))], done: int64(len(rest)) >= h.Length}
	var fields []Field
	if h.Chunked {
		var c Chunks
		ours = run(&c, []string{rest})
		fields = c.Trailer()
	} else {
		ours.rest = rest[len(ours.content):]
	}
	if ours.err != nil {
		return
	}
	content, err := io.ReadAll(body)
	left, _ := io.ReadAll(br)
	switch {
	case !ours.done:
		if err == nil {
			t.Fatalf("%q: the end is missing, and net/http reads %q", text, content)
		}
		return
	case err != nil && h.Chunked && strings.Contains(err.Error(), "invalid byte in chunk length") && (strings.Contains(rest, " ;") || strings.Contains(rest, "\t;")):
		return
	case err != nil:
		t.Fatalf("%q: net/http refuses the content: %v", text, err)
	case string(content) != ours.content, string(left) != ours.rest:
		t.Fatalf("%q: net/http reads %q and leaves %q, we read %q and leave %q", text, content, left, ours.content, ours.rest)
	}
	want := http.Header{}
	for _, f := range fields {
		name := textproto.CanonicalMIMEHeaderKey(f.Name)
		want[name] = append(want[name], f.Value)
	}
	for name, values := range *trailer {
		if values == nil { // announced only
			want[name] = append([]string(nil), want[name]...)
		}
	}
	if len(want)+len(*trailer) > 0 && !reflect.DeepEqual(want, *trailer) {
		t.Fatalf("%q: net/http reads the trailer fields %q, we %q", text, *trailer, want)
	}
}
