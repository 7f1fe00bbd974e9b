package redis

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/sidepass/sidepass/tokencache"
)

func TestOneAsksAndTheOthersTake(t *testing.T) {
	m := server(t)
	a, b := connect(t, at(m), sealing(t, 1)), connect(t, at(m), sealing(t, 1))
	l := wantTurn(t, a, "lease").Lease
	wantTurn(t, b, "others")
	wantTurn(t, a, "others") // another flight of the same replica has no more right
	l.End(aToken("canary", 10*time.Second, time.Hour), nil)
	got := wantTurn(t, b, "token canary").Token
	if got.Scope != "read:orders" || got.Scheme != "Bearer" || got.Expiry.Sub(got.Obtained) != time.Hour {
		t.Errorf("the token came as %s %s, %s", got.Scheme, got.Scope, got.Expiry.Sub(got.Obtained))
	}
	if left := time.Until(got.Expiry); left > time.Hour-10*time.Second || left < time.Hour-11*time.Second {
		t.Errorf("it has %s left", left)
	}
	q := question()
	q.Key = tokencache.Key{9}
	if got, _ := turn(t, b, q); got != "lease" {
		t.Errorf("another key: %s", got)
	}
}

// Names tell nothing and are in one slot of a cluster; nothing is there for ever; nothing can be read.
func TestWhatTheServerSees(t *testing.T) {
	m := server(t)
	r := connect(t, at(m), sealing(t, 1))
	l := wantTurn(t, r, "lease").Lease
	l.End(nil, &tokencache.Holdup{Credentials: "credentials", Failure: &tokencache.Failure{Detail: "canary-detail", RetryAfter: time.Minute}})
	q := question()
	q.Credentials = "others"
	if _, got := turn(t, r, q); got.Lease == nil {
		t.Fatal("no lease")
	} else {
		wantNames(t, m, "token", 0, "lease", 1, "backoff", 1)
		got.Lease.End(aToken("canary-token", 0, time.Hour), nil)
	}
	wantNames(t, m, "token", 1, "lease", 0, "backoff", 0)
	if err := r.probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, name := range m.Keys() {
		if ttl := m.TTL(name); ttl <= 0 || ttl > time.Hour {
			t.Errorf("%s lasts %s", name, ttl)
		}
		if value, _ := m.Get(name); strings.Contains(value, "canary") || strings.Contains(value, "orders") {
			t.Errorf("%s can be read", name)
		}
	}
}

func wantNames(t *testing.T, m *miniredis.Miniredis, want ...any) {
	t.Helper()
	shape := regexp.MustCompile(`^sidepass:1:\{[A-Za-z0-9_-]{43}\}:(token|lease|backoff)$`)
	got := map[string]int{}
	slots := map[string]bool{}
	for _, name := range m.Keys() {
		kind := shape.FindStringSubmatch(name)
		if kind == nil {
			t.Fatalf("the name %s", name)
		}
		got[kind[1]]++
		slots[name[:strings.Index(name, "}")]] = true
	}
	for i := 0; i < len(want); i += 2 {
		if got[want[i].(string)] != want[i+1] {
			t.Errorf("want %v of %s, got %v", want[i+1], want[i], m.Keys())
		}
	}
	if len(slots) != 1 {
		t.Errorf("%d slots", len(slots))
	}
}

func TestALeaseLapses(t *testing.T) {
	m := server(t)
	a, b := connect(t, at(m), sealing(t, 1)), connect(t, at(m), sealing(t, 1))
	dead := wantTurn(t, a, "lease").Lease
	m.FastForward(leaseTime - time.Millisecond)
	wantTurn(t, b, "others")
	m.FastForward(time.Millisecond)
	l := wantTurn(t, b, "lease").Lease
	// The first one wakes up: whatever it ends with, nothing comes of it.
	dead.End(aToken("old", 0, time.Hour), nil)
	wantTurn(t, a, "others")
	l.End(aToken("new", 0, time.Hour), nil)
	dead.End(nil, &tokencache.Holdup{Failure: &tokencache.Failure{RetryAfter: time.Minute}})
	dead.End(nil, nil)
	wantTurn(t, a, "token new")
}

func TestALeaseIsKept(t *testing.T) {
	m := server(t)
	a, b := connect(t, at(m), sealing(t, 1)), connect(t, at(m), sealing(t, 1))
	l := wantTurn(t, a, "lease").Lease
	m.FastForward(leaseTime - time.Millisecond)
	name := m.Keys()[0]
	ctx, cancel := context.WithCancel(t.Context())
	kept := make(chan struct{})
	go func() { l.Keep(ctx); close(kept) }()
	eventually(t, "the lease is kept", func() bool { return m.TTL(name) == leaseTime })
	m.FastForward(time.Millisecond)
	wantTurn(t, b, "others")
	cancel()
	<-kept
	// What has lapsed is not taken back from who has it now.
	m.FastForward(leaseTime)
	wantTurn(t, b, "lease")
	m.FastForward(time.Second)
	l.Keep(t.Context()) // returns when it sees that
	if got := m.TTL(name); got != leaseTime-time.Second {
		t.Errorf("the other's lease lasts %s", got)
	}
}

func TestAHoldup(t *testing.T) {
	m := server(t)
	a, b := connect(t, at(m), sealing(t, 1)), connect(t, at(m), sealing(t, 1))
	f := &tokencache.Failure{Kind: tokencache.Throttled, Result: "throttled", Code: "slow", Detail: "the server limits us", RetryAfter: time.Minute, Answered: true}
	wantTurn(t, a, "lease").Lease.End(nil, &tokencache.Holdup{Failure: f, Credentials: "credentials", InARow: 3})
	h := wantTurn(t, b, "holdup throttled").Holdup
	got := *h.Failure
	if got.RetryAfter > time.Minute || got.RetryAfter < 59*time.Second || h.InARow != 3 {
		t.Errorf("it lasts %s, %d in a row", got.RetryAfter, h.InARow)
	}
	if got.RetryAfter = f.RetryAfter; got != *f {
		t.Errorf("the failure came as %+v", got)
	}
	m.FastForward(time.Minute)
	wantTurn(t, b, "lease").Lease.End(aToken("new", 0, time.Hour), nil)
	wantTurn(t, a, "token new")
}

func TestGivingTheLeaseBack(t *testing.T) {
	m := server(t)
	a, b := connect(t, at(m), sealing(t, 1)), connect(t, at(m), sealing(t, 1))
	for _, end := range []func(tokencache.Lease){
		func(l tokencache.Lease) { l.End(nil, nil) },
		func(l tokencache.Lease) { l.End(aToken("expired", time.Hour, time.Hour), nil) },
		func(l tokencache.Lease) { l.End(aToken(strings.Repeat("x", maxValue), 0, time.Hour), nil) },
		func(l tokencache.Lease) { l.End(nil, &tokencache.Holdup{Failure: &tokencache.Failure{}}) },
	} {
		end(wantTurn(t, a, "lease").Lease)
		if names := m.Keys(); len(names) != 0 {
			t.Fatalf("left behind: %v", names)
		}
		wantTurn(t, b, "lease").Lease.End(nil, nil)
	}
}

// A token that is not fit is replaced by who has the lease; one that has come in the meantime is judged first.
func TestAnUnfitToken(t *testing.T) {
	m := server(t)
	a, b := connect(t, at(m), sealing(t, 1)), connect(t, at(m), sealing(t, 1))
	wantTurn(t, a, "lease").Lease.End(aToken("old", 0, time.Hour), nil)
	asked := 0
	q := question()
	q.Fit = func(tok *tokencache.Token) bool {
		if asked++; tok.Reveal() == "old" { // between b's look and its lease, a puts a new one there
			f, err := a.take(t.Context(), placesOf(names(a.keys.Load(), key)[0]), "a", false, "")
			if err != nil {
				t.Fatal(err)
			}
			l := &lease{cache: a.Cache, keys: a.keys.Load(), key: key, places: placesOf(names(a.keys.Load(), key)[0]), id: "a", here: time.Now(), server: f.at}
			if f, err = a.take(t.Context(), l.places, l.id, true, markOf(f.token)); err != nil || f.turn != turnOurs {
				t.Fatal(f.turn, err)
			}
			l.End(aToken("new", 0, time.Hour), nil)
		}
		return tok.Reveal() == "new"
	}
	if got, _ := turn(t, b, q); got != "token new" || asked != 2 {
		t.Errorf("got %s, having judged %d", got, asked)
	}
	q.Fit = func(*tokencache.Token) bool { return false }
	_, got := turn(t, b, q)
	if got.Lease == nil {
		t.Fatal("no lease though the token is not fit")
	}
	got.Lease.End(aToken("newer", 0, time.Hour), nil)
	wantTurn(t, a, "token newer")
}

func TestForget(t *testing.T) {
	m := server(t)
	a, b := connect(t, at(m), sealing(t, 1)), connect(t, at(m), sealing(t, 2, 1))
	wantTurn(t, a, "lease").Lease.End(aToken("one", 0, time.Hour), nil)
	got := wantTurn(t, b, "token one").Token
	b.Forget(t.Context(), tokencache.Key{9}, got)
	b.Forget(t.Context(), key, aToken("two", 0, time.Hour))
	wantTurn(t, a, "token one")
	b.Forget(t.Context(), key, got)
	if names := m.Keys(); len(names) != 0 {
		t.Errorf("left behind: %v", names)
	}
}

// While keys are changed, replicas have different ones: they share as far as they can open what the others seal.
func TestKeysAreChanged(t *testing.T) {
	for _, tc := range []struct{ writer, reader, want string }{
		{"1", "1", "token x"}, {"1", "12", "token x"}, {"1", "21", "token x"}, {"12", "21", "token x"}, {"21", "12", "token x"}, {"21", "2", "token x"},
		{"21", "1", "lease"}, {"1", "2", "lease"},
	} {
		t.Run(tc.writer+" "+tc.reader, func(t *testing.T) {
			m := server(t)
			w, r := connect(t, at(m), sealing(t, []byte(tc.writer)...)), connect(t, at(m), sealing(t, []byte(tc.reader)...))
			l := wantTurn(t, w, "lease").Lease
			if tc.want != "lease" {
				wantTurn(t, r, "others")
			}
			l.End(aToken("x", 0, time.Hour), nil)
			if got := wantTurn(t, r, tc.want); got.Lease != nil {
				got.Lease.End(nil, nil)
			}
			r.SetKeys(sealing(t, []byte(tc.writer)...))
			wantTurn(t, r, "token x")
		})
	}
}

// Whatever is there under our names, it is passed over and replaced: what is not ours, of another key, of another kind, over.
func TestWhateverIsThere(t *testing.T) {
	other := server(t)
	k := sealing(t, 1)
	mine, theirs := placesOf(names(k, key)[0]), placesOf(names(k, tokencache.Key{9})[0])
	w := connect(t, at(other), k)
	q := question()
	q.Key = tokencache.Key{9}
	_, got := turn(t, w, q)
	got.Lease.End(aToken("another's", 0, time.Hour), nil)
	moved, err := other.Get(theirs.token)
	if err != nil {
		t.Fatal(err)
	}
	wantTurn(t, w, "lease").Lease.End(nil, &tokencache.Holdup{Credentials: "credentials", Failure: &tokencache.Failure{RetryAfter: time.Hour}})
	holdup, err := other.Get(mine.backoff)
	if err != nil {
		t.Fatal(err)
	}
	other.FlushAll()
	wantTurn(t, w, "lease").Lease.End(aToken("x", 0, 20*time.Millisecond), nil)
	over, err := other.Get(mine.token)
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(25 * time.Millisecond)
	set := func(value string) func(m *miniredis.Miniredis, name string) {
		return func(m *miniredis.Miniredis, name string) { _ = m.Set(name, value) }
	}
	for what, put := range map[string]func(m *miniredis.Miniredis, name string){
		"nothing":           func(*miniredis.Miniredis, string) {},
		"garbage":           set("garbage"),
		"long garbage":      set(strings.Repeat("\x01\x00g", 1000)),
		"empty":             set(""),
		"huge":              set(strings.Repeat("x", maxValue+1)),
		"a list":            func(m *miniredis.Miniredis, name string) { _, _ = m.Push(name, "x") },
		"a hash":            func(m *miniredis.Miniredis, name string) { m.HSet(name, "a", "b") },
		"another key's":     set(moved),
		"a back-off":        set(holdup),
		"what is over":      set(over),
		"cut off":           set(over[:len(over)-1]),
		"of another kind":   set(over[markBytes:]),
		"garbage that ends": func(m *miniredis.Miniredis, name string) { _ = m.Set(name, "garbage"); m.SetTTL(name, time.Hour) },
	} {
		t.Run(what, func(t *testing.T) {
			m := server(t)
			a, b := connect(t, at(m), k), connect(t, at(m), k)
			put(m, mine.token)
			put(m, mine.lease)
			if what != "a back-off" {
				put(m, mine.backoff)
			}
			l := wantTurn(t, a, "lease").Lease
			wantTurn(t, b, "others")
			l.End(aToken("good", 0, time.Hour), nil)
			wantTurn(t, b, "token good")
			if told := fmt.Sprint(a.told(), b.told()); strings.Contains(told, "false") {
				t.Errorf("the server counts as down: %s", told)
			}
		})
	}
}
