package main

import (
	"os"
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

// latest returns a file's content as it is now, or the last good one where it is gone or empty.
func (f *files) latest(name string) ([]byte, error) { return f.read(&config.Loaded{}, name) }
