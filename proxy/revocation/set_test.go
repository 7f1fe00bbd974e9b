package revocation

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"
	"unicode/utf8"
)

func TestBrokenLines(t *testing.T) {
	for _, c := range []struct{ line, why string }{
		{"{broken", notJSON},
		{"jti-1", notJSON},
		{`["jti-1"]`, notJSON},
		{`"jti-1"`, notJSON},
		{`{"jti":"jti-1"`, notJSON},
		{`{"jti":"jti-1",}`, notJSON},
		{`{,"jti":"jti-1"}`, notJSON},
		{`{"jti":"jti-1"} {"sub":"alice"}`, notJSON},
		{`{"jti":"jti-1"},`, notJSON},
		{`{"jti" "jti-1"}`, notJSON},
		{`{"jti":"jti-1" "sub":"alice"}`, notJSON},
		{`{'jti':'jti-1'}`, notJSON},
		{"\ufeff" + `{"jti":"jti-1"}`, notJSON},
		{`# {"jti":"jti-1"}`, notJSON},
		{"{\"jti\":\"jti-1\xff\"}", notUTF8},
		{`{}`, nothing},
		{`{"issued_before":5}`, nothing},
		{`{"jti":""}`, emptyText},
		{`{"jti":"jti-1","sub":""}`, emptyText},
		{`{"jti":null}`, notText},
		{`{"jti":["jti-1"]}`, notText},
		{`{"sub":5}`, notText},
		{`{"sub":"\ud800"}`, notText},
		{`{"sub":"\x"}`, notText},
		{"{\"sub\":\"a\tb\"}", notText},
		{`{"sub":"alice\"}`, notText},
		{`{"sub":"alice`, notText},
		{`{"jti":"jti-1","jti":"jti-1"}`, twice},
		{`{"jti":"jti-1","\u006ati":"jti-2"}`, twice},
		{`{"jti":"jti-1","issued_before":1,"issued_before":2}`, twice},
		{`{"jti":"jti-1","issued_before":null}`, notTime},
		{`{"jti":"jti-1","issued_before":"5"}`, notTime},
		{`{"jti":"jti-1","issued_before":"2026-01-31"}`, notTime},
		{`{"jti":"jti-1","issued_before":"2026-01-31T12:00:00"}`, notTime},
		{`{"jti":"jti-1","issued_before":1700000000000}`, notTime},
		{`{"jti":"jti-1","issued_before":1e400}`, notTime},
		{`{"jti":"jti-1","issued_before":05}`, notTime},
		{`{"jti":"jti-1","issued_before":+5}`, notTime},
		{`{"jti":"jti-1","issued_before":0x5}`, notJSON},
		{`{"jti":"jti-1","issued_before":NaN}`, notTime},
		{`{"jti":"jti-1","issued_before":true}`, notTime},
		{`{"jti":"jti-1","isued_before":5}`, `it has a member "isued_before", which has no meaning here`},
		{`{"JTI":"jti-1"}`, `it has a member "JTI", which has no meaning here`},
		{`{"` + strings.Repeat("x", 100) + `":"jti-1"}`, `it has a member "` + strings.Repeat("x", 40) + `", which has no meaning here`},
		{`{"jti":"` + strings.Repeat("x", maxLine) + `"}`, tooLong},
	} {
		t.Run(c.line[:min(40, len(c.line))], func(t *testing.T) {
			var s Set
			// The others count, in whatever order they come.
			r, err := s.Load(strings.NewReader(`{"sub":"before"}` + "\n" + c.line + "\n" + `{"sub":"after"}`))
			if err != nil || r.Broken != 1 || r.Entries != 2 || len(r.Problems) != 1 || r.Problems[0] != "line 2: "+c.why {
				t.Errorf("%v, %+v; want one broken line: %s", err, r, c.why)
			}
			if !s.has(Facts{Subject: "before"}) || !s.has(Facts{Subject: "after"}) || s.has(token) || s.has(Facts{ID: "jti-1"}) || s.has(Facts{}) {
				t.Error("the list is not that of the other lines")
			}
		})
	}
}

func TestTheLongestLine(t *testing.T) {
	long := strings.Repeat("x", maxLine-len(`{"jti":""}`)-1)
	s := load(t, `{"jti":"`+long+`"}`, `{"jti":"y"}`)
	if !s.has(Facts{ID: long}) || !s.has(Facts{ID: "y"}) {
		t.Error("an entry does not count")
	}
}

func TestProblemsAreCounted(t *testing.T) {
	var s Set
	r, err := s.Load(strings.NewReader(`{"sub":"x"}` + strings.Repeat("\n{", 100)))
	if err != nil || r.Broken != 100 || len(r.Problems) != maxProblems || r.Problems[4] != "line 6: "+notJSON {
		t.Errorf("%v, %+v", err, r)
	}
}

// A door that was shut stays shut until the whole of a source is understood again.
func TestABrokenSourceKeepsTheLastList(t *testing.T) {
	s := load(t, `{"sub":"alice"}`, `{"sub":"bob","issued_before":100}`)
	try := func(text string) (Reading, error) { t.Helper(); return s.Load(strings.NewReader(text)) }
	alice, bob, carol := Facts{Subject: "alice"}, Facts{Subject: "bob", IssuedAt: at(99)}, Facts{Subject: "carol"}
	if r, err := try("{\"sub\":\"carol\"}\n{\"sub\":\"alice\"\n"); err != nil || r.Entries != 3 {
		t.Errorf("%v, %+v", err, r)
	}
	if !s.has(alice) || !s.has(bob) || !s.has(carol) {
		t.Error("with a broken line: an entry was lost")
	}
	for name, r := range map[string]io.Reader{
		"nothing of it is understood": strings.NewReader("not\na list\n"),
		"it cannot be read":           iotest.ErrReader(errors.New("no")),
		"it breaks off":               io.MultiReader(strings.NewReader(`{"sub":"dave"}`+"\n"), iotest.ErrReader(errors.New("no"))),
	} {
		if _, err := s.Load(r); err == nil {
			t.Errorf("%s: no error", name)
		}
		if !s.has(alice) || !s.has(bob) || !s.has(carol) || s.has(Facts{Subject: "dave"}) {
			t.Errorf("%s: the list has changed", name)
		}
	}
	if _, err := try(`{"sub":"carol"}`); err != nil || s.has(alice) || s.has(bob) || !s.has(carol) {
		t.Errorf("%v: a whole source does not replace the list", err)
	}
	if _, err := try("\n"); err != nil || s.has(carol) {
		t.Errorf("%v: an empty source does not empty the list", err)
	}
}

func TestABadFirstSource(t *testing.T) {
	var s Set
	_, err := s.Load(strings.NewReader("issuers:\n  - name: x\n"))
	if _, available := s.Check(token); available || !errors.Is(err, errUnusable) || !strings.Contains(err.Error(), "line 1") {
		t.Errorf("%v; available %v", err, available)
	}
	if _, err := s.Load(strings.NewReader("{\n{\"sub\":\"alice\"}\n")); err != nil || !s.has(token) {
		t.Errorf("%v: the good line does not count", err)
	}
}

// Law: a line that is taken for an entry is a JSON object to encoding/json too, of the members that may be there, and the token
// that it describes, and no other, is revoked by it.
func FuzzEntry(f *testing.F) {
	for _, s := range []string{`{"jti":"a"}`, `{"sub":"b","issued_before":5}`, `{"client_id":"\u00e9\ud83d\ude00","issuer":"i"}`, `{"jti":"a","issued_before":"2026-01-31T12:00:00.5+01:00"}`, `{"a":1}`, `{`, " { \"jti\" : \"\\\"\" } "} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		var s Set
		r, err := s.Load(strings.NewReader(line))
		if err != nil || r.Entries == 0 || strings.Contains(line, "\n") {
			if err != nil && !errors.Is(err, errUnusable) {
				t.Fatal(err)
			}
			return
		}
		if !utf8.ValidString(line) {
			t.Fatalf("%q is not UTF-8", line)
		}
		var e map[string]any
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		var facts Facts
		fields := map[string]*string{"issuer": &facts.Issuer, "sub": &facts.Subject, "client_id": &facts.Client, "jti": &facts.ID}
		for name, v := range e {
			if name == issuedBefore {
				continue
			}
			text, ok := v.(string)
			if !ok || fields[name] == nil || text == "" {
				t.Fatalf("%q has the member %q", line, name)
			}
			*fields[name] = text
		}
		if !s.has(facts) {
			t.Fatalf("%q does not revoke %+v", line, facts)
		}
		for name := range e {
			if name == issuedBefore {
				continue
			}
			was := *fields[name]
			for _, other := range []string{"", was + "x"} {
				if *fields[name] = other; s.has(facts) {
					t.Fatalf("%q revokes %+v", line, facts)
				}
			}
			*fields[name] = was
		}
		var before time.Time
		switch v := e[issuedBefore].(type) {
		case nil:
			return
		case float64:
			before = time.UnixMicro(int64(v * 1e6))
		case string:
			if before, err = time.Parse(time.RFC3339, v); err != nil {
				t.Fatal(err)
			}
		}
		for d, want := range map[time.Duration]bool{-2 * time.Microsecond: true, 0: false, time.Second: false} {
			if facts.IssuedAt = before.Add(d); !facts.IssuedAt.IsZero() && s.has(facts) != want {
				t.Fatalf("%q, issued %s later: revoked is not %v", line, d, want)
			}
		}
	})
}

// Law: however a source is cut into lines, each line counts or is reported, and reading never ends early.
func FuzzLoad(f *testing.F) {
	f.Add("{\"jti\":\"a\"}\n{\n\n", 3)
	f.Fuzz(func(t *testing.T, text string, cut int) {
		last := fmt.Sprintf(`{"jti":"last-%d"}`, cut)
		var s Set
		r, err := s.Load(iotest.OneByteReader(strings.NewReader(text + "\n" + last)))
		if err != nil || !s.has(Facts{ID: fmt.Sprintf("last-%d", cut)}) {
			t.Fatalf("%v: the last line does not count", err)
		}
		if n := strings.Count(text, "\n") + 2; r.Entries+r.Broken > n {
			t.Fatalf("%+v of %d lines", r, n)
		}
	})
}
