//go:build linux

package bench

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The cores: one has what is measured and nothing else, one the load and the upstream.
const (
	measuredCore = 0
	loadCore     = 1
	anyCore      = -1
)

// pinSelf keeps this process, with all its threads, on one core.
func pinSelf(t testing.TB, core int) {
	t.Helper()
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Skipf("pinning needs Linux: %v", err)
	}
	set := only(core)
	for _, task := range tasks {
		if id, err := strconv.Atoi(task.Name()); err == nil {
			_ = unix.SchedSetaffinity(id, &set)
		}
	}
}

func only(core int) unix.CPUSet {
	var set unix.CPUSet
	set.Set(core)
	return set
}

// start starts a process on a core, so that a Go program sees one from its first moment; it is killed when the test ends.
func start(t testing.TB, cmd *exec.Cmd, core int) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if core != anyCore {
		var mine unix.CPUSet
		set := only(core)
		if unix.SchedGetaffinity(0, &mine) == nil && unix.SchedSetaffinity(0, &set) == nil {
			defer func() { _ = unix.SchedSetaffinity(0, &mine) }()
		}
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(end(cmd))
}

// end kills a process and waits for its end; it may be called again.
func end(cmd *exec.Cmd) func() {
	return func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }
}

// startSelf starts the test binary again in one of the roles that TestMain knows.
func startSelf(t testing.TB, core int, role, argument string) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), role+"="+argument)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	start(t, cmd, core)
	return cmd, bufio.NewReader(out)
}

// cpu is the user and system time that a process has used: its CPU clock, clock_getcpuclockid(3).
func cpu(t testing.TB, pid int) time.Duration {
	t.Helper()
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|2), &ts); err != nil {
		t.Fatalf("the CPU clock of process %d: %v", pid, err)
	}
	return time.Duration(ts.Nano())
}

// busy is the time that all cores together have spent on anything, stolen time included.
func busy(t testing.TB) time.Duration {
	t.Helper()
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := bytes.Cut(b, []byte("\n"))
	f := strings.Fields(string(line))
	ticks := 0
	for _, i := range []int{1, 2, 3, 6, 7, 8} { // user, nice, system, irq, softirq, steal
		n, _ := strconv.Atoi(f[i])
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond // USER_HZ is 100
}

// rss is a process's resident memory in KiB.
func rss(t testing.TB, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, _ := strconv.Atoi(strings.Fields(rest)[0])
			return n
		}
	}
	return 0
}

func cpuModel() string {
	b, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "model name"); ok {
			return strings.TrimSpace(strings.TrimLeft(rest, "\t: "))
		}
	}
	return runtime.GOARCH
}

// spinCore is the environment variable that makes the test binary keep its core from halting: it spins, and only when nothing else
// wants to run (SCHED_IDLE). What waking a halted core costs differs from minute to minute on a virtual machine.
const spinCore = "SIDEPASS_BENCH_SPIN"

func spin() {
	runtime.LockOSThread()
	attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_IDLE}
	if err := unix.SchedSetAttr(0, &attr, 0); err != nil {
		panic(err)
	}
	fmt.Println("spinning")
	for forever := new(atomic.Bool); !forever.Load(); {
	}
}

// probeCores is the environment variable that makes the test binary print how many nanoseconds a cache line takes from one core to the
// other and back. The host of a virtual machine moves its cores together and apart, and all that wakes another core costs with it.
const probeCores = "SIDEPASS_BENCH_PROBE"

// A round trip of up to so long is that of cores that are near each other.
const near = 250 * time.Nanosecond

func probe() {
	const trips, batches = 2000, 20
	runtime.GOMAXPROCS(2)
	var ball atomic.Int64
	player := func(core int, first int64, after func(n int64)) {
		runtime.LockOSThread()
		set := only(core)
		if err := unix.SchedSetaffinity(0, &set); err != nil {
			panic(err)
		}
		for n := first; n < 2*trips*batches; n += 2 {
			for ball.Load() != n {
			}
			after(n)
			ball.Store(n + 1)
		}
	}
	go player(loadCore, 1, func(int64) {})
	best, began := time.Hour, time.Now()
	player(measuredCore, 0, func(n int64) {
		if n > 0 && n%(2*trips) == 0 {
			best = min(best, time.Since(began)/trips) // the rest were disturbed
			began = time.Now()
		}
	})
	fmt.Println(best.Nanoseconds())
}

// distance asks for a probe.
func distance(t testing.TB) time.Duration {
	t.Helper()
	cmd, out := startSelf(t, anyCore, probeCores, "1")
	var ns int64
	if _, err := fmt.Fscan(out, &ns); err != nil {
		t.Fatalf("probe: %v", err)
	}
	_ = cmd.Wait()
	return time.Duration(ns)
}
