package main

import (
	"os"
	"slices"
	"sync"

	"github.com/sidepass/sidepass/config"
)

// files reads the files that the configuration names (secrets, roots, keys) and remembers the last good content of each:
// one that becomes unusable later changes nothing. The content never leaves but to who needs it.
type files struct {
	mu   sync.Mutex
	good map[string][]byte // :: file → content when it was last usable
}

// known says whether there is a last good content.
func (f *files) known(name string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.good[name] != nil
}

// read returns a file's content; of one that the configuration found unusable, the last good.
func (f *files) read(loaded *config.Loaded, name string) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	last := f.good[name]
	for _, u := range loaded.Unusable {
		if u.File == name && last != nil {
			return last, nil
		}
	}
	content, err := os.ReadFile(name)
	if err != nil || len(content) == 0 {
		if last != nil {
			return last, nil // it broke between the check and now; the next look will say so
		}
		return nil, err
	}
	f.good[name] = content
	return content, nil
}

// together reads files that are used together, in the order of their names. Where use cannot take what is in them now, all of
// them stay what they last were: files change one after the other, and between the configuration's check and this.
func (f *files) together(loaded *config.Loaded, use func(content ...[]byte) error, names ...string) error {
	var last, content [][]byte
	f.mu.Lock()
	for _, name := range names {
		last = append(last, f.good[name])
	}
	f.mu.Unlock()
	for _, name := range names {
		c, err := f.read(loaded, name)
		if err != nil {
			return err
		}
		content = append(content, c)
	}
	err := use(content...)
	if err == nil {
		return nil
	}
	f.mu.Lock()
	for i, name := range names {
		f.good[name] = last[i]
	}
	f.mu.Unlock()
	if slices.ContainsFunc(last, func(c []byte) bool { return c == nil }) {
		return err
	}
	return use(last...)
}

// latest returns a file's content as it is now, or the last good one where it is gone or empty.
func (f *files) latest(name string) ([]byte, error) { return f.read(&config.Loaded{}, name) }
