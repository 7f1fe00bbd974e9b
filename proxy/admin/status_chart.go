package admin

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sidepass/sidepass/proxy"
)

// calls are the requests of the last hour of one route, one rule, or a whole direction.
type calls struct {
	Name    string
	Passed  uint64 // that went on, or were answered
	Warned  uint64 // that audit mode let through, or whose upstream failed by itself
	Refused uint64
	Results []result // the most frequent first

	minutes [Minutes][3]uint64
}

// result is how some of the calls ended.
type result struct {
	Kind   kind
	Words  string
	Reason string
	Hour   uint64
	Share  string // of the most frequent result, as a width of 100
}

type kind int

const (
	passed kind = iota
	warned
	refused
)

// String is the kind's class on the page.
func (k kind) String() string { return [...]string{"passed", "warned", "refused"}[k] }

// Total is the number of calls.
func (c *calls) Total() uint64 { return c.Passed + c.Warned + c.Refused }

func (c *calls) add(k kind, words, reason string, s Series) {
	*[...]*uint64{&c.Passed, &c.Warned, &c.Refused}[k] += s.Hour
	for i, n := range s.Minutes {
		if i < Minutes {
			c.minutes[i][k] += n
		}
	}
	i := slices.IndexFunc(c.Results, func(r result) bool { return r.Words == words && r.Reason == reason })
	if i < 0 {
		i = len(c.Results)
		c.Results = append(c.Results, result{Kind: k, Words: words, Reason: reason})
	}
	c.Results[i].Hour += s.Hour
}

// finish orders the results.
func (c *calls) finish() {
	slices.SortFunc(c.Results, func(a, b result) int {
		return cmp.Or(cmp.Compare(b.Hour, a.Hour), cmp.Compare(a.Words, b.Words), cmp.Compare(a.Reason, b.Reason))
	})
	for i := range c.Results {
		c.Results[i].Share = decimal(100 * float64(c.Results[i].Hour) / float64(max(1, c.Results[0].Hour)))
	}
}

// most is the number of calls in the minute that had the most.
func (c *calls) most() uint64 {
	var most uint64
	for _, m := range c.minutes {
		most = max(most, m[passed]+m[warned]+m[refused])
	}
	return most
}

// Chart is a chart of the hour in a box of 240 by 40, by kind.
func (c *calls) Chart() []bars {
	const width, height, gap = 240.0 / Minutes, 40.0, 1.0
	most := float64(max(1, c.most()))
	var paths [3]strings.Builder
	for i, m := range c.minutes {
		foot := height
		for k, n := range m {
			if n == 0 {
				continue
			}
			h := max(1.5, float64(n)/most*(height-2))
			fmt.Fprintf(&paths[k], "M%.0f %.1fh%.0fv-%.1fh-%.0fz", float64(i)*width, foot, width-gap, h, width-gap)
			foot -= h
		}
	}
	var out []bars
	for k := range paths {
		if paths[k].Len() > 0 {
			out = append(out, bars{kind(k), paths[k].String()})
		}
	}
	return out
}

// bars is the path of one kind's bars.
type bars struct {
	Kind kind
	Path string
}

// Words say what the chart shows.
func (c *calls) Words() string {
	if c.Total() == 0 {
		return "No requests in the last hour."
	}
	return fmt.Sprintf("Requests a minute over the last hour: %d passed, %d with a warning, %d refused; at most %d in a minute.", c.Passed, c.Warned, c.Refused, c.most())
}

// count sorts the traffic by direction, route and rule.
func (v *view) count() {
	v.ByRoute, v.ByRule = map[string]*calls{}, map[string]*calls{}
	if v.Outbound {
		v.OutboundCalls = &calls{Name: "Outbound"}
	}
	if v.Inbound {
		v.InboundCalls = &calls{Name: "Inbound"}
	}
	into := func(all *calls, by map[string]*calls, name string, k kind, words, reason string, s Series) {
		if by[name] == nil {
			by[name] = &calls{Name: name}
		}
		by[name].add(k, words, reason, s)
		if all != nil {
			all.add(k, words, reason, s)
		}
	}
	for _, t := range v.Traffic.Outbound {
		k, words := refused, "refused"
		if strings.HasPrefix(t.Reason, "upstream_") {
			k, words = warned, "failed"
		}
		if t.Reason == string(proxy.OK) {
			switch k, words = passed, "answered "+t.Status; t.Status {
			case "5xx":
				k = warned
			case "none":
				words = "the app went away"
			}
		}
		into(v.OutboundCalls, v.ByRoute, t.Route, k, words, t.Reason, t.Series)
	}
	for _, t := range v.Traffic.Inbound {
		k, words := passed, "allowed"
		switch proxy.Decision(t.Decision) {
		case proxy.Deny:
			k, words = refused, "refused"
		case proxy.WouldDeny:
			k, words = warned, "let through"
		case proxy.Allow:
			if t.Reason != string(proxy.OK) { // the app failed, and the gate did not
				k, words = warned, "failed"
			}
		}
		into(v.InboundCalls, v.ByRule, t.Rule, k, words, t.Reason, t.Series)
	}
	for _, c := range []*calls{v.OutboundCalls, v.InboundCalls} {
		if c != nil {
			c.finish()
		}
	}
	v.OtherRoutes = others(v.ByRoute, func(name string) bool {
		return slices.ContainsFunc(v.Routes, func(r RouteStatus) bool { return r.Name == name })
	})
	v.OtherRules = others(v.ByRule, func(name string) bool {
		return slices.ContainsFunc(v.Rules, func(r RuleStatus) bool { return r.Name == name })
	})
}

func others(by map[string]*calls, known func(string) bool) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(by)) {
		by[name].finish()
		if !known(name) {
			out = append(out, name)
		}
	}
	return out
}
