package jwks

import (
	"bytes"
	"errors"
	"testing"
	"time"
)

// Keys that were loaded earlier are used at once, until a load succeeds, and no longer than MaxStale from when they were loaded.
func TestLastKeys(t *testing.T) {
	earlier := func(age time.Duration) *Set {
		set, err := Parse(document(rsaJWK(nil), edJWK(nil)))
		if err != nil {
			t.Fatal(err)
		}
		set.Loaded = time.Now().Add(-age)
		return set
	}
	t.Run("until a load succeeds", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			var loaded []*Set
			s := newServer(edJWK(nil))
			s.err = errors.New("down")
			w := run(t, s, func(o *Options) {
				o.Last = earlier(time.Hour)
				o.Observer.Loaded = func(set *Set) { loaded = append(loaded, set) }
			})
			settle()
			if got := w.Snapshot(); got == nil || len(got.Keys) != 2 || len(loaded) != 0 {
				t.Fatalf("after a load that failed: %v, told of %d sets", got, len(loaded))
			}
			s.alter(func(s *server) { s.err = nil })
			pass(time.Minute)
			got := w.Snapshot()
			if got == nil || len(got.Keys) != 1 {
				t.Fatalf("a key that was withdrawn is still there: %v", got)
			}
			if len(loaded) != 1 || loaded[0] != got || !bytes.Equal(got.Document, s.body) {
				t.Errorf("told of %d sets, document %q", len(loaded), got.Document)
			}
		})
	})
	t.Run("until they are too old", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			s := newServer()
			s.err = errors.New("down")
			w := run(t, s, func(o *Options) { o.Last = earlier(23 * time.Hour) })
			pass(time.Hour)
			if !w.Ready() {
				t.Error("not used for MaxStale")
			}
			if pass(time.Nanosecond); w.Ready() {
				t.Error("used beyond MaxStale of when they were loaded")
			}
		})
	})
}
