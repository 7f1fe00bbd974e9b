package config

import (
	"reflect"
	"strings"
)

// field is one key of a section, read from the struct that defines it.
type field struct {
	key      string
	index    int
	typ      reflect.Type
	shape    shape
	fallback string   // the default's text; "" for none
	enum     []string // the legal values; nil for any
	positive bool
	guard    bool
	file     string // what must be in the file that the value names; "" if it names none
}

// shape is how a value is written.
type shape int

const (
	leaf    shape = iota // a scalar
	list                 // a list of scalars
	section              // keys and values
	things               // a list of sections, which have names
)

// fieldsOf lists a section's keys in the order of their definition.
func fieldsOf(t reflect.Type) []field {
	fields := make([]field, t.NumField())
	for i := range fields {
		f := t.Field(i)
		fields[i] = field{
			key: f.Tag.Get("yaml"), index: i, typ: f.Type, shape: shapeOf(f.Type),
			fallback: f.Tag.Get("default"), positive: f.Tag.Get("positive") == "true", guard: f.Tag.Get("guard") == "true", file: f.Tag.Get("file"),
		}
		if enum := f.Tag.Get("enum"); enum != "" {
			fields[i].enum = strings.Split(enum, ",")
		}
	}
	return fields
}

func shapeOf(t reflect.Type) shape {
	switch t.Kind() {
	case reflect.Pointer:
		return section
	case reflect.Slice:
		if isSection(t.Elem()) {
			return things
		}
		return list
	}
	if isSection(t) {
		return section
	}
	return leaf
}

// isSection tells structs with keys from structs that are one value (URL, Listen …).
func isSection(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && t.NumField() > 0 && t.Field(0).Tag.Get("yaml") != ""
}

// sectionType is the struct of a section, whether or not it may be absent.
func sectionType(t reflect.Type) reflect.Type {
	if t.Kind() == reflect.Pointer {
		return t.Elem()
	}
	return t
}

// secret reports whether the field's text must never be shown.
func (f field) secret() bool {
	return f.typ == reflect.TypeFor[Secret]() || f.typ == reflect.TypeFor[[]Param]()
}

// nearest returns the candidate that a mistyped name most likely means, or "".
func nearest(name string, candidates []string) string {
	best, bestDistance := "", len(name)/3+1
	for _, c := range candidates {
		if d := distance(strings.ToLower(name), strings.ToLower(c)); d <= bestDistance && (best == "" || d < bestDistance) {
			best, bestDistance = c, d
		}
	}
	return best
}

// distance is the number of insertions, deletions, replacements and swaps of
// neighbours between two texts (optimal string alignment).
func distance(a, b string) int {
	if len(a) > 200 || len(b) > 200 {
		return len(a) + len(b)
	}
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			d := min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d = min(d, rows[i-2][j-2]+1)
			}
			rows[i][j] = d
		}
	}
	return rows[len(a)][len(b)]
}
