package fleet

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"
)

// The defaults of tokens.refresh_at and tokens.min_remaining, and how much earlier than at refreshAt a refresh may come.
const (
	refreshAt    = 0.8
	earliest     = 0.9 * refreshAt
	minRemaining = 10 * time.Second
)

// plan is what happens to a fleet. All times count from the beginning.
type plan struct {
	replicas, audiences int

	length  time.Duration
	life    time.Duration   // of a token
	starts  time.Duration   // the replicas' first starts are spread over it
	waves   []time.Duration // when all replicas begin to be replaced
	batches int             // in which that is done,
	every   time.Duration   // one in this time,
	within  time.Duration   // each of which starts within this
	crashes time.Duration   // between two of one replica, on average; 0: none
	down    time.Duration   // how long a crashed one is away, at most
	outage  time.Duration   // how long the outage lasts that follows the first wave; 0: none
	refuses bool            // in it connections are refused; else the answer is a 503
}

// tenThousand is the fleet of docs/fleet.md.
var tenThousand = plan{
	replicas: 10_000, audiences: 20,
	length: 24 * time.Hour, life: time.Hour,
	starts: 5 * time.Minute,
	waves:  []time.Duration{3 * time.Hour, 14 * time.Hour}, batches: 20, every: 30 * time.Second, within: 15 * time.Second,
	crashes: 48 * time.Hour, down: 10 * time.Second,
	outage: 5 * time.Minute,
}

// variant is how its sidecars are configured.
type variant struct{ shared, jitter bool }

var variants = []variant{{}, {jitter: true}, {shared: true, jitter: true}}

func (v variant) String() string {
	switch v {
	case variant{}:
		return "without sharing, without jitter"
	case variant{jitter: true}:
		return "without sharing, with jitter"
	}
	return "with sharing and jitter"
}

// window is a stretch of time.
type window struct{ from, to time.Duration }

func (w window) holds(at time.Duration) bool { return at >= w.from && at < w.to }

func (p plan) wave(i int) window {
	return window{p.waves[i], p.waves[i] + time.Duration(p.batches)*p.every}
}

// outageOf is the outage where it hurts this variant most: when most of the fleet's tokens come due for the first time after the first
// wave. Tokens of the replicas' own come due as the replicas started; a shared one as it did before, for all of them together.
func (p plan) outageOf(v variant) window {
	if p.outage == 0 {
		return window{}
	}
	wave := p.wave(0)
	if v.shared {
		period := time.Duration(earliest * float64(p.life))
		from := (wave.to/period+1)*period - p.outage/10
		return window{from, from + p.outage}
	}
	mean := (refreshAt + earliest) / 2
	if !v.jitter {
		mean = refreshAt
	}
	from := (wave.from+wave.to)/2 + time.Duration(mean*float64(p.life)) - p.outage/2
	return window{from, from + p.outage}
}

// event is a start of a replica, which ends what was there of it, or its crash.
type event struct {
	at    time.Duration
	crash bool
}

// events are what happens to one replica, the same for each variant.
func (p plan) events(replica int) []event {
	draw := rand.New(rand.NewPCG(uint64(replica), 1))
	spread := func(d time.Duration) time.Duration { return time.Duration(draw.Float64() * float64(d)) }
	first := spread(p.starts)
	out := []event{{at: first}}
	for i := range p.waves {
		batch := time.Duration(replica * p.batches / p.replicas)
		out = append(out, event{at: p.wave(i).from + batch*p.every + spread(p.within)})
	}
	for at := first; p.crashes > 0; {
		if at += time.Duration(draw.ExpFloat64() * float64(p.crashes)); at >= p.length {
			break
		}
		out = append(out, event{at: at, crash: true})
		at += p.down/2 + spread(p.down/2)
		out = append(out, event{at: at})
	}
	slices.SortFunc(out, func(a, b event) int { return cmp.Compare(a.at, b.at) })
	return out
}
