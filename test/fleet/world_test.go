// Package fleet simulates a fleet of sidecars and what it asks of the authorization server, for docs/fleet.md.
//
// What is real: package tokencache, whole, one cache a sidecar with an entry for each audience: its schedule, jitter, back-off, flights
// and how it uses what is shared. What is a model: the authorization server, the requests, the starts and crashes, and the shared level,
// which keeps the rules of tokencache/redis in memory. Time is that of testing/synctest.
package fleet

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sidepass/sidepass/tokencache"
)

// world is one run of a plan.
type world struct {
	plan
	variant
	begin  time.Time
	issuer *issuer
	level  *level
	keys   []tokencache.Key // :: audience → its key

	started atomic.Int64 // replicas, in the outage,
	bare    atomic.Int64 // and of those the ones that did not get every token at once
	lost    atomic.Int64 // requests without a token, of replicas that had had one
}

func (w *world) now() time.Duration { return time.Since(w.begin) }

// result is what a run came to.
type result struct {
	plan
	variant
	calls               []int // :: second → of the authorization server
	takes               []int // :: second → of the shared level
	started, bare, lost int64 // see world
}

// run has all the replicas of a plan live in one bubble.
func (p plan) run(t *testing.T, v variant) (r result) {
	synctest.Test(t, func(*testing.T) {
		seconds, begin := int(p.length/time.Second)+1, time.Now()
		w := &world{plan: p, variant: v, begin: begin,
			issuer: &issuer{begin: begin, life: p.life, outage: p.outageOf(v), refuses: p.refuses, calls: make(series, seconds)},
			level:  &level{begin: begin, calls: make(series, seconds)}}
		for a := range p.audiences {
			w.keys = append(w.keys, tokencache.KeyOf(tokencache.KeyFields{Audience: []string{string(rune('a' + a))}}))
		}
		var replicas sync.WaitGroup
		for i := range p.replicas {
			replicas.Go(newReplica(w, i).run)
		}
		replicas.Wait()
		r = result{plan: p, variant: v, calls: w.issuer.calls.read(), takes: w.level.calls.read(),
			started: w.started.Load(), bare: w.bare.Load(), lost: w.lost.Load()}
	})
	return r
}

// load is what came in some time.
type load struct {
	seconds int
	total   int
	peak    int // in the largest second
}

func (l load) hourly() float64 { return float64(l.total) / float64(l.seconds) * 3600 }

// phases are the parts of a run that differ.
type phases struct{ steady, wave, outage, after load }

// phases sorts what is counted by second. A wave is the largest of all of them; after the outage comes as much time again. The first starts are none of them.
func (r result) phases(counted []int) (p phases) {
	out := r.outageOf(r.variant)
	after := window{out.to, out.to + r.outage}
	waves := make([]load, len(r.waves))
	for s, n := range counted {
		at := time.Duration(s) * time.Second
		into := &p.steady
		switch i := slices.IndexFunc(r.waves, func(from time.Duration) bool { return at >= from && at < from+time.Duration(r.batches)*r.every }); {
		case at < r.starts+time.Second:
			continue
		case i >= 0:
			into = &waves[i]
		case out.holds(at):
			into = &p.outage
		case after.holds(at):
			into = &p.after
		}
		into.seconds++
		into.total += n
		into.peak = max(into.peak, n)
	}
	for _, w := range waves {
		if w.total > p.wave.total {
			p.wave.total, p.wave.seconds = w.total, w.seconds
		}
		p.wave.peak = max(p.wave.peak, w.peak)
	}
	return p
}
