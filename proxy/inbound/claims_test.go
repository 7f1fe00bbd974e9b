package inbound

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/sidepass/sidepass/proxy"
)

func TestClaimHeaders(t *testing.T) {
	var dropped []string
	g := gate(t, Options{
		Verifier: tokens{
			"full":   token(claims{"sub": "alice", "scope": "read:orders x", "org": claims{"name": "acme"}, "groups": []string{"dev", "ops"}}),
			"bare":   token(claims{}),
			"broken": token(claims{"sub": "alice\r\nX-Admin: 1", "groups": []any{"a,b"}, "org": claims{"name": claims{"deep": 1}}}),
		},
		ClaimHeaders: []ClaimHeader{{"sub", "x-token-subject"}, {"scope", "X-Token-Scope"}, {"/org/name", "X-Org-Name"}, {"groups", "X_Groups"}},
		Observer:     Observer{ClaimDropped: func(claim, header string) { dropped = append(dropped, claim+"="+header) }},
	})
	for _, c := range []struct {
		token   string
		want    []proxy.Field
		dropped []string
	}{
		{"full", []proxy.Field{{Name: "X-Token-Subject", Value: "alice"}, {Name: "X-Token-Scope", Value: "read:orders x"}, {Name: "X-Org-Name", Value: "acme"}, {Name: "X_groups", Value: "dev,ops"}}, nil},
		{"bare", nil, nil},
		{"broken", nil, []string{"sub=X-Token-Subject", "/org/name=X-Org-Name", "groups=X_groups"}},
	} {
		dropped = nil
		v := admit(t, g, "GET", "/", bearer(c.token), "X-Token-Subject: evil")
		forwarded(t, v)
		if !slices.Equal(v.Set, c.want) || !slices.Equal(dropped, c.dropped) {
			t.Errorf("%s: sets %v and drops %v, want %v and %v", c.token, v.Set, dropped, c.want, c.dropped)
		}
		if want := []string{"X-Token-Subject", "X-Token-Scope", "X-Org-Name", "X_groups"}; !slices.Equal(v.Remove, want) {
			t.Errorf("%s: removes %v, want %v", c.token, v.Remove, want)
		}
	}
	t.Run("without an observer", func(t *testing.T) {
		g := gate(t, Options{Verifier: tokens{"t": token(claims{"sub": "a\nb"})}, ClaimHeaders: []ClaimHeader{{"sub", "X-Sub"}}})
		if v := admit(t, g, "GET", "/", bearer("t")); len(v.Set) != 0 {
			t.Errorf("sets %v", v.Set)
		}
	})
}

func TestFieldValue(t *testing.T) {
	for _, c := range []struct {
		name  string
		claim any
		want  string
		ok    bool
	}{
		{"string", "alice", "alice", true},
		{"string with a comma and spaces", "Doe, Jane", "Doe, Jane", true},
		{"all printable ASCII", `!"#$%&'()*+,-./0:;<=>?@A[\]^_a{|}~`, `!"#$%&'()*+,-./0:;<=>?@A[\]^_a{|}~`, true},
		{"number", json.Number("12345"), "12345", true},
		{"large integer", json.Number("12345678901234567890123"), "12345678901234567890123", true},
		{"fraction", json.Number("-1.50"), "-1.50", true},
		{"exponent", json.Number("1e3"), "1000", true},
		{"exponent of a fraction", json.Number("1.25E-2"), "0.0125", true},
		{"float", float64(1e20), "100000000000000000000", true},
		{"true", true, "true", true},
		{"false", false, "false", true},
		{"array", []any{"dev", "ops"}, "dev,ops", true},
		{"array of one", []any{"dev"}, "dev", true},
		{"mixed array", []any{"a b", json.Number("1"), true}, "a b,1,true", true},
		{"long", strings.Repeat("s", 8192), strings.Repeat("s", 8192), true},

		{"absent", nil, "", true},
		{"empty string", "", "", true},
		{"empty array", []any{}, "", true},

		{"too long", strings.Repeat("s", 8193), "", false},
		{"array too long", []any{strings.Repeat("s", 5000), strings.Repeat("s", 5000)}, "", false},
		{"object", map[string]any{"a": "b"}, "", false},
		{"huge exponent", json.Number("1e400"), "", false},
		{"large exponent", json.Number("1e21"), "", false},
		{"not a number", math.NaN(), "", false},
		{"infinity", math.Inf(1), "", false},
		{"CR LF", "a\r\nX-Admin: 1", "", false},
		{"LF", "a\nb", "", false},
		{"CR", "a\rb", "", false},
		{"NUL", "a\x00b", "", false},
		{"tab", "a\tb", "", false},
		{"DEL", "a\x7fb", "", false},
		{"non-ASCII", "zo\u00eb", "", false},
		{"line separator", "a\u2028b", "", false},
		{"leading space", " alice", "", false},
		{"trailing space", "alice ", "", false},
		{"space alone", " ", "", false},
		{"array with a comma", []any{"a,b", "c"}, "", false},
		{"array with an empty element", []any{"", "c"}, "", false},
		{"array with null", []any{nil, "c"}, "", false},
		{"nested array", []any{[]any{"a"}}, "", false},
		{"array with an object", []any{map[string]any{}}, "", false},
		{"array with CR LF", []any{"a", "b\r\nX-Admin: 1"}, "", false},
		{"array with a space at an end", []any{"a", " b"}, "", false},
		{"something else", struct{}{}, "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, ok := fieldValue(c.claim)
			if ok != c.ok || ok && got != c.want {
				t.Errorf("%q, %v; want %q, %v", got, ok, c.want, c.ok)
			}
		})
	}
}

// FuzzFieldValue: what is set can end no line and is no other value after a server has trimmed it, and an array has as
// many elements after it has been split as before.
func FuzzFieldValue(f *testing.F) {
	f.Add("alice", "b")
	f.Add("a,b", " c")
	f.Add("a\r\n", "")
	f.Fuzz(func(t *testing.T, a, b string) {
		for _, claim := range []any{a, []any{a, b}} {
			text, ok := fieldValue(claim)
			if !ok {
				continue
			}
			if strings.TrimSpace(text) != text || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) {
				t.Errorf("%q is set as %q", claim, text)
			}
			if list, isList := claim.([]any); isList && !slices.Equal(strings.Split(text, ","), []string{a, b}) {
				t.Errorf("%q is set as %q", list, text)
			}
		}
	})
}
