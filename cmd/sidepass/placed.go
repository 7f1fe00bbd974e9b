package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sidepass/sidepass/config"
)

// placed adds to errors that begin with a key of the configuration where it stands: a file's line, or a variable. In brackets is the
// name of an entry: issuers[idp].client.cert_file: … It is nil for nil.
func placed(loaded *config.Loaded, err error) error {
	if err == nil {
		return nil
	}
	if several, ok := err.(interface{ Unwrap() []error }); ok {
		var all []error
		for _, e := range several.Unwrap() {
			all = append(all, placed(loaded, e))
		}
		return errors.Join(all...)
	}
	path, _, _ := strings.Cut(err.Error(), ": ")
	for path = numbered(loaded.Config, path); path != ""; path = path[:max(strings.LastIndexAny(path, ".["), 0)] {
		switch at := loaded.Origin(path); {
		case at.Variable != "":
			return fmt.Errorf("%s: %w", at.Variable, err)
		case at.File != "":
			return fmt.Errorf("%s:%d: %w", at.File, at.Line, err)
		}
	}
	return err
}

// numbered replaces the name in a path by the entry's index.
func numbered(c *config.Config, path string) string {
	list, rest, ok := strings.Cut(path, "[")
	name, rest, closed := strings.Cut(rest, "]")
	if !ok || !closed {
		return path
	}
	index := -1
	switch {
	case list == "issuers":
		index = slices.IndexFunc(c.Issuers, func(i config.Issuer) bool { return i.Name == name })
	case list == "outbound.routes" && c.Outbound != nil:
		index = slices.IndexFunc(c.Outbound.Routes, func(r config.Route) bool { return r.Name == name })
	case list == "inbound.rules" && c.Inbound != nil:
		index = slices.IndexFunc(c.Inbound.Rules, func(r config.Rule) bool { return r.Name == name })
	case list == "inbound.trust" && c.Inbound != nil:
		index = slices.IndexFunc(c.Inbound.Trust, func(t config.Trust) bool { return t.Issuer == name })
	}
	if index < 0 {
		return list
	}
	return fmt.Sprintf("%s[%d]%s", list, index, rest)
}
