package admin

import (
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Check returns what is missing, one sentence each, and nothing when all is there. It is called for each probe,
// possibly at the same time, and does not block.
type Check func() []string

// Health answers the probes. Its functions are set before it is used.
type Health struct {
	// Ready is the lax check behind /readyz: the listeners, the keys of at least one trusted issuer, the first attempt
	// at each token that is prefetched. nil is never ready.
	Ready Check
	// Inbound and Outbound are the strict checks of one direction; nil where the direction is not run.
	Inbound, Outbound Check

	draining atomic.Bool
}

// Drain makes every readiness probe fail from now on. It is the first step of a shutdown.
func (h *Health) Drain() { h.draining.Store(true) }

// Draining says whether Drain was called.
func (h *Health) Draining() bool { return h.draining.Load() }

// missing is what a check misses; a nil check misses everything.
func (h *Health) missing(c Check) []string {
	switch {
	case h.draining.Load():
		return []string{"the sidecar is shutting down"}
	case c == nil:
		return []string{"the sidecar has not started"}
	}
	return c()
}

// MetricsHandler serves the metrics listener: /metrics, /livez, /readyz, /readyz/inbound and /readyz/outbound, to GET
// and HEAD, and nothing else. Anyone on the network may ask, so that nothing here changes or reveals anything. o may be nil.
func MetricsHandler(m *Metrics, h *Health, o *Observer) http.Handler {
	if o == nil {
		o = &Observer{}
	}
	scrape := promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError, EnableOpenMetrics: true})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		guarded(w.Header())
		if !o.reading(w, r) {
			return
		}
		switch path := r.URL.Path; {
		case path == "/metrics":
			scrape.ServeHTTP(w, r)
		case path == "/livez":
			text(w, http.StatusOK, "ok\n")
		case path == "/readyz":
			ready(w, h.missing(h.Ready))
		case path == "/readyz/inbound" && h.Inbound != nil:
			ready(w, h.missing(h.Inbound))
		case path == "/readyz/outbound" && h.Outbound != nil:
			ready(w, h.missing(h.Outbound))
		default:
			notFound(w)
		}
	})
}

func ready(w http.ResponseWriter, missing []string) {
	if len(missing) == 0 {
		text(w, http.StatusOK, "ok\n")
		return
	}
	var b strings.Builder
	for _, line := range missing {
		b.WriteString(strings.Join(strings.Fields(line), " "))
		b.WriteByte('\n')
	}
	text(w, http.StatusServiceUnavailable, b.String())
}
