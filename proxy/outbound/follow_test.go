package outbound

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sidepass/sidepass/proxy"
	"github.com/sidepass/sidepass/tokencache"
)

// answer is what an exchange came to.
type answer struct {
	reason proxy.Reason // why nothing was sent, or OK
	status int          // of the last answer
	sent   []string     // the Authorization of each time that the request was sent
}

// exchange is an engine in small: it sends a request to serve, which says the status for an Authorization, and shows the gate the answer.
func exchange(t testing.TB, g *Gate, r *proxy.Request, replayable bool, serve func(authorization string) int) answer {
	v := g.Admit(t.Context(), r)
	a := answer{reason: v.Reason}
	for again := false; v.Action == proxy.Forward; again = true {
		if len(v.Set) != 1 {
			t.Error("sent without a token")
			return a
		}
		a.sent = append(a.sent, v.Set[0].Value)
		a.status = serve(v.Set[0].Value)
		next, more := v.Follow.Answered(t.Context(), &proxy.Head{Status: a.status, Header: fields{}, Again: again}, replayable)
		if !more {
			return a
		}
		if again || next.Action != proxy.Forward || next.Note.Rule != v.Note.Rule || next.Authority != v.Authority || next.Path != v.Path || next.Upstream != v.Upstream || next.Scheme != v.Scheme {
			t.Errorf("the second sending is not of the same request to the same place: %+v", next.Note)
			return a
		}
		v = next
	}
	return a
}

// actions counts what the observer saw.
type actions struct {
	mu   sync.Mutex
	seen map[string]int
}

func (a *actions) observe(o *Options) {
	a.seen = map[string]int{}
	o.Observer.Upstream401 = func(route string, x Action) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.seen[route+" "+string(x)]++
	}
}

func (a *actions) String() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return strings.TrimPrefix(fmt.Sprint(a.seen), "map")
}

// refusing is an upstream that answers 401 to some tokens.
type refusing struct {
	mu  sync.Mutex
	bad map[string]bool
	all bool
}

func (u *refusing) serve(authorization string) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.all || u.bad[authorization] {
		return 401
	}
	return 200
}

func (u *refusing) refuse(token string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.bad == nil {
		u.bad = map[string]bool{}
	}
	u.bad["Bearer "+canary+"-"+token] = true
}

func TestOneAnswer(t *testing.T) {
	for _, c := range []struct {
		name       string
		retry      Retry
		method     string
		head       proxy.Head
		replayable bool
		change     func(*fakeTokens)
		again      bool
		drops      int
		want       string
	}{
		{"200", "", "GET", proxy.Head{Status: 200}, true, nil, false, 0, "[]"},
		{"403", "", "GET", proxy.Head{Status: 403}, true, nil, false, 0, "[]"},
		{"407", "", "GET", proxy.Head{Status: 407}, true, nil, false, 0, "[]"},
		{"401", "", "GET", proxy.Head{Status: 401}, true, nil, true, 1, "[r replayed:1]"},
		{"401 to a PUT", "", "PUT", proxy.Head{Status: 401}, true, nil, true, 1, "[r replayed:1]"},
		{"401, the body is gone", "", "PUT", proxy.Head{Status: 401}, false, nil, false, 1, "[r dropped:1]"},
		{"401 to a POST", "", "POST", proxy.Head{Status: 401}, true, nil, false, 1, "[r dropped:1]"},
		{"401 to a POST, always", Always, "POST", proxy.Head{Status: 401}, true, nil, true, 1, "[r replayed:1]"},
		{"401 to a POST, always, the body is gone", Always, "POST", proxy.Head{Status: 401}, false, nil, false, 1, "[r dropped:1]"},
		{"401, never", Never, "GET", proxy.Head{Status: 401}, true, nil, false, 1, "[r dropped:1]"},
		{"gRPC 16", Always, "POST", proxy.Head{Status: 200, GRPCStatus: "16"}, true, nil, true, 1, "[r replayed:1]"},
		{"gRPC 7", Always, "POST", proxy.Head{Status: 200, GRPCStatus: "7"}, true, nil, false, 0, "[]"},
		{"401 to the second sending", "", "GET", proxy.Head{Status: 401, Again: true}, true, nil, false, 0, "[r suppressed:1]"},
		{"401, and no new token", "", "GET", proxy.Head{Status: 401}, true, func(f *fakeTokens) { f.err = errors.New("down") }, false, 1, "[r dropped:1]"},
		{"401, and the same token again", "", "GET", proxy.Head{Status: 401}, true, func(f *fakeTokens) { f.same = true }, false, 1, "[r dropped:1]"},
		{"401 for a token that another request renewed", "", "GET", proxy.Head{Status: 401}, true, func(f *fakeTokens) { f.current = nil; _, _, _ = f.Get(context.Background()) }, true, 0, "[r replayed:1]"},
		{"401 for such a token to a POST", "", "POST", proxy.Head{Status: 401}, true, func(f *fakeTokens) { f.current = nil; _, _, _ = f.Get(context.Background()) }, false, 0, "[r suppressed:1]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tokens := &fakeTokens{name: "r"}
			var seen actions
			o := options(aRoute("r", func(r *Route) { r.Host, r.Tokens, r.RetryOn401 = "r.test", tokens, c.retry }))
			seen.observe(&o)
			v := newGate(t, o).Admit(t.Context(), request(t, c.method, "http://r.test/", ""))
			if c.change != nil {
				c.change(tokens)
			}
			next, again := v.Follow.Answered(t.Context(), &c.head, c.replayable)
			if again != c.again || tokens.drops != c.drops || seen.String() != c.want {
				t.Errorf("want again %t, %d drops, %s; got %t, %d, %s", c.again, c.drops, c.want, again, tokens.drops, &seen)
			}
			if again && (tokenOf(t, next) != "r" || next.Set[0].Value == v.Set[0].Value) {
				t.Error("the second sending has no new token")
			}
			if !again && (next.Action != proxy.Refuse || next.Upstream != nil) {
				t.Error("an answer that passes has a verdict")
			}
		})
	}
}

// real is a gate with one route whose token comes from a real cache.
func real(t *testing.T, s *source, more func(*Route)) (*Gate, *actions) {
	cache := tokencache.New(tokencache.Options{})
	t.Cleanup(cache.Close)
	var seen actions
	o := options(aRoute(s.name, func(r *Route) {
		r.Host, r.Tokens = s.name+".test", entry(cache, s)
		if more != nil {
			more(r)
		}
	}))
	seen.observe(&o)
	return newGate(t, o), &seen
}

func TestRevokedTokenIsHealedByOneTokenCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{name: "r", delay: 300 * time.Millisecond}
		g, seen := real(t, s, nil)
		var up refusing
		r := request(t, "GET", "http://r.test/", "")
		if a := exchange(t, g, r, true, up.serve); a.status != 200 {
			t.Fatalf("before: %d %s", a.status, a.reason)
		}
		up.refuse("r-1")
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				a := exchange(t, g, r, true, func(authorization string) int {
					time.Sleep(time.Duration(i%5*100+1) * time.Millisecond) // some answers come when the new token is there already
					return up.serve(authorization)
				})
				if a.status != 200 || len(a.sent) != 2 {
					t.Errorf("want every request healed by one more sending, got %d after %d", a.status, len(a.sent))
				}
			})
		}
		wg.Wait()
		if s.calls != 2 {
			t.Errorf("want one token call for the new token, got %d", s.calls-1)
		}
		if want := "[r replayed:20]"; seen.String() != want {
			t.Errorf("want %s, got %s", want, seen)
		}
	})
}

func TestLasting401CostsOneTokenCallIn30Seconds(t *testing.T) {
	for _, method := range []string{"GET", "POST"} {
		synctest.Test(t, func(t *testing.T) {
			s := &source{name: "r", delay: 50 * time.Millisecond}
			g, seen := real(t, s, nil)
			up := refusing{all: true}
			r := request(t, method, "http://r.test/", "")
			begin := time.Now()
			var wg sync.WaitGroup
			for range 890 { // 89 s
				for range 3 {
					wg.Go(func() {
						a := exchange(t, g, r, true, up.serve)
						if a.status != 401 || len(a.sent) > 2 {
							t.Errorf("want the 401 to pass after at most two sendings, got %d after %d, %s", a.status, len(a.sent), a.reason)
						}
					})
				}
				time.Sleep(100 * time.Millisecond)
			}
			wg.Wait()
			if s.calls != 4 { // the first, and after 0, 30 and 60 s
				t.Errorf("%s: want 3 token calls for 401s in %s, got %d", method, time.Since(begin), s.calls-1)
			}
			if method == "POST" && seen.seen["r dropped"] != 3 {
				t.Errorf("want 3 drops, got %s", seen)
			}
			up.all = false
			if a := exchange(t, g, r, true, up.serve); a.status != 200 {
				t.Errorf("when the upstream is well again: want 200, got %d", a.status)
			}
		})
	}
}

func TestDroppedTokenIsFetchedByTheNextRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{name: "r"}
		g, seen := real(t, s, nil)
		up := refusing{}
		up.refuse("r-1")
		post := request(t, "POST", "http://r.test/", "")
		if a := exchange(t, g, post, true, up.serve); a.status != 401 || len(a.sent) != 1 || s.calls != 1 {
			t.Errorf("a POST is not sent again: got %d after %d and %d token calls", a.status, len(a.sent), s.calls)
		}
		if a := exchange(t, g, post, true, up.serve); a.status != 200 || s.calls != 2 {
			t.Errorf("want 200 with a second token, got %d with %d", a.status, s.calls)
		}
		if want := "[r dropped:1]"; seen.String() != want {
			t.Errorf("want %s, got %s", want, seen)
		}
	})
}

func TestIssuerDownWhenTheTokenIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{name: "r"}
		g, _ := real(t, s, nil)
		up := refusing{}
		r := request(t, "GET", "http://r.test/", "")
		exchange(t, g, r, true, up.serve)
		up.refuse("r-1")
		s.err = &tokencache.Failure{Kind: tokencache.Unavailable, Detail: "down"}
		if a := exchange(t, g, r, true, up.serve); a.status != 401 || len(a.sent) != 1 {
			t.Errorf("want the upstream's own 401, got %d %s", a.status, a.reason)
		}
	})
}

func TestGuardSurvivesAReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{name: "r"}
		var shared Route
		before, _ := real(t, s, func(r *Route) { shared = *r })
		up := refusing{all: true}
		r := request(t, "GET", "http://r.test/", "")
		exchange(t, before, r, true, up.serve)
		if s.calls != 2 {
			t.Fatalf("want a second token, got %d calls", s.calls)
		}
		time.Sleep(29 * time.Second)
		after := newGate(t, options(shared))
		if exchange(t, after, r, true, up.serve); s.calls != 2 {
			t.Errorf("a reload within 30 s: want no further token call, got %d", s.calls-2)
		}
		time.Sleep(time.Second)
		if exchange(t, after, r, true, up.serve); s.calls != 3 {
			t.Errorf("after 30 s: want one token call, got %d", s.calls-2)
		}
	})
}

// Whatever 401s and renewals come in between, a request never gets a token of another route, nor does one that is sent again.
func TestNoInterleavingMixesTokens(t *testing.T) {
	const hosts = 6
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			cache := tokencache.New(tokencache.Options{})
			defer cache.Close()
			var rs []Route
			for i := range hosts {
				name := fmt.Sprintf("r%d", i)
				e := entry(cache, &source{name: name, delay: time.Duration(i) * time.Millisecond})
				rs = append(rs, aRoute("host-"+name, func(r *Route) { r.Host, r.Scheme, r.Tokens = name+".test", "https", e }))
				rs = append(rs, aRoute("prefix-"+name, func(r *Route) { r.Prefix, r.Tokens = "/"+name, e })) // shares the token
			}
			o := options(rs...)
			o.Unmatched = upstream("any")
			g := newGate(t, o)
			var wg sync.WaitGroup
			for worker := range uint64(16) {
				random := rand.New(rand.NewPCG(seed, worker))
				wg.Go(func() {
					for range 60 {
						i := random.IntN(hosts)
						target, host := fmt.Sprintf("http://r%d.test/x", i), ""
						if random.IntN(2) == 0 {
							target, host = fmt.Sprintf("/r%d/x", i), "localhost"
						}
						method := []string{"GET", "POST", "PUT"}[random.IntN(3)]
						a := exchange(t, g, request(t, method, target, host), random.IntN(4) > 0, func(string) int {
							time.Sleep(time.Duration(random.IntN(8)) * time.Second)
							return []int{200, 401, 401}[random.IntN(3)]
						})
						if a.reason != proxy.OK || len(a.sent) == 0 || len(a.sent) > 2 || len(a.sent) == 2 && a.sent[0] == a.sent[1] {
							t.Errorf("%s: %s, sent %d times", target, a.reason, len(a.sent))
						}
						for _, authorization := range a.sent {
							if !strings.HasPrefix(authorization, fmt.Sprintf("Bearer %s-r%d-", canary, i)) {
								t.Errorf("%s went out with another route's token", target)
							}
						}
					}
				})
			}
			wg.Wait()
		})
	}
}
