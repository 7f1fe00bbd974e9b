// Package state keeps what must outlive the process, such as the last keys and tokens that an authorization server gave: sealed files in
// a directory of their own. Names and contents tell nothing to who has no key, and a file that was changed, renamed or sealed by
// another key is worth nothing.
//
// Nothing here is needed while all is well. A directory that cannot be read or written costs what it would have kept, and nothing else.
package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Bounds of a directory.
const (
	maxText  = 1<<20 + 1<<14 // bytes of a record's text; a key set may have 1 MiB
	maxFile  = 2 * maxText   // bytes of a file: base64 and what is around it
	maxFiles = 4096
)

// Keys seal records and name their files. They do not change.
type Keys interface {
	// Seal encrypts a text and binds it to bound.
	Seal(text, bound []byte) []byte
	// Open decrypts what was sealed with the same bound, and fails for anything else.
	Open(sealed, bound []byte) ([]byte, error)
	// Name is a file name that does not tell what it is made of.
	Name(what string) string
}

// Record is one thing that is kept.
type Record struct {
	// Of says what it is. A record takes the place of another one of the same.
	Of string
	// Since is when the text came from its owner, Until when it must no longer be used. As [Dir.Load] returns them, they follow the
	// monotonic clock: setting the clock back later lengthens nothing.
	Since, Until time.Time
	// Text is what is kept; at most a little over 1 MiB.
	Text []byte
}

// Options of a Dir.
type Options struct {
	// Path is the directory. It is made, with mode 0700, when it is missing.
	Path string
	// Keys seal and open.
	Keys Keys
	// Now is the time; nil is time.Now.
	Now      func() time.Time
	Observer Observer
}

// Observer is a set of optional functions. They are called from the goroutine of [Dir.Load] or [Dir.Run].
type Observer struct {
	// Ignored is told, once for each reason and look at the directory, how many files are not used. They hold nothing of their content.
	Ignored func(why error, files int)
	// Failed is told that records cannot be written. It is told once, until they can be again.
	Failed func(err error)
	// Mended is told that records can be written again.
	Mended func()
}

// Reasons why a file is not used.
var (
	// ErrForeign says that a file was changed, renamed, or sealed by a key that is not known. Such files are removed.
	ErrForeign = errors.New("they are damaged, were renamed, or were sealed by a key that is not in the key file; they are removed")
	// ErrFuture says that a file was written at a time that is still to come. Such files stay, for a clock that is set right later.
	ErrFuture = errors.New("they are from the future: the clock was set back, or is not set yet")
	// ErrUnreadable says that the system did not let a file be read. Such files stay.
	ErrUnreadable = errors.New("they cannot be read")
)

var errFull = fmt.Errorf("the directory has %d files of sidepass already", maxFiles)

// Dir is a directory of records. All methods are safe for concurrent use; none but Load and Run touches the disk.
type Dir struct {
	path     string
	now      func() time.Time
	observer Observer
	fill     func(f *os.File, content []byte) (int, error) // writes a new file
	wake     chan struct{}                                 // capacity 1; filled when there is something to do

	failing bool // to write; known to Run alone

	mu      sync.Mutex // never held while the disk is touched
	keys    Keys
	rekeyed bool
	waiting map[string]Record // :: Of → what is to be written; without text: to be removed
	renamed []string          // files whose content waits to be written under another name
}

// Open returns the directory of that path. It refuses one that is not this user's or that others may look into, and makes it if it
// is missing. Where that fails because the disk is full or read-only, it will be tried again. It starts nothing.
func Open(o Options) (*Dir, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	err := os.MkdirAll(o.Path, 0o700)
	if err != nil && !diskIsFullOrReadOnly(err) {
		return nil, fmt.Errorf("it cannot be made: %w", err)
	}
	info, err := os.Stat(o.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	case !info.IsDir():
		return nil, fmt.Errorf("%s is not a directory", o.Path)
	case !ours(info):
		return nil, fmt.Errorf("%s belongs to another user than the one that sidepass runs as; name a directory in it, which sidepass makes for itself", o.Path)
	case othersMayEnter(info):
		return nil, fmt.Errorf("%s can be used by others (mode %04o); chmod 0700 it, or name a directory in it, which sidepass makes for itself", o.Path, info.Mode().Perm())
	}
	return &Dir{path: o.Path, keys: o.Keys, now: o.Now, observer: o.Observer, fill: (*os.File).Write, wake: make(chan struct{}, 1), waiting: map[string]Record{}}, nil
}

// Path is the directory's.
func (d *Dir) Path() string { return d.path }

// Put has a record written soon, by Run. It does not block. The text must not change afterwards; one that is too large is not kept.
func (d *Dir) Put(r Record) {
	if len(r.Text) > 0 && len(r.Text) <= maxText {
		d.queue(r, true)
	}
}

// Remove has the record of that removed soon, by Run. It does not block.
func (d *Dir) Remove(of string) { d.queue(Record{Of: of}, true) }

// Use makes other keys those that seal from now on. What is there is sealed anew; what they cannot open is removed.
func (d *Dir) Use(k Keys) {
	d.mu.Lock()
	d.keys, d.rekeyed = k, true
	d.mu.Unlock()
	d.poke()
}

// queue lays a record down for Run. Without over it gives way to one that is there.
func (d *Dir) queue(r Record, over bool) {
	d.mu.Lock()
	if _, there := d.waiting[r.Of]; !there && len(d.waiting) < maxFiles || there && over {
		d.waiting[r.Of] = r
	}
	d.mu.Unlock()
	d.poke()
}

func (d *Dir) poke() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

func (d *Dir) file(name string) string { return filepath.Join(d.path, name) }
