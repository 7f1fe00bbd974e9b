package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/sidepass/sidepass/check"
	"github.com/sidepass/sidepass/config"
	"github.com/sidepass/sidepass/scaffold"
)

// checkFlags are the command line of `sidepass check`.
type checkFlags struct {
	offline bool
	output  string
	routes  []string
	timeout time.Duration
}

func (a *app) checkCommand() *cobra.Command {
	var f checkFlags
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check the configuration and what it names: issuers, keys, a token a route, upstreams; and say what to do",
		Example: `  sidepass check --config sidepass.yaml
  sidepass check --offline                    the configuration alone, in CI
  sidepass check --route orders               one route and its issuer
  sidepass check --output json                for a program; docs/check.md has the shape`,
		Long: `Validates the configuration, then goes to the real servers as the sidecar would: metadata and keys of each issuer, one token a route,
its audience and scopes, the clock, the upstreams. One line a check, and what to do about each that failed.

It asks for tokens and changes nothing else: it opens no listener, and writes neither to tokens.state_dir nor to a shared cache.

Exit code: 0 if nothing failed (warnings do not count), 1 if something failed, 2 if the configuration cannot be used.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			return a.check(ctx, f)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&f.offline, "offline", false, "validate only: make no call")
	flags.StringVar(&f.output, "output", "text", "text or json")
	flags.StringArrayVar(&f.routes, "route", nil, "check only this route and its issuer; may repeat")
	flags.DurationVar(&f.timeout, "timeout", 30*time.Second, "how long all of it may take")
	return cmd
}

func (a *app) check(ctx context.Context, f checkFlags) error {
	switch {
	case f.output != "text" && f.output != "json":
		return fail(exitUnusable, fmt.Errorf("--output is text or json, not %q", f.output))
	case f.timeout <= 0:
		return fail(exitUnusable, fmt.Errorf("--timeout %s: the checks need some time", f.timeout))
	}
	unusable := func(err error) error {
		if f.output == "json" {
			if failed := unusableReport(err).JSON(a.out); failed != nil {
				return failed
			}
		}
		return fail(exitUnusable, err)
	}
	loaded, err := a.load()
	if err != nil {
		return unusable(err)
	}
	s, err := newParts(sidecarOptions{Log: zap.NewNop()})
	if err != nil {
		return fail(exitFailed, err)
	}
	defer s.close()
	c := &checker{process: s.process, offline: f.offline, timeout: f.timeout}
	c.hear()
	if c.generation, err = s.process.build(loaded, configured(loaded.Config)); err != nil {
		return unusable(err)
	}
	defer c.close()
	if err := c.choose(f.routes); err != nil {
		return fail(exitUnusable, err)
	}
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	report := check.NewReport(c.run(ctx))
	if f.output == "json" {
		err = report.JSON(a.out)
	} else {
		err = report.Text(a.out, a.coloured())
	}
	if err == nil && report.Result == check.ResultFailed {
		err = fail(exitFailed, nil)
	}
	return err
}

// coloured says whether standard output is a person's terminal (https://no-color.org).
func (a *app) coloured() bool {
	return isTerminal(a.out) && a.getenv("NO_COLOR") == "" && a.getenv("TERM") != "dumb"
}

// unusableReport is what JSON says of a configuration that cannot be used. Standard error has the sentences.
func unusableReport(err error) check.Report {
	g := &check.Group{Kind: "configuration"}
	var problems config.Problems
	if errors.As(err, &problems) {
		for _, p := range problems {
			do := p.Hint
			if do == "" {
				do = "correct the configuration; `sidepass config schema` has what may be in it"
			}
			p.Hint, p.Source = "", ""
			g.Fail("valid", nil, do, "%s", p.String())
		}
	} else {
		for says := range strings.SplitSeq(err.Error(), "\n") {
			g.Fail("valid", nil, "correct the configuration", "%s", says)
		}
	}
	r := check.NewReport([]*check.Group{g})
	r.Result = check.ResultUnusable
	return r
}

// checker checks what one configuration names, with the parts that the sidecar would run.
type checker struct {
	process    *process
	generation *generation
	heard      heard
	offline    bool
	timeout    time.Duration
	routes     []*route // to check
	chosen     bool     // by --route
}

// choose takes the routes of these names, or all.
func (c *checker) choose(names []string) error {
	c.routes, c.chosen = c.generation.routes, len(names) > 0
	if !c.chosen {
		return nil
	}
	for _, name := range names {
		if !slices.ContainsFunc(c.routes, func(r *route) bool { return r.config.Name == name }) {
			return unknownRoute(name, c.routes)
		}
	}
	c.routes = slices.DeleteFunc(slices.Clone(c.routes), func(r *route) bool { return !slices.Contains(names, r.config.Name) })
	return nil
}

// uses says whether an issuer is one of a route to check, and whether inbound trusts it.
func (c *checker) uses(issuer string) (outbound bool, trusted *trusted) {
	outbound = slices.ContainsFunc(c.routes, func(r *route) bool { return r.config.Issuer == issuer })
	if c.chosen {
		return outbound, nil
	}
	for _, t := range c.generation.trusted {
		if t.config.Name == issuer {
			trusted = t
		}
	}
	return outbound, trusted
}

// run makes all checks and returns their groups in the order of the configuration.
func (c *checker) run(ctx context.Context) []*check.Group {
	for _, f := range c.generation.activate {
		f()
	}
	loaded := c.generation.loaded
	var tasks []check.Task
	add := func(kind, name string, run func(context.Context, *check.Group)) *check.Group {
		g := &check.Group{Kind: kind, Name: name}
		tasks = append(tasks, check.Task{Group: g, Run: run})
		return g
	}
	add("configuration", "", c.configuration)
	add("files", "", c.files)
	issuers := map[string]*check.Group{}
	for _, ic := range loaded.Config.Issuers {
		if outbound, trusted := c.uses(ic.Name); outbound || trusted != nil {
			issuers[ic.Name] = add("issuer", ic.Name, func(ctx context.Context, g *check.Group) { c.issuer(ctx, g, ic, outbound, trusted) })
		}
	}
	for _, r := range c.routes {
		add("route", r.config.Name, func(ctx context.Context, g *check.Group) { c.route(ctx, g, r) })
	}
	if loaded.Config.Inbound != nil && !c.chosen {
		add("inbound", "", c.inbound)
		if !c.offline {
			add("revocations", "", c.revocations)
		}
	}
	if sharesTokens(loaded.Config) && !c.chosen && !c.offline {
		add("shared cache", "", c.sharedCache)
	}
	check.Run(ctx, tasks)
	c.saidOnce(tasks, issuers)
	var groups []*check.Group
	for _, t := range tasks {
		groups = append(groups, t.Group)
	}
	for name, g := range issuers {
		c.conclude(g, name) // the routes' token requests say more of them
	}
	c.byPosition(groups)
	return groups
}

// saidOnce leaves what keeps an issuer's metadata from being used to the issuer's lines: without them its routes ask for no token.
func (c *checker) saidOnce(tasks []check.Task, issuers map[string]*check.Group) {
	for _, t := range tasks {
		at := slices.IndexFunc(c.routes, func(r *route) bool { return t.Group.Kind == "route" && r.config.Name == t.Group.Name })
		if at < 0 {
			continue
		}
		i := c.server(c.routes[at].config.Issuer)
		lines := issuers[i.config.Name].Lines
		if i.config.TokenEndpoint.IsSet() || !slices.ContainsFunc(lines, func(l check.Line) bool {
			return l.Status == check.Failed && (l.Check == "reachable" || l.Check == "metadata")
		}) {
			continue
		}
		for n, l := range t.Group.Lines {
			if l.Check == "token" && l.Status == check.Failed && l.Facts["error"] == nil {
				t.Group.Lines[n] = check.Line{Check: "token", Status: check.Skipped, Says: "no token was asked for: see issuer " + i.config.Name}
			}
		}
	}
}

// byPosition has the lines name issuers' keys as errors of the configuration do, issuers[0].url.
func (c *checker) byPosition(groups []*check.Group) {
	var names []string
	for i, ic := range c.generation.loaded.Config.Issuers {
		names = append(names, "issuers["+ic.Name+"]", fmt.Sprintf("issuers[%d]", i))
	}
	r := strings.NewReplacer(names...)
	for _, g := range groups {
		for i := range g.Lines {
			g.Lines[i].Says, g.Lines[i].Do = r.Replace(g.Lines[i].Says), r.Replace(g.Lines[i].Do)
		}
	}
}

// configuration says what was validated: it could be used, or no check would run.
func (c *checker) configuration(_ context.Context, g *check.Group) {
	loaded := c.generation.loaded
	from := "the environment"
	if len(loaded.Files) > 0 {
		from = strings.Join(loaded.Files, ", ")
	}
	what := []string{many(len(loaded.Config.Issuers), "issuer")}
	if loaded.Config.Outbound != nil {
		what = append(what, "outbound with "+many(len(loaded.Config.Outbound.Routes), "route"))
	}
	if loaded.Config.Inbound != nil {
		what = append(what, "inbound with "+many(len(loaded.Config.Inbound.Rules), "rule"))
	}
	g.OK("valid", check.Facts{"files": append([]string{}, loaded.Files...)}, "%s can be used: %s", from, strings.Join(what, ", "))
	for _, s := range loaded.Effective() {
		if at := loaded.Origin(s.Path); at != (config.Origin{}) {
			if found := placeholder.FindString(fmt.Sprint(s.Value)); found != "" {
				g.Warn("placeholder", check.Facts{"key": s.Path}, "write your own value there; the comments in the file say where to find it", "%s still says %s (%s)", s.Path, found, at)
			}
		}
	}
	if out := loaded.Config.Outbound; out != nil && len(out.Routes) == 0 {
		g.Warn("routes", nil, "add a route under outbound.routes, or leave out outbound", "outbound has no routes: every call is refused as no_route")
	}
}

// placeholder is what init writes for a value that it was not told.
var placeholder = regexp.MustCompile(`\b` + scaffold.Placeholder + `[A-Z0-9-]*[A-Z0-9]`)

func many(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// close ends what the checks opened. What they started has ended.
func (c *checker) close() {
	c.generation.close()
	for _, i := range c.generation.issuers {
		i.http.CloseIdle()
	}
}

// outOfTime says whether a check did not come to its end, and adds a line that says so.
func (c *checker) outOfTime(ctx context.Context, g *check.Group, word, what string) bool {
	if ctx.Err() == nil {
		return false
	}
	why := "was not finished within --timeout " + c.timeout.String()
	if errors.Is(ctx.Err(), context.Canceled) {
		why = "was interrupted"
	}
	g.Fail(word, nil, "give more time by --timeout, or check less by --route", "%s %s", what, why)
	return true
}

// lastAdvice splits a sentence that ends with what to do, after a semicolon. Without such an end it is otherwise.
func lastAdvice(sentence, otherwise string) (says, do string) {
	if i := strings.LastIndex(sentence, "; "); i >= 0 {
		return sentence[:i], sentence[i+2:]
	}
	return sentence, otherwise
}
