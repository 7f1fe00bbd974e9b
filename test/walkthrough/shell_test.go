package walkthrough

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience is how long all of a page may take, a first build included. Its commands wait for what they started without an end of their own.
const patience = 8 * time.Minute

// setting finds the variables that a page lets its reader set: NAME=${NAME:-127.0.0.1:8080}.
var setting = regexp.MustCompile(`(?m)^([A-Z_]+)=\$\{[A-Z_]+:-(127\.0\.0\.1:[0-9]+)\}`)

// walk does a page's commands in one bash, as its reader does in one terminal. The page's addresses are others here, by their variables, since several tests
// run on one machine. What the commands started, they also end.
func (p *page) walk(t *testing.T, dir string, environ ...string) {
	t.Helper()
	steps := p.steps(t)
	mark := func(i int) string { return fmt.Sprintf("——— step %d ———\n", i+1) }
	script := ""
	for i, s := range steps {
		script += "printf '" + mark(i) + "'\n" + s.commands
	}
	settings := setting.FindAllStringSubmatch(script, -1)
	if len(settings) == 0 {
		t.Fatalf("%s has no addresses that can be set", p.file)
	}
	var shown []string
	for i, address := range freeAddresses(t, len(settings)) {
		environ = append(environ, settings[i][1]+"="+address)
		shown = append(shown, address, settings[i][2])
	}
	output := strings.NewReplacer(shown...).Replace(bash(t, dir, script, environ...))
	t.Cleanup(func() {
		if t.Failed() {
			p.logs(t, dir)
		}
	})
	for i, s := range steps {
		_, text, reached := strings.Cut(output, mark(i))
		if !reached {
			t.Fatalf("%s: these commands were not reached:\n\n%s", p.file, s.commands)
		}
		text, _, _ = strings.Cut(text, mark(i+1))
		p.printed(t, s, text)
	}
}

// logs shows what the commands had their programs write.
func (p *page) logs(t *testing.T, dir string) {
	for _, pattern := range []string{"*.log", "*/*/*.log"} {
		files, _ := filepath.Glob(filepath.Join(dir, pattern))
		for _, file := range files {
			text, _ := os.ReadFile(file)
			t.Logf("%s:\n%s", filepath.Base(file), text)
		}
	}
}

// bash runs a script and returns what it and all that it started printed. They are one process group, of which nothing may be left.
func bash(t *testing.T, dir, script string, environ ...string) string {
	t.Helper()
	out, err := os.Create(filepath.Join(t.TempDir(), "output")) // a file: what stays behind would hold a pipe open
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", script)
	cmd.Dir, cmd.Env = dir, environment(environ...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	group := func(s syscall.Signal) error { return syscall.Kill(-cmd.Process.Pid, s) }
	cmd.Cancel = func() error { return group(syscall.SIGKILL) }
	if err := cmd.Run(); cmd.ProcessState == nil {
		t.Fatal(err)
	}
	if ctx.Err() != nil {
		t.Errorf("the commands were not done after %v", patience)
	}
	for end := time.Now().Add(10 * time.Second); !errors.Is(group(0), syscall.ESRCH); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Error("something that the commands started still runs")
			_ = group(syscall.SIGKILL)
			break
		}
	}
	printed, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(printed)
}
