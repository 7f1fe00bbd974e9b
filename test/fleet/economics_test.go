package fleet

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"
)

const (
	day   = 24 * time.Hour
	month = 31 * day
)

// interval is the mean time between two token calls for one audience: of each of the replicas, or of all that share. A replica's
// refresh comes at a random point between earliest and refreshAt of the lifetime; with sharing the first of all of them counts.
func interval(life time.Duration, replicas int, shared bool) time.Duration {
	spread := (refreshAt - earliest) / 2
	if shared {
		spread = (refreshAt - earliest) / float64(replicas+1)
	}
	return time.Duration((earliest + spread) * float64(life))
}

// tokens is how many are issued in a month, without restarts.
func tokens(replicas, audiences int, life time.Duration, shared bool) int {
	n := float64(audiences) * float64(month) / float64(interval(life, replicas, shared))
	if !shared {
		n *= float64(replicas)
	}
	return int(math.Round(n))
}

// allowance is what a provider allows a client or a tenant.
type allowance struct {
	of, text string
	limits   []limit
}

type limit struct {
	tokens int
	in     time.Duration
}

// What providers say in public.
var allowances = []allowance{
	{"Auth0, free plan", "1,000 machine-to-machine tokens a month", []limit{{1000, month}}},
	{"Switchmarket", "10 tokens an hour, 50 a day", []limit{{10, time.Hour}, {50, day}}},
	{"SoundCloud", "50 client-credentials tokens in 12 hours", []limit{{50, 12 * time.Hour}}},
	{"Zus", "200 an hour for a client", []limit{{200, time.Hour}}},
	{"Okta", "60 requests a minute for a client", []limit{{60, time.Minute}}},
	{"Auth0, free plan", "30 requests a second to `/oauth/token`", []limit{{30, time.Second}}},
	{"Auth0, Enterprise", "100 requests a second", []limit{{100, time.Second}}},
}

// fit is how many tokens can be kept within it: one for each audience, or without sharing for each replica and audience. In a month the
// draws average out. For shorter times it is the worst case: all begin in that time, and then draw the earliest point.
func (a allowance) fit(life time.Duration, shared bool) int {
	most := math.MaxInt
	for _, l := range a.limits {
		if l.in == month {
			most = min(most, int(float64(l.tokens)*float64(interval(life, math.MaxInt32, shared))/float64(l.in)))
		} else {
			most = min(most, l.tokens/(1+int(float64(l.in)/(earliest*float64(life)))))
		}
	}
	return most
}

// economics are the tables of docs/fleet.md.
func economics() string {
	var b strings.Builder
	b.WriteString("| replicas | 1 h: 1 audience | 5 audiences | 20 audiences | 24 h: 1 audience | 5 audiences | 20 audiences |\n|---|---|---|---|---|---|---|\n")
	for _, replicas := range []int{1, 10, 34, 100, 1000} {
		fmt.Fprintf(&b, "| %s ", number(replicas))
		for _, life := range []time.Duration{time.Hour, day} {
			for _, audiences := range []int{1, 5, 20} {
				alone, together := tokens(replicas, audiences, life, false), tokens(replicas, audiences, life, true)
				if alone == together {
					fmt.Fprintf(&b, "| %s ", number(alone))
				} else {
					fmt.Fprintf(&b, "| %s → %s ", number(alone), number(together))
				}
			}
		}
		b.WriteString("|\n")
	}
	b.WriteString(`
Tokens in a month of 31 days, without sharing → with it, for lifetimes of 1 h and 24 h, with ` + "`refresh_at: 0.8`" + ` and requests all the time. A refresh comes at 0.72 to 0.8 of a
lifetime: at 0.76 on average for a replica of its own, and where replicas share, at the earliest point that one of them draws. Starts are not counted: without sharing each takes one
more token for each audience, so that 34 replicas with one audience that are deployed once a day take ` + number(34*31) + ` tokens a month for that alone. With sharing it takes what is there.

| who | allows | without sharing, replicas × audiences that fit | with it, audiences that fit |
|---|---|---|---|
`)
	for _, a := range allowances {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", a.of, a.text, fits(a, false), fits(a, true))
	}
	b.WriteString(`
With tokens of 1 h, 24 h; one figure where they are the same. With sharing any number of replicas fits. A month is the average, without starts. A shorter time is the worst case: all start
in it, in the same second where the limit is by the second. Entra ID publishes no figure, and answers 429 with ` + "`Retry-After`" + `. Limits change: look at those of your plan.
`)
	return b.String()
}

func fits(a allowance, shared bool) string {
	hour, day := a.fit(time.Hour, shared), a.fit(day, shared)
	if hour == day {
		return number(hour)
	}
	return number(hour) + ", " + number(day)
}

// number writes thousands apart.
func number(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func TestFleetEconomics(t *testing.T) { generated(t, "economics", economics()) }

// By hand: of Auth0's 1,000 a month a token of 24 h takes 31/0.76 = 40.8 alone and 31/0.72 = 43.06 in a large fleet, one of 1 h takes 979 or
// 1,033. Of 50 in 12 h a token of 1 h takes 17 at the worst: one at the start, and one each 43.2 minutes.
func TestWhatFits(t *testing.T) {
	for i, want := range map[int]string{0: "1, 24", 1: "1, 10", 2: "2, 50", 4: "60"} {
		if got := fits(allowances[i], false); got != want {
			t.Errorf("%s: want %s, got %s", allowances[i].of, want, got)
		}
	}
	if got := fits(allowances[0], true); got != "0, 23" {
		t.Errorf("%s, with sharing: got %s", allowances[0].of, got)
	}
}

func TestNumber(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		if got := number(n); got != want {
			t.Errorf("%d: want %s, got %s", n, want, got)
		}
	}
}
