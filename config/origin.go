package config

import "fmt"

// Origin is where a value came from. The zero value means the default.
type Origin struct {
	// File and Line (from 1) of a value that stands in a file.
	File string
	Line int
	// Variable is the name of the environment variable, instead.
	Variable string
}

// String returns "default", "file sidepass.yaml:12" or the variable's name.
func (o Origin) String() string {
	switch {
	case o.Variable != "":
		return o.Variable
	case o.File != "":
		return fmt.Sprintf("file %s:%d", o.File, o.Line)
	}
	return "default"
}

// Origin returns where the value at a path such as outbound.routes[0].upstream came
// from. A path that nothing set, also one that does not exist, has the default.
func (l *Loaded) Origin(path string) Origin { return l.origins[path] }

func originOf(p place) Origin {
	if p.source != nil {
		return Origin{File: p.source.name, Line: p.line}
	}
	return Origin{Variable: p.variable}
}
