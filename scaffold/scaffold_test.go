package scaffold

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

var update = flag.Bool("update", false, "write the examples anew")

// examples are the answers that examples/ is made of: shop, which is called by others and calls orders itself.
func examples() map[string]Answers {
	shop := func(provider, issuer string, change func(a *Answers)) Answers {
		a := Answers{
			Provider: provider, Outbound: true, Inbound: true, Name: "shop", Issuer: issuer, ClientID: "YOUR-CLIENT-ID",
			Route:   Route{Host: "orders.internal", Upstream: "https://orders.example.com", Audience: "https://orders-api"},
			AppPort: 8080, Match: []string{"GET /carts", "GET /carts/{id}"},
		}
		change(&a)
		return a
	}
	return map[string]Answers{
		"auth0": shop("auth0", "https://YOUR-TENANT.eu.auth0.com/", func(a *Answers) {
			a.SecretFile, a.Audience, a.Scopes, a.Route.Scopes = "/run/secrets/auth0-client-secret", "https://shop-api", []string{"read:carts"}, []string{"read:orders"}
		}),
		"entra-id": shop("entra-id", "https://login.microsoftonline.com/YOUR-TENANT-ID/v2.0", func(a *Answers) {
			a.ClientID, a.SecretFile, a.Audience, a.Scopes = "YOUR-SHOP-APP-ID", "/run/secrets/entra-client-secret", "YOUR-SHOP-APP-ID", []string{"Carts.Read"}
			a.Route.Scopes = []string{"api://YOUR-ORDERS-APP-ID/.default"}
		}),
		"okta": shop("okta", "https://YOUR-ORG.okta.com/oauth2/default", func(a *Answers) {
			a.SecretFile, a.Audience, a.Scopes, a.Route.Scopes = "/run/secrets/okta-client-secret", "api://default", []string{"carts.read"}, []string{"orders.read"}
		}),
		"keycloak": shop("keycloak", "https://keycloak.example.com/realms/YOUR-REALM", func(a *Answers) {
			a.ClientID, a.SecretFile, a.Audience, a.Scopes, a.Route.Scopes = "shop", "/run/secrets/keycloak-client-secret", "shop", []string{"carts-read"}, []string{"orders-audience"}
		}),
		"cognito": shop("cognito", "https://cognito-idp.YOUR-REGION.amazonaws.com/YOUR-POOL-ID", func(a *Answers) {
			a.TokenEndpoint = "https://YOUR-PREFIX.auth.YOUR-REGION.amazoncognito.com/oauth2/token"
			a.SecretFile, a.Audience, a.Scopes, a.Route.Scopes = "/run/secrets/cognito-client-secret", "shop", []string{"shop/carts.read"}, []string{"orders/read"}
			a.Callers = []string{"YOUR-CALLERS-CLIENT-ID"}
		}),
	}
}

// The examples are what is written for the example's answers. To change one, change its template and run this with -update.
func TestExamplesAreWhatIsWritten(t *testing.T) {
	for name, answers := range examples() {
		text, err := Configuration(answers)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join("..", "examples", name+".yaml")
		if *update {
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		is, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if string(is) != text {
			t.Errorf("%s is another text than scaffold/templates/%s.tmpl makes; run: go test ./scaffold -update", file, name)
		}
	}
}

func TestAnswers(t *testing.T) {
	issuer := func(name string) func(string) (any, error) {
		return func(answer string) (any, error) {
			p, err := Find(name)
			if err != nil {
				t.Fatal(err)
			}
			return p.Identifier(answer)
		}
	}
	of := func(f func(string) (string, error)) func(string) (any, error) {
		return func(answer string) (any, error) { return f(answer) }
	}
	find := func(answer string) (any, error) { p, err := Find(answer); return p.Name, err }
	port := func(answer string) (any, error) { return Port(answer) }
	for _, c := range []struct {
		what   string
		parse  func(string) (any, error)
		answer string
		want   any
		wrong  string // a part of the sentence; "" is an answer that will do
	}{
		{"auth0", issuer("auth0"), "acme.eu.auth0.com", "https://acme.eu.auth0.com/", ""},
		{"auth0", issuer("auth0"), "https://login.acme.com", "https://login.acme.com/", ""},
		{"auth0", issuer("auth0"), "acme", nil, "such as acme.eu.auth0.com"},
		{"auth0", issuer("auth0"), "http://acme.eu.auth0.com/", nil, "plain HTTP"},
		{"entra", issuer("entra-id"), "6a6e5a1c-8a5a-4a3c-9d3b-0d1f2e3c4b5a", "https://login.microsoftonline.com/6a6e5a1c-8a5a-4a3c-9d3b-0d1f2e3c4b5a/v2.0", ""},
		{"entra", issuer("entra-id"), "acme.onmicrosoft.com", nil, "a GUID"},
		{"entra", issuer("entra-id"), "https://login.microsoftonline.us/6a6e5a1c-8a5a-4a3c-9d3b-0d1f2e3c4b5a/v2.0", "https://login.microsoftonline.us/6a6e5a1c-8a5a-4a3c-9d3b-0d1f2e3c4b5a/v2.0", ""},
		{"okta", issuer("okta"), "acme.okta.com", "https://acme.okta.com/oauth2/default", ""},
		{"okta", issuer("okta"), "https://acme.okta.com/oauth2/aus1/", "https://acme.okta.com/oauth2/aus1", ""},
		{"okta", issuer("okta"), "https://acme.okta.com", nil, "the org authorization server"},
		{"keycloak", issuer("keycloak"), "https://id.acme.com/realms/shop/", "https://id.acme.com/realms/shop", ""},
		{"keycloak", issuer("keycloak"), "https://id.acme.com/", nil, "/realms/"},
		{"cognito", issuer("cognito"), "eu-west-1_AbC123", "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_AbC123", ""},
		{"cognito", issuer("cognito"), "AbC123", nil, "such as eu-west-1_AbCdEf123"},
		{"other", issuer("other"), "http://127.0.0.1:9000", "http://127.0.0.1:9000", ""},
		{"other", issuer("other"), "https://id.acme.com/", "https://id.acme.com/", ""}, // letter by letter
		{"other", issuer("other"), "https://user:secret@id.acme.com", nil, "is not a URL"},
		{"other", issuer("other"), "https://id.acme.com/?x", nil, "a query"},
		{"other", issuer("other"), "https://id.acme.com/#x", nil, "is not a URL"},
		{"other", issuer("other"), "https://id.acme.com/\nclient: {}", nil, "has a space"},
		{"upstream", of(Upstream), "https://orders.example.com/", "https://orders.example.com", ""},
		{"upstream", of(Upstream), "https://orders.example.com/v1", nil, "a path"},
		{"upstream", of(Upstream), "orders.example.com", nil, "is not a URL"},
		{"host", of(Host), "*.internal", "*.internal", ""},
		{"host", of(Host), "orders.internal:8080", "orders.internal:8080", ""},
		{"host", of(Host), "http://orders.internal", nil, "without http://"},
		{"name", of(Name), "shop-1", "shop-1", ""},
		{"name", of(Name), "Shop", nil, "small letters"},
		{"port", port, "8080", 8080, ""},
		{"port", port, "0", nil, "from 1 to 65535"},
		{"port", port, "http", nil, "from 1 to 65535"},
		{"port", port, "8402", nil, "a port of sidepass"},
		{"text", of(Text), "a b", nil, "a space"},
		{"text", of(Text), "", nil, "the value is empty"},
		{"text", of(Text), "a\x1b[2J", nil, "cannot be printed"},
		{"provider", find, "Auth0", "auth0", ""},
		{"provider", find, "azure", "entra-id", ""},
		{"provider", find, "Entra", "entra-id", ""},
		{"provider", find, "", nil, "name one, or other"},
		{"provider", find, "acme", nil, "is no provider"},
		{"path", of(Path), "/run/my secret", "/run/my secret", ""},
		{"path", of(Path), "/run/a\nb", nil, "not the name of a file"},
	} {
		got, err := c.parse(c.answer)
		switch {
		case c.wrong == "" && (err != nil || got != c.want):
			t.Errorf("%s %q: got %v, %v; want %v", c.what, c.answer, got, err, c.want)
		case c.wrong != "" && (err == nil || !strings.Contains(err.Error(), c.wrong)):
			t.Errorf("%s %q: got %v, %v; want a sentence with %q", c.what, c.answer, got, err, c.wrong)
		}
	}
}

// Whatever text is written, YAML reads it back, on its own and in a list.
func FuzzScalar(f *testing.F) {
	for _, text := range []string{
		"https://api", "true", "No", "1", "1e3", "0x1", "~", "- a", "a: b", "a #b", "a,b", "[a]", "{a}", "&a", "*a", "!a", "|", ">", "%a", "@a", "`a`", "'a'", `"a"`, `\`,
		"GET /carts/{id}", "GET /carts", "a:", ":a", "api://default", "*.internal", "x:y:z", "typ=Bearer", "", " ", "é", "a  b", "<<", "=", "2020-01-01", "a:8080", ".inf", "null",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := Text(strings.ReplaceAll(text, " ", "")); err != nil {
			t.Skip("no answer holds it")
		}
		s, err := scalar(text)
		if err != nil {
			t.Fatal(err)
		}
		l, err := list([]string{text, text})
		if err != nil {
			t.Fatal(err)
		}
		var got struct {
			A any
			B []any
		}
		if err := yaml.Unmarshal([]byte("a: "+s+" # comment\nb: "+l+"\n"), &got); err != nil || got.A != text || len(got.B) != 2 || got.B[1] != text {
			t.Errorf("%q is written as %s and %s, and read as %#v: %v", text, s, l, got, err)
		}
	})
}
