//go:build linux

package soak

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/sidepass/sidepass/test/issuer"
)

// tally is what was counted during a run.
type tally struct {
	mu        sync.Mutex
	counts    map[string]int
	requests  map[string]int // :: route → requests
	latencies []time.Duration
	longest   time.Duration
	slowest   string        // the request that took longest
	pause     time.Duration // the longest that this process did not run, though it wanted to
	paused    string
	failures  int
	now       string // the weather
	samples   map[string][]sample
	atRest    []string
	notReady  int
}

func (t *tally) count(what string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.counts == nil {
		t.counts = map[string]int{}
	}
	t.counts[what]++
}

func (t *tally) counted(what string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.counts[what]
}

func (w *world) answered(route string, took time.Duration) {
	t := &w.tally
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.requests == nil {
		t.requests = map[string]int{}
	}
	t.requests[route]++
	if len(t.latencies) == 0 || took > t.longest {
		t.longest, t.slowest = took, fmt.Sprintf("route %s at %s, weather %q", route, w.at(), t.now)
	}
	t.latencies = append(t.latencies, took)
}

// breathe measures how long this process was kept from running, which on a busy machine explains latencies and, where it takes
// longer than the plan's slack, failures.
func (w *world) breathe(ctx context.Context) {
	const breath = 10 * time.Millisecond
	for last := time.Now(); sleep(ctx, breath); last = time.Now() {
		pause := time.Since(last) - breath
		t := &w.tally
		t.mu.Lock()
		if pause > t.pause {
			t.pause, t.paused = pause, fmt.Sprintf("at %s, weather %q", w.at(), t.now)
		}
		t.mu.Unlock()
	}
}

func (t *tally) weather(now string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.now = now
}

// fail reports a request that failed; the first few are shown.
func (w *world) fail(route, how string) {
	t := &w.tally
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failures++
	w.in.log.hold()
	w.out.log.hold()
	if t.failures <= 20 {
		w.t.Errorf("at %s, weather %q, route %s: %s", w.at(), t.now, route, how)
	}
}

// sample is what a process holds at a moment.
type sample struct {
	at              time.Duration
	goroutines, fds int
	rss             int // KiB
}

// sample looks at the process; false is that it could not.
func (s *sidecar) sample(at time.Duration) (sample, bool) {
	status, metrics := s.get("/metrics")
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.cmd.Process.Pid))
	stat, err2 := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if status != 200 || err != nil || err2 != nil {
		return sample{}, false
	}
	_, rss, _ := strings.Cut(string(stat), "VmRSS:")
	out := sample{at: at, goroutines: int(sum(metrics, "go_goroutines")), fds: len(entries)}
	_, err = fmt.Sscan(rss, &out.rss)
	return out, err == nil
}

// watch samples both processes, and asks whether they are ready: no outage may take them out.
func (w *world) watch(ctx context.Context) {
	for sleep(ctx, w.plan.sampleEvery) {
		for _, s := range []*sidecar{w.out, w.in} {
			one, ok := s.sample(time.Since(w.began))
			ready, _ := s.get("/readyz")
			t := &w.tally
			t.mu.Lock()
			if ok {
				if t.samples == nil {
					t.samples = map[string][]sample{}
				}
				t.samples[s.name] = append(t.samples[s.name], one)
			}
			if ready != 200 {
				t.notReady++
			}
			t.mu.Unlock()
		}
	}
}

// growth is one quantity of one process in the first quarter of a run and in the last.
type growth struct {
	process, what string
	first, last   int // medians
	allowed       int // of last
}

// growths compares the quarters. Goroutines and files sway with the number of connections that the busiest moment needed and
// that idle for 90 s, so a quarter more and 30 are allowed: this finds what grows with the requests or with time. What grows with the
// reloads or outages is found by drained, which allows next to nothing. 10 % and 8 MiB of memory are less than a leak of 100 bytes a request
// in ten minutes, where 90,000 requests lie between the quarters' middles.
func (w *world) growths() []growth {
	median := func(s []sample, of func(sample) int) int {
		var values []int
		for _, one := range s {
			values = append(values, of(one))
		}
		if len(values) == 0 {
			return 0
		}
		slices.Sort(values)
		return values[len(values)/2]
	}
	var out []growth
	for _, s := range []*sidecar{w.out, w.in} {
		var first, last []sample
		for _, one := range w.tally.samples[s.name] {
			switch {
			case one.at < w.plan.length/4:
				first = append(first, one)
			case one.at >= w.plan.length*3/4:
				last = append(last, one)
			}
		}
		add := func(what string, of func(sample) int, percent, more int) {
			f := median(first, of)
			out = append(out, growth{s.name, what, f, median(last, of), f + f*percent/100 + more})
		}
		add("goroutines", func(s sample) int { return s.goroutines }, 25, 30)
		add("open files", func(s sample) int { return s.fds }, 25, 30)
		add("RSS, KiB", func(s sample) int { return s.rss }, 10, 8<<10)
	}
	return out
}

// rest is what the processes hold without load.
type rest map[string]sample

// settle reloads both, which closes the connections that the old configuration kept, and returns what they hold after a while.
func (w *world) settle() rest {
	for _, s := range []*sidecar{w.out, w.in} {
		before := s.metric("sidepass_config_reloads_total", `result="ok"`)
		s.signal(syscall.SIGHUP)
		s.eventually(10*time.Second, "the reload is done", func() bool {
			return s.metric("sidepass_config_reloads_total", `result="ok"`) > before
		})
	}
	time.Sleep(300 * time.Millisecond)
	out := rest{}
	for _, s := range []*sidecar{w.out, w.in} {
		one, ok := s.sample(0)
		if !ok {
			w.t.Fatalf("%s: /proc or /metrics does not answer", s.name)
		}
		out[s.name] = one
	}
	return out
}

// drained waits until the processes hold no more than before the load: whatever the length of the run, nothing is left behind
// by its requests, streams, reloads and outages. There may be a few connections to the authorization server more or less, each with
// two goroutines; beyond these three goroutines are allowed.
func (w *world) drained(before rest) {
	after := w.settle()
	for _, s := range []*sidecar{w.out, w.in} {
		b, now := before[s.name], after[s.name]
		left := func() bool { return now.fds > b.fds+tokens || now.goroutines-b.goroutines > 2*max(0, now.fds-b.fds)+3 }
		for end := time.Now().Add(10 * time.Second); left() && time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
			if one, ok := s.sample(0); ok {
				now = one
			}
		}
		if left() {
			w.t.Errorf("%s: something is left behind: %d goroutines and %d files before the load, %d and %d after it", s.name, b.goroutines, b.fds, now.goroutines, now.fds)
		}
		w.tally.atRest = append(w.tally.atRest, fmt.Sprintf("%s %d → %d goroutines, %d → %d files", s.name, b.goroutines, now.goroutines, b.fds, now.fds))
	}
}

// judge says what a run must have been like, once it is over. Requests that failed have been reported.
func (w *world) judge() {
	t := &w.tally
	if t.failures > 0 {
		w.t.Errorf("%d of %d requests and streams failed, want none", t.failures, len(t.latencies)+t.counted("streams"))
		if t.pause > w.plan.slack/2 {
			w.t.Logf("the machine paused for %s %s, and the plan has a slack of %s: try again on one that is less busy", t.pause, t.paused, w.plan.slack)
		}
	}
	for _, route := range []string{"orders", "archive", "stock", "billing", "reports"} {
		if t.requests[route] == 0 {
			w.t.Errorf("there was no request for route %s", route)
		}
	}
	if t.counted("streams") == 0 || t.counted("ticks and messages of streams") == 0 {
		w.t.Error("there were no streams")
	}
	if t.notReady > 0 {
		w.t.Errorf("%d times a sidecar was not ready: an outage must not take it out", t.notReady)
	}
	if n := w.out.metric("sidepass_upstream_401_total"); n != 0 {
		w.t.Errorf("inbound refused %v tokens that outbound sent, healed or not", n)
	}
	if n, asked := w.in.metric("sidepass_inbound_requests_total", `decision="deny"`), t.counted("refusals asked for"); int(n) != asked {
		w.t.Errorf("inbound refused %v requests, want the %d that were made to be refused", n, asked)
	}
	for _, result := range []string{"ok", "error"} {
		caused, done := t.counted("reloads caused, "+result), w.out.metric("sidepass_config_reloads_total", `result="`+result+`"`)+w.in.metric("sidepass_config_reloads_total", `result="`+result+`"`)
		if int(done) < caused {
			w.t.Errorf("%v reloads with %s, want at least the %d that were caused", done, result, caused)
		}
	}
	// Each token is fetched ahead and must be replaced before it ends, and is not asked for before it is due.
	obtained := int(w.out.metric("sidepass_token_requests_total", `result="ok"`))
	least := tokens * (1 + int(w.plan.length/w.plan.life))
	most := tokens*(2+int(float64(w.plan.length)/(0.9*w.plan.refreshAt*float64(w.plan.life)))) + 1 + t.counted("reloads caused, ok") // for the spare route
	if obtained < least || obtained > most {
		w.t.Errorf("%d tokens were obtained, want from %d to %d", obtained, least, most)
	}
	if w.plan.length < shortest {
		return
	}
	for _, result := range []string{"unreachable", "timeout", "throttled", "other_error", "invalid_client"} {
		if w.out.metric("sidepass_token_requests_total", `result="`+result+`"`) == 0 {
			w.t.Errorf("no token request ended with %s: this weather was not felt", result)
		}
	}
	for _, g := range w.growths() {
		if g.first == 0 || g.last > g.allowed {
			w.t.Errorf("%s: %s grew from %d to %d, allowed is %d", g.process, g.what, g.first, g.last, g.allowed)
		}
	}
}

// table is the run in numbers.
func (w *world) table() string {
	t := &w.tally
	var b strings.Builder
	tw := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	row := func(name, format string, a ...any) { fmt.Fprintf(tw, "%s\t%s\n", name, fmt.Sprintf(format, a...)) }
	fmt.Fprintln(tw)
	row("requests", "%d in %s %v", len(t.latencies), w.plan.length, t.requests)
	row("failures", "%d", t.failures)
	row("token requests made", "%d", w.iss.Calls(issuer.Token))
	row("token requests by result", "%s", byLabel(w.out, "sidepass_token_requests_total", "result"))
	row("token look-ups by result", "%s", byLabel(w.out, "sidepass_token_cache_lookups_total", "result"))
	row("key fetches", "%d, %s", w.iss.Calls(issuer.JWKS), byLabel(w.in, "sidepass_jwks_refreshes_total", "result"))
	row("reloads outbound", "%s", byLabel(w.out, "sidepass_config_reloads_total", "result"))
	row("reloads inbound", "%s", byLabel(w.in, "sidepass_config_reloads_total", "result"))
	for _, what := range slices.Sorted(maps.Keys(t.counts)) {
		row(what, "%d", t.counts[what])
	}
	for _, g := range w.growths() {
		row(g.process+" "+g.what, "%d → %d (first, last quarter; at most %d)", g.first, g.last, g.allowed)
	}
	row("without load", "%s (before, after)", strings.Join(t.atRest, "; "))
	if n := len(t.latencies); n > 0 {
		slices.Sort(t.latencies)
		at := func(q float64) time.Duration { return t.latencies[int(q*float64(n-1))].Round(10 * time.Microsecond) }
		row("latency from when due", "p50 %s, p99 %s, p99.9 %s, max %s: %s", at(.5), at(.99), at(.999), at(1), t.slowest)
		row("the machine's longest pause", "%s %s", t.pause.Round(10*time.Microsecond), t.paused)
	}
	_ = tw.Flush()
	return b.String()
}

// byLabel is a metric's sum for each value of one label.
func byLabel(s *sidecar, name, label string) string {
	_, metrics := s.get("/metrics")
	values := map[string]bool{}
	for line := range strings.Lines(metrics) {
		if strings.HasPrefix(line, name+"{") {
			_, v, _ := strings.Cut(line, label+`="`)
			v, _, _ = strings.Cut(v, `"`)
			values[v] = true
		}
	}
	var out []string
	for _, v := range slices.Sorted(maps.Keys(values)) {
		out = append(out, fmt.Sprintf("%s %.0f", v, sum(metrics, name, label+`="`+v+`"`)))
	}
	return strings.Join(out, ", ")
}
