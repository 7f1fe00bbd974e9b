package config

import (
	"reflect"
	"strings"
)

// MetricsListen is metrics.listen as far as it can be known from a configuration that [Load] refuses: from the variable, else from what
// of the files can be read, else the default. It is for who looks for a sidecar that has been running since before the mistake.
func MetricsListen(o LoadOptions) Listen {
	ignored := newCollector()
	root := emptyRoot()
	for _, name := range o.Files {
		files, _ := expand(name)
		for _, file := range files {
			data, err := readConfigFile(file)
			if err != nil {
				continue
			}
			tree := readYAML(newSource(file, 0, string(data)), data, ignored)
			if tree == nil {
				section := metricsSection(string(data))
				tree = readYAML(newSource(file, 0, section), []byte(section), ignored)
			}
			if tree != nil {
				mergeTrees(reflect.TypeFor[Config](), root, tree)
			}
		}
	}
	applyEnvironment(root, o.Environ, ignored)
	for _, metrics := range []*node{root.keys["metrics"], emptyRoot()} { // the other has the default
		var m Metrics
		d := decoder{problems: ignored, places: map[string]place{}}
		if metrics != nil {
			d.section(reflect.ValueOf(&m).Elem(), metrics, "metrics")
		}
		if m.Listen.IsSet() {
			return m.Listen
		}
	}
	panic("config: metrics.listen has no default") // a mistake in a tag, found by any test
}

// metricsSection is the lines of a file's section `metrics`, where the file as a whole is not YAML.
func metricsSection(text string) string {
	var b strings.Builder
	inside := false
	for line := range strings.Lines(text) {
		if strings.TrimLeft(line, " \t#\r\n") == line { // a line that is not indented
			inside = strings.HasPrefix(line, "metrics:")
		}
		if inside {
			b.WriteString(line)
		}
	}
	return b.String()
}
