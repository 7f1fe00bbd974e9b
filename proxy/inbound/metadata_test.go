package inbound

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/sidepass/sidepass/proxy"
)

func TestResourceMetadata(t *testing.T) {
	const wellKnown = "/.well-known/oauth-protected-resource"
	for _, c := range []struct{ resource, target, url string }{
		{"https://api.example.com", wellKnown, "https://api.example.com" + wellKnown},
		{"https://api.example.com/", wellKnown, "https://api.example.com" + wellKnown},
		{"https://api.example.com:8443/orders", wellKnown + "/orders", "https://api.example.com:8443" + wellKnown + "/orders"},
		{"https://api.example.com/orders/", wellKnown + "/orders/", "https://api.example.com" + wellKnown + "/orders/"},
		{"http://127.0.0.1/a%20b", wellKnown + "/a%20b", "http://127.0.0.1" + wellKnown + "/a%20b"},
		{"https://api.example.com/x?tenant=1", wellKnown + "/x?tenant=1", "https://api.example.com" + wellKnown + "/x?tenant=1"},
	} {
		t.Run(c.resource, func(t *testing.T) {
			g := gate(t, Options{
				Resource: c.resource,
				Rules: []Rule{
					{Name: "a", Match: []string{"GET /a"}, Scopes: []string{"write", "read"}, AnyScope: []string{"admin", "read"}, Issuers: []string{"idp"}},
					{Name: "b", Match: []string{"GET /b"}, Issuers: []string{"*"}},
				},
				Issuers: []Issuer{{"idp", "https://idp.example.com/"}, {"second", "https://second.example.com"}},
			})
			for _, method := range []string{"GET", "HEAD"} {
				for _, lines := range [][]string{nil, {bearer("rubbish")}, {"Host: evil.example"}} {
					v := admit(t, g, method, c.target, lines...)
					if v.Action != proxy.Answer || v.Reason != proxy.OK || v.Document == nil || v.Document.ContentType != "application/json" || v.Note.Decision != proxy.Allow {
						t.Fatalf("%s %s: %+v", method, c.target, v)
					}
					var got map[string]any
					if err := json.Unmarshal(v.Document.Body, &got); err != nil {
						t.Fatal(err)
					}
					want := map[string]any{
						"resource":                 c.resource,
						"authorization_servers":    []any{"https://idp.example.com/", "https://second.example.com"},
						"bearer_methods_supported": []any{"header"},
						"scopes_supported":         []any{"admin", "read", "write"},
					}
					if !reflect.DeepEqual(got, want) {
						t.Errorf("the document is %v, want %v", got, want)
					}
				}
			}
			refused(t, admit(t, g, "POST", c.target), proxy.NoToken)
			refused(t, admit(t, g, "GET", strings.Replace(c.target, "resource", "resourcex", 1)), proxy.NoToken)
			for _, r := range []struct {
				target string
				lines  []string
				reason proxy.Reason
			}{
				{"/a", nil, proxy.NoToken}, {"/a", []string{bearer("forged")}, proxy.BadSignature}, {"/a", []string{bearer("good")}, proxy.InsufficientScope}, {"/c", []string{bearer("good")}, proxy.NoRule},
			} {
				v := admit(t, g, "GET", r.target, r.lines...)
				refused(t, v, r.reason)
				if v.ResourceMetadata != c.url {
					t.Errorf("%s: resource_metadata %q, want %q", r.reason, v.ResourceMetadata, c.url)
				}
			}
		})
	}
	t.Run("another query", func(t *testing.T) {
		g := gate(t, Options{Resource: "https://api.example.com/x?tenant=1"})
		refused(t, admit(t, g, "GET", wellKnown+"/x?tenant=2"), proxy.NoToken)
		if v := admit(t, gate(t, Options{Resource: "https://api.example.com/x"}), "GET", wellKnown+"/x?any"); v.Action != proxy.Answer {
			t.Errorf("%+v", v)
		}
	})
	t.Run("without rules", func(t *testing.T) {
		v := admit(t, gate(t, Options{Resource: "https://api.example.com"}), "GET", wellKnown)
		if v.Action != proxy.Answer || strings.Contains(string(v.Document.Body), "scopes_supported") {
			t.Errorf("%+v", v)
		}
	})
	t.Run("not set", func(t *testing.T) {
		v := admit(t, gate(t, Options{}), "GET", wellKnown)
		refused(t, v, proxy.NoToken)
		if v.ResourceMetadata != "" {
			t.Errorf("resource_metadata %q", v.ResourceMetadata)
		}
	})
}
