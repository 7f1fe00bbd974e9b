// Package corpus keeps what fuzzing has found interesting, so that each ordinary test run tries it again: a file for each target, with
// one input a line, written as Go has it in its own files: string("GET / HTTP/1.1\r\n"), uint16(3).
package corpus

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("corpus", false, "write what fuzzing left in Go's cache into testdata/corpus")

// header begins each file of Go's cache.
const header = "go test fuzz v1\n"

// Add adds to f what testdata/corpus has for it. With -corpus that is first replaced by what Go's cache has, after
// `go test -fuzz`.
func Add(f *testing.F) {
	f.Helper()
	file := filepath.Join("testdata", "corpus", f.Name())
	if *update {
		if err := write(file, f.Name()); err != nil {
			f.Fatal(err)
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		f.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		args, err := parse(strings.TrimSuffix(line, "\n"))
		if err != nil {
			f.Fatalf("%s: %v in %.100q", file, err, line)
		}
		f.Add(args...)
	}
}

func write(file, name string) error {
	cache, errCache := exec.Command("go", "env", "GOCACHE").Output()
	importPath, errList := exec.Command("go", "list").Output() // a test runs in its package's folder
	if err := errors.Join(errCache, errList); err != nil {
		return err
	}
	found, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(cache)), "fuzz", filepath.FromSlash(strings.TrimSpace(string(importPath))), name, "*"))
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return fmt.Errorf("there is nothing of %s in Go's cache; fuzz first", name)
	}
	var lines []string
	for _, f := range found {
		text, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		inputs, ok := strings.CutPrefix(string(text), header)
		if !ok {
			return fmt.Errorf("%s is not of the version that is known here", f)
		}
		lines = append(lines, strings.Join(strings.Split(strings.TrimSuffix(inputs, "\n"), "\n"), ", ")+"\n")
	}
	slices.Sort(lines)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil { //nolint:gosec // it is part of the repository
		return err
	}
	return os.WriteFile(file, []byte(strings.Join(lines, "")), 0o644) //nolint:gosec // so is this
}

// parse reads a line.
func parse(line string) (args []any, err error) {
	for {
		kind, rest, ok := strings.Cut(line, "(")
		if !ok {
			return nil, errors.New("no value")
		}
		literal, err := strconv.QuotedPrefix(rest)
		if err != nil {
			literal, _, _ = strings.Cut(rest, ")")
		}
		arg, err := value(kind, literal)
		if err != nil {
			return nil, err
		}
		args = append(args, arg)
		rest, ok = strings.CutPrefix(rest[len(literal):], ")")
		if !ok {
			return nil, errors.New("a value does not end")
		}
		if rest == "" {
			return args, nil
		}
		if line, ok = strings.CutPrefix(rest, ", "); !ok {
			return nil, errors.New("something behind a value")
		}
	}
}

func value(kind, literal string) (any, error) {
	switch kind {
	case "string":
		return strconv.Unquote(literal)
	case "bool":
		return strconv.ParseBool(literal)
	case "uint16":
		n, err := strconv.ParseUint(literal, 10, 16)
		return uint16(n), err
	}
	return nil, fmt.Errorf("%q is no type that is known here", kind)
}
