package jwks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

// server is an issuer's key set endpoint whose every answer a test can change.
type server struct {
	mu      sync.Mutex
	status  int
	body    []byte
	header  http.Header
	err     error
	latency time.Duration
	drip    bool // the body never ends
	hits    []time.Time
	auth    []string
}

func newServer(keys ...any) *server { return &server{status: 200, body: document(keys...)} }

func (s *server) alter(f func(*server)) { s.mu.Lock(); defer s.mu.Unlock(); f(s) }

func (s *server) count() int { s.mu.Lock(); defer s.mu.Unlock(); return len(s.hits) }

func (s *server) Do(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	s.hits = append(s.hits, time.Now())
	s.auth = append(s.auth, r.Header.Get("Authorization"))
	latency, err, drip := s.latency, s.err, s.drip
	resp := &http.Response{StatusCode: s.status, Header: s.header.Clone(), Body: io.NopCloser(strings.NewReader(string(s.body)))}
	s.mu.Unlock()
	select {
	case <-time.After(latency):
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	if drip {
		resp.Body = io.NopCloser(readerFunc(func(p []byte) (int, error) {
			select {
			case <-time.After(time.Second):
				p[0] = ' '
				return 1, nil
			case <-r.Context().Done():
				return 0, r.Context().Err()
			}
		}))
	}
	return resp, err
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

type world struct {
	*server
	*Keys
	results func() []string
	ended   chan struct{}
}

// run starts Keys in a bubble with no jitter; they end with the test.
func run(t *testing.T, s *server, change func(*Options)) world {
	t.Helper()
	var mu sync.Mutex
	var results []string
	o := Options{
		URI:  func(context.Context) (string, error) { return "https://issuer.example/jwks", nil },
		HTTP: s, Rand: func() float64 { return 0.999999 },
		Observer: Observer{Refreshed: func(result string, keys int, err error) {
			if (err == nil) != (result == ResultOK) {
				t.Errorf("result %q with error %v", result, err)
			}
			mu.Lock()
			defer mu.Unlock()
			results = append(results, fmt.Sprintf("%s %d", result, keys))
		}},
	}
	if change != nil {
		change(&o)
	}
	k, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	w := world{s, k, func() []string { mu.Lock(); defer mu.Unlock(); return slices.Clone(results) }, make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer close(w.ended)
		if err := k.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	}()
	t.Cleanup(func() { cancel(); <-w.ended })
	return w
}

func bubble(t *testing.T, f func(*testing.T)) { t.Helper(); synctest.Test(t, f) }

func settle() { synctest.Wait() }

// pass lets time pass, and all that is due then happen.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestKeysAreLoadedAtOnceAndThenEveryRefresh(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newServer(rsaJWK(nil))
		s.latency = time.Second
		w := run(t, s, nil)
		settle()
		if w.Ready() || w.Snapshot() != nil || w.count() != 1 {
			t.Error("ready before the first load ended, or it did not begin at once")
		}
		pass(time.Second)
		first := w.Snapshot()
		if !w.Ready() || first == nil || first.Generation != 1 || w.count() != 1 {
			t.Fatalf("after the first load: %+v, %d fetches", first, w.count())
		}
		pass(15*time.Minute - 2*time.Second)
		if w.count() != 1 || w.Snapshot() != first {
			t.Errorf("%d fetches before the refresh is due", w.count())
		}
		pass(4 * time.Second)
		if w.count() != 2 || w.Snapshot().Generation != 2 {
			t.Errorf("%d fetches after the refresh was due", w.count())
		}
	})
}

func TestASetReplacesItsPredecessor(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := run(t, newServer(edJWK(m{"kid": "old"})), nil)
		settle()
		w.alter(func(s *server) { s.body = document(edJWK(m{"kid": "new"})) })
		pass(15 * time.Minute)
		s := w.Snapshot()
		if len(s.Keys) != 1 || len(s.Candidates("old", "EdDSA")) != 0 || len(s.Candidates("new", "EdDSA")) != 1 {
			t.Errorf("keys %+v, want the new one alone", s.Keys)
		}
	})
}

// What replaces nothing: the good set stays in use until MaxStale, the attempt counts under its word, and the next good
// answer is used.
func TestFailuresKeepTheGoodSet(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*server)
		result string
	}{
		{"401", func(s *server) { s.status = 401 }, ResultOtherError},
		{"500", func(s *server) { s.status = 500 }, ResultOtherError},
		{"redirect", func(s *server) { s.status = 302; s.header = http.Header{"Location": {"https://evil.example"}} }, ResultOtherError},
		{"204 with a good body", func(s *server) { s.status = 204 }, ResultOtherError},
		{"429", func(s *server) { s.status = 429 }, ResultThrottled},
		{"HTML", func(s *server) { s.body = []byte("<html>login</html>") }, ResultInvalidResponse},
		{"no keys", func(s *server) { s.body = []byte(`{"keys":[]}`) }, ResultInvalidResponse},
		{"no usable keys", func(s *server) { s.body = document(m{"kty": "oct", "k": "AA"}) }, ResultInvalidResponse},
		{"empty object", func(s *server) { s.body = []byte(`{}`) }, ResultInvalidResponse},
		{"null", func(s *server) { s.body = []byte(`null`) }, ResultInvalidResponse},
		{"too large", func(s *server) { s.body = append(document(edJWK(nil)), make([]byte, maxBytes)...) }, ResultInvalidResponse},
		{"unreachable", func(s *server) { s.err = errors.New("connection refused") }, ResultUnreachable},
		{"slow", func(s *server) { s.latency = time.Minute }, ResultTimeout},
		{"drip", func(s *server) { s.drip = true }, ResultTimeout},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := run(t, newServer(rsaJWK(nil)), func(o *Options) { o.MaxStale = 2 * time.Hour })
				settle()
				good, body := w.Snapshot(), w.body
				w.alter(c.change)
				pass(15*time.Minute + 6*time.Second)
				if w.Snapshot() != good {
					t.Error("the good set was replaced")
				}
				if got := w.results()[1]; got != c.result+" 1" {
					t.Errorf("result %q, want %q", got, c.result)
				}
				if st := w.Status(); st.Keys != 1 || st.Result != c.result || st.Err == nil {
					t.Errorf("status %+v", st)
				}
				pass(time.Until(good.Loaded.Add(2 * time.Hour)))
				if w.Snapshot() != good {
					t.Error("the good set was dropped before MaxStale")
				}
				pass(time.Second)
				if w.Snapshot() != nil || w.Ready() || w.Status().Keys != 0 {
					t.Error("the good set is used beyond MaxStale")
				}
				w.alter(func(s *server) { s.status, s.body, s.err, s.latency, s.drip = 200, body, nil, 0, false })
				pass(40 * time.Second)
				if !w.Ready() {
					t.Error("not ready after the issuer came back")
				}
			})
		})
	}
}

func TestBackOff(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newServer(edJWK(nil))
		s.err = errors.New("connection refused")
		w := run(t, s, nil)
		pass(3 * time.Minute)
		w.alter(func(*server) {
			for i, want := range []time.Duration{1, 2, 4, 8, 16, 30, 30} {
				if got := w.hits[i+1].Sub(w.hits[i]).Round(time.Second); got != want*time.Second {
					t.Errorf("pause %d is %s, want %s", i, got, want*time.Second)
				}
			}
		})
		w.alter(func(s *server) { s.err = nil })
		pass(31 * time.Second)
		n := w.count()
		if !w.Ready() {
			t.Fatal("not ready after the issuer came back")
		}
		pass(10 * time.Minute)
		if w.count() != n {
			t.Errorf("%d fetches after the one that succeeded", w.count()-n)
		}
	})
}

func TestCacheControl(t *testing.T) {
	for _, c := range []struct {
		header string
		want   time.Duration
	}{
		{"", 15 * time.Minute},
		{"max-age=600, must-revalidate", 10 * time.Minute},
		{"public, Max-Age=600", 10 * time.Minute},
		{"max-age=0", time.Minute},
		{"max-age=315360000", 15 * time.Minute},
		{"max-age=99999999999999999999", 15 * time.Minute},
		{"max-age=-1", 15 * time.Minute},
		{"max-age=soon", 15 * time.Minute},
		{"no-cache, no-store", 15 * time.Minute},
	} {
		t.Run(c.header, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := newServer(edJWK(nil))
				s.header = http.Header{"Cache-Control": {c.header}}
				w := run(t, s, nil)
				pass(c.want - time.Second)
				if w.count() != 1 {
					t.Errorf("%d fetches before %s", w.count(), c.want)
				}
				pass(2 * time.Second)
				if w.count() != 2 {
					t.Errorf("%d fetches after %s", w.count(), c.want)
				}
			})
		})
	}
	t.Run("a Refresh below a minute stays", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			s := newServer(edJWK(nil))
			s.header = http.Header{"Cache-Control": {"max-age=0"}}
			w := run(t, s, func(o *Options) { o.Refresh = 2 * time.Second })
			pass(2500 * time.Millisecond)
			if w.count() != 2 {
				t.Errorf("%d fetches in 2.5 s", w.count())
			}
		})
	})
}

func TestRefetchFindsANewKeyAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := run(t, newServer(edJWK(m{"kid": "a"})), nil)
		settle()
		for _, kid := range []string{"b", "c"} {
			w.alter(func(s *server) { s.body = document(edJWK(m{"kid": kid})) })
			s, err := w.Refetch(t.Context())
			if err != nil || len(s.Candidates(kid, "EdDSA")) != 1 || s != w.Snapshot() {
				t.Errorf("%v: key %s not found", err, kid)
			}
			pass(10 * time.Second)
		}
	})
}

// A flood of unknown keys costs one fetch an interval, and a real new key is found by the next.
func TestRefetchIsBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newServer(edJWK(m{"kid": "a"}))
		s.latency = 100 * time.Millisecond
		w := run(t, s, nil)
		pass(time.Minute)
		before := w.count()
		stop := time.Now().Add(30 * time.Second)
		for time.Now().Before(stop) {
			var wg sync.WaitGroup
			for range 20 {
				wg.Go(func() {
					if _, err := w.Refetch(t.Context()); err != nil {
						t.Error(err)
					}
				})
			}
			begin := time.Now()
			wg.Wait()
			if d := time.Since(begin); d > 150*time.Millisecond {
				t.Fatalf("a refetch took %s", d)
			}
			pass(10 * time.Millisecond)
		}
		if n := w.count() - before; n > 4 {
			t.Errorf("%d fetches in 30 s, want at most one in 10 s", n)
		}
		w.alter(func(s *server) { s.body = document(edJWK(m{"kid": "new"})) })
		pass(10 * time.Second)
		if s, _ := w.Refetch(t.Context()); len(s.Candidates("new", "EdDSA")) != 1 {
			t.Error("the flood kept a real new key from being found")
		}
	})
}

func TestRefetchWaitsForTheFirstLoad(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newServer(edJWK(nil))
		s.latency = 2 * time.Second
		w := run(t, s, nil)
		begin := time.Now()
		set, err := w.Refetch(t.Context())
		if err != nil || set == nil || time.Since(begin) != 2*time.Second || w.count() != 1 {
			t.Errorf("%v, %v after %s and %d fetches", set, err, time.Since(begin), w.count())
		}
	})
}

func TestRefetchWithoutKeys(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newServer(edJWK(nil))
		s.err = errors.New("connection refused")
		w := run(t, s, nil)
		pass(16 * time.Second) // the next attempt by itself is at 31 s
		begin := time.Now()
		_, err := w.Refetch(t.Context())
		var u *UnavailableError
		if !errors.As(err, &u) || !errors.Is(err, s.err) || u.RetryAfter < time.Second || u.RetryAfter > 30*time.Second {
			t.Errorf("error %v", err)
		}
		n := w.count()
		_, err = w.Refetch(t.Context())
		if !errors.As(err, &u) || time.Since(begin) != 0 || w.count() != n {
			t.Errorf("within the interval: %v after %s, %d more fetches", err, time.Since(begin), w.count()-n)
		}
		w.alter(func(s *server) { s.err = nil })
		pass(10 * time.Second)
		if set, err := w.Refetch(t.Context()); err != nil || set == nil {
			t.Errorf("after the issuer came back: %v", err)
		}
	})
}

// The load belongs to Keys: who asked for it may go.
func TestALoadOutlivesItsCaller(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newServer(edJWK(m{"kid": "a"}))
		w := run(t, s, nil)
		settle()
		w.alter(func(s *server) { s.body = document(edJWK(m{"kid": "b"})); s.latency = 3 * time.Second })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin := time.Now()
		if set, err := w.Refetch(ctx); err != nil || len(set.Candidates("a", "EdDSA")) != 1 || time.Since(begin) != time.Second {
			t.Errorf("%v after %s", err, time.Since(begin))
		}
		pass(3 * time.Second)
		if len(w.Snapshot().Candidates("b", "EdDSA")) != 1 {
			t.Error("the load ended with its caller")
		}
	})
}

func TestReloadIgnoresTheInterval(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newServer(edJWK(m{"kid": "a"}))
		w := run(t, s, nil)
		settle()
		for _, kid := range []string{"b", "c", "d"} {
			w.alter(func(s *server) { s.body = document(edJWK(m{"kid": kid})) })
			if set, err := w.Reload(t.Context()); err != nil || len(set.Candidates(kid, "EdDSA")) != 1 {
				t.Errorf("%v: key %s not found", err, kid)
			}
		}
		// A load that began before the call may have read the old set.
		w.alter(func(s *server) { s.latency = time.Second })
		go func() { _, _ = w.Reload(t.Context()) }()
		pass(500 * time.Millisecond)
		w.alter(func(s *server) { s.body = document(edJWK(m{"kid": "e"})) })
		if set, err := w.Reload(t.Context()); err != nil || len(set.Candidates("e", "EdDSA")) != 1 {
			t.Errorf("%v: key e not found", err)
		}
	})
}

func TestAfterRunEnded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newServer(edJWK(nil))
		k, err := New(Options{URI: func(context.Context) (string, error) { return "https://issuer.example/jwks", nil }, HTTP: s,
			Observer: Observer{Refreshed: func(result string, _ int, _ error) {
				if result != ResultOK {
					t.Errorf("the end was reported as %q", result)
				}
			}}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); _ = k.Run(ctx) }()
		settle()
		s.alter(func(s *server) { s.latency = time.Hour })
		waiting := make(chan struct{})
		go func() { defer close(waiting); _, _ = k.Refetch(t.Context()) }()
		settle()
		begin := time.Now()
		cancel()
		<-ended
		<-waiting
		if set, err := k.Refetch(t.Context()); err != nil || set == nil || time.Since(begin) != 0 {
			t.Errorf("%v after %s: the last keys must be returned at once", err, time.Since(begin))
		}
	})
}

func TestRefetchBeforeRun(t *testing.T) {
	bubble(t, func(t *testing.T) {
		k, err := New(Options{File: func() ([]byte, error) { return document(edJWK(nil)), nil }})
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		var u *UnavailableError
		if _, err := k.Refetch(t.Context()); !errors.As(err, &u) || u.Err != nil || time.Since(begin) != 5*time.Second {
			t.Errorf("%v after %s, want to have waited one Timeout", err, time.Since(begin))
		}
	})
}

func TestSources(t *testing.T) {
	t.Run("file", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			text, fail := document(edJWK(m{"kid": "a"})), error(nil)
			w := run(t, newServer(), func(o *Options) {
				o.URI, o.HTTP = nil, nil
				o.File = func() ([]byte, error) { return text, fail }
			})
			settle()
			if len(w.Snapshot().Candidates("a", "EdDSA")) != 1 {
				t.Fatal("the file's key is not there")
			}
			fail = errors.New("permission denied")
			if s, err := w.Reload(t.Context()); err != nil || len(s.Candidates("a", "EdDSA")) != 1 || w.Status().Result != ResultFileError {
				t.Errorf("%v: the last good keys must stay, status %+v", err, w.Status())
			}
			text, fail = document(edJWK(m{"kid": "b"})), nil
			if s, err := w.Reload(t.Context()); err != nil || len(s.Candidates("b", "EdDSA")) != 1 {
				t.Errorf("%v: the new key is not there", err)
			}
		})
	})
	t.Run("discovery fails", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			s := newServer(edJWK(nil))
			w := run(t, s, func(o *Options) {
				o.URI = func(context.Context) (string, error) { return "", errors.New("issuer mismatch") }
			})
			settle()
			if st := w.Status(); st.Result != ResultDiscoveryFailed || w.count() != 0 || w.Ready() {
				t.Errorf("status %+v, %d fetches", st, w.count())
			}
		})
	})
	t.Run("bearer token", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			uri := "https://issuer.example/jwks"
			w := run(t, newServer(edJWK(nil)), func(o *Options) {
				o.URI = func(context.Context) (string, error) { return uri, nil }
				o.BearerToken = func(to string) (string, bool) { return "canary", to == "https://issuer.example/jwks" }
			})
			settle()
			uri = "https://elsewhere.example/jwks"
			_, _ = w.Reload(t.Context())
			if got := fmt.Sprint(w.auth); got != "[Bearer canary ]" {
				t.Errorf("Authorization fields %q, want the token at the first address only", got)
			}
		})
	})
	t.Run("the body breaks off", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			w := run(t, newServer(), func(o *Options) { o.HTTP = broken{} })
			settle()
			if st := w.Status(); st.Result != ResultUnreachable {
				t.Errorf("status %+v", st)
			}
		})
	})
}

type broken struct{}

func (broken) Do(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: 200, Body: io.NopCloser(iotest.ErrReader(io.ErrUnexpectedEOF))}, nil
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	uri := func(context.Context) (string, error) { return "", nil }
	file := func() ([]byte, error) { return nil, nil }
	for name, o := range map[string]Options{
		"nothing": {}, "URI without HTTP": {URI: uri}, "HTTP without URI": {HTTP: newServer()}, "both": {URI: uri, HTTP: newServer(), File: file},
		"negative duration": {File: file, Refresh: -1},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestClockSkewIsReported(t *testing.T) {
	for name, tc := range map[string]struct {
		date, age string
		want      string
	}{
		"an hour ahead": {"3600", "", "[1h0m0s]"},
		"behind":        {"-60", "", "[-1m0s]"},
		"no Date":       {"", "", "[]"},
		"from a cache":  {"-60", "60", "[]"},
		"not a date":    {"yesterday", "", "[]"},
	} {
		for _, status := range []int{200, 500} {
			bubble(t, func(t *testing.T) {
				s := newServer(edJWK(nil))
				s.status, s.header = status, http.Header{}
				if seconds, err := strconv.Atoi(tc.date); err == nil {
					s.header.Set("Date", time.Now().Add(time.Duration(seconds)*time.Second).UTC().Format(http.TimeFormat))
				} else if tc.date != "" {
					s.header.Set("Date", tc.date)
				}
				if tc.age != "" {
					s.header.Set("Age", tc.age)
				}
				got := []time.Duration{}
				run(t, s, func(o *Options) { o.Observer.Skew = func(ahead time.Duration) { got = append(got, ahead) } })
				settle()
				if fmt.Sprint(got) != tc.want {
					t.Errorf("%s, %d: want %s, got %v", name, status, tc.want, got)
				}
			})
		}
	}
}
