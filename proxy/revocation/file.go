package revocation

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"
)

const (
	// pollInterval leaves, of the 2 s in which a revocation is to take effect, the most for reading a large file.
	pollInterval = 500 * time.Millisecond
	// tick is the coarsest step that files' times are expected to have: of two changes within one step the second may not
	// show.
	tick = time.Second
)

// Options of a File.
type Options struct {
	// Path is the file's. It need not exist yet.
	Path string
	// Observer is told what happens.
	Observer Observer
}

// Observer is a set of optional functions. They are called from [File.Run] and [File.Reload] and must not block.
type Observer struct {
	// Loaded: the list was replaced, or added to where the reading has broken lines.
	Loaded func(Reading)
	// Failed: the file cannot be read or nothing of it understood, and the list stays as it is. It is called once for a problem
	// that lasts. The error names the file and may be shown.
	Failed func(error)
	// Current: the list was found to be all that the file has, at this time.
	Current func(at time.Time)
}

// File is a list of revocations that follows a file. It is safe for concurrent use.
type File struct {
	o   Options
	set Set

	mu      sync.Mutex  // held for one look at the file
	seen    fs.FileInfo // what the file was when it was last read; nil before
	content sum         // its content then
	readAt  time.Time   // when
	sure    bool        // that it has not changed since unless it looks so
	whole   bool        // all of it was understood
	short   fs.FileInfo // what the file was when it was last found to have shrunk
	told    string      // the failure that was last reported
}

// NewFile is a list that has not been loaded yet; [File.Reload] or [File.Run] load it.
func NewFile(o Options) *File { return &File{o: o} }

// Check says whether a token is revoked, and whether the file has ever been read. It does not block or allocate.
func (f *File) Check(facts Facts) (revoked, available bool) { return f.set.Check(facts) }

// Reload reads the file now. The error, which the Observer is told too, says why the list stays as it is, and may be shown.
func (f *File) Reload() error { return f.look(true) }

// Run reads the file whenever it has changed, which it notices within half a second, until ctx ends, and then returns nil. It
// needs nothing of the file's system but that its time, size or identity changes.
func (f *File) Run(ctx context.Context) error {
	_ = f.look(false)
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-poll.C:
			_ = f.look(false)
		}
	}
}

// look reads the file if it has changed, or must.
func (f *File) look(must bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	info, err := os.Stat(f.o.Path)
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is not a regular file")
	}
	switch {
	case err != nil:
		return f.fail(err)
	case must, f.seen == nil:
	case same(f.seen, info) && (f.sure || now.Sub(f.readAt) < tick):
		f.confirm(now)
		return nil
	case same(f.seen, info):
		return f.read(now, true)
	case f.shrinks(info):
		return nil
	}
	return f.read(now, false)
}

func same(a, b fs.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// shrinks says whether to wait with a file that has become shorter in its place: it may be about to be written anew, and what
// it lacks at this moment is still revoked. It is read when it looks the same the next time.
func (f *File) shrinks(info fs.FileInfo) bool {
	if !os.SameFile(f.seen, info) || info.Size() >= f.seen.Size() || f.short != nil && same(f.short, info) {
		return false
	}
	f.short = info
	return true
}

// read reads the file. again says that it looks as it did when it was last read, and that this is to make sure.
func (f *File) read(now time.Time, again bool) error {
	file, err := os.Open(f.o.Path)
	if err != nil {
		return f.fail(err)
	}
	defer file.Close()
	info, err := file.Stat() // before its content: what changes from now on is noticed
	if err != nil {
		return f.fail(err)
	}
	digest := sha256.New()
	if again {
		if _, err := io.Copy(digest, file); err != nil {
			return f.fail(err)
		}
		if f.content == sum(digest.Sum(nil)) {
			f.sure = true
			f.confirm(now)
			return nil
		}
		if _, err := file.Seek(0, io.SeekStart); err != nil {
			return f.fail(err)
		}
		digest.Reset()
	}
	reading, err := f.set.Load(io.TeeReader(file, digest))
	if err != nil && !errors.Is(err, errUnusable) {
		return f.fail(err)
	}
	f.seen, f.content, f.readAt, f.short = info, sum(digest.Sum(nil)), now, nil
	f.sure = now.Sub(info.ModTime()) >= tick
	f.whole = err == nil && reading.Broken == 0
	if err != nil {
		return f.fail(err)
	}
	f.told = ""
	if loaded := f.o.Observer.Loaded; loaded != nil {
		loaded(reading)
	}
	f.confirm(now)
	return nil
}

// confirm reports that the list is what the file has, if all of it was understood.
func (f *File) confirm(now time.Time) {
	if !f.whole {
		return
	}
	f.told = ""
	if f.o.Observer.Current != nil {
		f.o.Observer.Current(now)
	}
}

// fail reports a failure, once, and returns it with the file's name.
func (f *File) fail(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	err = fmt.Errorf("the revocation file %s cannot be used: %w", f.o.Path, err)
	if f.told != err.Error() {
		f.told = err.Error()
		if failed := f.o.Observer.Failed; failed != nil {
			failed(err)
		}
	}
	return err
}
