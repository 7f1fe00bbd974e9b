package admin

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sidepass/sidepass/proxy"
)

func historyLabels(rules ...string) Labels {
	l := Labels{Outbound: &OutboundLabels{Routes: []Route{{"orders", "idp", "client_credentials"}}}, Inbound: &InboundLabels{Issuers: []string{"idp"}}}
	for _, r := range rules {
		l.Inbound.Rules = append(l.Inbound.Rules, Rule{Name: r, Issuers: []string{"idp"}})
	}
	return l
}

func TestHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMetrics(Build{})
		m.Describe(historyLabels("read", "write"))
		h := NewHistory(m)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- h.Run(ctx) }()
		inbound := func(rule string, d proxy.Decision, r proxy.Reason, n int) {
			for range n {
				m.Inbound(rule, "idp", d, r, time.Millisecond, "")
			}
		}
		// want compares the series of a rule: its sum, and its last minutes.
		want := func(when, rule string, r proxy.Reason, hour uint64, last ...uint64) {
			t.Helper()
			for _, s := range h.Traffic().Inbound {
				if s.Rule == rule && s.Reason == string(r) {
					if s.Hour != hour || !slices.Equal(s.Minutes[Minutes-len(last):], last) {
						t.Errorf("%s: %s %s has %d in the hour and ends with %v, want %d and %v", when, rule, r, s.Hour, s.Minutes[Minutes-len(last):], hour, last)
					}
					return
				}
			}
			if hour != 0 {
				t.Errorf("%s: there is no series for %s %s", when, rule, r)
			}
		}
		if got := h.Traffic(); len(got.Inbound)+len(got.Outbound) != 0 {
			t.Errorf("before the first request there is %+v", got)
		}
		inbound("read", proxy.Allow, proxy.OK, 3)
		inbound("read", proxy.Deny, proxy.Expired, 1)
		want("at once", "read", proxy.OK, 3, 0, 3)
		time.Sleep(time.Minute + time.Second)
		inbound("read", proxy.Allow, proxy.OK, 2)
		want("a minute later", "read", proxy.OK, 5, 0, 3, 2)
		want("a minute later", "read", proxy.Expired, 1, 0, 1, 0)
		inbound("write", proxy.WouldDeny, proxy.WrongAudience, 4)
		m.Outbound("orders", 503, proxy.TokenUnavailable, 0, "")
		m.Outbound("orders", 200, proxy.OK, 0, "")
		m.Outbound("orders", 204, proxy.OK, 0, "")
		m.Outbound("connect", 0, proxy.OK, 0, "")
		time.Sleep(58 * time.Minute)
		want("59 minutes later", "read", proxy.OK, 5, 0)
		time.Sleep(time.Minute)
		want("when the first minute is an hour ago", "read", proxy.OK, 2, 0)
		want("when the first minute is an hour ago", "read", proxy.Expired, 0)
		out := h.Traffic().Outbound
		if len(out) != 3 || out[0].Status != "none" || out[1].Reason != "ok" || out[1].Status != "2xx" || out[1].Hour != 2 || out[2].Status != "5xx" || out[2].Hour != 1 {
			t.Errorf("outbound is %+v", out)
		}

		// What the configuration no longer names is forgotten; named again, it begins anew.
		m.Describe(historyLabels("read"))
		time.Sleep(time.Minute)
		want("without the rule", "write", proxy.WrongAudience, 0)
		if n := len(h.series); n > 20 {
			t.Errorf("%d series are kept", n)
		}
		m.Describe(historyLabels("read", "write"))
		inbound("write", proxy.WouldDeny, proxy.WrongAudience, 1)
		want("with the rule again", "write", proxy.WrongAudience, 1, 0, 1)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// A counter that was begun anew between two readings counts from zero, and never backwards.
func TestRise(t *testing.T) {
	for _, c := range []struct {
		from, to float64
		want     uint64
	}{{0, 0, 0}, {0, 5, 5}, {5, 7, 2}, {7, 3, 3}} {
		if got := rise(c.from, c.to); got != c.want {
			t.Errorf("from %v to %v it rises by %d, want %d", c.from, c.to, got, c.want)
		}
	}
}

func TestChart(t *testing.T) {
	c := &calls{}
	if got := c.Chart(); len(got) != 0 || c.Words() != "No requests in the last hour." {
		t.Errorf("an empty chart is %v, %q", got, c.Words())
	}
	c.add(passed, "allowed", "ok", minutes(19, 0))
	c.add(refused, "refused", "expired", minutes(19, 1))
	got := c.Chart()
	if len(got) != 2 || got[0] != (bars{passed, "M0 40.0h3v-19.0h-3z"}) || got[1] != (bars{refused, "M0 21.0h3v-19.0h-3zM236 40.0h3v-1.5h-3z"}) {
		t.Errorf("the chart is %v", got)
	}
	if want := "Requests a minute over the last hour: 19 passed, 0 with a warning, 20 refused; at most 38 in a minute."; c.Words() != want {
		t.Errorf("it says %q, want %q", c.Words(), want)
	}
}
