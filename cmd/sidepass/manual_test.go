package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cpuguy83/go-md2man/v2/md2man"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

var writeManual = flag.Bool("manual", false, "write docs/commands.md and docs/man anew")

// commands calls f for every command that is offered, in the order of the help.
func commandsOf(root *cobra.Command, f func(*cobra.Command)) {
	f(root)
	for _, c := range root.Commands() {
		if c.IsAvailableCommand() {
			commandsOf(c, f)
		}
	}
}

func command() *cobra.Command {
	return (&app{streams: streams{strings.NewReader(""), io.Discard, io.Discard}}).command()
}

func help(t *testing.T, path string) string {
	t.Helper()
	var out, errs bytes.Buffer
	if code := execute(append(strings.Fields(path)[1:], "--help"), streams{strings.NewReader(""), &out, &errs}, nil); code != 0 {
		t.Fatalf("%s --help exits with %d: %s", path, code, &errs)
	}
	return out.String()
}

// Every command's help begins with what it does in a line, and an example that is a command line of it.
func TestHelpBeginsWithAnExample(t *testing.T) {
	commandsOf(command(), func(c *cobra.Command) {
		lines := strings.Split(help(t, c.CommandPath()), "\n")
		if len(lines) < 4 || lines[0] != c.Short || lines[1] != "" || !strings.HasPrefix(lines[2], "  ") || !strings.Contains(c.Example, c.CommandPath()) {
			t.Errorf("%s --help begins with\n%s", c.CommandPath(), strings.Join(lines[:min(4, len(lines))], "\n"))
		}
	})
}

// docs/commands.md and docs/man are what the code says.
func TestManual(t *testing.T) {
	want := map[string]string{}
	var page strings.Builder
	page.WriteString(`# Commands

` + "```\nsidepass run --config sidepass.yaml\nsidepass check --help\n```" + `

Each command says this of itself with --help; as a man page: ` + "`man docs/man/sidepass.1`" + `. Exit codes are 0, 1 for what failed, and 2 for a
configuration or a command line that cannot be used. Completion of commands, flags and the names of routes: ` + "`sidepass completion`" + `.

Written by ` + "`go test ./cmd/sidepass -run TestManual -manual`" + `.
`)
	root := command()
	commandsOf(root, func(c *cobra.Command) {
		fmt.Fprintf(&page, "\n## %s\n\n```\n%s\n```\n", c.CommandPath(), strings.TrimSpace(help(t, c.CommandPath())))
	})
	want["commands.md"], want["man/sidepass.1"] = page.String(), manPage()

	docs := filepath.Join("..", "..", "docs")
	if *writeManual {
		if err := os.MkdirAll(filepath.Join(docs, "man"), 0o755); err != nil {
			t.Fatal(err)
		}
		for name, text := range want {
			if err := os.WriteFile(filepath.Join(docs, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, text := range want {
		is, err := os.ReadFile(filepath.Join(docs, name))
		if err != nil || string(is) != text {
			t.Errorf("docs/%s is not what the code says (%v); run: go test ./cmd/sidepass -run TestManual -manual", name, err)
		}
	}
}

// manPage is the one man page, with a section a command.
func manPage() string {
	var b strings.Builder
	b.WriteString("% \"SIDEPASS\" \"1\" \"\" \"sidepass\" \"sidepass\"\n")
	escape := strings.NewReplacer("\\", "\\\\", "*", "\\*", "_", "\\_", "`", "\\`", "<", "\\<", ">", "\\>", "[", "\\[", "]", "\\]", "#", "\\#").Replace
	flags := func(set *pflag.FlagSet) {
		set.VisitAll(func(f *pflag.Flag) {
			value, usage := pflag.UnquoteUsage(f)
			if fallback := f.DefValue; fallback != "" && fallback != "[]" && fallback != "false" {
				usage += " (default " + fallback + ")"
			}
			fmt.Fprintf(&b, "**--%s** %s\n: %s\n\n", f.Name, value, escape(usage))
		})
	}
	root := command()
	commandsOf(root, func(c *cobra.Command) {
		if c == root {
			fmt.Fprintf(&b, "# NAME\n\nsidepass - %s\n\n# SYNOPSIS\n\n**sidepass** [*command*] [**--config** *file*] ...\n\n# EXAMPLES\n\n", escape(c.Short))
		} else {
			fmt.Fprintf(&b, "## %s\n\n%s.\n\n", escape(strings.TrimPrefix(c.UseLine(), "sidepass ")), escape(c.Short))
		}
		for line := range strings.Lines(c.Example) {
			b.WriteString("    " + strings.TrimPrefix(line, "  "))
		}
		b.WriteString("\n\n")
		if c == root {
			b.WriteString("# DESCRIPTION\n\n")
		}
		b.WriteString(escape(c.Long) + "\n\n")
		flags(c.NonInheritedFlags())
		if c == root {
			b.WriteString("# COMMANDS\n\n")
		}
	})
	b.WriteString("# EXIT STATUS\n\n0; 1 for what failed; 2 for a configuration or a command line that cannot be used.\n\n# ENVIRONMENT\n\n" +
		"**SIDEPASS\\_CONFIG** names the configuration where **--config** does not. Every key of the configuration has a variable, such as **SIDEPASS\\_ISSUERS\\_0\\_URL**. " +
		"**NO\\_COLOR** turns colour off.\n\n# FILES\n\n*sidepass.yaml* in the working directory is the configuration where nothing else is named.\n")
	return string(md2man.Render([]byte(b.String())))
}

// What a shell offers: values where there are some, and the names of the routes.
func TestCompletion(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sidepass.yaml")
	if err := os.WriteFile(file, []byte("issuers: [{url: \"http://127.0.0.1:1\", client: {id: a, secret: canary}}]\noutbound:\n  routes: [{name: orders, host: orders.internal}, {name: mail, prefix: /mail, upstream: \"https://mail.example.com\"}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		line []string
		want []string
	}{
		{[]string{"token", "--config", file, "--route", ""}, []string{"orders", "mail"}},
		{[]string{"check", "--config", file, "--route", ""}, []string{"orders", "mail"}},
		{[]string{"token", "--config", file + "-none", "--route", ""}, nil},
		{[]string{"check", "--output", ""}, []string{"text", "json"}},
		{[]string{"explain", "inbound", "--output", ""}, []string{"text", "json"}},
		{[]string{"init", "--direction", ""}, []string{"outbound", "inbound", "both"}},
		{[]string{"init", "--with", ""}, []string{"kubernetes", "compose"}},
		{[]string{"completion", ""}, []string{"bash", "zsh", "fish", "powershell"}},
		{[]string{"re"}, []string{"revoke"}},
	} {
		var out, errs bytes.Buffer
		execute(append([]string{"__complete"}, c.line...), streams{strings.NewReader(""), &out, &errs}, nil)
		var got []string
		for line := range strings.Lines(out.String()) {
			if name, _, _ := strings.Cut(strings.TrimSpace(line), "\t"); !strings.HasPrefix(name, ":") {
				got = append(got, name)
			}
		}
		if !slices.Equal(got, c.want) || strings.Contains(out.String()+errs.String(), "canary") {
			t.Errorf("%q offers %q, want %q\n%s", c.line, got, c.want, &errs)
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		var out bytes.Buffer
		if code := execute([]string{"completion", shell}, streams{strings.NewReader(""), &out, io.Discard}, nil); code != 0 || !strings.Contains(out.String(), "sidepass") {
			t.Errorf("completion %s exits with %d and prints %d bytes", shell, code, out.Len())
		}
	}
	if code := execute([]string{"completion", "tcsh"}, streams{strings.NewReader(""), io.Discard, io.Discard}, nil); code != exitUnusable {
		t.Errorf("completion tcsh exits with %d", code)
	}
}
