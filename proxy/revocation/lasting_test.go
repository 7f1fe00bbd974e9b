package revocation

import (
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// each yields entries, and then perhaps an error.
func each(err error, entries ...Lasting) iter.Seq2[Lasting, error] {
	return func(yield func(Lasting, error) bool) {
		for _, e := range entries {
			if !yield(e, nil) {
				return
			}
		}
		if err != nil {
			yield(Lasting{}, err)
		}
	}
}

// lasts is an entry that ends so long from now.
func lasts(line string, d time.Duration) Lasting { return Lasting{line, time.Now().Add(d)} }

func replace(t *testing.T, s *Set, keep bool, entries ...Lasting) Reading {
	t.Helper()
	r, err := s.Replace(each(nil, entries...), keep)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestEntriesEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s Set
		replace(t, &s, false, lasts(`{"jti":"jti-1"}`, time.Minute), lasts(`{"sub":"bob"}`, time.Hour), lasts(`{"sub":"carol"}`, -time.Second))
		now := func(alice, bob bool) {
			t.Helper()
			if s.has(token) != alice || s.has(Facts{Subject: "bob"}) != bob || s.has(Facts{Subject: "carol"}) {
				t.Errorf("alice %v, bob %v, carol %v; want %v, %v, false", s.has(token), s.has(Facts{Subject: "bob"}), s.has(Facts{Subject: "carol"}), alice, bob)
			}
		}
		now(true, true)
		time.Sleep(time.Minute - time.Microsecond)
		now(true, true)
		time.Sleep(time.Microsecond)
		now(false, true)
		if r, _ := s.Add(nil); r.Entries != 1 {
			t.Errorf("%d entries are kept, want the one that has not ended", r.Entries)
		}
		time.Sleep(time.Hour)
		now(false, false)
		if _, available := s.Check(token); !available {
			t.Error("the list has gone with its entries")
		}
	})
}

// Of entries for one value each counts for its own time, as long as it lasts.
func TestSeveralEntriesForOneValue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(1, 2))
		for range 300 {
			var s Set
			type one struct {
				before int64
				until  time.Time
			}
			var all []one
			var entries []Lasting
			for range 1 + r.IntN(6) {
				e := one{int64(r.IntN(5)), time.Now().Add(time.Duration(1+r.IntN(5)) * time.Second)}
				line := fmt.Sprintf(`{"sub":"alice","issued_before":%d}`, e.before)
				if e.before == 4 {
					e.before, line = latest, `{"sub":"alice"}`
				}
				all, entries = append(all, e), append(entries, Lasting{line, e.until})
			}
			cut := r.IntN(len(entries) + 1)
			replace(t, &s, false, entries[:cut]...)
			s.Add(entries[cut:])
			for range 6 {
				for iat := int64(-1); iat < 5; iat++ {
					want := false
					for _, e := range all {
						want = want || iat < e.before && e.until.After(time.Now())
					}
					f := Facts{Subject: "alice", IssuedAt: at(iat)}
					if iat < 0 {
						f.IssuedAt = time.Time{}
					}
					if s.has(f) != want {
						t.Fatalf("issued at %d: revoked is not %v with %+v", iat, want, all)
					}
				}
				time.Sleep(time.Second)
			}
		}
	})
}

func TestAShorterEntryIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			name, line string
			lasts      time.Duration
			want       bool
		}{
			{"the same, shorter", `{"sub":"alice","issued_before":5}`, time.Second, true},
			{"the same, over already", `{"sub":"alice","issued_before":5}`, -time.Second, true},
			{"of an earlier time, shorter", `{"sub":"alice","issued_before":4}`, time.Second, true},
			{"the same", `{"sub":"alice","issued_before":5}`, time.Hour, false},
			{"the same, longer", `{"sub":"alice","issued_before":5}`, 2 * time.Hour, false},
			{"of a later time, shorter", `{"sub":"alice","issued_before":6}`, time.Second, false},
			{"of any time, shorter", `{"sub":"alice"}`, time.Second, false},
			{"of another, shorter", `{"sub":"bob","issued_before":5}`, time.Second, false},
			{"of another kind, shorter", `{"client_id":"alice","issued_before":5}`, time.Second, false},
			{"that cannot be understood", `alice`, time.Second, false},
		} {
			var s Set
			replace(t, &s, false, lasts(`{"sub":"alice","issued_before":5}`, time.Hour))
			if _, shorter := s.Add([]Lasting{lasts(c.line, c.lasts)}); shorter != c.want {
				t.Errorf("an entry %s: %v, want %v", c.name, shorter, c.want)
			}
			if !s.has(Facts{Subject: "alice", IssuedAt: at(4)}) {
				t.Errorf("an entry %s: the one of before was lost", c.name)
			}
		}
	})
}

func TestReplace(t *testing.T) {
	var s Set
	alice, bob, carol := Facts{Subject: "alice"}, Facts{Subject: "bob"}, Facts{Subject: "carol"}
	hold := func(what string, want ...bool) {
		t.Helper()
		for i, f := range []Facts{alice, bob, carol} {
			if s.has(f) != want[i] {
				t.Errorf("%s: %s is not %v", what, f.Subject, want[i])
			}
		}
	}
	if _, err := s.Replace(each(errors.New("no"), lasts(`{"sub":"alice"}`, time.Hour)), false); err == nil {
		t.Error("no error")
	}
	if _, available := s.Check(alice); available {
		t.Error("what broke off counts as a list")
	}
	long := `{"sub":"` + strings.Repeat("x", maxLine) + `"}`
	if r := replace(t, &s, false, lasts(`{"sub":"alice"}`, time.Hour), lasts("alice", time.Hour), lasts(long, time.Hour), lasts(`{"sub":"bob","when":1}`, time.Hour)); r.Entries != 1 || r.Broken != 3 || r.Problems != nil {
		t.Errorf("%+v, want 1 entry, 3 broken, and not what is in them", r)
	}
	hold("broken entries", true, false, false)
	if _, err := s.Replace(each(errors.New("no"), lasts(`{"sub":"carol"}`, time.Hour)), false); err == nil {
		t.Error("no error")
	}
	hold("an end with an error", true, false, false)
	replace(t, &s, true, lasts(`{"sub":"bob"}`, time.Hour))
	hold("with those of before", true, true, false)
	replace(t, &s, false, lasts(`{"sub":"carol"}`, time.Hour))
	hold("without", false, false, true)
	s.Add([]Lasting{lasts(`{"sub":"bob"}`, time.Hour), lasts("", time.Hour)})
	hold("added", false, true, true)
	var other Set
	other.Take(&s)
	replace(t, &s, false)
	hold("none", false, false, false)
	if s = (Set{}); !other.has(bob) {
		t.Error("what was taken is gone")
	}
}

func TestLine(t *testing.T) {
	at := time.Date(2026, 1, 31, 13, 0, 0, 500_000_999, time.FixedZone("", 3600))
	for _, c := range []struct {
		e          Entry
		line, fail string
	}{
		{Entry{ID: "a"}, `{"jti":"a"}`, ""},
		{Entry{Issuer: "https://idp.example.com/?a&b", Subject: "Жанна \"<\n", Client: "c", ID: "d", IssuedBefore: at},
			`{"issuer":"https://idp.example.com/?a\u0026b","sub":"Жанна \"\u003c\n","client_id":"c","jti":"d","issued_before":"2026-01-31T12:00:00.5Z"}`, ""},
		{Entry{}, "", nothing},
		{Entry{IssuedBefore: at}, "", nothing},
		{Entry{Subject: "a\xff"}, "", notText},
		{Entry{Subject: strings.Repeat("x", maxLine)}, "", tooLong},
		{Entry{Subject: "a", IssuedBefore: time.Date(12000, 1, 1, 0, 0, 0, 0, time.UTC)}, "", notTime},
	} {
		line, err := c.e.Line()
		if line != c.line || (err == nil) != (c.fail == "") || err != nil && !strings.Contains(err.Error(), c.fail) {
			t.Errorf("%.40q, %v; want %q, %q", line, err, c.line, c.fail)
		}
		if err == nil && !load(t, line).has(Facts{Issuer: c.e.Issuer, Subject: c.e.Subject, Client: c.e.Client, ID: c.e.ID}) {
			t.Errorf("%s does not revoke what it names", line)
		}
	}
}

func TestMemoryOfAnEntryThatEnds(t *testing.T) {
	const entries = 200_000
	before := live()
	var s Set
	until := time.Now().Add(time.Hour)
	if _, err := s.Replace(func(yield func(Lasting, error) bool) {
		for i := range entries {
			if !yield(Lasting{fmt.Sprintf(`{"jti":"0f8fad5b-d9cb-469f-a165-%012d"}`, i), until}, nil) {
				return
			}
		}
	}, false); err != nil {
		t.Fatal(err)
	}
	if each := (live() - before) / entries; each > 34 {
		t.Errorf("%d bytes an entry, want at most 34", each)
	}
	f := Facts{ID: "0f8fad5b-d9cb-469f-a165-000000177777", IssuedAt: at(5)}
	if n := testing.AllocsPerRun(100, func() {
		if !s.has(f) || s.has(token) {
			t.Fatal("what was loaded is not what is found")
		}
	}); n != 0 {
		t.Errorf("%v allocations at a look-up, want none", n)
	}
}

func BenchmarkAdd(b *testing.B) {
	for _, n := range []int{0, 10_000, 1_000_000} {
		b.Run(fmt.Sprint(n, " entries"), func(b *testing.B) {
			var s Set
			until := time.Now().Add(time.Hour)
			if _, err := s.Replace(func(yield func(Lasting, error) bool) {
				for i := range n {
					if !yield(Lasting{fmt.Sprintf(`{"jti":"jti-%d"}`, i), until}, nil) {
						return
					}
				}
			}, false); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				s.Add([]Lasting{{`{"jti":"one more"}`, until}})
			}
		})
	}
}
