package e2e

import (
	"encoding/base64"
	"strings"
	"testing"
)

func TestTokenCommand(t *testing.T) {
	iss, up := startIssuer(t), startUpstream(t)
	s := launch(t, outboundYAML(iss, "", ordersRoute(up.URL())))
	code, out, errs := run(t, s.dir, nil, "token", "--route", "orders", "--config", s.config)
	token := strings.TrimSpace(out)
	if code != 0 || strings.Count(token, ".") != 2 || errs != "" {
		t.Fatalf("exit %d, want the token alone on standard output\n%s", code, errs)
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err != nil || !strings.Contains(string(payload), "https://orders") {
		t.Errorf("the token's claims are %s", payload)
	}
	code, out, errs = run(t, s.dir, nil, "token", "--route", "orders", "--claims", "--config", s.config)
	if code != 0 || !strings.Contains(out, `"aud": "https://orders"`) || !strings.Contains(out, `"alg": "ES256"`) || strings.Contains(out, "eyJ") {
		t.Errorf("--claims: exit %d\n%s%s", code, out, errs)
	}
	code, out, errs = run(t, s.dir, nil, "token", "--route", "order", "--config", s.config)
	if code != 1 || !strings.Contains(errs, "the routes are: orders") || out != "" {
		t.Errorf("an unknown route: exit %d\n%s%s", code, out, errs)
	}
	s.write("secret", "wrong-canary")
	code, out, errs = run(t, s.dir, nil, "token", "--route", "orders", "--config", s.config)
	if code != 1 || !strings.Contains(errs, "invalid_client") || out != "" || strings.Contains(errs, "canary") {
		t.Errorf("a wrong secret: exit %d\n%s%s", code, out, errs)
	}
}
