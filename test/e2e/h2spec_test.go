package e2e

import (
	"encoding/xml"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// h2spec runs the conformance tests of that name, all or those of a section, against an HTTP/2 server without TLS. It returns the
// cases that fail, with their sections.
func h2spec(t *testing.T, tool, address, path string, section ...string) map[string]string {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	report := filepath.Join(t.TempDir(), "report.xml")
	// It ends with 1 where a case fails.
	args := append([]string{"-h", host, "-p", port, "-P", path, "-o", "1", "-j", report}, section...)
	out, _ := exec.CommandContext(t.Context(), tool, args...).CombinedOutput()
	b, err := os.ReadFile(report)
	if err != nil {
		t.Fatalf("no report: %s", out)
	}
	var suites struct {
		Suite []struct {
			Case []struct {
				Section string    `xml:"package,attr"`
				Name    string    `xml:"classname,attr"`
				Failure *struct{} `xml:"failure"`
				Error   *struct{} `xml:"error"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(b, &suites); err != nil {
		t.Fatal(err)
	}
	failing, cases := map[string]string{}, 0
	for _, s := range suites.Suite {
		for _, c := range s.Case {
			cases++
			if c.Failure != nil || c.Error != nil {
				failing[c.Section+": "+c.Name] = c.Section
			}
		}
	}
	if cases < 100 && section == nil || cases == 0 {
		t.Fatalf("only %d cases: %s", cases, out)
	}
	if section == nil {
		t.Logf("%d of %d cases fail", len(failing), cases)
	}
	return failing
}

// HTTP/2 is no worse on our listeners than net/http's own. What fails there too is how net/http is: it sends what it has before it
// closes, answers 400 where a reset is asked for, and the like.
func TestH2Spec(t *testing.T) {
	tool, err := exec.LookPath("h2spec")
	if err != nil {
		t.Skip("h2spec is not installed: go install github.com/summerwind/h2spec/cmd/h2spec@latest")
	}
	answer := func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok")) }
	bare := httptest.NewUnstartedServer(http.HandlerFunc(answer))
	bare.Config.Protocols = new(http.Protocols)
	bare.Config.Protocols.SetHTTP1(true)
	bare.Config.Protocols.SetUnencryptedHTTP2(true)
	bare.Config.ErrorLog = log.New(io.Discard, "", 0)
	bare.Start()
	defer bare.Close()
	app := startUpstream(t)
	iss := startIssuer(t)
	in := startBeside(t, inboundYAML(iss, app.URL(), "  rules: [{match: [\"/{x...}\"], allow: anonymous}]\n"))
	out := startBeside(t, outboundYAML(iss, "", "name: orders, prefix: /orders, upstream: \""+app.URL()+"\", audience: [\"https://orders\"]"))
	address := strings.TrimPrefix(bare.URL, "http://")
	known := h2spec(t, tool, address, "/")
	for name, where := range map[string][2]string{"inbound": {in.address["in"], "/"}, "outbound": {out.address["out"], "/orders/"}} {
		t.Run(name, func(t *testing.T) {
			for c, section := range h2spec(t, tool, where[0], where[1]) {
				_, both := known[c]
				for n := 0; n < 10 && !both; n++ { // some depend on who comes first
					_, alone := h2spec(t, tool, address, "/", section)[c]
					_, here := h2spec(t, tool, where[0], where[1], section)[c]
					both = alone || !here
				}
				if !both {
					t.Errorf("%s: fails here, but not with net/http alone", c)
				}
			}
		})
	}
}
