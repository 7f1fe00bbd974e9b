// Package release runs release/build as a release does, for one target, and looks into what it made.
package release

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	root    = "../.."
	version = "v1.2.3"
	commit  = "0123456789abcdef0123456789abcdef01234567"
	epoch   = 1_790_000_000
)

// build runs the script of a checkout, as from a clean clone with these facts.
func build(t *testing.T, checkout string, environ []string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "bash", append([]string{filepath.Join(checkout, "release/build")}, args...)...)
	cmd.Env = append(os.Environ(), "VERSION="+version, "COMMIT="+commit, fmt.Sprint("SOURCE_DATE_EPOCH=", epoch), "GOTOOLCHAIN=local", "GOPROXY=off")
	cmd.Env = append(cmd.Env, environ...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// needTools skips where the script cannot run: without bash, or without the modules of its own tools.
func needTools(t *testing.T) {
	t.Helper()
	for _, name := range []string{"bash", "sha256sum"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skip("SKIPPED: there is no ", name)
		}
	}
	cmd := exec.Command("go", "build", "-mod=readonly", "-o", os.DevNull, ".")
	cmd.Dir, cmd.Env = filepath.Join(root, "release/tools"), append(os.Environ(), "GOFLAGS=", "GOPROXY=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: the modules of release/tools are not there (go -C release/tools mod download):\n%s", out)
	}
}

func TestRefusesWhatIsNoRelease(t *testing.T) {
	needTools(t)
	for _, c := range []struct {
		environ string
		args    []string
		want    string
	}{
		{"", []string{"plan9-amd64"}, "plan9-amd64 is no target"},
		{"", []string{"linux-amd64-race"}, "linux-amd64-race is no target"},
		{"", []string{"--fast"}, "release/build [--out DIR]"},
		{"VERSION=../../v1", []string{"linux-amd64"}, "cannot be part of a file's name"},
		{"COMMIT=a b", []string{"linux-amd64"}, "is no commit"},
	} {
		out, err := build(t, root, []string{c.environ}, append([]string{"--out", t.TempDir()}, c.args...)...)
		if err == nil || !strings.Contains(out, c.want) {
			t.Errorf("%s %v: %v\n%s", c.environ, c.args, err, out)
		}
	}
}

// One target shows all: the FIPS one, which differs most from an ordinary build. Two checkouts give the same bytes; the archive has what it
// should, in order; the binary says what it is and calls and is called; the SBOM and the licences are those of the binary.
func TestRelease(t *testing.T) {
	if testing.Short() {
		t.Skip("it compiles sidepass twice")
	}
	needTools(t)
	target := runtime.GOOS + "-" + runtime.GOARCH + "-fips"
	name := "sidepass_" + version + "_" + strings.ReplaceAll(target, "-", "_")
	checkout, first, second := copied(t), t.TempDir(), t.TempDir()
	args := []string{"--out", first, target}
	_, err := exec.LookPath("buildah")
	withImage := err == nil && runtime.GOOS == "linux" && os.Geteuid() == 0 // else it needs user namespaces
	if withImage {
		args = append(args, "--image")
	}
	for where, args := range map[string][]string{root: args, checkout: {"--out", second, target}} {
		if out, err := build(t, where, nil, args...); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}

	sums := readFile(t, filepath.Join(first, "checksums.txt"))
	if other := readFile(t, filepath.Join(second, "checksums.txt")); !bytes.Equal(sums, other) {
		t.Errorf("two checkouts give\n%sand\n%s", sums, other)
	}
	archive, bom := readFile(t, filepath.Join(first, name+".tar.gz")), readFile(t, filepath.Join(first, name+".cdx.json"))
	if want := digest(bom) + "  " + name + ".cdx.json\n" + digest(archive) + "  " + name + ".tar.gz\n"; string(sums) != want {
		t.Errorf("the checksums are\n%swant\n%s", sums, want)
	}

	files := unpack(t, archive, name)
	binary := filepath.Join(t.TempDir(), "sidepass")
	if err := os.WriteFile(binary, files["sidepass"], 0o755); err != nil {
		t.Fatal(err)
	}
	build, err := buildinfo.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	fips := ""
	for _, s := range build.Settings {
		switch {
		case s.Key == "GOFIPS140":
			fips = s.Value
		case s.Key == "-ldflags", strings.HasPrefix(s.Key, "vcs"):
			t.Errorf("the binary says %s=%s, which is not the same everywhere", s.Key, s.Value)
		}
	}
	if fips == "" || fips == "latest" {
		t.Errorf("the FIPS module is %q, want one that is frozen", fips)
	}
	out, err := exec.Command(binary, "version").CombinedOutput()
	want := fmt.Sprintf("sidepass %s\ncommit %s\n%s %s/%s\nfips140: %s, on\n", version, commit, runtime.Version(), runtime.GOOS, runtime.GOARCH, fips)
	if string(out) != want || err != nil {
		t.Errorf("it says %v\n%s\nwant\n%s", err, out, want)
	}
	if out, err := exec.CommandContext(t.Context(), binary, "demo", "--once").CombinedOutput(); err != nil || !strings.Contains(string(out), "✓ 200 ok") || strings.Contains(string(out), "✗") {
		t.Errorf("outbound and inbound: %v\n%s", err, out)
	}
	here, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{here, checkout} {
		if bytes.Contains(files["sidepass"], []byte(folder)) {
			t.Errorf("the binary has %s in it", folder)
		}
	}

	modules := []string{"std " + strings.TrimPrefix(build.GoVersion, "go")}
	for _, d := range build.Deps {
		modules = append(modules, d.Path+" "+d.Version)
	}
	slices.Sort(modules)
	if listed, sum := components(t, bom); !slices.Equal(listed, modules) || sum != digest(files["sidepass"]) {
		t.Errorf("the SBOM of %s lists\n%s\nand the binary has\n%s", sum, strings.Join(listed, "\n"), strings.Join(modules, "\n"))
	}
	for _, m := range modules {
		if text := files["THIRD_PARTY_LICENSES"]; !bytes.Contains(text, []byte("\n  "+m+" (")) || !bytes.Contains(text, []byte("\n"+m+": LICENSE")) {
			t.Errorf("the licence of %s is missing", m)
		}
	}

	if withImage {
		inspectImage(t, filepath.Join(first, "image-fips"), files)
	} else {
		t.Log("the image is not built: that needs buildah, and root on Linux")
	}
}

// copied is the project in another folder: what building it needs.
func copied(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "elsewhere")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && slices.Contains([]string{".git", "node_modules", "testdata", "dist"}, d.Name()) {
			return filepath.SkipDir
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(dir, name), 0o750)
		}
		info, err := d.Info()
		if err != nil || !info.Mode().IsRegular() || info.Size() > 4<<20 || strings.HasSuffix(name, "_test.go") {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, name), content, info.Mode().Perm())
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// unpack holds an archive against what each has: one folder, these files with these modes, nothing of the machine that made it.
func unpack(t *testing.T, archive []byte, folder string) map[string][]byte {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	files, listed := map[string][]byte{}, []string{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		name, inside := strings.CutPrefix(h.Name, folder+"/")
		if !inside || !h.ModTime.Equal(time.Unix(epoch, 0)) || h.Uid != 0 || h.Gid != 0 || h.Uname != "" || h.Gname != "" {
			t.Errorf("%s is of %v and belongs to %d:%d %s:%s", h.Name, h.ModTime, h.Uid, h.Gid, h.Uname, h.Gname)
		}
		if !strings.HasPrefix(name, "man/man1/") {
			listed = append(listed, fmt.Sprintf("%s %o", name, h.Mode))
		}
		if files[name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{"sidepass 755", "THIRD_PARTY_LICENSES 644", "LICENSE 644", "README.md 644"}; !slices.Equal(listed, want) {
		t.Errorf("the archive has %v, want %v and the manual pages", listed, want)
	}
	pages, err := filepath.Glob(filepath.Join(root, "docs/man/*.1"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pages {
		if files["man/man1/"+filepath.Base(p)] == nil {
			t.Errorf("the archive lacks the manual page %s", p)
		}
	}
	return files
}

// components are the modules of an SBOM, and the digest of the binary that it is about.
func components(t *testing.T, text []byte) (modules []string, sum string) {
	t.Helper()
	var bom struct {
		Metadata struct {
			Component struct {
				Version string
				Hashes  []struct{ Content string }
			}
		}
		Components []struct{ Name, Version, PURL string }
	}
	if err := json.Unmarshal(text, &bom); err != nil {
		t.Fatal(err)
	}
	for _, c := range bom.Components {
		if c.PURL != "pkg:golang/"+c.Name+"@"+c.Version {
			t.Errorf("the package URL of %s is %s", c.Name, c.PURL)
		}
		modules = append(modules, c.Name+" "+c.Version)
	}
	slices.Sort(modules)
	if hashes := bom.Metadata.Component.Hashes; len(hashes) == 1 && bom.Metadata.Component.Version == version {
		sum = hashes[0].Content
	}
	return modules, sum
}

func readFile(t *testing.T, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func digest(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}
