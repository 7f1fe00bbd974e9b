// Package scaffold writes a first configuration for an authorization server, with its pitfalls as comments, from what a person
// answered to a few questions. The files of examples/ are what it writes for the example's answers.
//
// It reads nothing and writes nothing but text, and knows the configuration's language only as text: whoever writes a file of it loads it
// first.
package scaffold

import (
	"embed"
	"errors"
	"slices"
	"strings"
	"text/template"
)

// Answers are what a configuration is made from. Values come from [Parse]; those of a direction that is not asked for are not used.
type Answers struct {
	// Provider is one of [Providers].
	Provider string
	// Outbound and Inbound are the directions; at least one.
	Outbound, Inbound bool
	// Name is the app's, for the names of what goes around it.
	Name string
	// Issuer is the issuer identifier, TokenEndpoint where tokens are requested if the provider wants it said.
	Issuer, TokenEndpoint string

	// ClientID and SecretFile are who we are when we ask for tokens; SecretFile is a path, and nothing here ever holds the secret.
	ClientID, SecretFile string
	// Route is the one destination of outbound.
	Route Route

	// Audience is what callers' tokens are for, Scopes what they need, Callers who may call at all.
	Audience        string
	Scopes, Callers []string
	// Match are the patterns of the rule for them; the pattern / is everything.
	Match []string
	// AppPort is where the app listens on 127.0.0.1.
	AppPort int
}

// Route is a destination of the app.
type Route struct {
	Name     string // "" is made from Host
	Host     string // what the app calls
	Upstream string // where that is
	Audience string
	Scopes   []string
}

// A Target is something to run sidepass with, beside the configuration.
type Target string

// The targets.
const (
	Kubernetes Target = "kubernetes"
	Compose    Target = "compose"
)

//go:embed templates
var templates embed.FS

// page is what a template sees.
type page struct {
	Answers
	File, ComposeFile string
}

func (p page) Both() bool       { return p.Outbound && p.Inbound }
func (p page) MatchesAll() bool { return slices.Contains(p.Match, "/") }

// Roles is where Keycloak puts the roles of a client, as a JSON Pointer (RFC 6901).
func (p page) Roles() string {
	return "/resource_access/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(p.Audience) + "/roles"
}

// Configuration writes the configuration file.
func Configuration(a Answers) (string, error) {
	if provider(a.Provider) == nil || !a.Outbound && !a.Inbound {
		return "", errors.New("a configuration needs a provider and a direction")
	}
	return write(a.Provider, page{Answers: a})
}

// Around writes the file that runs sidepass with the app, from the configuration in file; it is to be called name.
func Around(t Target, a Answers, file, name string) (string, error) {
	return write("with-"+string(t), page{a, file, name})
}

func write(name string, p page) (string, error) {
	if p.Route.Name == "" {
		p.Route.Name = routeName(p.Route.Host)
	}
	t, err := template.New("").Funcs(template.FuncMap{"scalar": scalar, "list": list, "words": words}).ParseFS(templates, "templates/shared.tmpl", "templates/"+name+".tmpl")
	if err != nil {
		return "", err
	}
	var b strings.Builder
	if err := t.ExecuteTemplate(&b, name+".tmpl", p); err != nil {
		return "", err
	}
	return b.String(), nil
}

// routeName is a host's first name.
func routeName(host string) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(host, "*."), ".")
	name, _, _ = strings.Cut(name, ":")
	return name
}

// words are values for a comment, or other words where there are none.
func words(values []string, none string) string {
	if len(values) == 0 {
		return none
	}
	return strings.Join(values, ", ")
}
