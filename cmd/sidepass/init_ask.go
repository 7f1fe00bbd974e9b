package main

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/sidepass/sidepass/scaffold"
)

// interview asks what the flags did not say.
type interview struct {
	answers  scaffold.Answers
	given    map[string]string // :: flag → its value
	provider scaffold.Provider
	with     scaffold.Target
}

// question is a flag, and what is asked where it is missing.
type question struct {
	flag, usage string
	ask         func() string // in words; nil asks nothing
	when        func() bool   // nil is always
	initial     func() string // what an empty answer means
	set         func(answer string) error
}

func flagsOf(questions []question) (names []string) {
	for _, q := range questions {
		names = append(names, q.flag)
	}
	return names
}

// Flags that only one direction has.
var (
	outboundFlags = []string{"client-id", "secret-file", "token-endpoint", "route-host", "route-upstream", "route-audience", "route-scopes"}
	inboundFlags  = []string{"app-port", "callers", "match"}
)

// questions are asked in this order. What a later one offers depends on earlier answers.
func (q *interview) questions() []question {
	a, p := &q.answers, &q.provider
	say := func(text string) func() string { return func() string { return text } }
	outbound, inbound := func() bool { return a.Outbound }, func() bool { return a.Inbound }
	return []question{
		{"provider", "auth0, entra-id, okta, keycloak, cognito, kubernetes or other", func() string {
			var names []string
			for _, p := range scaffold.Providers() {
				names = append(names, p.Name)
			}
			return "Who issues the tokens (" + strings.Join(names, ", ") + ")"
		}, nil, say(""), func(answer string) (err error) {
			*p, err = scaffold.Find(answer)
			a.Provider = p.Name
			return err
		}},
		{"direction", "outbound: the app calls others; inbound: others call it; or both", say("Who is to be served: outbound (the app calls others), inbound (others call it), both"), nil, q.direction, q.setDirection},
		{"issuer", "the issuer identifier", func() string { return p.Issuer }, nil, func() string { return cmp.Or(q.given["tenant"], p.Tenant) }, func(answer string) (err error) {
			a.Issuer, err = p.Identifier(answer)
			return err
		}},
		{"token-endpoint", "where tokens are requested; for Cognito", say("The token endpoint, at the user pool's domain"), func() bool { return a.Outbound && p.TokenEndpoint != "" },
			func() string { return p.TokenEndpoint }, set(&a.TokenEndpoint, scaffold.URL)},
		{"client-id", "who this service is at the issuer", say("This service's client id"), outbound, say("YOUR-CLIENT-ID"), set(&a.ClientID, scaffold.Text)},
		{"secret-file", "the file that has or will have the client's secret", nil, outbound, q.secretFile, set(&a.SecretFile, scaffold.Path)},
		{"route-host", "the host that the app calls", say("The host that the app calls, by plain http"), outbound, say("orders.internal"), set(&a.Route.Host, scaffold.Host)},
		{"route-upstream", "where that host really is", say("Where that is, by https"), outbound, func() string {
			return "https://" + strings.TrimPrefix(strings.Replace(a.Route.Host, ".internal", ".example.com", 1), "*.")
		},
			set(&a.Route.Upstream, scaffold.Upstream)},
		{"route-audience", "the audience of the service that is called", func() string {
			if p.Name == "entra-id" {
				return "The Application ID URI of the service that is called"
			}
			return "The audience of the service that is called"
		}, func() bool { return a.Outbound && !p.NeedsRouteScopes }, func() string { return q.orOutbound("audience", p.RouteAudience) }, func(answer string) error {
			if p.Name == "entra-id" { // named by a scope
				a.Route.Scopes = []string{strings.TrimSuffix(answer, "/.default") + "/.default"}
			}
			return set(&a.Route.Audience, scaffold.Text)(answer)
		}},
		{"route-scopes", "the scopes to ask for there, with commas", say("The scopes to ask for there, with commas"), func() bool { return a.Outbound && p.Name != "entra-id" },
			func() string { return q.orOutbound("scopes", p.RouteScope) }, func(answer string) error {
				if answer == "" && p.NeedsRouteScopes {
					return fmt.Errorf("%s has no audience in a token request: a scope names the API", p.Title)
				}
				return set(&a.Route.Scopes, scaffold.List)(answer)
			}},
		{"audience", "what callers' tokens are for", func() string { return "What callers' tokens are for: " + p.AudienceIs }, inbound, func() string {
			if p.Audience == "YOUR-CLIENT-ID" || p.Audience == "YOUR-APP-ID" {
				return cmp.Or(a.ClientID, p.Audience)
			}
			return p.Audience
		}, set(&a.Audience, scaffold.Text)},
		{"scopes", "what a caller's token needs, with commas", say("The scopes that a caller's token needs, with commas"), func() bool { return a.Inbound && p.Name != "kubernetes" }, func() string {
			if p.Name == "cognito" {
				return a.Audience + "/read"
			}
			return p.Scope
		}, func(answer string) error {
			if answer == "" && p.NeedsScopes {
				return fmt.Errorf("without one every client of this issuer may call: %s has no other way to say what a token is for", p.Title)
			}
			return set(&a.Scopes, scaffold.List)(answer)
		}},
		{"callers", "the only clients that may call, with commas; for Cognito and Kubernetes", say("Who may call, with commas"), func() bool { return a.Inbound && p.NeedsCallers }, func() string { return p.Caller }, func(answer string) error {
			if answer == "" {
				return errors.New("name at least one caller")
			}
			return set(&a.Callers, scaffold.List)(answer)
		}},
		{"app-port", "the app's port on 127.0.0.1", say("The app's port on 127.0.0.1"), inbound, say("8080"), set(&a.AppPort, scaffold.Port)},
		{"name", "the app's name, for --with", say("The app's name"), func() bool { return q.with != "" }, say("app"), set(&a.Name, scaffold.Name)},
	}
}

// set parses an answer into its place.
func set[T any](to *T, parse func(string) (T, error)) func(string) error {
	return func(answer string) error {
		value, err := parse(answer)
		if err == nil {
			*to = value
		}
		return err
	}
}

// orOutbound is the value of a flag that means the route where there is only outbound.
func (q *interview) orOutbound(flag, otherwise string) string {
	if value, given := q.given[flag]; given && !q.answers.Inbound {
		return value
	}
	return otherwise
}

// direction is what the flags that were given are about.
func (q *interview) direction() string {
	of := func(flags []string) bool {
		return slices.ContainsFunc(flags, func(name string) bool { _, given := q.given[name]; return given })
	}
	switch out, in := of(outboundFlags), of(inboundFlags); {
	case out && in:
		return "both"
	case out:
		return "outbound"
	}
	return "inbound"
}

func (q *interview) setDirection(answer string) error {
	q.answers.Outbound, q.answers.Inbound = answer == "outbound" || answer == "both", answer == "inbound" || answer == "both"
	switch {
	case !q.answers.Outbound && !q.answers.Inbound:
		return fmt.Errorf("%q is no direction; there are outbound, inbound and both", answer)
	case q.answers.Outbound && q.provider.InboundOnly != "":
		q.answers.Outbound, q.answers.Inbound = false, false // nothing else makes sense then
		return errors.New(q.provider.InboundOnly)
	}
	return nil
}

// secretFile is where the secret is mounted.
func (q *interview) secretFile() string {
	if q.with == scaffold.Kubernetes {
		return "/etc/sidepass/client-secret"
	}
	return q.provider.SecretFile
}

// ask goes through the questions. Flags are all checked before anything is asked, as far as earlier answers let them.
func (q *interview) ask(in io.Reader, out io.Writer, asking bool) error {
	var problems []error
	if _, both := q.given["issuer"]; both && q.given["tenant"] != "" {
		problems = append(problems, errors.New("--issuer and --tenant say the same; give one"))
	}
	if _, err := scaffold.Patterns(q.answers.Match); err != nil {
		problems = append(problems, fmt.Errorf("--match: %w", err))
	}
	asked := bufio.NewReader(in)
	for _, question := range q.questions() {
		answer, given := q.given[question.flag]
		flag := question.flag
		if tenant := q.given["tenant"]; flag == "issuer" && !given && tenant != "" {
			answer, given, flag = tenant, true, "tenant"
		}
		switch applies := question.when == nil || question.when(); {
		case !applies:
			if given && !(!q.answers.Inbound && (flag == "audience" || flag == "scopes") && q.answers.Outbound) {
				problems = append(problems, fmt.Errorf("--%s does not go with %s and %s", flag, q.answers.Provider, q.directionWord()))
			}
		case given:
			if err := question.set(answer); err != nil {
				problems = append(problems, fmt.Errorf("--%s: %w", flag, err))
			}
		case !asking || question.ask == nil || len(problems) > 0:
			if err := question.set(question.initial()); err != nil {
				problems = append(problems, fmt.Errorf("--%s: %w", flag, err))
			}
		default:
			var err error
			if asking, err = q.put(question, asked, out); err != nil {
				problems = append(problems, fmt.Errorf("--%s: %w", flag, err))
			}
		}
		if q.answers.Provider == "" || !q.answers.Inbound && !q.answers.Outbound && question.flag == "direction" {
			break // the rest depends on it
		}
	}
	return errors.Join(problems...)
}

func (q *interview) directionWord() string {
	switch {
	case q.answers.Inbound && q.answers.Outbound:
		return "both directions"
	case q.answers.Inbound:
		return "inbound"
	}
	return "outbound"
}

// put asks until the answer can be used. At the end of the input the initial value is it, and nothing more is asked.
func (q *interview) put(question question, in *bufio.Reader, out io.Writer) (more bool, err error) {
	for {
		initial := question.initial()
		fmt.Fprint(out, question.ask())
		if initial != "" {
			fmt.Fprintf(out, " [%s]", initial)
		}
		fmt.Fprint(out, ": ")
		line, end := in.ReadString('\n')
		answer := strings.TrimSpace(line)
		ended := end != nil
		if ended && answer == "" {
			fmt.Fprintln(out)
			return false, cmp.Or(err, question.set(initial))
		}
		if err = question.set(cmp.Or(answer, initial)); err == nil {
			return !ended, nil
		}
		fmt.Fprintln(out, sentence(err))
	}
}

// sentence is an error for a person who is asked again.
func sentence(err error) string {
	text := err.Error()
	return strings.ToUpper(text[:1]) + text[1:] + "."
}
