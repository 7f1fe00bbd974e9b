package walkthrough

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The quickstart does what it says, from a clean clone.
func TestQuickstart(t *testing.T) {
	t.Parallel()
	need(t, "bash", "curl", "git")
	readPage(t, "quickstart.md").walk(t, t.TempDir(),
		"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=url."+repository(t)+".insteadOf", "GIT_CONFIG_VALUE_0=https://github.com/sidepass/sidepass")
}

// repository is a git repository of the working tree, as it would be if all of it were committed.
func repository(t *testing.T) string {
	t.Helper()
	list := exec.CommandContext(t.Context(), "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	list.Dir, list.Env = root, environment()
	out, err := list.Output()
	if err != nil {
		t.Skip("this is no checkout of git, so that there is nothing to clone")
	}
	dir := t.TempDir()
	for name := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		copyFile(t, filepath.Join(root, name), filepath.Join(dir, name))
	}
	for _, args := range [][]string{{"init", "--quiet"}, {"add", "--force", "."}, {"commit", "--quiet", "--message", "The working tree"}} {
		git := exec.CommandContext(t.Context(), "git", args...)
		git.Dir = dir
		git.Env = environment("GIT_AUTHOR_NAME=walkthrough", "GIT_AUTHOR_EMAIL=walkthrough@example.com", "GIT_COMMITTER_NAME=walkthrough", "GIT_COMMITTER_EMAIL=walkthrough@example.com")
		if out, err := git.CombinedOutput(); err != nil {
			t.Fatalf("git %s: %v\n%s", args[0], err, bytes.TrimSpace(out))
		}
	}
	return dir
}

// copyFile copies a file with its mode. One that git lists and that is gone is left out.
func copyFile(t *testing.T, from, to string) {
	t.Helper()
	info, err := os.Stat(from)
	if err != nil || !info.Mode().IsRegular() {
		return
	}
	content, err := os.ReadFile(from)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(to), 0o750)
	}
	if err == nil {
		err = os.WriteFile(to, content, info.Mode().Perm())
	}
	if err != nil {
		t.Fatal(err)
	}
}
