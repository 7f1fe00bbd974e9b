package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"unicode/utf8"
)

// LoadOptions says where a configuration comes from. The zero value is the defaults
// alone, which is not a usable configuration.
type LoadOptions struct {
	// Files are read in this order; a directory stands for its *.yaml and *.yml files
	// in the order of their names. Named things of several files merge by name, other
	// values are overridden.
	Files []string
	// Environ is the environment, in the form of os.Environ. It overrides the files.
	Environ []string
	// KeepsLastGood says, at a reload, that the caller still has the content of a file
	// that a value names. If such a file has become unusable, that is no problem of the
	// configuration but listed in Loaded.Unusable. Nil: every file must be usable.
	KeepsLastGood func(file string) bool
}

// Loaded is a valid configuration, with where each of its values came from.
type Loaded struct {
	Config *Config
	// Files are the files that were read, those of directories included.
	Files []string
	// Unusable are the files whose last good content is to be used.
	Unusable []UnusableFile

	origins map[string]Origin
}

// UnusableFile is a file that a value names and that cannot be used as it is now.
type UnusableFile struct {
	Reference
	// Reason says why, never what is in it.
	Reason string
}

// Load reads, merges, types and validates a configuration. Its error is [Problems]:
// everything that is wrong, not just the first thing. It reads the files that the
// configuration names, to see that they can be used, and does not go to the network.
func Load(o LoadOptions) (*Loaded, error) {
	c := newCollector()
	root, files, ok := readFiles(o.Files, c)
	applyEnvironment(root, o.Environ, c)
	if !ok {
		return nil, c.problems()
	}
	cfg, d := &Config{}, decoder{problems: c, places: map[string]place{}}
	d.section(reflect.ValueOf(cfg).Elem(), root, "")
	v := validator{cfg: cfg, places: d.places, problems: c, noFile: len(files) == 0, keepsLastGood: o.KeepsLastGood}
	v.validate()
	if ps := c.problems(); len(ps) > 0 {
		return nil, ps
	}
	l := &Loaded{Config: cfg, Files: files, Unusable: v.unusable, origins: map[string]Origin{}}
	for path, p := range d.places { // the places hold the files' text, secrets included
		l.origins[path] = originOf(p)
	}
	return l, nil
}

// Recheck validates the configuration again after its holder has changed it: at a
// reload some values stay as they were, and may not go with the new ones. Of every file
// that is unusable now, the last good content is to be used. Its error is [Problems],
// without places.
func (l *Loaded) Recheck() error {
	c := newCollector()
	v := validator{cfg: l.Config, problems: c, keepsLastGood: func(string) bool { return true }}
	v.validate()
	if ps := c.problems(); len(ps) > 0 {
		return ps
	}
	l.Unusable = v.unusable
	return nil
}

// maxFileSize bounds every file that is read here, in bytes.
const maxFileSize = 4 << 20

// readFiles merges the files' trees. Without a whole file the tree would be another one,
// and ok is false.
func readFiles(names []string, c *collector) (root *node, files []string, ok bool) {
	root, ok = emptyRoot(), true
	for _, name := range names {
		expanded, err := expand(name)
		if err != nil {
			c.addFault("", place{source: newSource(name, len(files), "")}, err)
			ok = false
		}
		for _, file := range expanded {
			src := newSource(file, len(files), "")
			files = append(files, file)
			data, err := readConfigFile(file)
			if err != nil {
				c.addFault("", place{source: src}, err)
				ok = false
				continue
			}
			src = newSource(file, src.order, string(data))
			if tree := readYAML(src, data, c); tree != nil {
				mergeTrees(reflect.TypeFor[Config](), root, tree)
			} else {
				ok = false
			}
		}
	}
	return root, files, ok
}

// expand returns the files that a name stands for.
func expand(name string) ([]string, *fault) {
	const hint = "give --config (or SIDEPASS_CONFIG) a YAML file, or a directory of them"
	info, err := os.Stat(name)
	if err != nil {
		return nil, &fault{reason(err), hint}
	}
	if !info.IsDir() {
		return []string{name}, nil
	}
	entries, err := os.ReadDir(name) // sorted by name
	if err != nil {
		return nil, &fault{reason(err), hint}
	}
	var files []string
	for _, e := range entries {
		file := filepath.Join(name, e.Name())
		ext := filepath.Ext(e.Name())
		if (ext != ".yaml" && ext != ".yml") || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		if info, err := os.Stat(file); err == nil && info.IsDir() {
			continue
		}
		files = append(files, file)
	}
	if len(files) == 0 {
		return nil, &fault{"the directory has no *.yaml or *.yml file", hint}
	}
	return files, nil
}

func readConfigFile(name string) ([]byte, *fault) {
	f, err := os.Open(name)
	if err != nil {
		return nil, &fault{reason(err), "check its name and permissions"}
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	switch {
	case err != nil:
		return nil, &fault{reason(err), "check its name and permissions"}
	case len(data) > maxFileSize:
		return nil, &fault{fmt.Sprintf("is larger than %d MiB", maxFileSize>>20), "give a configuration file"}
	case !utf8.Valid(data):
		return nil, &fault{"is not UTF-8 text", "save it as UTF-8"}
	}
	return data, nil
}

// reason is what the operating system says about a file, without its name.
func reason(err error) string {
	var pe *fs.PathError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "does not exist"
	case errors.Is(err, fs.ErrPermission):
		return "may not be read by this user"
	case errors.As(err, &pe):
		return "cannot be read: " + pe.Err.Error()
	}
	return "cannot be read"
}
