package fleet

import (
	"context"
	"math"
	"math/rand/v2"
	"sort"
	"sync"
	"time"

	"github.com/sidepass/sidepass/tokencache"
)

// pace is the time between two requests of a replica for one audience.
const pace = time.Second

// replica is a sidecar, over all its lives: a token cache with an entry for each audience, which is asked for its token at the start
// and once a second from then on, at a moment of the second that is each entry's own.
//
// Of these requests only those are made that do something. One that finds a fresh token, or a back-off, changes nothing in the cache;
// which is the first that does, the cache itself says: Status of a later time is what a request will meet at that time.
type replica struct {
	*world
	index  int
	draw   func() float64
	phases []time.Duration // :: audience → the moment of the second

	cache   *tokencache.Cache // nil: it is away
	seat    *seat
	life    context.Context
	end     context.CancelFunc
	entries []*tokencache.Entry // :: audience
	next    []time.Duration     // :: audience → the next request that does something
	had     []bool              // :: audience → there has been a token in this life
	waiting sync.WaitGroup
}

func newReplica(w *world, index int) *replica {
	r := &replica{world: w, index: index, draw: func() float64 { return math.Nextafter(1, 0) }}
	if w.jitter {
		var mu sync.Mutex
		draws := rand.New(rand.NewPCG(uint64(index), 2))
		r.draw = func() float64 { mu.Lock(); defer mu.Unlock(); return draws.Float64() }
	}
	phases := rand.New(rand.NewPCG(uint64(index), 3))
	for range w.audiences {
		r.phases = append(r.phases, time.Duration(phases.Float64()*float64(pace)))
	}
	r.entries = make([]*tokencache.Entry, w.audiences)
	r.next = make([]time.Duration, w.audiences)
	r.had = make([]bool, w.audiences)
	return r
}

// run is the replica from the beginning to the end.
func (r *replica) run() {
	events := r.events(r.index)
	for now := r.now(); now < r.length; now = r.now() {
		if len(events) > 0 && events[0].at <= now {
			r.stop(events[0].crash)
			if !events[0].crash {
				r.start(now)
			}
			events = events[1:]
			continue
		}
		wake := r.length
		if len(events) > 0 {
			wake = min(wake, events[0].at)
		}
		for a := range r.next {
			if r.cache != nil && r.next[a] <= now {
				r.request(a, now)
			}
			if r.cache != nil {
				wake = min(wake, r.next[a])
			}
		}
		time.Sleep(wake - now)
	}
	r.stop(false)
	r.waiting.Wait()
}

// start begins a life with nothing. As tokens.prefetch has it, all tokens are asked for at once.
func (r *replica) start(now time.Duration) {
	inOutage := r.issuer.outage.holds(now)
	if inOutage {
		r.started.Add(1)
	}
	r.cache = tokencache.New(tokencache.Options{Rand: r.draw})
	r.seat = &seat{level: r.level}
	r.life, r.end = context.WithCancel(context.Background())
	settings := tokencache.Settings{Source: r.issuer, RefreshAt: refreshAt, MinRemaining: minRemaining}
	if r.shared {
		settings.Shared = r.seat
	}
	var bare sync.Once
	for a, key := range r.keys {
		r.entries[a], r.had[a], r.next[a] = r.cache.Entry(key), false, r.first(a, now+1)
		r.entries[a].Use(settings)
		r.get(a, func() {
			if inOutage {
				bare.Do(func() { r.bare.Add(1) })
			}
		})
	}
}

// stop ends a life. Who crashes says nothing to the others any more.
func (r *replica) stop(crash bool) {
	if r.cache == nil {
		return
	}
	r.seat.dead.Store(crash)
	r.end()
	r.cache.Close()
	r.cache = nil
}

// first is the first request for an audience at a time or later.
func (r *replica) first(a int, at time.Duration) time.Duration {
	return r.phases[a] + (at-r.phases[a]+pace-1)/pace*pace
}

// request makes a request for an audience, unless it would change nothing, and finds the next one.
func (r *replica) request(a int, now time.Duration) {
	e, clock := r.entries[a], time.Now()
	r.next[a] = now + pace
	switch st := e.Status(clock); {
	case st.State == tokencache.StateFresh:
		r.had[a] = true
		requests := int(st.Token.Expiry.Sub(clock)/pace) + 1
		r.next[a] = now + pace*time.Duration(sort.Search(requests, func(n int) bool {
			return e.Status(clock.Add(pace*time.Duration(n))).State != tokencache.StateFresh
		}))
	case clock.Before(st.RetryAt):
		r.next[a] = r.first(a, now+st.RetryAt.Sub(clock))
		if st.Token == nil && r.had[a] {
			r.lost.Add(1)
		}
	case st.State == tokencache.StateDue: // it does not wait
		_, _, _ = e.Get(r.life)
	default:
		had := r.had[a]
		r.get(a, func() {
			if had {
				r.lost.Add(1)
			}
		})
	}
}

// get waits for a token beside the other requests. A life that ends fails nothing.
func (r *replica) get(a int, failed func()) {
	e, life := r.entries[a], r.life
	r.waiting.Go(func() {
		if _, _, err := e.Get(life); err != nil && life.Err() == nil {
			failed()
		}
	})
}
