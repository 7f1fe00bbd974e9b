package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/sidepass/sidepass/config"
	"github.com/sidepass/sidepass/tokencache"
)

func (a *app) tokenCommand() *cobra.Command {
	var name string
	var claims bool
	cmd := &cobra.Command{
		Use:   "token --route NAME",
		Short: "Obtain the token that a route would send, and print it",
		Long:  `Obtains the token that this route would send and prints it: the one command that prints a token.`,
		Example: `  curl -H "Authorization: Bearer $(sidepass token --route orders)" https://orders.example.com/orders/1
  sidepass token --route orders --claims     print the decoded header and claims instead`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			loaded, err := a.load()
			if err != nil {
				return fail(exitFailed, err)
			}
			token, err := a.obtain(cmd.Context(), loaded, name)
			if err != nil {
				return fail(exitFailed, err)
			}
			if !claims {
				_, err = fmt.Fprintln(a.out, token.Reveal())
				return err
			}
			text, err := decode(token.Reveal())
			if err != nil {
				return fail(exitFailed, err)
			}
			_, err = fmt.Fprint(a.out, text)
			return err
		},
	}
	cmd.Flags().StringVar(&name, "route", "", "the route's name")
	cmd.Flags().BoolVar(&claims, "claims", false, "print the decoded header and claims instead of the token")
	_ = cmd.MarkFlagRequired("route") // it is defined above
	return cmd
}

// obtain asks for a route's token once, without listening anywhere.
func (a *app) obtain(ctx context.Context, loaded *config.Loaded, name string) (*tokencache.Token, error) {
	s, err := newParts(sidecarOptions{Log: zap.NewNop()})
	if err != nil {
		return nil, err
	}
	defer s.close()
	g, err := s.process.build(loaded, configured(loaded.Config))
	if err != nil {
		return nil, err
	}
	defer g.close()
	i := slices.IndexFunc(g.routes, func(r *route) bool { return r.config.Name == name })
	if i < 0 {
		return nil, unknownRoute(name, g.routes)
	}
	if g.routes[i].exchange != nil {
		return nil, fmt.Errorf("route %s exchanges its callers' tokens (grant: %s), so that it has none of its own", name, g.routes[i].config.Grant)
	}
	for _, f := range g.activate {
		f()
	}
	token, _, err := g.routes[i].entry.Get(ctx)
	var f *tokencache.Failure
	if errors.As(err, &f) {
		detail := f.Detail
		if f.Code != "" && !strings.Contains(detail, f.Code) {
			detail = f.Code + ": " + detail
		}
		return nil, fmt.Errorf("no token for route %s: %s", name, detail)
	}
	return token, err
}

// configured are the listeners' addresses as the configuration has them, for commands that open none.
func configured(c *config.Config) map[string]string {
	out := map[string]string{}
	if c.Inbound != nil {
		out[inboundListener] = c.Inbound.Listen.String()
	}
	if c.Outbound != nil {
		out[outboundListener] = c.Outbound.Listen.String()
		for _, r := range c.Outbound.Routes {
			if r.Listen.IsSet() {
				out[routeListener(r.Name)] = r.Listen.String()
			}
		}
	}
	return out
}

// unknownRoute names the routes there are, the likeliest first.
func unknownRoute(name string, routes []*route) error {
	var names []string
	for _, r := range routes {
		names = append(names, r.config.Name)
	}
	if len(names) == 0 {
		return errors.New("the configuration has no outbound routes")
	}
	slices.SortStableFunc(names, func(x, y string) int { return cmp.Compare(apart(name, x), apart(name, y)) })
	return fmt.Errorf("there is no route %q; the routes are: %s", name, strings.Join(names, ", "))
}

// apart is how little two names have in common: the length of both beyond their common beginning.
func apart(a, b string) int {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return len(a) + len(b) - 2*n
}

// decode shows a JWT's header and claims; the signature is left out. Nothing is verified.
func decode(token string) (string, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return "", errors.New("the token is opaque: it has no claims to show")
	}
	var b bytes.Buffer
	for i, title := range []string{"header", "claims"} {
		text, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil || !json.Valid(text) {
			return "", fmt.Errorf("the token is opaque: its %s is not JSON", title)
		}
		b.WriteString(title + ": ")
		if err := json.Indent(&b, text, "", "  "); err != nil {
			return "", err
		}
		b.WriteByte('\n')
	}
	return b.String(), nil
}
