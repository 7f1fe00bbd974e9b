//go:build linux

package bench

import (
	"fmt"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sidepass/sidepass/test/issuer"
)

// row is a subject in one kind of traffic, and what was measured, a value a round.
type row struct {
	subject *subject
	traffic traffic // nil: the subject's own request
	status  int     // of the answers; zero: 200
	micros  []float64
	rss     int // the most, just after a load, KiB
	fetches int // of the key set in one window, the most
}

// measure takes the rows in turn, round by round. A round in which the cores moved is repeated, half as often as there are rounds.
func (b *bench) measure(t testing.TB, rows []*row) {
	t.Helper()
	for _, r := range rows {
		if r.traffic == nil {
			r.traffic = same(r.subject.request)
		}
		if r.status == 0 {
			r.status = http.StatusOK
		}
	}
	time.Sleep(settle)
	for _, r := range rows {
		if r.subject.idle == 0 {
			r.subject.idle = rss(t, r.subject.pid)
		}
	}
	for _, r := range rows {
		load(t, r.subject.address, r.traffic, r.status, time.Second) // warm up
	}
	for again := *rounds / 2; len(rows[0].micros) < *rounds; {
		var nears, fars int
		for _, r := range rows {
			if b.window(t, r) <= near {
				nears++
			} else {
				fars++
			}
		}
		if nears > 0 && fars > 0 && again > 0 {
			again--
			for _, r := range rows {
				r.micros = r.micros[:len(r.micros)-1]
			}
			continue
		}
		b.near, b.far = b.near+nears, b.far+fars
	}
}

// window measures a row once, and again where something else ran; the least disturbed counts. It returns how far the cores were from
// each other.
func (b *bench) window(t testing.TB, r *row) time.Duration {
	t.Helper()
	const tries, bearable = 2, 0.05
	least, micros, away := 1e9, 0.0, time.Duration(0)
	for range tries {
		probed := distance(t)
		fetched := b.issuer.Calls(issuer.JWKS)
		other, subject := b.other(t, r.subject.pid), cpu(t, r.subject.pid)
		n := load(t, r.subject.address, r.traffic, r.status, *window)
		subject = cpu(t, r.subject.pid) - subject
		disturbed := float64(b.other(t, r.subject.pid)-other) / float64(*window)
		r.rss = max(r.rss, rss(t, r.subject.pid))
		r.fetches = max(r.fetches, b.issuer.Calls(issuer.JWKS)-fetched)
		if disturbed < least {
			least, micros, away = disturbed, float64(subject.Nanoseconds())/1e3/float64(n), probed
		}
		if least < bearable {
			break
		}
	}
	r.micros = append(r.micros, micros)
	b.disturbances = append(b.disturbances, max(0, least))
	return away
}

// other is the time that the cores have spent on what is not part of the measurement.
func (b *bench) other(t testing.TB, pid int) time.Duration {
	t.Helper()
	d := busy(t) - cpu(t, pid) - cpu(t, os.Getpid())
	for _, spinner := range b.spinners {
		d -= cpu(t, spinner)
	}
	return d
}

// header says where, when and how well was measured.
func (b *bench) header(t testing.TB) string {
	t.Helper()
	binary, err := os.Stat(b.binary)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%s, %d cores, %s, %s; %d connections, medians of %d interleaved rounds of %s; sidepass's binary has %.1f MiB.\n%d windows with the cores near each other, %d far; other processes took %.0f %% of a core in the median window, %.0f %% in the worst.\n",
		cpuModel(), runtime.NumCPU(), runtime.Version(), time.Now().Format(time.DateOnly), connections, *rounds, *window, float64(binary.Size())/(1<<20), b.near, b.far, 100*median(b.disturbances), 100*slices.Max(b.disturbances))
}

// ratio is the median of the rounds' ratios of two rows that were measured together.
func (r *row) ratio(to *row) float64 {
	if to == nil || len(to.micros) == 0 {
		return 0
	}
	return ratio(r.micros, to.micros)
}

// ratio is the median of the rounds' ratios.
func ratio(v, to []float64) float64 {
	of := make([]float64, len(v))
	for i := range v {
		of[i] = v[i] / to[i]
	}
	return median(of)
}

// costs is the table of rows of one kind of traffic; the first is the yardstick, and so is the plain ReverseProxy where there is one.
func costs(rows []*row) string {
	var plain *row
	for _, r := range rows {
		if strings.HasPrefix(r.subject.name, "plain ") {
			plain = r
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "| | CPU µs a request | ratio to %s | to `ReverseProxy` | MiB idle / under load | ms to ready |\n|---|---|---|---|---|---|\n", rows[0].subject.name)
	for _, r := range rows {
		fmt.Fprintf(&b, "| %s | %.1f | %.2f | %.2f | %.1f / %.1f | %.0f |\n", r.subject.name, median(r.micros), r.ratio(rows[0]), r.ratio(plain),
			mebibytes(r.subject.idle), mebibytes(r.rss), float64(r.subject.ready.Microseconds())/1e3)
	}
	return b.String()
}

func mebibytes(kibibytes int) float64 { return float64(kibibytes) / 1024 }

func median(v []float64) float64 { return slices.Sorted(slices.Values(v))[len(v)/2] }
