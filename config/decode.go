package config

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// decoder turns the merged tree into typed values, and remembers where each came from.
type decoder struct {
	problems *collector
	places   map[string]place // path → where the value, section or entry stands; defaults have none
}

// section fills a struct. A key without a node gets its default.
func (d *decoder) section(v reflect.Value, n *node, path string) {
	for _, f := range fieldsOf(v.Type()) {
		target, fieldPath := v.Field(f.index), keyPath(path, f.key)
		child := n.keys[f.key]
		if child != nil {
			d.places[fieldPath] = child.origin
		}
		switch f.shape {
		case section:
			if target.Kind() == reflect.Pointer {
				if child == nil {
					continue
				}
				target.Set(reflect.New(target.Type().Elem()))
				target = target.Elem()
			}
			if child == nil {
				child = emptyRoot()
			}
			d.section(target, child, fieldPath)
		case things:
			if child == nil {
				continue
			}
			d.emptyGuard(f, child, fieldPath)
			target.Set(reflect.MakeSlice(f.typ, len(child.items), len(child.items)))
			for i, item := range child.items {
				itemPath := elementPath(fieldPath, i)
				d.places[itemPath] = item.origin
				d.section(target.Index(i), item, itemPath)
			}
		case list:
			d.list(f, target, child, fieldPath)
		default:
			d.leaf(f, target, child, fieldPath)
		}
	}
}

// emptyGuard refuses a list that restricts something and is there but empty: a template
// that rendered nothing must not open a door.
func (d *decoder) emptyGuard(f field, n *node, path string) {
	if f.guard && len(n.items) == 0 && !d.problems.fails(path) {
		d.problems.add(path, n.origin, "is there but empty", "give it at least one entry, or remove the key")
	}
}

func (d *decoder) list(f field, target reflect.Value, n *node, path string) {
	if n == nil {
		if f.fallback == "" {
			return
		}
		n = variableNode(f, f.fallback, place{})
	}
	d.emptyGuard(f, n, path)
	target.Set(reflect.MakeSlice(f.typ, len(n.items), len(n.items)))
	for i, item := range n.items {
		itemPath := elementPath(path, i)
		if item.origin.source != nil {
			d.places[itemPath] = item.origin
		}
		if item.text == "" {
			if !d.problems.fails(itemPath) {
				d.problems.add(itemPath, item.origin, "is empty", "remove the entry, or give it a value")
			}
			continue
		}
		d.parse(f, target.Index(i), item, itemPath)
	}
}

func (d *decoder) leaf(f field, target reflect.Value, n *node, path string) {
	if n == nil {
		if f.fallback == "" {
			return
		}
		n = &node{text: f.fallback}
	}
	if n.text == "" && f.fallback == "" {
		return // "" is how the absence of an optional value is written
	}
	d.parse(f, target, n, path)
}

// parse sets one typed value from a node's text.
func (d *decoder) parse(f field, target reflect.Value, n *node, path string) {
	err := parseText(target.Addr().Interface(), n.text)
	if err == nil {
		err = checkNumber(f, target)
	}
	if err == nil && f.enum != nil && !slices.Contains(f.enum, n.text) {
		hint := "use " + alternatives(f.enum)
		if near := nearest(n.text, f.enum); near != "" {
			hint = "did you mean `" + near + "`? The values are " + alternatives(f.enum)
		}
		err = &fault{shown(n.text) + " is not a value of " + f.key, hint}
	}
	var wrong *fault
	if errors.As(err, &wrong) {
		d.problems.addFault(path, n.origin, wrong)
		if f.shape == leaf && f.fallback != "" { // so that nothing is concluded from a wrong value
			_ = parseText(target.Addr().Interface(), f.fallback)
		}
	}
}

// parseText sets *target to what the text means. Its error is a *fault.
func parseText(target any, text string) (err error) {
	switch t := target.(type) {
	case *string:
		if *t = text; strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return &fault{"holds a control character or a line break", "write it on one line, in quotes"}
		}
	case *bool:
		if *t, err = strconv.ParseBool(text); err != nil {
			return &fault{shown(text) + " is neither true nor false", "write true or false"}
		}
	case *int:
		if *t, err = strconv.Atoi(text); err != nil {
			return &fault{shown(text) + " is not a whole number", "write a number without a unit: 1000"}
		}
	case *float64:
		if *t, err = strconv.ParseFloat(text, 64); err != nil || *t != *t {
			return &fault{shown(text) + " is not a number", "write a number such as 0.8"}
		}
	case *time.Duration:
		*t, err = parseDuration(text)
	case *Size:
		*t, err = ParseSize(text)
	case *Secret:
		*t = NewSecret(text)
	case *URL:
		*t, err = ParseURL(text)
	case *Upstream:
		*t, err = ParseUpstream(text)
	case *Listen:
		*t, err = ParseListen(text)
	case *Param:
		*t, err = parseParam(text)
	case *ClaimValue:
		*t, err = parseClaimValue(text)
	case *ClaimHeader:
		*t, err = parseClaimHeader(text)
	case *netip.Prefix:
		*t, err = parseNetwork(text)
	default:
		panic(fmt.Sprintf("config: no parser for %T", target)) // a mistake in the types, found by any test
	}
	return err
}

// checkNumber refuses negative numbers, and zero where it makes no sense.
func checkNumber(f field, v reflect.Value) error {
	var sign float64
	switch v.Kind() {
	case reflect.Int, reflect.Int64:
		sign = float64(v.Int())
	case reflect.Float64:
		sign = v.Float()
	default:
		return nil
	}
	switch {
	case sign < 0:
		return &fault{"is negative", "write a value that is not below zero"}
	case sign == 0 && f.positive:
		return &fault{"is zero", "write a value above zero"}
	}
	return nil
}

// alternatives lists values for a reader: a, b or c.
func alternatives(values []string) string {
	last := len(values) - 1
	if last < 1 {
		return strings.Join(values, "")
	}
	return strings.Join(values[:last], ", ") + " or " + values[last]
}
