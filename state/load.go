package state

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"
)

// Names of our files. No other file is touched: the directory may hold some.
const (
	filePrefix = "sidepass-"
	tempPrefix = "sidepass.new-"
	tempLives  = time.Hour // longer than any write takes
)

// Load returns the records that may be used now, by what they are of. It removes files that never can be again.
func (d *Dir) Load() map[string]Record {
	d.mu.Lock()
	keys := d.keys
	d.mu.Unlock()
	found, names := map[string]Record{}, map[string]string{}
	ignored := map[error]int{}
	now := d.now()
	for _, name := range d.names(now) {
		r, err := d.read(name, keys)
		switch {
		case errors.Is(err, fs.ErrNotExist): // another process was quicker
			continue
		case err == nil && !now.Before(r.Until):
			d.remove(name)
			continue
		case err == nil && r.Since.After(now):
			err = ErrFuture
		}
		if err != nil {
			ignored[err]++
			if err == ErrForeign {
				d.remove(name)
			}
			continue
		}
		old, twice := found[r.Of]
		right := name == filePrefix+keys.Name(r.Of) // others have their name by an earlier key
		if twice && (old.Since.After(r.Since) || old.Since.Equal(r.Since) && !right) {
			d.remove(name)
			continue
		}
		if twice {
			d.remove(names[r.Of])
		}
		found[r.Of], names[r.Of] = r, name
	}
	for of, r := range found {
		if name := names[of]; name != filePrefix+keys.Name(of) {
			d.rename(name, r)
		}
		r.Since, r.Until = onClock(now, r.Since), onClock(now, r.Until)
		found[of] = r
	}
	if d.observer.Ignored != nil {
		for err, n := range ignored {
			d.observer.Ignored(err, n)
		}
	}
	return found
}

// rename has a record written under the name that its keys give it now.
func (d *Dir) rename(name string, r Record) {
	d.mu.Lock()
	d.renamed = append(d.renamed, name)
	d.mu.Unlock()
	d.queue(r, false)
}

// onClock is a time of the wall clock as a reading of the clock that now comes from.
func onClock(now, t time.Time) time.Time { return now.Add(t.Sub(now)) }

// names are the files of ours, at most as many as there may be. Files that a process left half written are removed.
func (d *Dir) names(now time.Time) []string {
	dir, err := os.Open(d.path)
	if err != nil {
		return nil // Run will say what is wrong with it
	}
	defer dir.Close()
	var names []string
	for len(names) < maxFiles {
		entries, err := dir.ReadDir(256)
		for _, e := range entries {
			switch {
			case !e.Type().IsRegular():
			case strings.HasPrefix(e.Name(), filePrefix):
				names = append(names, e.Name())
			case strings.HasPrefix(e.Name(), tempPrefix):
				if info, err := e.Info(); err == nil && now.Sub(info.ModTime()) > tempLives {
					d.remove(e.Name())
				}
			}
		}
		if err != nil {
			break
		}
	}
	return names
}

// read opens one file. The error is one of the reasons why it is not used, or that it is gone.
func (d *Dir) read(name string, keys Keys) (Record, error) {
	f, err := os.Open(d.file(name))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return Record{}, err
		}
		return Record{}, ErrUnreadable
	}
	defer f.Close()
	sealed, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return Record{}, ErrUnreadable
	}
	text, err := keys.Open(sealed, bound(name))
	if err != nil {
		return Record{}, ErrForeign
	}
	var r Record
	if json.Unmarshal(text, &r) != nil || r.Of == "" || len(r.Text) == 0 {
		return Record{}, ErrForeign
	}
	return r, nil
}

// bound ties a file's content to its name, which is made of what the record is of; and to this place, since the same keys seal elsewhere.
func bound(name string) []byte { return []byte("sidepass state file " + name) }

func (d *Dir) remove(name string) { _ = os.Remove(d.file(name)) } // what cannot be removed is not used either
