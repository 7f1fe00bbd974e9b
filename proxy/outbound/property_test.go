package outbound

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sidepass/sidepass/proxy"
	"github.com/sidepass/sidepass/tokencache"
)

// target is what a route's configuration says of its token.
type target struct {
	client, audience, scopes string
	exchange, fallback       bool
}

// key is the token's, made as the program makes it.
func (g target) key(grant string) tokencache.Key {
	return tokencache.KeyOf(tokencache.KeyFields{Issuer: "https://idp", ClientID: g.client, AuthMethod: "client_secret_basic", Grant: grant,
		Audience: []string{g.audience}, Scopes: strings.Split(g.scopes, "+")})
}

// world is a process that is reloaded, an issuer whose secrets rotate and that fails at times, and applications.
type world struct {
	cache   *tokencache.Cache
	budget  tokencache.Budget
	guards  map[string]*Guard
	current atomic.Pointer[generation]

	mu      sync.Mutex
	random  *rand.Rand
	secrets map[string]int // :: client → version that the issuer takes
	n       int
}

// generation is a gate and what its routes were configured for.
type generation struct {
	gate    *Gate
	targets []target
}

func (w *world) upTo(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.random.IntN(n)
}

func (w *world) draw() target {
	grant := w.upTo(3)
	return target{
		client: []string{"c1", "c2"}[w.upTo(2)], audience: []string{"a1", "a2"}[w.upTo(2)], scopes: []string{"read", "read+write"}[w.upTo(2)],
		exchange: grant > 0, fallback: grant > 1,
	}
}

// source is the issuer for one client, target and subject ("none" for the client's own), with a version of the secret. A token
// says what it was asked for.
func (w *world) source(g target, subject string, secret int) tokencache.Source {
	return tokenSource(func(ctx context.Context) (*tokencache.Token, error) {
		select {
		case <-time.After(time.Duration(w.upTo(3000)) * time.Millisecond):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		fault := w.upTo(16)
		w.mu.Lock()
		defer w.mu.Unlock()
		switch {
		case w.secrets[g.client] != secret:
			return nil, &tokencache.Failure{Kind: tokencache.Refused, Result: "invalid_client", Detail: "rotated"}
		case fault == 0:
			return nil, &tokencache.Failure{Kind: tokencache.Unavailable, Result: tokencache.ResultUnreachable, Broken: true, Detail: "down"}
		case fault == 1:
			return nil, &tokencache.Failure{Kind: tokencache.Throttled, Result: tokencache.ResultThrottled, RetryAfter: 5 * time.Second, Detail: "slow down"}
		case fault == 2 && subject != "none":
			return nil, &tokencache.Failure{Kind: tokencache.Refused, Subject: true, Result: "invalid_grant", Claims: "claims-of-" + subject, Detail: "refused"}
		case fault == 3:
			panic("scripted")
		}
		w.n++
		return tokencache.NewToken(fmt.Sprintf("%s/%s/%s/%s/%s/%d", canary, g.client, g.audience, g.scopes, subject, w.n), "",
			time.Now(), time.Duration(1+w.random.IntN(60))*time.Second), nil
	})
}

// reload builds a generation and puts it in the place of the current one, as the program does.
func (w *world) reload(t *testing.T, targets []target) {
	var routes []Route
	var keys []tokencache.Key
	w.mu.Lock()
	secrets := map[string]int{"c1": w.secrets["c1"], "c2": w.secrets["c2"]}
	w.mu.Unlock()
	for n, g := range targets {
		secret := secrets[g.client]
		s := tokencache.Settings{
			Source: w.source(g, "none", secret), Exchange: func(subject string) tokencache.Source { return w.source(g, subject, secret) },
			Credentials: fmt.Sprint(secret), MinRemaining: 5 * time.Second, Budget: &w.budget,
		}
		name := fmt.Sprintf("r%d", n)
		if w.guards[name] == nil {
			w.guards[name] = new(Guard)
		}
		r := Route{Name: name, Host: name + ".test", Upstream: upstream(name), Guard: w.guards[name], ReplayLimit: 64, RetryOn401: Always}
		if !g.exchange || g.fallback {
			key := g.key("client_credentials")
			e := w.cache.Entry(key)
			e.Use(s)
			keys = append(keys, key)
			r.Tokens = e
		}
		if g.exchange {
			key := g.key("token_exchange")
			x := w.cache.Exchange(key)
			x.Use(s)
			keys = append(keys, key)
			r.Exchange = func(subject string) Tokens { return x.Subject(subject) }
			if g.fallback {
				r.Fallback = r.Tokens
			}
			r.Tokens = nil
		}
		routes = append(routes, r)
	}
	w.cache.Retain(keys)
	w.current.Store(&generation{newGate(t, options(routes...)), targets})
}

// Whatever requests, failures, 401s, rotations and reloads come in between: a request goes out with a token for the client, the
// audience, the scopes and the subject of its route, as they were when it came, or it does not go out.
func TestNoInterleavingGivesARequestAnothersToken(t *testing.T) {
	const hosts, workers = 5, 10
	seeds := uint64(24)
	if testing.Short() {
		seeds = 4
	}
	for seed := range seeds {
		synctest.Test(t, func(t *testing.T) {
			w := &world{cache: tokencache.New(tokencache.Options{MaxEntries: 6}), guards: map[string]*Guard{},
				random: rand.New(rand.NewPCG(seed, 4)), secrets: map[string]int{}}
			defer w.cache.Close()
			w.budget.SetLimit(300)
			targets := make([]target, hosts)
			for n := range targets {
				targets[n] = w.draw()
			}
			w.reload(t, targets)
			var own, exchanged, resent, refused atomic.Int64
			ask := func() {
				g, n := w.current.Load(), w.upTo(hosts)
				want, subject := g.targets[n], "none"
				var header []string
				if k := w.upTo(5); k > 0 {
					subject = fmt.Sprintf("s%d", k)
					header = []string{"Authorization", "Bearer " + subject}
				}
				if !want.exchange {
					subject = "none" // what the application sends is replaced
				}
				r := request(t, []string{"GET", "POST"}[w.upTo(2)], fmt.Sprintf("http://r%d.test/x", n), "", header...)
				a := exchange(t, g.gate, r, true, func(string) int {
					time.Sleep(time.Duration(w.upTo(2000)) * time.Millisecond)
					return []int{200, 200, 200, 401}[w.upTo(4)]
				})
				for _, sent := range a.sent {
					prefix := fmt.Sprintf("Bearer %s/%s/%s/%s/%s/", canary, want.client, want.audience, want.scopes, subject)
					if !strings.HasPrefix(sent, prefix) {
						t.Errorf("seed %d: want a token %s, got %s", seed, prefix, sent)
					}
				}
				switch {
				case len(a.sent) == 0:
					refused.Add(1)
					if want.exchange && !want.fallback && subject == "none" && a.reason != proxy.NoSubjectToken {
						t.Errorf("seed %d: without a subject: got %s", seed, a.reason)
					}
				case subject == "none":
					own.Add(1)
				default:
					exchanged.Add(1)
				}
				if len(a.sent) > 1 {
					resent.Add(1)
				}
			}
			var wg sync.WaitGroup
			for range workers {
				wg.Go(func() {
					for range 60 {
						time.Sleep(time.Duration(w.upTo(3000)) * time.Millisecond)
						ask()
					}
				})
			}
			wg.Go(func() {
				for range 30 {
					time.Sleep(time.Duration(w.upTo(6000)) * time.Millisecond)
					next := append([]target(nil), w.current.Load().targets...)
					switch w.upTo(3) {
					case 0: // a route is for something else now
						next[w.upTo(hosts)] = w.draw()
					case 1: // two change places
						a, b := w.upTo(hosts), w.upTo(hosts)
						next[a], next[b] = next[b], next[a]
					case 2: // a secret is rotated, and the file follows a moment later
						client := []string{"c1", "c2"}[w.upTo(2)]
						w.mu.Lock()
						w.secrets[client]++
						w.mu.Unlock()
						time.Sleep(time.Duration(w.upTo(3000)) * time.Millisecond)
					}
					w.reload(t, next)
				}
			})
			wg.Wait()
			if own.Load() == 0 || resent.Load() == 0 || refused.Load() == 0 || exchanged.Load() == 0 {
				t.Errorf("seed %d: want some of each: %d with the client's own token, %d with a subject's, %d sent twice, %d refused",
					seed, own.Load(), exchanged.Load(), resent.Load(), refused.Load())
			}
		})
	}
}
