package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
	"go.uber.org/zap"
)

const (
	// quiet is how long files must have been left alone before they are read: an editor or a volume update changes several.
	quiet = 150 * time.Millisecond
	// pollInterval catches what the kernel does not report, on network file systems for instance.
	pollInterval = 30 * time.Second
)

// watcher notices when the content of files changes. It watches their directories: a watch on the file itself is dead
// once Kubernetes has swapped the ..data link, or an editor has renamed a new file over the old one.
type watcher struct {
	// files names the files and directories to watch, asked anew after each change.
	files func() []string
	// changed is called after their content has changed; the next change waits for it.
	changed func(context.Context)
	// asked has changed called whether or not anything did.
	asked <-chan os.Signal
	log   *zap.Logger
}

// run watches until ctx ends.
func (w *watcher) run(ctx context.Context) error {
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		w.log.Warn("files cannot be watched, and are looked at every 30 s instead", zap.Error(err))
		notify = &fsnotify.Watcher{} // its channels are nil: only the poll is left
	} else {
		defer notify.Close()
	}
	watched := map[string]bool{} // :: directory → it is watched
	last := w.look(notify, watched)
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	settle := time.NewTimer(0)
	<-settle.C
	read := func(now map[string][sha256.Size]byte) {
		w.changed(ctx)
		last = w.look(notify, watched) // the new configuration may name other files
		for name, was := range now {
			if is, ok := last[name]; ok && is != was { // it may have changed after it was read
				last[name] = was
				settle.Reset(quiet)
			}
		}
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-notify.Events:
			settle.Reset(quiet)
		case err := <-notify.Errors:
			w.log.Warn("watching files", zap.Error(err))
			settle.Reset(quiet)
		case <-poll.C:
			settle.Reset(0)
		case <-w.asked: // here and nowhere else, so that last is what was read last
			read(w.look(notify, watched))
		case <-settle.C:
			if now := w.look(notify, watched); !maps.Equal(now, last) {
				read(now)
			}
		}
	}
}

// look digests the content of every file and directory, by its name, and watches the directories that they are in.
func (w *watcher) look(notify *fsnotify.Watcher, watched map[string]bool) map[string][sha256.Size]byte {
	digests := map[string][sha256.Size]byte{}
	want := map[string]bool{}
	for _, name := range w.files() {
		sum := sha256.New()
		info, err := os.Stat(name)
		if err == nil && info.IsDir() {
			want[name] = true
			entries, _ := os.ReadDir(name)
			for _, e := range entries {
				digestFile(sum, filepath.Join(name, e.Name()))
			}
		} else {
			want[filepath.Dir(name)] = true
			digestFile(sum, name)
		}
		digests[name] = [sha256.Size]byte(sum.Sum(nil))
	}
	for dir := range watched {
		if !want[dir] {
			_ = notify.Remove(dir)
			delete(watched, dir)
		}
	}
	for _, dir := range slices.Sorted(maps.Keys(want)) {
		if watched[dir] || notify.Events == nil {
			continue
		}
		if err := notify.Add(dir); err == nil { // one that is not there yet is tried again at the next look
			watched[dir] = true
		}
	}
	return digests
}

// digestFile adds a file's name and content, or that it cannot be read.
func digestFile(sum hash.Hash, name string) {
	content, err := os.ReadFile(name)
	digest := sha256.Sum256(content)
	fmt.Fprintf(sum, "%q %v %x\n", name, err != nil, digest)
}
