package state

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"time"
)

// lookEvery is how often the directory is cleared of what has had its time, and what could not be written is tried again.
const lookEvery = time.Hour

// Run writes what Put and Remove ask for until ctx ends, then what is left of it, and returns nil. It is called once.
func (d *Dir) Run(ctx context.Context) error {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		select {
		case <-d.wake:
		case <-look.C:
			d.Load()
		case <-ctx.Done():
			d.flush()
			return nil
		}
		d.flush()
	}
}

// flush writes and removes what is waiting. What fails waits on, unless something newer does.
func (d *Dir) flush() {
	d.mu.Lock()
	rekeyed := d.rekeyed
	d.rekeyed = false
	d.mu.Unlock()
	if rekeyed {
		d.Load() // has what the new keys name otherwise written again
	}
	d.mu.Lock()
	batch, keys, renamed := d.waiting, d.keys, d.renamed
	d.waiting, d.renamed = map[string]Record{}, nil
	d.mu.Unlock()
	var failure error
	for _, r := range batch {
		if err := d.write(r, keys); err != nil {
			failure = err
			d.keepWaiting(r)
		}
	}
	if failure == nil { // else the next look sees them again
		for _, name := range renamed {
			d.remove(name)
		}
	}
	if len(batch) > 0 {
		d.report(failure)
	}
}

// keepWaiting puts a record back, without waking Run: it would go round and round.
func (d *Dir) keepWaiting(r Record) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, newer := d.waiting[r.Of]; !newer {
		d.waiting[r.Of] = r
	}
}

func (d *Dir) report(err error) {
	was := d.failing
	d.failing = err != nil
	switch {
	case err != nil && !was && d.observer.Failed != nil:
		d.observer.Failed(err)
	case err == nil && was && d.observer.Mended != nil:
		d.observer.Mended()
	}
}

// write makes the disk agree with a record.
func (d *Dir) write(r Record, keys Keys) error {
	name := filePrefix + keys.Name(r.Of)
	if len(r.Text) == 0 {
		if err := os.Remove(d.file(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	if !d.now().Before(r.Until) {
		return nil
	}
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(d.path, 0o700); err != nil { // it may not have been possible at start
		return err
	}
	if _, err := os.Lstat(d.file(name)); err != nil && len(d.names(d.now())) >= maxFiles {
		return errFull
	}
	return d.replace(name, keys.Seal(text, bound(name)))
}

// replace writes a file whole or not at all, also when the machine stops.
func (d *Dir) replace(name string, content []byte) (err error) {
	f, err := os.CreateTemp(d.path, tempPrefix+"*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = d.fill(f, content)
	if err == nil {
		err = f.Sync()
	}
	if closing := f.Close(); err == nil {
		err = closing
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), d.file(name))
}
