// Package check holds what `sidepass check` found out: groups of lines, each of which is fine, worth a look, or failed, and then
// says what to do. It runs the checks side by side and prints them in their own order, for people and as JSON.
//
// It knows nothing of what is checked but the shape of a token.
package check

import (
	"context"
	"fmt"
	"sync"
)

// Status is how a check ended.
type Status string

// The statuses. Only Failed makes a report fail.
const (
	OK      Status = "ok"
	Warning Status = "warning"
	Failed  Status = "failed"
	Skipped Status = "skipped" // it could not be tried, or is not needed; Says has the reason
)

// The results of a report.
const (
	ResultOK       = "ok"
	ResultWarnings = "warnings" // nothing failed
	ResultFailed   = "failed"
	ResultUnusable = "unusable" // the configuration cannot be used, so that nothing else was checked
)

// Facts are a check's values, by names that docs/check.md lists.
type Facts map[string]any

// Line is one check. It holds no secret.
type Line struct {
	Check  string `json:"check"` // a word from a fixed set, within its group's kind
	Status Status `json:"status"`
	Says   string `json:"says"`
	Do     string `json:"do,omitempty"` // of Warning and Failed: what to do
	Facts  Facts  `json:"facts,omitempty"`
}

// Group is the lines about one thing. It is not safe for concurrent use.
type Group struct {
	Kind  string `json:"group"`          // a word from a fixed set
	Name  string `json:"name,omitempty"` // of the thing, as the configuration calls it
	Lines []Line `json:"checks"`
}

// OK adds a line that is fine.
func (g *Group) OK(check string, facts Facts, says string, args ...any) {
	g.Lines = append(g.Lines, Line{check, OK, fmt.Sprintf(says, args...), "", facts})
}

// Warn adds a line that is worth a look. do says what to do.
func (g *Group) Warn(check string, facts Facts, do, says string, args ...any) {
	g.Lines = append(g.Lines, Line{check, Warning, fmt.Sprintf(says, args...), do, facts})
}

// Fail adds a line that failed. do says what to do.
func (g *Group) Fail(check string, facts Facts, do, says string, args ...any) {
	g.Lines = append(g.Lines, Line{check, Failed, fmt.Sprintf(says, args...), do, facts})
}

// Skip adds a line for what was not tried.
func (g *Group) Skip(check, says string, args ...any) {
	g.Lines = append(g.Lines, Line{check, Skipped, fmt.Sprintf(says, args...), "", nil})
}

// Task fills a group. It ends when ctx does, or sooner.
type Task struct {
	Group *Group
	Run   func(ctx context.Context, g *Group)
}

// Run runs all tasks at once and waits for them.
func Run(ctx context.Context, tasks []Task) {
	var all sync.WaitGroup
	for _, t := range tasks {
		all.Go(func() { t.Run(ctx, t.Group) })
	}
	all.Wait()
}

// Report is all that was found, in the order in which it is printed.
type Report struct {
	Result string   `json:"result"`
	Counts Counts   `json:"counts"`
	Groups []*Group `json:"groups"`
}

// Counts are how many lines ended how.
type Counts struct {
	OK      int `json:"ok"`
	Warning int `json:"warning"`
	Failed  int `json:"failed"`
	Skipped int `json:"skipped"`
}

// NewReport sums groups up. Those without a line are left out.
func NewReport(groups []*Group) Report {
	r := Report{Result: ResultOK, Groups: []*Group{}}
	for _, g := range groups {
		if len(g.Lines) == 0 {
			continue
		}
		r.Groups = append(r.Groups, g)
		for _, l := range g.Lines {
			switch l.Status {
			case OK:
				r.Counts.OK++
			case Skipped:
				r.Counts.Skipped++
			case Warning:
				r.Counts.Warning++
			default:
				r.Counts.Failed++
			}
		}
	}
	switch {
	case r.Counts.Failed > 0:
		r.Result = ResultFailed
	case r.Counts.Warning > 0:
		r.Result = ResultWarnings
	}
	return r
}
