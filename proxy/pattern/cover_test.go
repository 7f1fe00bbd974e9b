package pattern_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/sidepass/sidepass/proxy/pattern"
)

func TestOrder(t *testing.T) {
	want := []string{
		"GET /a/b", "/a/b", "HEAD /a/c", "GET /a/c", "/a/c", "GET /a/{id}", "/a/{id}", "/a/{id}/b", "/a/{id}/", "/a/{$}", "POST /a/", "/a/", "/b", "/{x}", "/", "no pattern",
	}
	got := slices.Clone(want)
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(got), func(i, j int) { got[i], got[j] = got[j], got[i] })
	slices.SortFunc(got, pattern.Order)
	if !slices.Equal(got, want) {
		t.Errorf("want %q, got %q", want, got)
	}
}

// reached says whether a pattern gets any of the requests.
func reached(t *testing.T, patterns []string, p string, requests []pattern.Example) bool {
	t.Helper()
	var entries []pattern.Entry[string]
	for _, p := range patterns {
		entries = append(entries, pattern.Entry[string]{Pattern: p, Value: p})
	}
	m, err := pattern.Compile(entries)
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(requests, func(e pattern.Example) bool {
		got, _ := m.Match(e.Method, e.Path)
		return got == p
	})
}

func TestExamples(t *testing.T) {
	for _, tc := range []struct {
		name     string
		patterns []string // of the first one it is asked
		reached  bool
	}{
		{"alone", []string{"/a/"}, true},
		{"all but the slash", []string{"/a/", "/a/{x}", "/a/{x}/"}, true},
		{"all but what is deeper", []string{"/a/", "/a/{$}", "/a/{x}"}, true},
		{"all but some names", []string{"/{x}", "/x", "/xx"}, true},
		{"all", []string{"/a/", "/a/{$}", "/a/{x}", "/a/{x}/"}, false},
		{"all of one method", []string{"POST /a/", "POST /a/{$}", "POST /a/{x}", "POST /a/{x}/"}, false},
		{"all of another method", []string{"/a/", "POST /a/{$}", "POST /a/{x}", "POST /a/{x}/"}, true},
		{"HEAD is not all of GET", []string{"GET /a", "HEAD /a"}, true},
		{"deep", []string{"/", "/{$}", "/{a}", "/{a}/{$}", "/{a}/{b}", "/{a}/{b}/"}, false},
		{"deep, but one", []string{"/", "/{$}", "/{a}", "/{a}/{$}", "/{a}/{b}", "/{a}/{b}/{c...}"}, false},
		{"encoded", []string{"/a%2Fb/{x}", "/{a}/{x}"}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := reached(t, tc.patterns, tc.patterns[0], pattern.Examples(tc.patterns[0], tc.patterns[1:])); got != tc.reached {
				t.Errorf("want %v, got %v", tc.reached, got)
			}
		})
	}
	if got := pattern.Examples("no pattern", nil); got != nil {
		t.Errorf("got %v", got)
	}
}

// A pattern that any of many requests reaches is reached by one of its examples, and one that is more specific comes first.
func TestExamplesStandForAll(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	covered, compared := 0, 0
	for range 8000 {
		var patterns []string
		below := pick(r, "", "/a", "/{v}")
		for range 2 + r.IntN(5) {
			patterns = append(patterns, pick(r, "", "", "", "GET ", "HEAD ")+below+pick(r, "/", "/", "/{$}", "/{w}", "/{w}/", "/b", "/b/"))
		}
		var entries []pattern.Entry[string]
		for _, p := range patterns {
			entries = append(entries, pattern.Entry[string]{Pattern: p, Value: p})
		}
		m, err := pattern.Compile(entries)
		if err != nil {
			continue
		}
		sorted := slices.SortedFunc(slices.Values(patterns), pattern.Order)
		for _, p := range patterns {
			examples := pattern.Examples(p, patterns)
			byExample, byAny := reached(t, patterns, p, examples), false
			for range 30 {
				method, target := pick(r, "GET", "HEAD", "POST"), randomTarget(r)
				got, ok := m.Match(method, target)
				byAny = byAny || got == p
				if alone, _ := pattern.Compile([]pattern.Entry[string]{{Pattern: p, Value: p}}); ok && got != p {
					if _, also := alone.Match(method, target); also && slices.Index(sorted, got) > slices.Index(sorted, p) {
						t.Fatalf("%q: %q takes %s %s, and comes after %q", patterns, got, method, target, p)
					}
				}
			}
			if byAny && !byExample {
				t.Fatalf("%q: %q is reached, and by none of %v", patterns, p, examples)
			}
			if !byExample {
				covered++
			}
			compared++
		}
	}
	if covered < 20 || compared < 1000 {
		t.Errorf("%d of %d patterns are covered", covered, compared)
	}
}
