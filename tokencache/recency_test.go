package tokencache

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestPlacesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := exchanging(answer{lifetime: time.Hour})
		x := openExchange(t, i, func(o *Options, _ *Settings) { o.MaxEntries = 3 })
		for _, s := range []string{"a", "b", "c"} {
			wantToken(t, x, s, Miss)
		}
		wantToken(t, x, "a", Hit)
		wantToken(t, x, "d", Miss) // takes the place of b
		for _, s := range []string{"a", "c", "d"} {
			wantToken(t, x, s, Hit)
		}
		wantToken(t, x, "b", Miss)
		for n := range 1000 {
			x.Subject(fmt.Sprint(n))
		}
		if l, m := x.cache.subjects.order.Len(), len(x.cache.subjects.byKey); l != 3 || m != 3 {
			t.Errorf("want 3 places, got %d and %d", l, m)
		}
		x.cache.SetMaxEntries(2)
		if l := x.cache.subjects.order.Len(); l != 2 {
			t.Errorf("want 2 places, got %d", l)
		}
		x.cache.SetMaxEntries(3)
		y := x.cache.Exchange(Key{1})
		y.Use(*x.settings.Load())
		wantToken(t, x, "a", Miss)
		wantToken(t, y, "a", Miss) // another target
		wantToken(t, y, "b", Miss)
		wantToken(t, y, "c", Miss) // the places are all exchanges'
		wantToken(t, x, "a", Miss)
	})
}

func TestOnePlaceASubject(t *testing.T) {
	x := openExchange(t, exchanging(answer{lifetime: time.Hour}))
	key := x.key.of("a")
	first := x.admit(key, &Entry{exchange: x})
	if second := x.admit(key, &Entry{exchange: x}); second != first { // another request was faster
		t.Error("a subject that two requests bring at once has two places")
	}
	if x.Subject("a").entry != first {
		t.Error("the place is not found")
	}
}

func TestEvictionDuringAFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := exchanging(answer{takes: time.Second, lifetime: time.Hour})
		x := openExchange(t, i, func(o *Options, _ *Settings) { o.MaxEntries = 1 })
		wantToken(t, x, "warm", Miss)
		var wg sync.WaitGroup
		for _, s := range []string{"a", "b", "c", "a"} {
			wg.Go(func() { wantToken(t, x, s, Miss) })
			synctest.Wait()
		}
		held := x.Subject("a")
		wg.Wait()
		x.Subject("z")
		tok, l, err := held.Get(t.Context())
		if err != nil || l != Hit || tok.Reveal() != "for a" || !held.Drop(tok) {
			t.Errorf("who holds a place that went: want it to go on as before, got %s %v", l, err)
		}
	})
}

func TestRetainForgetsExchangesAndTheirTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := exchanging(answer{lifetime: time.Hour})
		x := openExchange(t, i)
		c := x.cache
		y := c.Exchange(Key{1})
		y.Use(*x.settings.Load())
		wantToken(t, x, "a", Miss)
		wantToken(t, y, "a", Miss)
		c.Retain([]Key{{1}, {2}})
		if c.Exchange(Key{1}) != y || c.Exchange(Key{}) == x || c.subjects.order.Len() != 1 {
			t.Errorf("want the one kept and the other forgotten, with its places; %d places", c.subjects.order.Len())
		}
		wantToken(t, y, "a", Hit)
		wantToken(t, x, "a", Miss) // a request under the old configuration
		again := c.Exchange(Key{})
		again.Use(*x.settings.Load())
		if e := again.Subject("a").entry; e.exchange != again {
			t.Error("an exchange uses a place that was made under settings which are no longer in force")
		}
	})
}
