package engine

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sidepass/sidepass/proxy"
	"github.com/sidepass/sidepass/proxy/engine/h1"
	"github.com/sidepass/sidepass/test/corpus"
)

// Law: whatever a client sends, net/http as the upstream reads exactly the requests that the gate has judged, one after the other and
// nothing else: method, target, the fields that go on and ours, content. In our place it would have read the same. Only the last may
// be missing, or break off. Each gets one answer, and the client can tell them apart.
//
// A request whose target net/http cannot parse is refused by the gate (RFC 9110, section 7.7, has it passed on).
func FuzzForwardedRequests(f *testing.F) {
	corpus.Add(f)
	for name, text := range malformedHeads {
		f.Add(goodRequest+text+smuggled, uint16(len(name)))
	}
	for name, c := range oddRequests {
		f.Add(c.text+goodRequest, uint16(len(name)))
		f.Add(strings.ReplaceAll(c.want, "ORIGIN", "a"), uint16(len(name)))
	}
	for name, c := range malformedContent {
		if len(c.bad) < 1000 {
			f.Add(chunked(c.bad)+smuggled, uint16(4*len(name)))
			f.Add(chunked(c.twin)+smuggled, uint16(4*len(name)))
		}
	}
	f.Add(post("5\r\nhello\r\n0\r\n\r\n", "Expect: 100-continue", "Transfer-Encoding: chunked")+"HEAD / HTTP/1.1\r\nHost: a\r\nX_Claim: 1\r\nCookie: a\r\nTE: trailers\r\nte: trailers\r\n\r\n", uint16(80))
	f.Add("GET / HTTP/1.0\r\nConnection: keep-alive, authorization, via\r\nAuthorization: a\r\nVia: b\r\n\r\nGET / HTTP/1.0\r\nPragma: no-cache\r\n\r\n", uint16(0))
	var judged []message
	s, up, key := offline(f, func(_ context.Context, r *proxy.Request) proxy.Verdict {
		h := r.Header.(*h1.Head)
		if _, err := url.ParseRequestURI(h.Target); err != nil {
			return proxy.Verdict{Reason: proxy.MalformedRequest}
		}
		m := message{line: strings.Clone(r.Method + " " + r.Target.Path + r.Target.Query), header: http.Header{}}
		for _, f := range h.Fields {
			if name := textproto.CanonicalMIMEHeaderKey(strings.Clone(f.Name)); f.Kind != h1.Host && f.Kind != h1.TransferEncoding && (f.Kind != h1.Trailer || !h.Chunked) {
				m.header[name] = append(m.header[name], strings.Clone(f.Value))
			}
		}
		m.header = present(m.header)
		judged = append(judged, m)
		return proxy.Verdict{Action: proxy.Forward, Reason: proxy.OK, Remove: []string{"Cookie"}, Set: []proxy.Field{{Name: "authorization", Value: "Bearer ours"}, {Name: "X-Claim", Value: "a\xff"}}}
	})
	f.Fuzz(func(t *testing.T, text string, cut uint16) {
		if len(text) > 16<<10 {
			return // a pipe holds nothing back, as sockets do
		}
		judged = nil
		near, far := net.Pipe()
		up.links.put(&link{conn: near, key: key, buf: make([]byte, linkBuffer)}, time.Now())
		var got []message
		var after error
		done := make(chan struct{})
		go func() {
			defer close(done)
			got, after = answerAll(far)
		}()
		c := &memory{in: pieces(text, cut)}
		newLean(s, c).serve()
		up.links.closeIdle()
		_ = near.Close()
		<-done

		if len(got) > len(judged) || len(got)+1 < len(judged) || after != io.EOF && len(got) == len(judged) {
			t.Fatalf("%q: the gate judged %d requests, the upstream read %d, and then %v:\n%+v\n%+v", text, len(judged), len(got), after, judged, got)
		}
		client := bufio.NewReader(strings.NewReader(text))
		for i, u := range got {
			want, err := nextRequest(client, func(*http.Request) {})
			switch {
			case spaced(want.err, text):
				return
			case err != nil || want.err != nil:
				t.Fatalf("%q: request %d went on as %+v, and net/http reads %v %v", text, i, u, err, want.err)
			case !reflect.DeepEqual(judged[i].header, want.header):
				t.Fatalf("%q: the gate saw the fields %q, net/http reads %q", text, judged[i].header, want.header)
			case u.line != judged[i].line, u.line != originForm(want.line):
				t.Fatalf("%q: the gate judged %q, the upstream reads %q, net/http reads %q", text, judged[i].line, u.line, want.line)
			case u.host != key.authority, u.minor != 1, u.closes, u.body != want.body, u.framed != want.framed, len(u.trailer) > 0:
				t.Fatalf("%q: the upstream reads %+v, net/http reads %+v", text, u, want)
			case !reflect.DeepEqual(u.header, onward(want)):
				t.Fatalf("%q: the upstream reads the fields\n%q, want\n%q", text, u.header, onward(want))
			}
		}
		wantAnswers(t, text, c.out.String(), judged, len(got))
	})
}

// spaced says whether net/http refuses the white space before a chunk's extensions that RFC 9112, section 7.1.1, has recipients
// read over.
func spaced(err error, text string) bool {
	return err != nil && strings.Contains(err.Error(), "invalid byte in chunk length") && (strings.Contains(text, " ;") || strings.Contains(text, "\t;"))
}

// originForm takes what comes before the path away from a target (RFC 9112, section 3.2).
func originForm(line string) string {
	method, target, _ := strings.Cut(line, " ")
	if target[0] == '/' || target == "*" {
		return line
	}
	_, target, _ = strings.Cut(target, "://")
	i := strings.IndexAny(target, "/?")
	switch {
	case i < 0 && method == "OPTIONS":
		return method + " *"
	case i < 0:
		return method + " /"
	case target[i] == '?':
		return method + " /" + target[i:]
	}
	return method + " " + target[i:]
}

// answerAll reads requests and answers them. after is io.EOF where nothing followed the last.
func answerAll(c net.Conn) (got []message, after error) {
	defer func() { _ = c.Close() }()
	br := bufio.NewReader(c)
	for {
		m, err := nextRequest(br, func(r *http.Request) {
			if r.Header["Expect"] != nil && br.Buffered() == 0 {
				_, _ = io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
			}
		})
		switch {
		case err != nil:
			return got, err
		case m.err != nil:
			return got, m.err
		}
		got = append(got, m)
		answer := fine
		if strings.HasPrefix(m.line, "HEAD ") {
			answer = strings.TrimSuffix(fine, "ok")
		}
		_, _ = io.WriteString(c, answer)
	}
}

// wantAnswers reads what the client got: one answer to each request that went on whole, and perhaps one refusal.
func wantAnswers(t *testing.T, text, out string, judged []message, whole int) {
	t.Helper()
	br, n := bufio.NewReader(strings.NewReader(out)), 0
	for {
		if _, err := br.Peek(1); err != nil {
			break
		}
		method := "GET"
		if n < len(judged) {
			method, _, _ = strings.Cut(judged[n].line, " ")
		}
		a, err := nextAnswer(br, method)
		switch {
		case err != nil, a.err != nil && n < len(judged): // after that it may be to a HEAD
			t.Fatalf("%q: the client cannot read %q: %v %v", text, out, err, a.err)
		case a.line[0] == '1':
			continue
		case (a.line == "200 OK") != (n < whole):
			t.Fatalf("%q: answer %d is %s, and %d requests went on: %q", text, n, a.line, whole, out)
		}
		n++
	}
	if n < whole || n > whole+1 {
		t.Fatalf("%q: %d answers to %d requests: %q", text, n, whole, out)
	}
}

// Law: whatever an upstream answers, the client gets exactly one final answer, which net/http reads as the upstream's (status, the
// fields that go on, content, trailer fields), or a refusal of ours. Content that net/http cannot read whole from the upstream does
// not look whole to the client. A connection that is kept has nothing left over.
//
// A Trailer field that announces what net/http does not want announced passes; it says nothing (RFC 9110, section 6.6.2).
func FuzzForwardedAnswers(f *testing.F) {
	corpus.Add(f)
	i := uint16(0)
	add := func(text string) {
		if i++; len(text) < 1000 {
			f.Add(text, 7*i%64, i%5 == 0, i%3 == 0)
			f.Add(text, 7*i%64, false, false)
		}
	}
	for _, text := range malformedAnswers {
		add(text + stolen)
	}
	for _, text := range brokenContent {
		add(text)
	}
	for _, c := range oddAnswers {
		add(c.text)
		add(c.text + stolen)
		add(strings.ReplaceAll(c.want, "NOW", "a"))
	}
	for _, c := range malformedContent {
		add(reply(c.bad, "Transfer-Encoding: chunked"))
		add(reply(c.twin, "Transfer-Encoding: chunked"))
	}
	s, up, key := offline(f, func(context.Context, *proxy.Request) proxy.Verdict {
		return proxy.Verdict{Action: proxy.Forward, Reason: proxy.OK}
	})
	f.Fuzz(func(t *testing.T, text string, cut uint16, head, old bool) {
		method, rest := "GET", " / HTTP/1.1\r\nHost: a\r\n\r\n"
		if head {
			method = "HEAD"
		}
		if old {
			rest = " / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
		}
		far, c := &memory{in: pieces(text, cut)}, &memory{in: [][]byte{[]byte(method + rest)}}
		k := &link{conn: far, key: key, buf: make([]byte, linkBuffer)}
		up.links.put(k, time.Now())
		newLean(s, c).serve()
		kept := !far.cut
		up.links.closeIdle()

		br := bufio.NewReader(strings.NewReader(c.out.String()))
		ours, passed, err := finalAnswer(br, method)
		more, _ := io.ReadAll(br)
		if strings.Contains(text, "railer:") && err != nil && strings.Contains(err.Error(), "bad trailer key") {
			return
		}
		if err != nil || len(more) > 0 {
			t.Fatalf("%q: the client reads %v, and then %q, of %q", text, err, more, c.out.String())
		}
		if strings.Contains(ours.header.Get("Proxy-Status"), "sidepass") {
			return // refused
		}
		br = bufio.NewReaderSize(strings.NewReader(text), 16<<10)
		theirs, interim, err := finalAnswer(br, method)
		left, _ := io.ReadAll(br)
		switch {
		case spaced(theirs.err, text):
			return
		case err != nil:
			t.Fatalf("%q: the client gets %q, and net/http reads %v", text, c.out.String(), err)
		case kept && (theirs.err != nil || theirs.closes || k.r != k.w || len(bytes.Join(far.in, nil)) != len(left)):
			t.Fatalf("%q: the connection is kept; net/http reads %+v and leaves %q", text, theirs, left)
		case old && len(passed) > 0, !old && len(interim) != len(passed):
			t.Fatalf("%q: %d interim answers of %d go on", text, len(passed), len(interim))
		}
		for i := range passed {
			sameAnswer(t, text, passed[i], interim[i])
		}
		sameAnswer(t, text, ours, theirs)
		whole := ours.err == nil && !(old && ours.closes && ours.framed < 0)
		switch {
		case whole && (theirs.err != nil || ours.body != theirs.body), !strings.HasPrefix(theirs.body, ours.body):
			t.Fatalf("%q: the client reads %q, whole %v; net/http reads %q, %v", text, ours.body, whole, theirs.body, theirs.err)
		case whole && !old && !reflect.DeepEqual(ours.trailer, backwardTrailers(theirs.trailer)):
			t.Fatalf("%q: the client reads the trailer fields %q, net/http %q", text, ours.trailer, theirs.trailer)
		}
	})
}

// finalAnswer reads answers up to the final one, and returns those before it that say something.
func finalAnswer(br *bufio.Reader, method string) (final message, interim []message, err error) {
	for {
		m, err := nextAnswer(br, method)
		if err != nil || m.line[0] != '1' {
			return m, interim, err
		}
		if !strings.HasPrefix(m.line, "100") {
			interim = append(interim, m)
		}
	}
}

// sameAnswer compares status, phrase and fields.
func sameAnswer(t *testing.T, text string, ours, theirs message) {
	t.Helper()
	delete(ours.header, "Connection")
	if want := backward(theirs); ours.line != theirs.line || !reflect.DeepEqual(ours.header, want) {
		t.Fatalf("%q: the client reads %s\n%q, want %s\n%q", text, ours.line, ours.header, theirs.line, want)
	}
}
