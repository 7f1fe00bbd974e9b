package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// thirdPartyFile is what the archive calls the licences of others.
const thirdPartyFile = "THIRD_PARTY_LICENSES"

// module is one module of which the binary has packages; the Go standard library is one of them, as std.
type module struct {
	path, version, sum string
	licenses           []string // SPDX identifiers
	texts              []text
}

// text is a file that has to go with the binary: a licence, a notice, a grant of patents.
type text struct{ name, content string }

// goPackage is what `go list` says of a package.
type goPackage struct {
	ImportPath, Dir string
	Standard        bool
	Module          *struct {
		Path, Version, Dir string
		Main               bool
	}
}

// modules are the modules that the binary says are in it, each with its licences: those of its root and those that stand beside or above a
// package that is linked. A module without one, or with one that is not allowed, is an error.
func (r *release) modules() ([]module, error) {
	root, err := r.goTool("env", "GOROOT")
	if err != nil {
		return nil, err
	}
	std := module{path: "std", version: strings.TrimPrefix(r.build.GoVersion, "go")}
	if err := std.read(strings.TrimSpace(string(root)), "."); err != nil {
		return nil, err
	}
	folders, err := r.folders()
	if err != nil {
		return nil, err
	}
	all, problems := []module{std}, []error{}
	for _, d := range r.build.Deps {
		m := module{path: d.Path, version: d.Version, sum: d.Sum}
		linked, ok := folders[m.path+"@"+m.version]
		if d.Replace != nil || !ok {
			return nil, fmt.Errorf("the binary has %s %s, and these sources do not: it was built from others", d.Path, d.Version)
		}
		if err := m.read(linked.root, linked.packages...); err != nil {
			problems = append(problems, err)
		}
		all = append(all, m)
	}
	return all, errors.Join(problems...)
}

// linked says where a module is and which of its folders are in the binary.
type linked struct {
	root     string
	packages []string
}

// folders are the packages that the sources come to on the binary's platform :: module@version → where they are.
func (r *release) folders() (map[string]linked, error) {
	out, err := r.goTool("list", "-deps", "-json=ImportPath,Dir,Standard,Module", r.build.Path)
	if err != nil {
		return nil, err
	}
	all := map[string]linked{}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := d.Decode(&p); err == io.EOF {
			return all, nil
		} else if err != nil {
			return nil, err
		}
		if p.Standard || p.Module == nil || p.Module.Main {
			continue
		}
		folder, err := filepath.Rel(p.Module.Dir, p.Dir)
		if err != nil {
			return nil, err
		}
		key := p.Module.Path + "@" + p.Module.Version
		all[key] = linked{p.Module.Dir, append(all[key].packages, folder)}
	}
}

var (
	licenseFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying|unlicense)([-._].*)?$`)
	noticeFile  = regexp.MustCompile(`(?i)^(notice|patents|copyright)([-._].*)?$`)
)

// read takes up the texts in a module's folder root and on the way from there to each of the packages.
func (m *module) read(root string, packages ...string) error {
	folders := []string{"."}
	for _, p := range packages {
		for ; p != "."; p = filepath.Dir(p) {
			folders = append(folders, p)
		}
	}
	slices.Sort(folders)
	for _, folder := range slices.Compact(folders) {
		files, err := os.ReadDir(filepath.Join(root, folder))
		if err != nil {
			return err
		}
		for _, f := range files {
			isLicense := licenseFile.MatchString(f.Name())
			if f.IsDir() || filepath.Ext(f.Name()) == ".go" || !isLicense && !noticeFile.MatchString(f.Name()) {
				continue
			}
			name := filepath.Join(folder, f.Name())
			content, err := os.ReadFile(filepath.Join(root, name))
			if err != nil {
				return err
			}
			m.texts = append(m.texts, text{filepath.ToSlash(name), string(content)})
			if !isLicense {
				continue
			}
			ids, err := identify(string(content))
			if err != nil {
				return fmt.Errorf("%s %s: %s: %w", m.path, m.version, name, err)
			}
			m.licenses = append(m.licenses, ids...)
		}
	}
	slices.Sort(m.licenses)
	m.licenses = slices.Compact(m.licenses)
	if len(m.licenses) == 0 {
		return fmt.Errorf("%s %s has no licence file", m.path, m.version)
	}
	return nil
}

// identify returns the SPDX identifiers of the licences in a text, all of which may be linked in. It looks for the words that make each of them
// what it is; a text with the words of none, or of one that asks for more, is an error, so that a person looks at it.
func identify(content string) ([]string, error) {
	words := strings.ToLower(strings.Join(strings.FieldsFunc(content, func(r rune) bool { return strings.ContainsRune(" \t\r\n*#/\"'“”‘’`", r) }), " "))
	has := func(phrase string) bool { return strings.Contains(words, phrase) }
	for _, no := range []string{"gnu general public", "gnu lesser", "gnu library", "gnu affero", "mozilla public", "eclipse public", "business source",
		"server side public", "commons clause", "elastic license", "creative commons", "non-commercial", "noncommercial"} {
		if has(no) {
			return nil, fmt.Errorf("it speaks of %q, which is not among the licences that are allowed", no)
		}
	}
	var found []string
	if has("apache license version 2.0, january 2004") {
		found = append(found, "Apache-2.0")
	}
	if has("permission is hereby granted, free of charge, to any person obtaining a copy") && has("the above copyright notice and this permission notice shall be included") {
		found = append(found, "MIT")
	}
	if has("permission to use, copy, modify, and or distribute this software for any purpose") {
		found = append(found, "ISC")
	}
	if has("redistribution and use in source and binary forms, with or without modification, are permitted") {
		switch {
		case has("all advertising materials"):
			return nil, errors.New("it is the BSD licence with the advertising clause, which is not among those that are allowed")
		case has("neither the name"):
			found = append(found, "BSD-3-Clause")
		default:
			found = append(found, "BSD-2-Clause")
		}
	}
	if len(found) == 0 {
		return nil, errors.New("it is none of Apache-2.0, BSD-2-Clause, BSD-3-Clause, ISC and MIT")
	}
	return found, nil
}

// thirdParty is the text that goes with the binary: every module's licences, word for word.
func thirdParty(modules []module) []byte {
	var b bytes.Buffer
	b.WriteString("sidepass is under the licence in LICENSE. This program contains the following, each under its own licence:\n\n")
	for _, m := range modules {
		fmt.Fprintf(&b, "  %s %s (%s)\n", m.path, m.version, strings.Join(m.licenses, " AND "))
	}
	for _, m := range modules {
		for _, t := range m.texts {
			line := strings.Repeat("=", 80)
			fmt.Fprintf(&b, "\n%s\n%s %s: %s\n%s\n\n%s\n", line, m.path, m.version, t.name, line, strings.TrimRight(t.content, "\n"))
		}
	}
	return b.Bytes()
}
