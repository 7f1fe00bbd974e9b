package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sidepass/sidepass/config"
	"github.com/sidepass/sidepass/proxy/revocation"
	revocationredis "github.com/sidepass/sidepass/proxy/revocation/redis"
)

// How long a revocation may be in force. Less is over before it has reached everybody; more than a year outlives any access token.
const (
	shortestRevocation = time.Second
	longestRevocation  = 366 * 24 * time.Hour
)

// lastSecond is the end of the year 9999: what is later is milliseconds by mistake.
const lastSecond = 253402300799

// maxURLFile bounds --redis-url-file.
const maxURLFile = 64 << 10

// revokeFlags are the command line of `sidepass revoke`.
type revokeFlags struct {
	entry   revocation.Entry
	before  string
	lasts   time.Duration
	urlFile string
}

func (a *app) revokeCommand() *cobra.Command {
	var f revokeFlags
	cmd := &cobra.Command{
		Use:   "revoke --jti ID | --sub SUBJECT | --client ID",
		Short: "Revoke tokens at every sidecar of a fleet",
		Example: `  sidepass revoke --jti 0f8fad5b-d9cb-469f            one token
  sidepass revoke --sub alice --issued-before now     what alice has now; she can sign in again
  sidepass revoke --client billing --for 72h          all of a client's tokens for three days, new ones too`,
		Long: `Writes a revocation to the Redis server that sidecars follow by inbound.revocation_redis_url. It takes effect within a
second or two, also for tokens that were accepted before, and ends by itself.

A token is revoked if all that is given matches: --sub and --client together mean this client's tokens for this subject. A subject,
a client and an id mean something at one issuer only, so add --issuer where several are trusted.

Without --issued-before every token that matches is refused as long as the revocation lasts, also one that is issued later. That is
right for one token and for a client that must stay out; for a subject that may come back, say --issued-before now. A token
that does not say when it was issued counts as issued before.

--for must be no less than the tokens live: one that is still valid when its revocation ends is accepted again.

The same revocation given again, with --issued-before as it was printed, lasts as long as the new --for says: --for 1s takes it
back.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, name := range []string{"jti", "sub", "client", "issuer", "issued-before", "redis-url-file"} {
				if flag := cmd.Flags().Lookup(name); flag.Changed && flag.Value.String() == "" {
					return fail(exitUnusable, fmt.Errorf("--%s is given and empty, which would revoke more than was meant; leave it out if it is any", name))
				}
			}
			return a.revoke(cmd.Context(), f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.entry.ID, "jti", "", "the token's id (jti)")
	flags.StringVar(&f.entry.Subject, "sub", "", "the token's subject (sub)")
	flags.StringVar(&f.entry.Client, "client", "", "the client that the token was issued to (azp, client_id, appid or cid)")
	flags.StringVar(&f.entry.Issuer, "issuer", "", "the token's issuer: a name from the configuration, or its URL; alone it needs --issued-before")
	flags.StringVar(&f.before, "issued-before", "", "only tokens issued before then: now, a time as in 2026-01-31T12:00:00Z (RFC 3339), or seconds since 1970")
	flags.DurationVar(&f.lasts, "for", 24*time.Hour, "how long it is in force: as long as the longest-lived of the tokens can be used")
	flags.StringVar(&f.urlFile, "redis-url-file", "", "a file with the server's URL (default: inbound.revocation_redis_url of the configuration)")
	return cmd
}

func (a *app) revoke(ctx context.Context, f revokeFlags) error {
	before, err := f.check()
	if err != nil {
		return fail(exitUnusable, err)
	}
	url, where, err := a.revocationServer(&f)
	if err != nil {
		return err
	}
	e := f.entry
	e.IssuedBefore = before
	if _, err := e.Line(); err != nil {
		return fail(exitUnusable, err)
	}
	w, err := revocationredis.NewWriter(url)
	if err != nil {
		return fail(exitUnusable, fmt.Errorf("%s: %w", where, err))
	}
	defer w.Close()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	now, err := w.Now(ctx)
	if err != nil {
		return fail(exitFailed, err)
	}
	if f.before == "now" {
		e.IssuedBefore = now
	}
	until, err := w.Write(ctx, e, now.Add(f.lasts))
	if err != nil {
		return fail(exitFailed, err)
	}
	_, err = fmt.Fprint(a.out, written(e, until, f.lasts))
	return err
}

// check finds what cannot be meant, and reads --issued-before, unless that is now, which the server knows better.
func (f *revokeFlags) check() (before time.Time, err error) {
	e := f.entry
	switch {
	case e == (revocation.Entry{}):
		return before, errors.New("nothing says which tokens: give --jti, --sub or --client; see `sidepass revoke --help`")
	case e == revocation.Entry{Issuer: e.Issuer} && f.before == "":
		return before, errors.New("--issuer alone would refuse all of the issuer's tokens, new ones too, so that nobody gets in: add --issued-before now, or a time in the future if that is what you want")
	case f.lasts < shortestRevocation:
		return before, fmt.Errorf("--for %s: a revocation lasts at least %s", f.lasts, shortestRevocation)
	case f.lasts > longestRevocation:
		return before, fmt.Errorf("--for %s: a revocation lasts at most %d days (%s); no access token should live longer", f.lasts, longestRevocation/(24*time.Hour), longestRevocation)
	case f.before == "" || f.before == "now":
		return before, nil
	}
	if before, err = time.Parse(time.RFC3339, f.before); err != nil {
		seconds, _ := strconv.ParseFloat(f.before, 64)
		before = time.UnixMicro(int64(min(seconds, lastSecond+1) * 1e6))
	}
	if s := before.Unix(); s <= 0 || s > lastSecond {
		return before, fmt.Errorf("--issued-before %q is neither now, nor a time as in 2026-01-31T12:00:00Z (RFC 3339), nor a number of seconds since 1970", f.before)
	}
	return before, nil
}

// revocationServer is the server's URL, and what configures it. It also replaces the name of an issuer by its URL. The configuration is read if one of the
// two needs it. The error decides the exit code.
func (a *app) revocationServer(f *revokeFlags) (url, where string, err error) {
	issuerNamed := f.entry.Issuer != "" && !strings.Contains(f.entry.Issuer, "://")
	var c *config.Config
	if f.urlFile == "" || issuerNamed {
		loaded, err := a.load()
		if err != nil {
			return "", "", err
		}
		c = loaded.Config
	}
	if f.entry.Issuer != "" && c != nil {
		if err := a.resolveIssuer(&f.entry, c, issuerNamed); err != nil {
			return "", "", fail(exitUnusable, err)
		}
	}
	if f.urlFile != "" {
		url, err := readURL(f.urlFile)
		if err != nil {
			return "", "", fail(exitUnusable, fmt.Errorf("--redis-url-file: %w", err))
		}
		return url, "--redis-url-file " + f.urlFile, nil
	}
	if c.Inbound == nil || !c.Inbound.RevocationRedisURL.IsSet() {
		return "", "", fail(exitUnusable, errors.New(revocationRedis+" is not set, so that there is no server to write to: set it, here and at the sidecars, or name the server by --redis-url-file"))
	}
	return c.Inbound.RevocationRedisURL.Reveal(), revocationRedis, nil
}

// resolveIssuer replaces a configured name by its URL. Of a URL that is not configured it warns: another slash is another issuer.
func (a *app) resolveIssuer(e *revocation.Entry, c *config.Config, named bool) error {
	var names []string
	for _, i := range c.Issuers {
		if i.Name == e.Issuer || i.URL.String() == e.Issuer {
			e.Issuer = i.URL.String()
			return nil
		}
		names = append(names, i.Name)
	}
	if named {
		return fmt.Errorf("--issuer %q is neither a URL nor the name of a configured issuer: %s", e.Issuer, strings.Join(names, ", "))
	}
	fmt.Fprintf(a.err, "no issuer with exactly this URL is configured here: %s; it is compared with the token's `iss` byte for byte\n", e.Issuer)
	return nil
}

// readURL reads a file with a URL, which is not shown.
func readURL(name string) (string, error) {
	file, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxURLFile))
	return strings.TrimSpace(string(text)), err
}

// written says what a revocation means.
func written(e revocation.Entry, until time.Time, lasts time.Duration) string {
	var which []string
	for _, m := range []struct{ name, value string }{{"jti", e.ID}, {"sub", e.Subject}, {"client", e.Client}, {"issuer", e.Issuer}} {
		if m.value != "" {
			which = append(which, fmt.Sprintf("%s %q", m.name, m.value))
		}
	}
	when := "issued at any time"
	switch {
	case !e.IssuedBefore.IsZero():
		when = "issued before " + e.IssuedBefore.UTC().Format(time.RFC3339Nano)
	case e.ID == "":
		when += ", also from now on"
	}
	return fmt.Sprintf("revoked        tokens with %s, %s\nin force       until %s, for %s\n", strings.Join(which, " and "), when, until.UTC().Format(time.RFC3339), lasts)
}
