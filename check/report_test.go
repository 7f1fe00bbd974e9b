package check_test

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/sidepass/sidepass/check"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestResult(t *testing.T) {
	ok := func(g *check.Group) { g.OK("a", nil, "fine") }
	skip := func(g *check.Group) { g.Skip("a", "not needed") }
	warn := func(g *check.Group) { g.Warn("a", nil, "do", "look") }
	failed := func(g *check.Group) { g.Fail("a", nil, "do", "bad") }
	for _, tc := range []struct {
		name  string
		lines []func(*check.Group)
		want  string
	}{
		{"nothing", nil, "ok"},
		{"fine", []func(*check.Group){ok, skip}, "ok"},
		{"a warning", []func(*check.Group){ok, warn, ok}, "warnings"},
		{"a failure", []func(*check.Group){failed, warn, ok}, "failed"},
	} {
		g := &check.Group{Kind: "x"}
		for _, add := range tc.lines {
			add(g)
		}
		r := check.NewReport([]*check.Group{{Kind: "empty"}, g})
		if r.Result != tc.want || r.Counts.OK+r.Counts.Skipped+r.Counts.Warning+r.Counts.Failed != len(tc.lines) {
			t.Errorf("%s: want %s, got %+v", tc.name, tc.want, r)
		}
		if want := min(len(tc.lines), 1); len(r.Groups) != want {
			t.Errorf("%s: want %d groups, got %d", tc.name, want, len(r.Groups))
		}
	}
}

func report() check.Report {
	g := &check.Group{Kind: "issuer", Name: "idp"}
	g.OK("keys", check.Facts{"usable": 1}, "1 usable key, for %s", "ES256")
	g.Skip("metadata", "not needed")
	g.Warn("clock", check.Facts{"ahead_seconds": 20}, "set the clock", "20s <ahead>")
	g.Fail("reachable", nil, "start it", "100%% dead")
	return check.NewReport([]*check.Group{g})
}

func TestText(t *testing.T) {
	const want = `issuer idp
  ✓ 1 usable key, for ES256
  - not needed
  ! 20s <ahead>
      set the clock
  ✗ 100% dead
      start it

✗ 1 failure, 1 warning, 1 fine
`
	var plain, coloured bytes.Buffer
	if err := report().Text(&plain, false); err != nil || plain.String() != want {
		t.Errorf("got %v %s", err, plain.String())
	}
	if err := report().Text(&coloured, true); err != nil || strings.Count(coloured.String(), "\x1b[31m✗\x1b[0m") != 2 {
		t.Errorf("got %v %q", err, coloured.String())
	}
}

func TestJSON(t *testing.T) {
	var b bytes.Buffer
	if err := report().JSON(&b); err != nil {
		t.Fatal(err)
	}
	const want = `{"result":"failed","counts":{"ok":1,"warning":1,"failed":1,"skipped":1},"groups":[{"group":"issuer","name":"idp","checks":[` +
		`{"check":"keys","status":"ok","says":"1 usable key, for ES256","facts":{"usable":1}},{"check":"metadata","status":"skipped","says":"not needed"},` +
		`{"check":"clock","status":"warning","says":"20s <ahead>","do":"set the clock","facts":{"ahead_seconds":20}},` +
		`{"check":"reachable","status":"failed","says":"100% dead","do":"start it"}]}]}`
	var compact bytes.Buffer
	if err := json.Compact(&compact, b.Bytes()); err != nil || compact.String() != want {
		t.Errorf("got %v %s", err, compact.String())
	}
}

// Two tasks of which each waits for the other end only if they run at once.
func TestTasksRunAtOnce(t *testing.T) {
	one, two := make(chan int), make(chan int)
	a, b := &check.Group{}, &check.Group{}
	check.Run(t.Context(), []check.Task{
		{Group: a, Run: func(_ context.Context, g *check.Group) { one <- 1; <-two; g.OK("a", nil, "a") }},
		{Group: b, Run: func(_ context.Context, g *check.Group) { <-one; two <- 2; g.OK("b", nil, "b") }},
	})
	if len(a.Lines) != 1 || len(b.Lines) != 1 || a.Lines[0].Check != "a" || b.Lines[0].Check != "b" {
		t.Errorf("got %+v %+v", a, b)
	}
}
