package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sidepass/sidepass/config"
	"github.com/sidepass/sidepass/scaffold"
)

// Files that init writes beside the configuration.
var snippetFile = map[scaffold.Target]string{scaffold.Kubernetes: "sidepass-kubernetes.yaml", scaffold.Compose: "compose.sidepass.yaml"}

// initFlags are what init is told that is no answer.
type initFlags struct {
	output, with string
	force, yes   bool
}

func (a *app) initCommand() *cobra.Command {
	var f initFlags
	q := &interview{answers: scaffold.Answers{}, given: map[string]string{}}
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Write a first configuration: asks, or takes flags",
		Example: `  sidepass init
  sidepass init --provider auth0 --tenant acme.eu.auth0.com --audience https://shop-api --scopes read:carts --app-port 8080
  sidepass init --provider entra-id --direction outbound --yes --with compose --name shop`,
		Long: `Writes a commented configuration for an authorization server, with what to set up there first. What no flag says is asked on standard
input; an empty answer takes the value in brackets, and what is then left to say is written YOUR-… . At the end of standard input, or with
--yes, that holds for all that is left. A file that exists is never overwritten without --force. No secret is asked for or written: the
configuration names the file that it is to be in.

--audience and --scopes are about this service, and --route-audience and --route-scopes about the one that it calls; with --direction
outbound, --audience and --scopes mean the latter too.

Exits 0, or 2 when nothing was written.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, name := range append(flagsOf(q.questions()), "tenant") {
				if flag := cmd.Flags().Lookup(name); flag != nil && flag.Changed {
					q.given[name] = flag.Value.String()
				}
			}
			return a.init(q, f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.output, "output", "sidepass.yaml", "the file to write; - is standard output")
	flags.StringVar(&f.with, "with", "", "also write what runs it beside the app: kubernetes or compose")
	flags.BoolVar(&f.force, "force", false, "overwrite files that exist")
	flags.BoolVar(&f.yes, "yes", false, "ask nothing")
	flags.String("tenant", "", "in place of --issuer: Auth0's domain, Entra ID's tenant id, Cognito's user pool id")
	for _, question := range q.questions() {
		flags.String(question.flag, "", question.usage)
	}
	flags.StringArrayVar(&q.answers.Match, "match", []string{"/"}, "a pattern of what callers may ask for, such as \"GET /orders/{id}\"; may repeat")
	return cmd
}

func (a *app) init(q *interview, f initFlags) error {
	unusable := func(err error) error { return fail(exitUnusable, fmt.Errorf("sidepass init: %w", err)) }
	target := scaffold.Target(f.with)
	if f.with != "" && snippetFile[target] == "" {
		return unusable(fmt.Errorf("--with is kubernetes or compose, not %q", f.with))
	}
	if f.with != "" && f.output == "-" {
		return unusable(errors.New("--with needs a file that the configuration is written to; leave out --output -"))
	}
	files := []string{f.output}
	if f.with != "" {
		files = append(files, filepath.Join(filepath.Dir(f.output), snippetFile[target]))
	}
	for _, file := range files {
		if _, err := os.Lstat(file); f.output != "-" && !f.force && !errors.Is(err, fs.ErrNotExist) {
			return unusable(fmt.Errorf("%s exists; --force overwrites it, and --output writes another file", file))
		}
	}
	q.with = target
	if err := q.ask(a.in, a.err, !f.yes); err != nil {
		return unusable(err)
	}
	text, err := scaffold.Configuration(q.answers)
	if err != nil {
		return unusable(err)
	}
	if err := loadable(text); err != nil {
		return unusable(fmt.Errorf("the answers do not make a configuration that can be used:\n%w", err))
	}
	if u, err := url.Parse(q.answers.Route.Upstream); q.answers.Outbound && err == nil && u.Scheme == "http" && !loopback(u.Host) {
		fmt.Fprintf(a.err, "The token goes to %s in clear: whoever sees it on the way can use it. Write https:// where the service has it.\n", u.Redacted())
	}
	if f.output == "-" {
		_, err := fmt.Fprint(a.out, text)
		return err
	}
	texts := []string{text}
	if f.with != "" {
		around, err := scaffold.Around(target, q.answers, "./"+filepath.Base(f.output), filepath.Base(files[1]))
		if err != nil {
			return unusable(err)
		}
		texts = append(texts, around)
	}
	for i, file := range files {
		if err := writeNew(file, texts[i], f.force); err != nil {
			return unusable(err)
		}
		fmt.Fprintf(a.out, "wrote %s\n", file)
	}
	a.initNext(q.answers, files, texts)
	return nil
}

// loadable loads a configuration as run would, but for the files that it names: they are made later, and elsewhere.
func loadable(text string) error {
	dir, err := os.MkdirTemp("", "sidepass-init-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	file := filepath.Join(dir, "sidepass.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return err
	}
	_, err = config.Load(config.LoadOptions{Files: []string{file}, KeepsLastGood: func(string) bool { return true }})
	return err
}

// writeNew writes a file, of which others may read what is in it: no secret is. Without force it has to be new.
func writeNew(file, text string, force bool) error {
	flags := os.O_WRONLY | os.O_CREATE | os.O_EXCL
	if force {
		flags = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	}
	f, err := os.OpenFile(file, flags, 0o644) //nolint:gosec // sidepass runs as another user in a container, and has to read it
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// initNext says what is left to do.
func (a *app) initNext(answers scaffold.Answers, files, texts []string) {
	fmt.Fprintln(a.out, "\nNext:")
	for i, text := range texts {
		var lines []string
		for n, line := range strings.Split(text, "\n") {
			if strings.Contains(line, scaffold.Placeholder) && !strings.HasPrefix(strings.TrimSpace(line), "#") {
				lines = append(lines, fmt.Sprint(n+1))
			}
		}
		if len(lines) > 0 {
			fmt.Fprintf(a.out, "- replace what is written %s… in %s, line %s\n", scaffold.Placeholder, files[i], strings.Join(lines, ", "))
		}
	}
	fmt.Fprintf(a.out, "- set up what the comment at the head of %s says\n", files[0])
	if answers.Outbound {
		fmt.Fprintf(a.out, "- write the client's secret to %s, readable by sidepass alone", answers.SecretFile)
		if len(files) == 1 {
			fmt.Fprintf(a.out, ": run this, paste it, then Enter and Ctrl-D\n    install -m 600 /dev/stdin %s\n  sidepass check wants the file to be there, also with --offline", shellWord(answers.SecretFile))
		}
		fmt.Fprintln(a.out)
	}
	fmt.Fprintf(a.out, "- sidepass check --config %s\n", files[0])
	if len(files) > 1 {
		fmt.Fprintf(a.out, "- do what the comment at the head of %s says\n", files[1])
	} else {
		fmt.Fprintf(a.out, "- sidepass run --config %s\n", files[0])
	}
}

// shellWord is a text as one word of a POSIX shell.
func shellWord(text string) string {
	if strings.ContainsFunc(text, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-", r))
	}) {
		return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
	}
	return text
}
