package issuer

import (
	"bytes"
	"encoding/json"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// authenticated is the application of a POST whose parameters are sound. Otherwise it has answered.
func (p *provider) authenticated(w http.ResponseWriter, r *http.Request, f form) (url.Values, App, bool) {
	if !allow(w, r, http.MethodPost) {
		return nil, App{}, false
	}
	values, isJSON, problem := p.parameters(r, f)
	if problem != nil {
		refuse(w, problem)
		return nil, App{}, false
	}
	app, denied := p.identify(r, values, isJSON)
	if denied != nil {
		p.deny(w, denied)
		return nil, App{}, false
	}
	return values, app, true
}

// parameters are those of a form, or of JSON where the provider takes it.
func (p *provider) parameters(r *http.Request, f form) (values url.Values, isJSON bool, problem *refusal) {
	mediaType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if mediaType != "application/json" || !slices.Contains(p.methods, "client_secret_json") {
		return f.values, false, f.problem
	}
	var members map[string]any
	if json.Unmarshal([]byte(f.body), &members) != nil {
		return nil, true, invalidRequest("the body is not a JSON object")
	}
	values = url.Values{}
	for name, v := range members {
		switch v := v.(type) {
		case string:
			values.Set(name, v)
		case []any:
			for _, one := range v {
				if text, ok := one.(string); ok {
					values.Add(name, text)
				}
			}
		}
	}
	return values, true, nil
}

// credentials are what a request shows to say who it comes from.
type credentials struct {
	method            string
	id                string
	secret, assertion string
	certificate       []byte // DER
}

// shown reads them, and refuses two sets of them (RFC 6749 section 2.3).
func (p *provider) shown(r *http.Request, form url.Values, isJSON bool) (credentials, *denial) {
	c := credentials{id: form.Get("client_id"), secret: form.Get("client_secret"), assertion: form.Get("client_assertion")}
	var methods []string
	if c.secret != "" {
		c.method = "client_secret_post"
		if isJSON {
			c.method = "client_secret_json"
		}
		methods = append(methods, c.method)
	}
	if c.assertion != "" {
		c.method = "assertion"
		methods = append(methods, c.method)
	}
	if r.Header.Get("Authorization") != "" {
		id, secret, ok := r.BasicAuth()
		if ok && !p.rawBasic {
			id, secret, ok = basic(r)
		}
		if !ok || c.id != "" && c.id != id {
			return c, &denial{wrongMethod, "the Authorization header"}
		}
		c.method, c.id, c.secret = "client_secret_basic", id, secret
		methods = append(methods, c.method)
	}
	if c.method == "" && r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		c.method, c.certificate = "tls_client_auth", r.TLS.PeerCertificates[0].Raw
	}
	switch {
	case len(methods) > 1:
		return c, &denial{twoMethods, strings.Join(methods, " and ")}
	case c.method == "":
		c.method = "none"
	}
	return c, nil
}

// identify finds the application and checks that it is the one.
func (p *provider) identify(r *http.Request, form url.Values, isJSON bool) (App, *denial) {
	c, denied := p.shown(r, form, isJSON)
	if denied != nil {
		return App{}, denied
	}
	if c.method == "assertion" && c.id == "" && !p.assertion.needsClientID {
		c.id = subjectOf(c.assertion)
	}
	i := slices.IndexFunc(p.tenant.Apps, func(a App) bool { return a.ID == c.id || c.method == "assertion" && a.isFederated(c.id) })
	if i < 0 {
		return App{}, &denial{unknownClient, c.id}
	}
	app := p.tenant.Apps[i]
	if c.method == "assertion" {
		c.method = app.assertionMethod(c.assertion)
	}
	if !slices.Contains(p.methods, c.method) || p.oneMethod && app.method() != c.method {
		return App{}, &denial{wrongMethod, c.method}
	}
	switch c.method {
	case "client_secret_basic", "client_secret_post", "client_secret_json":
		if app.Secret == "" || !equal(c.secret, app.Secret) {
			return App{}, &denial{wrongSecret, c.id}
		}
	case "tls_client_auth":
		if !app.certified(c.certificate) {
			return App{}, &denial{wrongSecret, c.id}
		}
	case "federated":
		if problem := verifyFederated(app, form.Get("client_assertion_type"), c.assertion); problem != "" {
			return App{}, &denial{badFederation, problem}
		}
	default:
		if problem := p.verifyAssertion(app, c.method, form.Get("client_assertion_type"), c.assertion); problem != "" {
			return App{}, &denial{badAssertion, problem}
		}
	}
	return app, nil
}

// method is the one that the application is registered for.
func (a App) method() string {
	switch {
	case a.Method != "":
		return a.Method
	case a.Secret != "":
		return "client_secret_basic"
	case a.Federated != nil:
		return "federated"
	}
	return "private_key_jwt"
}

func (a App) isFederated(subject string) bool {
	return slices.ContainsFunc(a.Federated, func(f Federated) bool { return f.Subject == subject })
}

func (a App) certified(der []byte) bool {
	for _, c := range a.Certificates {
		if bytes.Equal(c.Raw, der) {
			return true
		}
	}
	return false
}

// may says whether a list of what was granted has something; nil is all.
func may(granted []string, one string) bool { return granted == nil || slices.Contains(granted, one) }

// of are those of offered that were granted.
func of(granted, offered []string) (out []string) {
	for _, one := range offered {
		if may(granted, one) {
			out = append(out, one)
		}
	}
	return out
}

// api is the API of that name.
func (p *provider) api(id string) (API, bool) {
	for _, a := range p.tenant.APIs {
		if a.ID == id && id != "" {
			return a, true
		}
	}
	return API{}, false
}

// scoped is the API that has a scope.
func (p *provider) scoped(scope string) (API, bool) {
	for _, a := range p.tenant.APIs {
		if slices.Contains(a.Scopes, scope) {
			return a, true
		}
	}
	return API{}, false
}

// asked are the scopes of a request, each once.
func asked(form url.Values) (scopes []string) {
	for _, one := range strings.Fields(form.Get("scope")) {
		if !slices.Contains(scopes, one) {
			scopes = append(scopes, one)
		}
	}
	return scopes
}
