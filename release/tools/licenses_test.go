package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	mit  = "Copyright (c) 2016 A\n\nPermission is hereby granted, free of charge, to any person obtaining a copy\nof this software.\n\nThe above copyright notice and this permission notice shall be included in\nall copies.\n"
	bsd2 = "Redistribution and use in source and binary forms, with or without\n// modification, are permitted provided that:\n * Redistributions of source code must retain the above copyright notice\n"
	bsd3 = bsd2 + " * Neither the name of Google Inc. nor the names of its contributors may be used\n"
)

func TestIdentify(t *testing.T) {
	for _, c := range []struct {
		name, content, want, problem string
	}{
		{"MIT", mit, "MIT", ""},
		{"two clauses", bsd2, "BSD-2-Clause", ""},
		{"three clauses", bsd3, "BSD-3-Clause", ""},
		{"Apache", "                 Apache License\n           Version 2.0, January 2004\n", "Apache-2.0", ""},
		{"ISC", "Permission to use, copy, modify, and/or distribute this software for any\npurpose with or without fee is hereby granted", "ISC", ""},
		{"four clauses", bsd3 + "3. All advertising materials mentioning features must display", "", "advertising"},
		{"two in one file", mit + bsd3, "MIT BSD-3-Clause", ""},
		{"GPL", "GNU GENERAL PUBLIC LICENSE\nVersion 3", "", "gnu general public"},
		{"MIT with something added to it", mit + "\"Commons Clause\" License Condition v1.0", "", "commons clause"},
		{"half of MIT", strings.Split(mit, "The above")[0], "", "none of"},
		{"the project's own words", "All rights reserved.", "", "none of"},
		{"nothing", "", "", "none of"},
	} {
		got, err := identify(c.content)
		if strings.Join(got, " ") != c.want || (err != nil) != (c.problem != "") || err != nil && !strings.Contains(err.Error(), c.problem) {
			t.Errorf("%s: %q, %v; want %q, %q", c.name, got, err, c.want, c.problem)
		}
	}
}

// What belongs to a module are the texts at its root and on the way to what is linked, and no others.
func TestReadModule(t *testing.T) {
	root := t.TempDir()
	for name, content := range map[string]string{
		"LICENSE": mit, "NOTICE.txt": "notice", "license.go": "package p", "linked/deep/LICENSE.md": bsd3, "linked/deep/p/p.go": "package p",
		"beside/COPYING": "GNU GENERAL PUBLIC LICENSE",
	} {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m := module{path: "example.com/m", version: "v1.0.0"}
	if err := m.read(root, ".", "linked/deep/p"); err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, f := range m.texts {
		texts = append(texts, f.name)
	}
	if !slices.Equal(m.licenses, []string{"BSD-3-Clause", "MIT"}) || !slices.Equal(texts, []string{"LICENSE", "NOTICE.txt", "linked/deep/LICENSE.md"}) {
		t.Errorf("it has %v in %v", m.licenses, texts)
	}
	all := string(thirdParty([]module{m}))
	for _, want := range []string{"example.com/m v1.0.0 (BSD-3-Clause AND MIT)\n", "example.com/m v1.0.0: NOTICE.txt\n", strings.TrimSpace(mit), strings.TrimSpace(bsd3), "\nnotice\n"} {
		if !strings.Contains(all, want) {
			t.Errorf("%s lacks %q:\n%s", thirdPartyFile, want, all)
		}
	}

	if err := new(module{path: "x"}).read(root, "beside"); err == nil || !strings.Contains(err.Error(), "beside/COPYING") {
		t.Errorf("a package under another licence: %v", err)
	}
	if err := os.Remove(filepath.Join(root, "LICENSE")); err != nil {
		t.Fatal(err)
	}
	if err := new(module{path: "x"}).read(root, "."); err == nil || !strings.Contains(err.Error(), "no licence file") {
		t.Errorf("a module without a licence: %v", err)
	}
}
