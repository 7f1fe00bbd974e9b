package revocation

import (
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"
)

// at is so many seconds since 1970.
func at(seconds int64) time.Time { return time.Unix(seconds, 0).UTC() }

// load returns a set that holds these lines.
func load(t testing.TB, lines ...string) *Set {
	t.Helper()
	s := &Set{}
	if r, err := s.Load(strings.NewReader(strings.Join(lines, "\n"))); err != nil || r.Broken > 0 {
		t.Fatalf("%v: %+v", err, r)
	}
	return s
}

func (s *Set) has(f Facts) bool { revoked, _ := s.Check(f); return revoked }

// token is what the facts below are a change of.
var token = Facts{Issuer: "https://idp.example.com/", Subject: "alice", Client: "svc-a", ID: "jti-1", IssuedAt: at(1000)}

func changed(f func(*Facts)) Facts { t := token; f(&t); return t }

func TestEntries(t *testing.T) {
	other := func(f *Facts) {
		f.Issuer, f.Subject, f.Client, f.ID, f.IssuedAt = "https://other.example.com/", "bob", "svc-b", "jti-2", at(2000)
	}
	for _, c := range []struct {
		name, line string
		yes, no    []Facts
	}{
		{"jti", `{"jti":"jti-1"}`, []Facts{token, {ID: "jti-1"}}, []Facts{changed(func(f *Facts) { f.ID = "jti-10" }), changed(func(f *Facts) { f.ID = "" }), {Subject: "jti-1", Client: "jti-1", Issuer: "jti-1"}}},
		{"sub", `{"sub":"alice"}`, []Facts{token, {Subject: "alice"}}, []Facts{changed(func(f *Facts) { f.Subject = "Alice" }), changed(func(f *Facts) { f.Subject = "" }), {Client: "alice"}}},
		{"client_id", `{"client_id":"svc-a"}`, []Facts{token}, []Facts{changed(func(f *Facts) { f.Client = "svc" }), {Subject: "svc-a"}}},
		{"issuer", `{"issuer":"https://idp.example.com/"}`, []Facts{token}, []Facts{changed(func(f *Facts) { f.Issuer = "https://idp.example.com" }), {}}},
		{"two members", `{"sub":"alice","client_id":"svc-a"}`, []Facts{token, changed(func(f *Facts) { f.ID = "x" })},
			[]Facts{changed(func(f *Facts) { f.Subject = "bob" }), changed(func(f *Facts) { f.Client = "svc-b" }), {Subject: "svc-a", Client: "alice"}, {Subject: "alice"}}},
		{"three members", `{"jti":"jti-1","issuer":"https://idp.example.com/","sub":"alice"}`, []Facts{token, changed(func(f *Facts) { f.Client = "x" })},
			[]Facts{changed(func(f *Facts) { f.Issuer = "x" }), changed(func(f *Facts) { f.ID = "" })}},
		{"four members", `{"jti":"jti-1","issuer":"https://idp.example.com/","sub":"alice","client_id":"svc-a"}`, []Facts{token}, []Facts{changed(func(f *Facts) { f.Client = "x" })}},
		{"issued_before in seconds", `{"sub":"alice","issued_before":1000}`, []Facts{changed(func(f *Facts) { f.IssuedAt = at(999) }), changed(func(f *Facts) { f.IssuedAt = time.Time{} })},
			[]Facts{token, changed(func(f *Facts) { f.IssuedAt = at(1001) }), changed(func(f *Facts) { f.Subject, f.IssuedAt = "bob", at(999) })}},
		{"issued_before with a fraction", `{"sub":"alice","issued_before":1000.25}`, []Facts{token, changed(func(f *Facts) { f.IssuedAt = at(1000).Add(249 * time.Millisecond) })},
			[]Facts{changed(func(f *Facts) { f.IssuedAt = at(1000).Add(250 * time.Millisecond) })}},
		{"issued_before as a date", `{"issuer":"https://idp.example.com/","issued_before":"1970-01-01T01:16:40+01:00"}`, []Facts{changed(func(f *Facts) { f.IssuedAt = at(999) })}, []Facts{token}},
		{"issued_before as a date with a fraction", `{"jti":"jti-1","issued_before":"1970-01-01T00:16:40.5Z"}`, []Facts{token}, []Facts{changed(func(f *Facts) { f.IssuedAt = at(1001) })}},
		{"issued_before and two members", `{"jti":"jti-1","sub":"alice","issued_before":1001}`, []Facts{token}, []Facts{changed(func(f *Facts) { f.Subject = "bob" }), changed(func(f *Facts) { f.IssuedAt = at(1001) })}},
		{"issued_before 0", `{"jti":"jti-1","issued_before":0}`, []Facts{changed(func(f *Facts) { f.IssuedAt = time.Time{} })}, []Facts{token}},
		{"issued_before the first moment", `{"jti":"jti-1","issued_before":"0001-01-01T00:00:00Z"}`, []Facts{changed(func(f *Facts) { f.IssuedAt = time.Time{} })}, []Facts{token}},
		{"white space", " \t{ \"jti\" :\t\"jti-1\" , \"issued_before\" : 1e4 } \r", []Facts{token}, []Facts{changed(func(f *Facts) { f.IssuedAt = at(10000) })}},
		{"escapes", `{"\u006ati":"\u006at\u0069-1"}`, []Facts{token}, []Facts{{ID: `\u006at\u0069-1`}}},
		{"a surrogate pair and other scripts", `{"sub":"\ud83d\ude00 Жанна"}`, []Facts{{Subject: "😀 Жанна"}}, []Facts{token}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := load(t, c.line)
			for _, f := range c.yes {
				if !s.has(f) {
					t.Errorf("%+v is not revoked", f)
				}
			}
			for _, f := range append(c.no, changed(other)) {
				if s.has(f) {
					t.Errorf("%+v is revoked", f)
				}
			}
		})
	}
}

func TestManyEntries(t *testing.T) {
	s := load(t, `{"jti":"jti-2"}`, "", `{"sub":"bob"}`, `{"client_id":"svc-b","issued_before":5000}`, `{"client_id":"svc-b","issued_before":900}`, `{"sub":"carol","issuer":"i"}`,
		`{"jti":"jti-2"}`, `{"jti":"jti-3","issued_before":10}`, `{"jti":"jti-3"}`, `{"issuer":"gone"}`, "")
	if n := s.list.Load().Len(); n != 7 {
		t.Errorf("%d entries, want 7: doubles count once", n)
	}
	for _, f := range []Facts{
		changed(func(f *Facts) { f.ID = "jti-2" }), changed(func(f *Facts) { f.Subject = "bob" }), changed(func(f *Facts) { f.Client, f.IssuedAt = "svc-b", at(4999) }),
		changed(func(f *Facts) { f.ID, f.IssuedAt = "jti-3", at(1e6) }), changed(func(f *Facts) { f.Issuer = "gone" }), changed(func(f *Facts) { f.Subject, f.Issuer = "carol", "i" }),
	} {
		if !s.has(f) {
			t.Errorf("%+v is not revoked", f)
		}
	}
	for _, f := range []Facts{token, {}, changed(func(f *Facts) { f.Client, f.IssuedAt = "svc-b", at(5000) }), changed(func(f *Facts) { f.Subject = "carol" })} {
		if s.has(f) {
			t.Errorf("%+v is revoked", f)
		}
	}
}

func TestNoListIsNotAnEmptyOne(t *testing.T) {
	var none Set
	if revoked, available := none.Check(token); revoked || available {
		t.Errorf("nothing loaded: revoked %v, available %v", revoked, available)
	}
	if revoked, available := load(t, "").Check(token); revoked || !available {
		t.Errorf("an empty file: revoked %v, available %v", revoked, available)
	}
	if (*List)(nil).Len() != 0 || (&List{}).Revoked(token) {
		t.Error("an empty list is not empty")
	}
}

func TestALookUpDoesNotAllocate(t *testing.T) {
	s := load(t, `{"jti":"x"}`, `{"sub":"x"}`, `{"client_id":"x","issued_before":5}`, `{"issuer":"https://idp.example.com/","sub":"x"}`, `{"issuer":"x","sub":"x","client_id":"x","jti":"x"}`)
	long := changed(func(f *Facts) { f.Subject = strings.Repeat("long", 1000) })
	for _, f := range []Facts{token, long, {}} {
		if n := testing.AllocsPerRun(100, func() {
			if revoked, available := s.Check(f); revoked || !available {
				t.Fatal("revoked")
			}
		}); n != 0 {
			t.Errorf("%v allocations, want none", n)
		}
	}
}

// lines yields n entries without holding them.
type lines struct {
	n, i int
	line func(i int) string
	rest string
}

func (l *lines) Read(p []byte) (int, error) {
	if l.rest == "" {
		if l.i == l.n {
			return 0, io.EOF
		}
		l.rest = l.line(l.i) + "\n"
		l.i++
	}
	n := copy(p, l.rest)
	l.rest = l.rest[n:]
	return n, nil
}

// live is the memory in use.
func live() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestMemoryOfAnEntry(t *testing.T) {
	const entries = 1_000_000
	for _, c := range []struct {
		name string
		line func(i int) string
		some Facts
		want uint64 // bytes
	}{
		{"jti", func(i int) string { return fmt.Sprintf(`{"jti":"0f8fad5b-d9cb-469f-a165-%012d"}`, i) }, Facts{ID: "0f8fad5b-d9cb-469f-a165-000000777777"}, 17},
		{"sub with a time", func(i int) string {
			return fmt.Sprintf(`{"sub":"user-%d@example.com","issued_before":%d}`, i, 1_700_000_000+i)
		}, Facts{Subject: "user-777777@example.com"}, 26},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := live()
			s := &Set{}
			r, err := s.Load(&lines{n: entries, line: c.line})
			if err != nil || r.Entries != entries {
				t.Fatalf("%v: %+v", err, r)
			}
			each := (live() - before) / entries
			t.Logf("%d bytes an entry", each)
			if each > c.want {
				t.Errorf("%d bytes an entry, want at most %d", each, c.want)
			}
			if !s.has(c.some) || s.has(token) {
				t.Error("what was loaded is not what is found")
			}
		})
	}
}

func BenchmarkCheck(b *testing.B) {
	for _, n := range []int{0, 1000, 1_000_000} {
		b.Run(fmt.Sprint(n, " entries"), func(b *testing.B) {
			s := &Set{}
			if _, err := s.Load(&lines{n: n, line: func(i int) string { return fmt.Sprintf(`{"jti":"jti-%d"}`, i) }}); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if s.has(token) != (n > 1) {
					b.Fatal("wrong")
				}
			}
		})
	}
}

func BenchmarkLoad(b *testing.B) {
	const n = 1_000_000
	text := &strings.Builder{}
	_, _ = io.Copy(text, &lines{n: n, line: func(i int) string { return fmt.Sprintf(`{"jti":"0f8fad5b-d9cb-469f-a165-%012d"}`, i) }})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := (&Set{}).Load(strings.NewReader(text.String())); err != nil {
			b.Fatal(err)
		}
	}
}
