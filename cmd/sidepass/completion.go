package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sidepass/sidepass/scaffold"
)

func (a *app) completionCommand() *cobra.Command {
	shells := map[string]func(*cobra.Command) error{
		"bash":       func(root *cobra.Command) error { return root.GenBashCompletionV2(a.out, true) },
		"zsh":        func(root *cobra.Command) error { return root.GenZshCompletion(a.out) },
		"fish":       func(root *cobra.Command) error { return root.GenFishCompletion(a.out, true) },
		"powershell": func(root *cobra.Command) error { return root.GenPowerShellCompletionWithDesc(a.out) },
	}
	return &cobra.Command{
		Use:   "completion bash|zsh|fish|powershell",
		Short: "Print a script that completes commands, flags and the names of routes in a shell",
		Example: `  source <(sidepass completion bash)                                            this shell; needs bash-completion
  sidepass completion zsh > "${fpath[1]}/_sidepass"                             each new zsh
  sidepass completion fish > ~/.config/fish/completions/sidepass.fish           each new fish`,
		ValidArgs: []string{"bash", "zsh", "fish", "powershell"},
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		RunE:      func(cmd *cobra.Command, args []string) error { return shells[args[0]](cmd.Root()) },
	}
}

// complete says what flags can have as values, wherever they are.
func (a *app) complete(root *cobra.Command) {
	var providers []string
	for _, p := range scaffold.Providers() {
		providers = append(providers, p.Name+"\t"+p.Title)
	}
	form := []string{"text", "json"}
	for path, flags := range map[string]map[string][]string{
		"check":   {"output": form},
		"explain": {"output": form},
		"init":    {"provider": providers, "direction": {"outbound", "inbound", "both"}, "with": {"kubernetes", "compose"}},
	} {
		cmd, _, err := root.Find([]string{path})
		for flag, values := range flags {
			if err == nil {
				err = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
			}
		}
		if err != nil {
			panic(fmt.Sprintf("completion: %s: %v", path, err)) // the table above is wrong; every command line would show it
		}
	}
	for _, path := range []string{"check", "token"} {
		cmd, _, err := root.Find([]string{path})
		if err == nil {
			err = cmd.RegisterFlagCompletionFunc("route", a.completeRoutes)
		}
		if err != nil {
			panic(fmt.Sprintf("completion: %s: %v", path, err))
		}
	}
}

// completeRoutes offers the names of the configuration's routes; of one that cannot be used, none.
func (a *app) completeRoutes(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	loaded, err := a.load()
	if err != nil || loaded.Config.Outbound == nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, r := range loaded.Config.Outbound.Routes {
		names = append(names, r.Name+"\t"+because(r))
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
