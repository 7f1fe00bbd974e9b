package config

import (
	"net/url"
	"reflect"
)

// mergeTrees lays a later file's tree over an earlier one, in place: sections merge key
// by key, named things entry by entry, other values are replaced.
func mergeTrees(t reflect.Type, earlier, later *node) {
	for _, f := range fieldsOf(t) {
		over := later.keys[f.key]
		if over == nil {
			continue
		}
		under := earlier.keys[f.key]
		switch {
		case under == nil || f.shape == leaf || f.shape == list:
			earlier.keys[f.key] = over
		case f.shape == section:
			mergeTrees(sectionType(f.typ), under, over)
		default:
			mergeThings(f.typ.Elem(), under, over)
		}
	}
}

// mergeThings merges the entries of a list by their names. Two entries of one file with
// one name stay two, so that they are reported.
func mergeThings(t reflect.Type, earlier, later *node) {
	taken := make([]bool, len(earlier.items))
	for _, over := range later.items {
		merged := false
		for i, under := range earlier.items[:len(taken)] {
			if !taken[i] && under.keys != nil && over.keys != nil && nameOf(t, under) == nameOf(t, over) {
				mergeTrees(t, under, over)
				taken[i], merged = true, true
				break
			}
		}
		if !merged {
			earlier.items = append(earlier.items, over)
		}
	}
}

// nameOf is an entry's name before anything is typed: what it says, else its default.
// A trust entry's name is its issuer.
func nameOf(t reflect.Type, n *node) string {
	text := func(key string) string {
		if v := n.keys[key]; v != nil {
			return v.text
		}
		return ""
	}
	switch t {
	case reflect.TypeFor[Issuer]():
		if name := text("name"); name != "" {
			return name
		}
		if u, err := url.Parse(text("url")); err == nil {
			return u.Host
		}
	case reflect.TypeFor[Route]():
		for _, key := range []string{"name", "host", "prefix", "listen"} {
			if name := text(key); name != "" {
				return name
			}
		}
	case reflect.TypeFor[Rule]():
		if name := text("name"); name != "" {
			return name
		}
		if match := n.keys["match"]; match != nil && len(match.items) > 0 {
			return match.items[0].text
		}
	case reflect.TypeFor[Trust]():
		return text("issuer")
	}
	return ""
}
