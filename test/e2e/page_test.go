package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sidepass/sidepass/test/issuer"
)

// look is a page to be opened, and what the browser found there.
type look struct {
	Name   string `json:"name"`
	URL    string `json:"url"`
	Poke   string `json:"poke,omitempty"`
	Scheme string `json:"scheme,omitempty"`
	Width  int    `json:"width,omitempty"`
	Script *bool  `json:"script,omitempty"`
	Open   string `json:"open,omitempty"`
}

type found struct {
	Name       string
	Console    []string
	Foreign    []string
	Violations []struct {
		ID, Impact string
		Nodes      []string
	}
	Live       string
	Kept       *bool
	Wide       bool
	HTML, Text string
}

// browse opens pages in Chromium. The test is skipped where that or its driver is missing.
func browse(t *testing.T, pages []look) map[string]found {
	t.Helper()
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("Chromium is not installed, so the status page is not looked at; install it (Debian's package is chromium)")
	}
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("Node is not installed, so the status page is not looked at")
	}
	for _, module := range []string{"playwright-core", "axe-core"} {
		if _, err := os.Stat(filepath.Join("page", "node_modules", module)); err != nil {
			t.Skip(module + " is not installed, so the status page is not looked at; run `npm ci` in test/e2e/page")
		}
	}
	out := os.Getenv("SIDEPASS_SCREENSHOTS") // a folder, for who wants to see them
	if out == "" {
		out = t.TempDir()
	}
	job, err := json.Marshal(map[string]any{"chromium": chromium, "out": out, "pages": pages})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), node, "look.mjs")
	cmd.Dir, cmd.Stdin, cmd.Env = "page", bytes.NewReader(job), append(os.Environ(), "HOME="+t.TempDir())
	cmd.WaitDelay = 5 * time.Second
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	text, err := cmd.Output()
	var all []found
	if err == nil {
		err = json.Unmarshal(text, &all)
	}
	if err != nil {
		t.Fatalf("the browser did not get through: %v\n%s", err, &stderr)
	}
	byName := map[string]found{}
	for _, f := range all {
		byName[f.Name] = f
	}
	return byName
}

// A path and a claim that would like to be more than text.
const hostilePath = "/orders/%3Cscript%3Ealert(1)%3C/script%3E"

func TestStatusPage(t *testing.T) {
	iss, app := startIssuer(t), startUpstream(t)
	both := func(more string) string {
		return fmt.Sprintf(`
issuers: [{name: idp, url: %[1]q, client: {id: svc, secret_file: "{dir}/secret"}%[3]s}]
outbound:
  listen: "{out}"
  routes:
    - {name: orders, host: orders.internal, upstream: %[2]q, audience: ["https://orders"], scopes: ["read:orders"]}
    - {name: mail, host: mail.internal, upstream: %[2]q, audience: ["https://mail"]}
inbound:
  listen: "{in}"
  upstream: %[2]q
  trust: [{audiences: ["https://orders"]}]
  rules:
    - {name: read-orders, match: ["GET /orders/{id}"], scopes: ["read:orders"]}
    - {name: write-orders, match: ["POST /orders"], scopes: ["write:orders"], clients: [shop]}
    - {name: trial, match: ["GET /trial"], scopes: ["try"], mode: audit}
    - {name: health, match: ["GET /healthz"], allow: anonymous}
`, iss.Issuer(), app.URL(), more)
	}
	empty := start(t, inboundYAML(iss, app.URL(), ""))
	healthy := start(t, both(""))
	failing := launch(t, both(`, token_endpoint: "http://127.0.0.1:1/token"`))
	t.Run("requests", func(t *testing.T) { calls(t, iss, healthy, failing) })

	admin := func(s *sidecar) string { return "http://" + s.address["admin"] + "/" }
	in := func(s *sidecar) string { return "http://" + s.address["in"] }
	off := false
	pages := []look{
		{Name: "empty", URL: admin(empty)},
		{Name: "healthy", URL: admin(healthy), Poke: in(healthy) + "/nowhere"},
		{Name: "failing", URL: admin(failing), Open: "#refusals li:nth-child(-n+3) details"},
		{Name: "narrow", URL: admin(failing), Width: 390, Open: "#refusals li:nth-child(2) details"},
		{Name: "dark", URL: admin(failing), Scheme: "dark", Open: "#refusals li:nth-child(-n+2) details"},
		{Name: "noscript", URL: admin(failing), Script: &off},
	}
	began := time.Now()
	seen := browse(t, pages)
	t.Logf("the browser took %s", time.Since(began).Round(100*time.Millisecond))
	for _, p := range pages {
		t.Run(p.Name, func(t *testing.T) {
			f := seen[p.Name]
			for what, problems := range map[string][]string{"the console says": f.Console, "it asked another site for": f.Foreign} {
				if len(problems) > 0 {
					t.Errorf("%s %q", what, problems)
				}
			}
			for _, v := range f.Violations {
				if v.Impact == "serious" || v.Impact == "critical" {
					t.Errorf("axe: %s (%s) at %q", v.ID, v.Impact, v.Nodes)
				}
			}
			if f.Wide {
				t.Error("the page scrolls sideways")
			}
			if p.Poke != "" && f.Live != "no_token" {
				t.Errorf("after a request without a token the newest refusal is %q", f.Live)
			}
			if f.Kept != nil && !*f.Kept {
				t.Error("the explanation that was open and had the focus when news came has lost one of them")
			}
			for _, no := range []string{secret, "eyJ", "<script>alert", "\u202e"} {
				if strings.Contains(f.HTML, no) {
					t.Errorf("the page has %q", no)
				}
			}
			for _, part := range pageParts[p.Name] {
				if !strings.Contains(f.Text, part) {
					t.Errorf("the page lacks %q", part)
				}
			}
			if t.Failed() {
				t.Logf("the page says:\n%s", f.Text)
			}
		})
	}
	for _, part := range []string{"https://billing", "inbound.rules[2].mode", "[token]"} { // what is folded is there too
		if !strings.Contains(seen["noscript"].HTML, part) {
			t.Errorf("without scripts the page lacks %q", part)
		}
	}
	t.Run("an open page does not hold up the end", func(t *testing.T) {
		resp, err := http.Get(admin(empty) + "api/events")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if _, err := resp.Body.Read(make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
		empty.stop()
		if strings.Contains(empty.log.String(), "cut off") {
			t.Error("the shutdown waited for a page")
		}
	})
}

// pageParts is what each page has to say.
var pageParts = map[string][]string{
	"empty":    {"Ready", "There were no requests in the last hour.", "None since the start.", "Usable keys", "Configuration"},
	"healthy":  {"Ready", "answered 2xx", "Token is", "refreshes in", "expires in", "allowed", "Requests saved"},
	"failing":  {"Ready, with problems – no token for route orders; no token for route mail", "Last error", "connection refused", "token_unavailable", "https://billing", "https://orders", "wrong_audience", "Audit mode: nothing is enforced.", "failed"},
	"narrow":   {"insufficient_scope", "all of write:orders"},
	"dark":     {"wrong_audience"},
	"noscript": {"Snapshot of", "Without JavaScript", "wrong_audience", "Last error", "Usable keys", "read-orders"},
}

// calls makes requests that pass at one sidecar, and such that fail at the other, whose issuer gives no tokens.
func calls(t *testing.T, iss *issuer.Server, healthy, failing *sidecar) {
	good := "Bearer " + mint(iss, nil)
	for range 40 {
		want(t, get(t, healthy.proxied(), "http://orders.internal/orders/1"), 200, "")
		want(t, get(t, direct, "http://"+healthy.address["in"]+"/orders/1", "Authorization", good), 200, "")
	}
	want(t, get(t, direct, "http://"+healthy.address["in"]+"/orders/1", "Authorization", "Bearer "+mint(iss, map[string]any{"exp": time.Now().Add(-time.Hour).Unix()})), 401, "expired")

	// Everything about these would like to be more than text.
	evil := "https://billing\u202e<script>alert(1)</script>" + strings.Repeat("x", 4<<10)
	in := "http://" + failing.address["in"]
	eventually(t, 10*time.Second, "the failing sidecar verifies", func() bool {
		a, err := try(direct, "GET", in+"/orders/1", nil, "Authorization", good)
		return err == nil && a.status == 200
	})
	want(t, get(t, direct, in+hostilePath), 401, "no_token")
	want(t, get(t, direct, in+"/trial", "Authorization", good), 200, "")
	want(t, get(t, failing.proxied(), "http://elsewhere.internal/x?"+url.QueryEscape(secret)), 403, "no_route")
	want(t, get(t, failing.proxied(), "http://mail.internal/inbox"), 503, "token_unavailable")
	want(t, do(t, direct, "POST", in+"/orders", nil, "Authorization", "Bearer "+mint(iss, map[string]any{"client_id": "shop"})), 403, "insufficient_scope")
	want(t, get(t, direct, in+"/orders/"+mint(iss, nil), "Authorization", "Bearer "+mint(iss, map[string]any{"aud": evil})), 401, "wrong_audience")
}
