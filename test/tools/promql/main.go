// Promql holds queries against a scrape, with Prometheus' own parser: every selector must find a series in it, and every label that a query
// matches, groups, joins or prints by must be one that the series has on the way there. It computes nothing.
//
// It reads a question as JSON from standard input and writes the answer to standard output.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

type question struct {
	Scrape string            `json:"scrape"` // what /metrics said
	Target map[string]string `json:"target"` // the labels that Prometheus adds to each series of a target
	Query  []query           `json:"query"`
}

type query struct {
	Where string   `json:"where"`
	Expr  string   `json:"expr"`
	Needs []string `json:"needs"` // labels that the result must have
}

type answer struct {
	Selectors int      `json:"selectors"` // how many were looked at
	Metrics   []string `json:"metrics"`   // the names in them
	Problems  []string `json:"problems"`
}

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "promql:", err)
		os.Exit(1)
	}
}

func run(in io.Reader, out io.Writer) error {
	var q question
	if err := json.NewDecoder(in).Decode(&q); err != nil {
		return err
	}
	all, err := series(q.Scrape, q.Target)
	if err != nil {
		return err
	}
	c := check{series: all, metrics: map[string]bool{}}
	p := parser.NewParser(parser.Options{})
	for _, query := range q.Query {
		c.where = query.Where
		expr, err := p.ParseExpr(query.Expr)
		if err != nil {
			c.problem("%v", err)
			continue
		}
		c.walk(expr, query.Needs)
	}
	c.Metrics = slices.Sorted(maps.Keys(c.metrics))
	return json.NewEncoder(out).Encode(c.answer)
}

// series are all series of a scrape :: metric → label sets, as map of name to value.
func series(scrape string, target map[string]string) (map[string][]map[string]string, error) {
	p := expfmt.NewTextParser(model.UTF8Validation)
	families, err := p.TextToMetricFamilies(strings.NewReader(scrape))
	if err != nil {
		return nil, err
	}
	all := map[string][]map[string]string{}
	for name, f := range families {
		for _, m := range f.GetMetric() {
			set := maps.Clone(target)
			for _, l := range m.GetLabel() {
				set[l.GetName()] = l.GetValue()
			}
			if m.GetHistogram() == nil {
				all[name] = append(all[name], set)
				continue
			}
			all[name+"_sum"], all[name+"_count"] = append(all[name+"_sum"], set), append(all[name+"_count"], set)
			for _, b := range m.GetHistogram().GetBucket() {
				bucket := maps.Clone(set)
				bucket["le"] = fmt.Sprint(b.GetUpperBound())
				all[name+"_bucket"] = append(all[name+"_bucket"], bucket)
			}
		}
	}
	return all, nil
}

type check struct {
	answer
	series  map[string][]map[string]string
	metrics map[string]bool
	where   string
}

func (c *check) problem(format string, args ...any) {
	c.Problems = append(c.Problems, c.where+": "+fmt.Sprintf(format, args...))
}

// walk looks at an expression whose result must have the labels in needs.
func (c *check) walk(e parser.Expr, needs []string) {
	switch e := e.(type) {
	case *parser.VectorSelector:
		c.selector(e, needs)
	case *parser.MatrixSelector:
		c.walk(e.VectorSelector, needs)
	case *parser.SubqueryExpr:
		c.walk(e.Expr, needs)
	case *parser.ParenExpr:
		c.walk(e.Expr, needs)
	case *parser.UnaryExpr:
		c.walk(e.Expr, needs)
	case *parser.NumberLiteral, *parser.StringLiteral:
	case *parser.Call:
		if e.Func.Name == "histogram_quantile" {
			needs = append(slices.Clone(needs), "le")
		}
		for _, a := range e.Args {
			c.walk(a, needs)
		}
	case *parser.AggregateExpr:
		if e.Without {
			c.walk(e.Expr, append(slices.Clone(needs), e.Grouping...))
			return
		}
		for _, l := range needs {
			if !slices.Contains(e.Grouping, l) {
				c.problem("%s leaves no label %s", e, l)
			}
		}
		c.walk(e.Expr, e.Grouping)
	case *parser.BinaryExpr:
		left, right := needs, needs
		if m := e.VectorMatching; m != nil {
			var on []string
			if m.On {
				on = m.MatchingLabels
			}
			switch {
			case e.Op == parser.LAND || e.Op == parser.LUNLESS || m.Card == parser.CardManyToOne:
				right = nil
			case m.Card == parser.CardOneToMany:
				left = nil
			}
			left, right = append(slices.Clone(left), on...), append(slices.Clone(right), on...)
		}
		for side, needs := range map[parser.Expr][]string{e.LHS: left, e.RHS: right} {
			if side.Type() != parser.ValueTypeScalar {
				c.walk(side, needs)
			}
		}
	default:
		c.problem("%T is nothing that this looks into", e)
	}
}

// selector looks for series that the selector finds and for the labels in them. A label that is empty is there.
func (c *check) selector(s *parser.VectorSelector, needs []string) {
	c.Selectors++
	c.metrics[s.Name] = true
	named := c.series[s.Name]
	if len(named) == 0 {
		c.problem("there is no %s", s.Name)
		return
	}
	for _, m := range s.LabelMatchers {
		if _, ok := named[0][m.Name]; !ok && m.Name != model.MetricNameLabel {
			c.problem("%s has no label %s", s.Name, m.Name)
			return
		}
	}
	for _, l := range needs {
		if _, ok := named[0][l]; !ok {
			c.problem("%s has no label %s", s.Name, l)
		}
	}
	if !slices.ContainsFunc(named, func(set map[string]string) bool {
		return !slices.ContainsFunc(s.LabelMatchers, func(m *labels.Matcher) bool { return m.Name != model.MetricNameLabel && !m.Matches(set[m.Name]) })
	}) {
		c.problem("%s finds none of the series of its name", s)
	}
}
