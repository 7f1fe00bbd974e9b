package inbound

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/sidepass/sidepass/proxy"
	"github.com/sidepass/sidepass/proxy/verify"
)

// metadata is our protected resource metadata (RFC 9728), made of the configuration alone. The zero value serves none.
type metadata struct {
	path, query string // where it is asked for; the query with its question mark
	url         string
	document    *proxy.Document
}

// newMetadata puts the well-known part between host and path of the resource identifier (RFC 9728, section 3.1).
func newMetadata(o *Options, allowed oddity) (metadata, error) {
	fail := func(why string) (metadata, error) {
		return metadata{}, fmt.Errorf("inbound: resource %q %s", o.Resource, why)
	}
	u, err := url.Parse(o.Resource)
	switch {
	case err != nil || !visible(o.Resource) || strings.ContainsAny(o.Resource, "\"\\<>^`{|}"):
		return fail("is not a URL")
	case u.Scheme != "https" && u.Scheme != "http" || u.Host == "":
		return fail("is not an absolute URL; write for instance https://api.example.com")
	case u.User != nil || strings.Contains(o.Resource, "#"):
		return fail("has user information or a fragment, which a resource identifier has not (RFC 8707, section 2)")
	}
	path := u.EscapedPath()
	if path == "/" {
		path = ""
	}
	m := metadata{path: "/.well-known/oauth-protected-resource" + path}
	if u.RawQuery != "" {
		m.query = "?" + u.RawQuery
	}
	if _, no := checkPath(&proxy.Target{Path: m.path}, allowed); no != nil {
		return fail("has a path that no request could have: " + no.detail)
	}
	m.url = u.Scheme + "://" + u.Host + m.path + m.query

	body := struct {
		Resource string   `json:"resource"`
		Servers  []string `json:"authorization_servers"`
		Methods  []string `json:"bearer_methods_supported"`
		Scopes   []string `json:"scopes_supported,omitempty"`
		Proofs   []string `json:"dpop_signing_alg_values_supported,omitempty"`
		Bound    bool     `json:"tls_client_certificate_bound_access_tokens,omitempty"`
	}{Resource: o.Resource, Methods: []string{"header"}, Scopes: scopes(o.Rules), Bound: o.CertificateBound}
	if o.Proofs != nil {
		body.Proofs = verify.ProofAlgorithms()
	}
	for _, i := range o.Issuers {
		body.Servers = append(body.Servers, i.URL)
	}
	text, err := json.Marshal(body)
	if err != nil {
		return fail(err.Error())
	}
	m.document = &proxy.Document{ContentType: "application/json", Body: append(text, '\n')}
	return m, nil
}

// scopes are all that the rules ask for.
func scopes(rules []Rule) []string {
	var all []string
	for i := range rules {
		all = append(append(all, rules[i].Scopes...), rules[i].AnyScope...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// asked says whether a request is for the document, which needs no token.
func (m *metadata) asked(r *proxy.Request) bool {
	return m.document != nil && r.Target.Path == m.path && (m.query == "" || r.Target.Query == m.query) && (r.Method == "GET" || r.Method == "HEAD")
}

func (g *Gate) answer() proxy.Verdict {
	return proxy.Verdict{Action: proxy.Answer, Reason: proxy.OK, Document: g.metadata.document, Note: note(g.fallback, nil, proxy.Allow)}
}
