package pattern_test

import (
	"slices"
	"testing"

	"github.com/sidepass/sidepass/proxy/pattern"
)

func TestDoubts(t *testing.T) {
	for p, want := range map[string][]pattern.Doubt{
		"/orders/*":       {{"the segment * of /orders/* stands for itself, and for no other text", "write /orders/ for all below, or /orders/{id} for one segment"}},
		"/users/**":       {{"the segment ** of /users/** stands for itself, and for no other text", "write /users/ for all below, or /users/{id} for one segment"}},
		"GET /orders/:no": {{"the segment :no of GET /orders/:no stands for itself, and for no other text", "write /orders/ for all below, or /orders/{no} for one segment"}},
		"/*":              {{"the segment * of /* stands for itself, and for no other text", "write / for all below, or /{id} for one segment"}},
		"/a/*/b/:a-b/":    {{"the segment * of /a/*/b/:a-b/ stands for itself, and for no other text", "write /a/ for all below, or /a/{id}/b/{id2}/ for one segment"}},
		"/{x}/:x":         {{"the segment :x of /{x}/:x stands for itself, and for no other text", "write /{x}/ for all below, or /{x}/{id} for one segment"}},
		"get  /x":         {{"methods are upper case: no request with the method GET falls under get  /x", "write GET /x"}},
		"Get /*": {{"methods are upper case: no request with the method GET falls under Get /*", "write GET /*"},
			{"the segment * of Get /* stands for itself, and for no other text", "write / for all below, or /{id} for one segment"}},

		"/orders/": nil, "GET /orders/{id}": nil, "/a*/*b/b:c/%2A/%3Aid/:": nil, "M-SEARCH /": nil,
	} {
		got := pattern.Doubts(p)
		if !slices.Equal(got, want) {
			t.Errorf("%s: want %q, got %q", p, want, got)
		}
		if _, err := pattern.Compile([]pattern.Entry[int]{{Pattern: p}}); err != nil {
			t.Errorf("%s: %v", p, err)
		}
	}
}
