package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/sidepass/sidepass/check"
)

// secretFiles are the last words of the keys whose files hold a secret.
func secretFiles() []string {
	return []string{"secret_file", "private_key_file", "key_file", "assertion_file", "jwks_token_file", "encryption_key_file", "redis_url_file"}
}

// secretValues are keys whose values are secrets, below an element of issuers or at the top.
func secretValues() []string {
	return []string{"client.secret", "tokens.shared.redis_url", "inbound.revocation_redis_url"}
}

// files checks who may read the files that hold secrets.
func (c *checker) files(_ context.Context, g *check.Group) {
	loaded := c.generation.loaded
	seen := map[string]bool{}
	look := func(key, file string) {
		if seen[file] {
			return
		}
		seen[file] = true
		readable(g, key, file)
	}
	for _, r := range loaded.References() {
		word := r.Key[strings.LastIndex(r.Key, ".")+1:]
		if slices.Contains(secretFiles(), word) && c.concerns(r.Path) {
			look(r.Path, r.File)
		}
	}
	paths := slices.Clone(secretValues()[1:])
	for i := range loaded.Config.Issuers {
		paths = append(paths, fmt.Sprintf("issuers[%d].%s", i, secretValues()[0]))
	}
	for _, path := range paths {
		if o := loaded.Origin(path); o.File != "" && c.concerns(path) {
			look(path, o.File)
		}
	}
	if dir := loaded.Config.Tokens.StateDir; dir != "" && !c.chosen {
		stateDir(g, dir)
	}
}

// concerns says whether a value belongs to what is checked.
func (c *checker) concerns(path string) bool {
	if !c.chosen {
		return true
	}
	for i, issuer := range c.generation.loaded.Config.Issuers {
		if strings.HasPrefix(path, fmt.Sprintf("issuers[%d].", i)) {
			outbound, _ := c.uses(issuer.Name)
			return outbound
		}
	}
	return false
}

// readable adds the line about who else than its owner may read or write a file.
func readable(g *check.Group, key, file string) {
	info, err := os.Stat(file)
	if err != nil {
		return // it was there when the configuration was validated; the sidecar goes on with what it has read
	}
	mode := info.Mode().Perm()
	facts := check.Facts{"key": key, "file": file, "mode": fmt.Sprintf("%04o", mode)}
	if mode&0o077 == 0 {
		g.OK("permissions", facts, "%s (%s) is its owner's alone", file, key)
		return
	}
	var who []string
	for _, w := range []struct {
		bits fs.FileMode
		name string
	}{{0o070, "its group"}, {0o007, "everybody"}} {
		if mode&w.bits != 0 {
			who = append(who, w.name)
		}
	}
	g.Warn("permissions", facts, fmt.Sprintf("chmod 600 %s; in Kubernetes set defaultMode: 0400 on the volume, or 0440 with fsGroup", file),
		"%s (%s) holds a secret and is open to %s, mode %04o", file, key, strings.Join(who, " and "), mode)
}

// stateDir looks at tokens.state_dir without making it.
func stateDir(g *check.Group, dir string) {
	info, err := os.Stat(dir)
	facts := check.Facts{"key": "tokens.state_dir", "file": dir}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		g.Skip("permissions", "%s (tokens.state_dir) is not there yet; the sidecar makes it", dir)
	case err != nil:
		g.Fail("permissions", facts, "let the user that sidepass runs as look into it", "%s (tokens.state_dir) cannot be looked at", dir)
	case !info.IsDir():
		g.Fail("permissions", facts, "name a directory of its own; the sidecar makes it", "%s (tokens.state_dir) is not a directory", dir)
	case info.Mode().Perm()&0o077 != 0:
		g.Fail("permissions", facts, "chmod 700 "+dir+", or name a directory in it, which the sidecar makes for itself", "%s (tokens.state_dir) can be used by others, mode %04o: the sidecar does not start", dir, info.Mode().Perm())
	default:
		g.OK("permissions", facts, "%s (tokens.state_dir) is its owner's alone", dir)
	}
}
