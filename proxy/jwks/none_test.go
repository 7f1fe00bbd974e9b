package jwks

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

// An issuer that has no key set is asked for one now and then. That it has none is remembered in an outage, and by who comes after;
// where there are keys, it is a failure like any other.
func TestNoKeySet(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var err atomic.Pointer[error]
		say := func(e error) { err.Store(&e) }
		asked := 0
		none := &NoneError{errors.New("the metadata name no key set")}
		uri := func(context.Context) (string, error) { asked++; return "https://issuer.example/jwks", *err.Load() }
		say(none)
		w := run(t, newServer(rsaJWK(nil)), func(o *Options) { o.URI, o.MaxStale = uri, time.Hour })
		expect := func(none, ready bool, results ...string) {
			t.Helper()
			settle()
			if st := w.Status(); st.None != none || w.Ready() != ready || !slices.Equal(w.results(), results) {
				t.Errorf("none %v, ready %v, %q; want %v, %v, %q", st.None, w.Ready(), w.results(), none, ready, results)
			}
		}
		expect(true, false, "none 0")
		pass(14 * time.Minute)
		if asked != 1 {
			t.Errorf("%d questions before the refresh", asked)
		}
		var unavailable *UnavailableError
		if _, err := w.Refetch(t.Context()); !errors.As(err, &unavailable) || unavailable.RetryAfter != 10*time.Second || !errors.Is(err, none.Err) {
			t.Errorf("a token with a key: %v, %+v", err, unavailable)
		}
		expect(true, false, "none 0", "none 0")
		say(errors.New("down"))
		pass(20 * time.Minute)
		if st := w.Status(); !st.None || st.Result != ResultDiscoveryFailed || asked < 10 {
			t.Errorf("in an outage: none %v, %s, asked %d times", st.None, st.Result, asked)
		}
		next, problem := New(Options{URI: uri, HTTP: w.server, None: w.Status().None})
		if problem != nil || !next.Status().None {
			t.Errorf("who comes after does not know: %v", problem)
		}

		say(nil)
		pass(time.Minute)
		if st := w.Status(); st.None || st.Keys != 1 {
			t.Errorf("it has keys after all: none %v, %d keys", st.None, st.Keys)
		}
		say(none)
		pass(16 * time.Minute)
		if st := w.Status(); st.None || st.Keys != 1 || st.Result != ResultDiscoveryFailed {
			t.Errorf("while the keys are good: none %v, %d keys, %s", st.None, st.Keys, st.Result)
		}
		pass(time.Hour)
		if st := w.Status(); !st.None || st.Keys != 0 || st.Result != ResultNone {
			t.Errorf("when they are too old: none %v, %d keys, %s", st.None, st.Keys, st.Result)
		}
	})
}
