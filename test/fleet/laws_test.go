package fleet

import (
	"fmt"
	"testing"
	"time"
)

// small is a fleet of three hours, whose sidecars crash often.
func small(replicas int) plan {
	return plan{
		replicas: replicas, audiences: 3,
		length: 3 * time.Hour, life: time.Hour,
		starts: 5 * time.Minute,
		waves:  []time.Duration{time.Hour, 140 * time.Minute}, batches: 20, every: 30 * time.Second, within: 15 * time.Second,
		crashes: 4 * time.Hour, down: 10 * time.Second,
		outage: 5 * time.Minute,
	}
}

var (
	alone  = variant{jitter: true}
	shared = variant{shared: true, jitter: true}
)

// However many replicas there are, and though they start, crash and are replaced: the calls are those of one that never does.
func TestCallsDoNotGrowWithReplicas(t *testing.T) {
	for _, n := range []int{1, 20, 200} {
		p := small(n)
		p.outage = 0
		least, most := p.audiences*4, p.audiences*5 // one at the start, and one after each 0.72 to 0.8 of a lifetime
		if got := total(p.run(t, shared).calls); got < least || got > most {
			t.Errorf("%d replicas that share: want %d to %d calls, got %d", n, least, most, got)
		}
		if got := total(p.run(t, alone).calls); got < n*least {
			t.Errorf("%d replicas that do not share: want %d calls at least, got %d", n, n*least, got)
		}
	}
}

// With sharing no second has more than a call for each audience, wave or not. Without it, jitter flattens what a wave has brought into step.
func TestSpikesAreBounded(t *testing.T) {
	p := small(400)
	p.outage = 0
	together, apart, inStep := p.run(t, shared), p.run(t, alone), p.run(t, variant{})
	s := together.phases(together.calls)
	if most := max(s.steady.peak, s.wave.peak); most > p.audiences {
		t.Errorf("with sharing a second has %d calls for %d audiences", most, p.audiences)
	}
	if s := apart.phases(apart.calls); s.wave.total < 400*p.audiences {
		t.Errorf("without sharing a wave makes %d calls, want one for each replica and audience", s.wave.total)
	}
	a, b := inStep.phases(inStep.calls).steady.peak, apart.phases(apart.calls).steady.peak
	if b*4 > a*3 {
		t.Errorf("without sharing the largest second has %d calls with jitter and %d without", b, a)
	}
}

func TestAfterTheOutage(t *testing.T) {
	const replicas = 200
	for _, v := range variants {
		t.Run(v.String(), func(t *testing.T) {
			r := small(replicas).run(t, v)
			s := r.phases(r.calls)
			if r.lost > 0 {
				t.Errorf("%d requests had no token although the outage is shorter than what a token has left when it is due", r.lost)
			}
			if r.started == 0 || s.outage.total == 0 {
				t.Fatalf("nothing happened in the outage: %+v", s)
			}
			if !v.shared {
				if r.bare != r.started {
					t.Errorf("%d replicas started in the outage, and %d had no tokens", r.started, r.bare)
				}
				if s.after.peak < replicas*r.audiences/30 { // most ask every 8 seconds
					t.Errorf("the largest second afterwards has %d calls: where is the herd?", s.after.peak)
				}
				return
			}
			if r.bare > 0 {
				t.Errorf("%d of %d replicas that started in the outage had no tokens", r.bare, r.started)
			}
			// Steps of 1, 2, 4 and 8 seconds and so on, each up to a quarter shorter, for all replicas together.
			if most := r.audiences * (4 + int(r.outage.Seconds()/6)); s.outage.total > most {
				t.Errorf("%d calls in the outage, want %d at most", s.outage.total, most)
			}
			if s.after.total != r.audiences {
				t.Errorf("%d calls after the outage for %d audiences", s.after.total, r.audiences)
			}
		})
	}
}

// Where nobody answers at all, one replica tries for the others every two seconds, twice each time.
func TestAfterAnOutageWithoutAnswers(t *testing.T) {
	for _, n := range []int{50, 200} {
		p := small(n)
		p.refuses = true
		r := p.run(t, shared)
		s := r.phases(r.calls)
		if most := p.audiences * int(p.outage.Seconds()); s.outage.total == 0 || s.outage.total > most {
			t.Errorf("%d replicas make %d calls in the outage, want %d at most", n, s.outage.total, most)
		}
		if s.after.total > p.audiences || r.lost > 0 || r.bare > 0 {
			t.Errorf("%d replicas make %d calls after the outage for %d audiences, and %d requests, %d starts had no token", n, s.after.total, p.audiences, r.lost, r.bare)
		}
	}
}

// The economics and the simulation agree.
func TestTheEconomicsAreRight(t *testing.T) {
	for _, v := range []variant{alone, shared} {
		for _, n := range []int{1, 4, 20} {
			t.Run(fmt.Sprint(v, n), func(t *testing.T) {
				p := plan{replicas: n, audiences: 5, length: 60 * time.Hour, life: time.Hour, starts: time.Hour}
				want := float64(tokens(n, p.audiences, p.life, v.shared)) * float64(p.length) / float64(month)
				if got := float64(total(p.run(t, v).calls)); got < 0.975*want || got > 1.025*want {
					t.Errorf("want about %.0f calls, got %.0f", want, got)
				}
			})
		}
	}
}

func total(calls []int) (sum int) {
	for _, n := range calls {
		sum += n
	}
	return sum
}
