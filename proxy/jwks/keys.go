package jwks

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Doer sends one request; an *http.Client is one. It must not follow redirects.
type Doer interface {
	Do(*http.Request) (*http.Response, error)
}

// Options say where an issuer's keys come from and how long they last. Either URI and HTTP or File is needed.
type Options struct {
	// URI yields the address of the key set (jwks_uri), from the configuration or from discovery. It is asked before
	// each fetch, within the fetch's Timeout, and never told anything of a token. A [*NoneError] says that there is no key set:
	// that is no failure until there has been one, and it is asked again after Refresh.
	URI func(ctx context.Context) (string, error)
	// HTTP fetches it.
	HTTP Doer
	// File yields the key set's text instead, from a file for instance.
	File func() ([]byte, error)
	// BearerToken yields the token to send along to a key set at this address, as a Kubernetes API server asks for;
	// ok is false where none may be sent. nil sends none.
	BearerToken func(uri string) (token string, ok bool)
	// Refresh is how long a key set is used before it is fetched again; 0 is 15 minutes. A max-age of the answer
	// shortens it, but not below a minute.
	Refresh time.Duration
	// MaxStale is how long a key set is used when it cannot be refreshed; 0 is 24 hours.
	MaxStale time.Duration
	// MinInterval is the least time between two fetches that unknown keys cause; 0 is 10 seconds.
	MinInterval time.Duration
	// Timeout bounds one fetch, discovery included; 0 is 5 seconds.
	Timeout time.Duration
	// Last are keys to begin with, which were loaded earlier: their age counts from then. nil is none.
	Last *Set
	// None says that the issuer is known to have no key set, from earlier.
	None bool
	// Rand yields numbers from 0 to below 1 for the jitter; nil is math/rand/v2.
	Rand func() float64
	// Observer is told what happens.
	Observer Observer
}

// Observer is a set of optional functions. They are called from the goroutine of [Keys.Run] and must not block.
type Observer struct {
	// Refreshed is told of each attempt to load the keys: one of the Result words, the number of usable keys now held
	// in memory, and why an attempt failed.
	Refreshed func(result string, keys int, err error)
	// Loaded is told of each key set that came from the issuer or the file.
	Loaded func(*Set)
	// Skew is told how many whole seconds the issuer's clock is ahead of ours, as the Date of an answer says, whatever its status.
	Skew func(ahead time.Duration)
}

// Keys are the keys of one issuer, kept fresh by [Keys.Run]. All methods are safe for concurrent use.
type Keys struct {
	o    Options
	set  atomic.Pointer[Set]
	wake chan struct{} // capacity 1; filled under mu when a flight is asked for

	mu      sync.Mutex
	flight  *flight   // asked for or under way; nil when there is none
	asked   time.Time // when a caller last caused one
	next    time.Time // when Run starts one by itself
	stopped bool
	last    attempt
	none    bool // the issuer has no key set, as far as it could be asked
}

// flight is one attempt to load the keys that any number of callers wait for.
type flight struct{ done chan struct{} }

// NoneError says that an issuer has no key set, as one may whose tokens are all opaque.
type NoneError struct {
	// Err says where it was looked for.
	Err error
}

func (e *NoneError) Error() string { return e.Err.Error() }
func (e *NoneError) Unwrap() error { return e.Err }

type attempt struct {
	at     time.Time
	result string
	err    error
}

// New returns keys that are not loaded yet. It starts nothing: the keys are loaded by [Keys.Run].
func New(o Options) (*Keys, error) {
	if (o.File == nil) == (o.URI == nil || o.HTTP == nil) {
		return nil, errors.New("jwks: either File, or URI and HTTP, must be given")
	}
	for _, d := range []struct {
		value *time.Duration
		usual time.Duration
	}{{&o.Refresh, 15 * time.Minute}, {&o.MaxStale, 24 * time.Hour}, {&o.MinInterval, 10 * time.Second}, {&o.Timeout, 5 * time.Second}} {
		if *d.value < 0 {
			return nil, errors.New("jwks: a duration is negative")
		}
		if *d.value == 0 {
			*d.value = d.usual
		}
	}
	if o.Rand == nil {
		o.Rand = rand.Float64
	}
	k := &Keys{o: o, wake: make(chan struct{}, 1), none: o.None}
	k.set.Store(o.Last)
	return k, nil
}

// Last returns the keys that were loaded last, however old; nil when none ever were. They are what other Keys of the
// same issuer may begin with.
func (k *Keys) Last() *Set { return k.set.Load() }

// Snapshot returns the keys as they are now; nil when none have been loaded or the last are older than MaxStale.
// It never blocks and does not allocate.
func (k *Keys) Snapshot() *Set {
	s := k.set.Load()
	if s == nil || time.Since(s.Loaded) > k.o.MaxStale {
		return nil
	}
	return s
}

// Ready says whether there are keys to verify with.
func (k *Keys) Ready() bool { return k.Snapshot() != nil }

// UnavailableError says that there are no keys to verify with.
type UnavailableError struct {
	// RetryAfter is when the next attempt to load them is due.
	RetryAfter time.Duration
	// Err is why the last attempt failed; nil when there was none yet.
	Err error
}

func (e *UnavailableError) Error() string {
	if e.Err == nil {
		return "the issuer's keys have not been loaded yet"
	}
	return "the issuer's keys could not be loaded: " + e.Err.Error()
}

func (e *UnavailableError) Unwrap() error { return e.Err }

// Refetch is for a token whose key is not in the snapshot. It joins the load that is under way or asks [Keys.Run] for
// one, waits until it ended, and returns the newest keys. Where a caller caused a load less than MinInterval ago it returns
// at once, so that unknown keys, however many, cost one fetch an interval. The load goes on when ctx ends.
// The error is an [*UnavailableError] when there are no keys at all.
func (k *Keys) Refetch(ctx context.Context) (*Set, error) {
	return k.await(ctx, k.ask(k.o.MinInterval))
}

// Reload is for an operator's SIGHUP or a file that changed: it loads the keys whatever MinInterval says, in a load that
// begins after the call. It returns as Refetch does.
func (k *Keys) Reload(ctx context.Context) (*Set, error) {
	k.mu.Lock()
	before := k.flight
	k.mu.Unlock()
	if before != nil {
		_, _ = k.await(ctx, before) // it may have read what is now old
	}
	return k.await(ctx, k.ask(0))
}

// ask returns the flight to wait for, or nil when none may start.
func (k *Keys) ask(interval time.Duration) *flight {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.stopped {
		return nil
	}
	if k.flight == nil && (k.asked.IsZero() || time.Since(k.asked) >= interval) {
		k.flight = &flight{done: make(chan struct{})}
		k.asked = time.Now()
		select {
		case k.wake <- struct{}{}:
		default:
		}
	}
	return k.flight
}

func (k *Keys) await(ctx context.Context, f *flight) (*Set, error) {
	if f != nil {
		limit := time.NewTimer(k.o.Timeout) // Run may not have started yet
		defer limit.Stop()
		select {
		case <-f.done:
		case <-ctx.Done():
		case <-limit.C:
		}
	}
	if s := k.Snapshot(); s != nil {
		return s, nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	next := time.Until(k.next)
	if k.last.result == ResultNone {
		next = k.o.MinInterval // when the next caller's token has the issuer asked
	}
	return nil, &UnavailableError{RetryAfter: max(time.Second, next), Err: k.last.err}
}

// Back-off between failed attempts.
const (
	firstRetry = time.Second
	lastRetry  = 30 * time.Second
)

// Run loads the keys at once and keeps them fresh until ctx ends, and then returns nil. Every fetch happens here, on
// this context: none of them outlives Run. It is called once.
func (k *Keys) Run(ctx context.Context) error {
	defer k.stop()
	failures := 0
	for {
		f := k.begin()
		freshness, err := k.load(ctx)
		var wait time.Duration
		if err == nil {
			failures = 0
			wait = k.untilRefresh(freshness)
		} else {
			wait = k.backOff(failures)
			failures++
		}
		k.end(f, wait)

		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		case <-k.wake:
			timer.Stop()
		}
	}
}

// begin makes the flight that Run now flies: the one that was asked for, or a new one.
func (k *Keys) begin() *flight {
	k.mu.Lock()
	defer k.mu.Unlock()
	select {
	case <-k.wake: // asked for at the moment when the timer fired
	default:
	}
	if k.flight == nil {
		k.flight = &flight{done: make(chan struct{})}
	}
	return k.flight
}

func (k *Keys) end(f *flight, wait time.Duration) {
	k.mu.Lock()
	k.flight = nil
	k.next = time.Now().Add(wait)
	k.mu.Unlock()
	close(f.done)
}

func (k *Keys) stop() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.stopped = true
	if k.flight != nil {
		close(k.flight.done)
		k.flight = nil
	}
}

// untilRefresh spreads refreshes over the last tenth of the time that the keys are fresh.
func (k *Keys) untilRefresh(freshness time.Duration) time.Duration {
	return time.Duration(float64(freshness) * (0.9 + 0.1*k.o.Rand()))
}

// backOff doubles with each failure in a row, from 1 s to 30 s, and is spread over its upper half.
func (k *Keys) backOff(failures int) time.Duration {
	d := lastRetry
	if failures < 5 {
		d = firstRetry << failures
	}
	return time.Duration(float64(d) * (0.5 + 0.5*k.o.Rand()))
}

// Status is the state of an issuer's keys for people and for `check`.
type Status struct {
	// Keys is how many keys are usable now; 0 when none are, or when they are older than MaxStale.
	Keys int
	// Ignored and Notes are those of the current set, see [Set].
	Ignored int
	Notes   []string
	// Loaded is when the keys came from the issuer; zero when they never did.
	Loaded time.Time
	// Attempted is when the last attempt ended, Result its word and Err why it failed.
	Attempted time.Time
	Result    string
	Err       error
	// None says that the issuer has no key set, or had none when it could last be asked.
	None bool
	// Next is when the next attempt is due; zero during the first.
	Next time.Time
}

// Status returns the state of the keys now.
func (k *Keys) Status() Status {
	k.mu.Lock()
	defer k.mu.Unlock()
	st := Status{Attempted: k.last.at, Result: k.last.result, Err: k.last.err, None: k.none, Next: k.next}
	if s := k.set.Load(); s != nil {
		st.Ignored, st.Notes, st.Loaded = s.Ignored, s.Notes, s.Loaded
	}
	if s := k.Snapshot(); s != nil {
		st.Keys = len(s.Keys)
	}
	return st
}
