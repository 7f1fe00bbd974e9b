package admin

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Minutes is how many minutes [Traffic] covers.
const Minutes = 60

// Traffic is what the requests of the last hour came to. Series without a request are left out.
type Traffic struct {
	Outbound []OutboundTraffic `json:"outbound"`
	Inbound  []InboundTraffic  `json:"inbound"`
}

// OutboundTraffic counts requests of the app.
type OutboundTraffic struct {
	Route  string `json:"route"`
	Reason string `json:"reason"`
	// Status is the class of what the app got: "2xx", or "none".
	Status string `json:"status"`
	Series
}

// InboundTraffic counts requests to the app.
type InboundTraffic struct {
	Rule     string `json:"rule"`
	Decision string `json:"decision"`
	Reason   string `json:"reason"`
	Series
}

// Series is a count of requests by minute.
type Series struct {
	// Hour is the sum of Minutes.
	Hour uint64 `json:"last_hour"`
	// Minutes has the oldest minute first; the last one is still running.
	Minutes []uint64 `json:"minutes"`
}

// History remembers what the requests of the last hour came to. It reads the metrics once a minute, so that the path of requests knows
// nothing of it. What it holds is bounded by the label values that the configuration allows.
type History struct {
	registry *prometheus.Registry

	mu     sync.Mutex
	series map[seriesKey]*past
}

// seriesKey is the labels of one series. by is the rule or the route, and word the decision or the status class.
type seriesKey struct {
	inbound          bool
	by, word, reason string
}

// past is one series' last hour.
type past struct {
	last    float64 // the counter at the end of the last full minute
	minutes [Minutes]uint64
}

// NewHistory remembers from now on what m counts.
func NewHistory(m *Metrics) *History {
	h := &History{registry: prometheus.NewRegistry(), series: map[seriesKey]*past{}}
	h.registry.MustRegister(m.inbound, m.outbound)
	return h
}

// Run ends each minute, until ctx ends.
func (h *History) Run(ctx context.Context) error {
	minute := time.NewTicker(time.Minute)
	defer minute.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-minute.C:
			h.turn()
		}
	}
}

// turn ends a minute. What the configuration no longer names is forgotten.
func (h *History) turn() {
	now := h.read()
	h.mu.Lock()
	defer h.mu.Unlock()
	for key, value := range now {
		p := h.series[key]
		if p == nil {
			p = &past{}
			h.series[key] = p
		}
		copy(p.minutes[:], p.minutes[1:])
		p.minutes[Minutes-1] = rise(p.last, value)
		p.last = value
	}
	for key := range h.series {
		if _, ok := now[key]; !ok {
			delete(h.series, key)
		}
	}
}

// rise is how far a counter has come; one that was begun anew counts from zero.
func rise(from, to float64) uint64 {
	if to < from {
		from = 0
	}
	return uint64(to - from)
}

// read sums the counters as they are now.
func (h *History) read() map[seriesKey]float64 {
	out := map[seriesKey]float64{}
	families, _ := h.registry.Gather() // of a series that is being changed, what there is
	for _, f := range families {
		inbound := f.GetName() == "sidepass_inbound_requests_total"
		for _, m := range f.GetMetric() {
			label := map[string]string{}
			for _, l := range m.GetLabel() {
				label[l.GetName()] = l.GetValue()
			}
			key := seriesKey{inbound, label["route"], class(label["code"]), label["reason"]}
			if inbound {
				key.by, key.word = label["rule"], label["decision"]
			}
			out[key] += m.GetCounter().GetValue()
		}
	}
	return out
}

func class(code string) string {
	if len(code) != 3 {
		return "none"
	}
	return code[:1] + "xx"
}

// Traffic is the last hour, with the minute that is still running.
func (h *History) Traffic() Traffic {
	now := h.read()
	h.mu.Lock()
	defer h.mu.Unlock()
	var t Traffic
	for key, value := range now {
		s := Series{Minutes: make([]uint64, Minutes)}
		from := 0.0
		if p := h.series[key]; p != nil {
			copy(s.Minutes, p.minutes[1:])
			from = p.last
		}
		s.Minutes[Minutes-1] = rise(from, value)
		for _, n := range s.Minutes {
			s.Hour += n
		}
		switch {
		case s.Hour == 0:
		case key.inbound:
			t.Inbound = append(t.Inbound, InboundTraffic{key.by, key.word, key.reason, s})
		default:
			t.Outbound = append(t.Outbound, OutboundTraffic{key.by, key.reason, key.word, s})
		}
	}
	slices.SortFunc(t.Inbound, func(a, b InboundTraffic) int {
		return cmp.Or(cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Decision, b.Decision), cmp.Compare(a.Reason, b.Reason))
	})
	slices.SortFunc(t.Outbound, func(a, b OutboundTraffic) int {
		return cmp.Or(cmp.Compare(a.Route, b.Route), cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.Status, b.Status))
	})
	return t
}
