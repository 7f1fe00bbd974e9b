package release

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// inspectImage looks into an image as `dir:` has it: it runs as nobody, without arguments, and has the archive's binary and the CA roots in it.
func inspectImage(t *testing.T, dir string, files map[string][]byte) {
	t.Helper()
	var list struct {
		Manifests []struct {
			Digest   string
			Platform struct{ OS, Architecture string }
		}
	}
	decode(t, filepath.Join(dir, "manifest.json"), &list)
	if len(list.Manifests) != 1 || list.Manifests[0].Platform.OS != "linux" || list.Manifests[0].Platform.Architecture != runtime.GOARCH {
		t.Fatalf("the image is for %v", list.Manifests)
	}
	var manifest struct {
		Config struct{ Digest string }
		Layers []struct{ Digest string }
	}
	decode(t, blob(dir, list.Manifests[0].Digest)+".manifest.json", &manifest)

	var image struct {
		Config struct {
			User, WorkingDir string
			Entrypoint, Cmd  []string
			ExposedPorts     map[string]struct{}
			Healthcheck      struct{ Test []string }
		}
	}
	decode(t, blob(dir, manifest.Config.Digest), &image)
	c := image.Config
	got := fmt.Sprint(c.User, " ", c.WorkingDir, " ", c.Entrypoint, c.Cmd, c.Healthcheck.Test, " ports ", len(c.ExposedPorts))
	if want := "65532:65532 /etc/sidepass [/sidepass] [] [CMD /sidepass healthcheck] ports 3"; got != want {
		t.Errorf("the image's configuration is %s, want %s", got, want)
	}

	var content []string
	for _, layer := range manifest.Layers {
		for r := tar.NewReader(bytes.NewReader(readFile(t, blob(dir, layer.Digest)))); ; {
			h, err := r.Next()
			if err == io.EOF {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			if h.Typeflag == tar.TypeDir {
				continue
			}
			content = append(content, fmt.Sprintf("%s %o", h.Name, h.Mode&0o777))
			b, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			if of := files[filepath.Base(h.Name)]; of != nil && !bytes.Equal(b, of) {
				t.Errorf("%s is not the archive's", h.Name)
			}
		}
	}
	slices.Sort(content)
	if want := []string{"etc/ssl/certs/ca-certificates.crt 444", "licenses/LICENSE 444", "licenses/THIRD_PARTY_LICENSES 444", "sidepass 555"}; !slices.Equal(content, want) {
		t.Errorf("the image has %v, want %v", content, want)
	}
}

// blob is where `dir:` has what a digest names.
func blob(dir, digest string) string {
	return filepath.Join(dir, strings.TrimPrefix(digest, "sha256:"))
}

func decode(t *testing.T, file string, into any) {
	t.Helper()
	if err := json.Unmarshal(readFile(t, file), into); err != nil {
		t.Fatal(file, err)
	}
}
