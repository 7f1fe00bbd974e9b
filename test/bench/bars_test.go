//go:build linux

package bench

import (
	"fmt"
	"math"
	"strings"
)

// bars are what sidepass is held to, with what was measured.
type bars struct{ lines []string }

func (b *bars) atMost(what string, got, most float64) {
	verdict := "reached"
	if got = math.Round(got*100) / 100; got > most {
		verdict = "**missed**"
	}
	b.lines = append(b.lines, fmt.Sprintf("| %s | %.2f | %g | %s |", what, got, most, verdict))
}

func (b *bars) missing(what string) {
	b.lines = append(b.lines, fmt.Sprintf("| %s | – | | not measured: no such peer here |", what))
}

// ratio holds a row against another's CPU a request.
func (b *bars) ratio(what string, r, to *row, most float64) {
	if to.subject == nil {
		b.missing(what)
		return
	}
	b.atMost(what, r.ratio(to), most)
}

// below wants a row to be below another in CPU, memory and time to start.
func (b *bars) below(what string, r, than *row) {
	b.ratio(what+", CPU", r, than, 1)
	if than.subject == nil {
		return
	}
	b.atMost(what+", memory under load", float64(r.rss)/float64(than.rss), 1)
	b.atMost(what+", time from start to ready", r.subject.ready.Seconds()/than.subject.ready.Seconds(), 1)
}

func (b *bars) memory(what string, r *row) {
	b.atMost(what+", MiB idle", mebibytes(r.subject.idle), 14)
	b.atMost(what+", MiB under load", mebibytes(r.rss), 20)
}

func (b *bars) String() string {
	return "| bar | measured | at most | |\n|---|---|---|---|\n" + strings.Join(b.lines, "\n") + "\n"
}
