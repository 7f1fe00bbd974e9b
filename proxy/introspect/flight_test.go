package introspect

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sidepass/sidepass/proxy"
	"github.com/sidepass/sidepass/proxy/issuerhttp"
	"github.com/sidepass/sidepass/proxy/verify"
)

// bubble runs f where time passes only when everybody waits.
func bubble(t *testing.T, change func(w *world, o *Options), f func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, change)
		defer w.o.Cache.Close()
		f(t, w)
	})
}

func TestHowLongAnAnswerIsUsed(t *testing.T) {
	for _, c := range []struct {
		name   string
		change m
		maxAge time.Duration
		used   time.Duration // 0: not at all
		then   proxy.Reason
	}{
		{"active", nil, time.Minute, time.Minute, proxy.OK},
		{"active, without exp", m{"exp": nil}, time.Minute, time.Minute, proxy.OK},
		{"active, kept longer", nil, 4 * time.Minute, 4 * time.Minute, proxy.OK},
		{"never beyond exp", m{"exp": int64(30)}, time.Minute, 30 * time.Second, proxy.OK}, // the leeway is for the issuer's answer, not for the cache
		{"exp in the past", m{"exp": int64(-5)}, time.Minute, 0, proxy.OK},
		{"not kept", nil, 0, 0, proxy.OK},
		{"inactive", m{"active": false}, time.Minute, 10 * time.Second, proxy.Inactive},
		{"inactive, though active are not kept", m{"active": false}, 0, 10 * time.Second, proxy.Inactive},
		{"of no use here", m{"aud": "x"}, time.Minute, 10 * time.Second, proxy.WrongAudience},
		{"of no use here, and not kept", m{"aud": "x"}, 0, 0, proxy.WrongAudience},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(_ *world, o *Options) { o.MaxAge = c.maxAge }, func(t *testing.T, w *world) {
				if exp, ok := c.change["exp"].(int64); ok {
					c.change["exp"] = time.Now().Unix() + exp
				}
				w.idp.say(opaque, good(c.change))
				use := func(questions int) {
					t.Helper()
					if c.then == proxy.OK {
						w.accept(opaque)
					} else {
						w.refuse(opaque, c.then)
					}
					if n := w.idp.asked(); n != questions {
						t.Errorf("%d questions, want %d", n, questions)
					}
				}
				use(1)
				if c.used == 0 {
					use(1)
					return
				}
				use(0)
				time.Sleep(c.used - time.Millisecond)
				use(0)
				time.Sleep(time.Millisecond)
				use(1)
				if got := w.looked(); got != "miss hit hit miss" {
					t.Errorf("look-ups %s", got)
				}
			})
		})
	}
}

// The answer's age counts from the question: what happened to the token while it was answered may not be in it.
func TestTheAgeOfASlowAnswer(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		w.idp.latency = 4 * time.Second
		w.idp.say(opaque, good(nil))
		w.accept(opaque)
		time.Sleep(56*time.Second - time.Millisecond)
		w.accept(opaque)
		if n := w.idp.asked(); n != 1 {
			t.Errorf("%d questions, want 1", n)
		}
		time.Sleep(time.Millisecond)
		w.accept(opaque)
		if n := w.idp.asked(); n != 1 {
			t.Errorf("%d questions, want 1", n)
		}
	})
}

func TestAnAnswerChanges(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		w.idp.say(opaque, good(m{"nbf": time.Now().Unix() + 35}))
		w.refuse(opaque, proxy.NotYetValid)
		time.Sleep(6 * time.Second)
		w.accept(opaque) // the same answer, at another time
		if n := w.idp.asked(); n != 1 {
			t.Errorf("%d questions, want 1", n)
		}
		w.idp.say(opaque, m{"active": false})
		time.Sleep(time.Minute)
		w.refuse(opaque, proxy.Inactive)
		w.idp.say(opaque, good(nil))
		time.Sleep(10 * time.Second)
		w.accept(opaque)
	})
}

func TestOneQuestionAToken(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		w.idp.latency = time.Second
		w.idp.say(opaque, good(nil))
		w.idp.say(opaque+"2", good(nil))
		var wg sync.WaitGroup
		for n := range 30 {
			wg.Go(func() {
				time.Sleep(time.Duration(n) * 30 * time.Millisecond)
				w.accept(opaque)
			})
			wg.Go(func() { w.accept(opaque + "2") })
			wg.Go(func() { w.refuse("unknown", proxy.Inactive) })
		}
		wg.Wait()
		if n := w.idp.asked(); n != 3 {
			t.Errorf("%d questions about 3 tokens", n)
		}
	})
}

// The question belongs to the cache, the wait to the caller.
func TestACallerThatGivesUp(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		w.idp.latency = time.Second
		w.idp.say(opaque, good(nil))
		var wg sync.WaitGroup
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			began := time.Now()
			_, err := w.Verify(ctx, opaque, verify.Possession{})
			var e *verify.Error
			if !errors.As(err, &e) || e.Reason != proxy.IntrospectionUnavailable || time.Since(began) != 100*time.Millisecond {
				t.Errorf("%v after %s", err, time.Since(began))
			}
		})
		time.Sleep(50 * time.Millisecond)
		w.accept(opaque)
		wg.Wait()
		if n := w.idp.asked(); n != 1 {
			t.Errorf("%d questions, want 1", n)
		}
	})
}

func TestClose(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		w.idp.say(opaque, good(nil))
		w.accept(opaque)
		w.idp.latency = time.Hour
		began := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() { w.refuse("waits", proxy.IntrospectionUnavailable) })
		time.Sleep(time.Second)
		w.o.Cache.Close()
		wg.Wait()
		if time.Since(began) != time.Second {
			t.Errorf("closed after %s", time.Since(began))
		}
		w.o.Cache.Close()
		w.idp.asked()
		w.accept(opaque)
		w.refuse("new", proxy.IntrospectionUnavailable)
		if n := w.idp.asked(); n != 0 || w.failed() != "" {
			t.Errorf("%d questions after the end", n)
		}
	})
}

func TestAFloodOfMadeUpTokens(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		w.idp.say(opaque, good(nil))
		w.accept(opaque)
		w.idp.latency = time.Second
		var wg sync.WaitGroup
		refused := make([]int, 2)
		var mu sync.Mutex
		for n := range 2 * maxFlights {
			wg.Go(func() {
				_, err := w.Verify(t.Context(), fmt.Sprint("made-up-", n), verify.Possession{})
				mu.Lock()
				defer mu.Unlock()
				if err.(*verify.Error).Reason == proxy.Inactive {
					refused[0]++
				} else {
					refused[1]++
				}
			})
		}
		synctest.Wait()
		w.accept(opaque) // who is known has no part in it
		wg.Wait()
		if n := w.idp.asked(); n != 1+maxFlights || refused[0] != maxFlights || refused[1] != maxFlights {
			t.Errorf("%d questions, %v refused as inactive and unavailable", n, refused)
		}
		w.idp.latency = 0
		w.refuse("made-up", proxy.Inactive) // it caused no back-off
	})
}

func TestTheCacheIsBounded(t *testing.T) {
	const entries = 50
	cache, err := NewCache(entries)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cache.Close)
	w := newWorld(t, func(_ *world, o *Options) { o.Cache = cache })
	for n := range entries / 2 {
		w.idp.say(fmt.Sprint(opaque, n), good(nil))
		w.accept(fmt.Sprint(opaque, n))
	}
	w.idp.asked()
	for n := range 10 * entries {
		w.refuse(fmt.Sprint("made-up-", n), proxy.Inactive)
	}
	w.idp.asked()
	for n := range entries / 2 {
		w.accept(fmt.Sprint(opaque, n))
	}
	if n := w.idp.asked(); n != 0 {
		t.Errorf("made-up tokens drove out %d real ones", n)
	}
	for n := range 10 * entries {
		token := fmt.Sprint(opaque, "large", n)
		w.idp.say(token, good(m{"x": strings.Repeat("x", 8<<10)}))
		w.accept(token)
	}
	bytes := 0
	for _, a := range cache.active.All() {
		bytes += 2 * len(a.text)
	}
	if bytes > entries*entryBytes || cache.Len() < 2 {
		t.Errorf("%d answers hold about %d bytes, want at most %d", cache.Len(), bytes, entries*entryBytes)
	}
	if n := cache.inactive.EstimatedSize(); n > entries {
		t.Errorf("%d answers about inactive tokens are kept", n)
	}
}

var errDown = trouble{&issuerhttp.Error{Kind: issuerhttp.Unreachable, Detail: "no answer from the issuer"}}

// In an outage the issuer is asked once a step, whoever wants to know, and what is known goes on being used.
func TestAnOutageCostsLittle(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		w.idp.say(opaque, good(m{"exp": nil}))
		w.accept(opaque)
		w.idp.asked()
		w.idp.sayAll(errDown)
		var questions []time.Duration
		began, n := time.Now(), 0
		for time.Since(began) < 30*time.Second {
			n++
			e := w.refuse(fmt.Sprint("new-", n), proxy.IntrospectionUnavailable)
			if e.RetryAfter < leastRetry || e.RetryAfter > lastStep || e.Issuer != "idp" || e.Detail != "" {
				t.Fatalf("%+v", e)
			}
			w.accept(opaque)
			w.accept(w.idp.mint(nil))
			if w.Ready() {
				t.Fatalf("ready after %s of an outage, right after a question", time.Since(began))
			}
			if w.idp.asked() > 0 {
				questions = append(questions, time.Since(began))
			}
			time.Sleep(50 * time.Millisecond)
		}
		want := []time.Duration{0, 500 * time.Millisecond, 1500 * time.Millisecond, 3500 * time.Millisecond, 7500 * time.Millisecond, 12500 * time.Millisecond, 17500 * time.Millisecond, 22500 * time.Millisecond, 27500 * time.Millisecond}
		if fmt.Sprint(questions) != fmt.Sprint(want) {
			t.Errorf("questions at %v, want %v", questions, want)
		}
		if n := strings.Count(w.failed(), "no answer from the issuer"); n != len(want) {
			t.Errorf("%d failures were reported", n)
		}
		w.idp.sayAll(nil)
		w.idp.say(opaque+"2", good(nil))
		time.Sleep(lastStep)
		if !w.Ready() {
			t.Error("not ready though the next token is asked about")
		}
		w.accept(opaque + "2")
		if !w.Ready() {
			t.Error("not ready after an answer")
		}
		w.refuse("unknown", proxy.Inactive)
		w.idp.sayAll(errDown) // and the next outage begins anew
		w.refuse("new", proxy.IntrospectionUnavailable)
		w.idp.sayAll(nil)
		time.Sleep(firstStep)
		w.refuse("newer", proxy.Inactive)
	})
}

// After a step one question finds out for all.
func TestOneTrialAtATime(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		w.idp.sayAll(errDown)
		w.refuse("a", proxy.IntrospectionUnavailable)
		time.Sleep(firstStep)
		w.idp.asked()
		w.idp.latency = time.Second
		var wg sync.WaitGroup
		for n := range 20 {
			wg.Go(func() { w.refuse(fmt.Sprint("b", n), proxy.IntrospectionUnavailable) })
		}
		wg.Wait()
		if n := w.idp.asked(); n != 1 {
			t.Errorf("%d questions, want 1", n)
		}
		w.idp.sayAll(nil)
		time.Sleep(2 * firstStep)
		for n := range 20 {
			wg.Go(func() { _, _ = w.Verify(t.Context(), fmt.Sprint("c", n), verify.Possession{}) })
		}
		wg.Wait()
		w.idp.asked()
		for n := range 20 {
			wg.Go(func() { w.refuse(fmt.Sprint("d", n), proxy.Inactive) })
		}
		wg.Wait()
		if n := w.idp.asked(); n != 20 {
			t.Errorf("%d questions, want 20", n)
		}
	})
}

// Questions that were on their way together fail for one reason: it counts once.
func TestFailuresThatOverlapCountOnce(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		w.idp.sayAll(errDown)
		w.idp.latency = time.Second
		var wg sync.WaitGroup
		for n := range 50 {
			wg.Go(func() { w.refuse(fmt.Sprint("a", n), proxy.IntrospectionUnavailable) })
		}
		wg.Wait()
		w.idp.sayAll(nil)
		w.idp.latency = 0
		time.Sleep(firstStep)
		w.refuse("b", proxy.Inactive)
	})
}

// A token that the issuer cannot answer about shuts nobody out; where that happens with every token, it is an outage.
func TestAnswersOfNoUse(t *testing.T) {
	for name, answer := range map[string]any{"500": status(500), "400": status(400), "404": status(404), "garbage": "<html>", "redirect": trouble{&issuerhttp.Error{Kind: issuerhttp.Unusable, Status: 302, Detail: "a redirect"}}} {
		t.Run(name, func(t *testing.T) {
			bubble(t, nil, func(t *testing.T, w *world) {
				for n := range 3 {
					for range freeAnswers {
						w.idp.say("poison", answer)
						w.refuse("poison", proxy.IntrospectionUnavailable)
					}
					w.idp.say(fmt.Sprint(opaque, n), good(nil))
					w.accept(fmt.Sprint(opaque, n))
				}
				w.idp.asked()
				w.idp.sayAll(answer)
				began := time.Now()
				for n := 0; time.Since(began) < 10*time.Second; n++ {
					w.refuse(fmt.Sprint("new-", n), proxy.IntrospectionUnavailable)
					time.Sleep(20 * time.Millisecond)
				}
				if n := w.idp.asked(); n < 10 || n > 14 {
					t.Errorf("%d questions in 10 s", n)
				}
				w.idp.sayAll(nil)
				time.Sleep(lastAnswerStep)
				w.refuse("unknown", proxy.Inactive)
			})
		})
	}
}

func TestRetryAfter(t *testing.T) {
	for value, want := range map[string]time.Duration{"": firstStep, "0": firstStep, "7": 7 * time.Second, "3600": maxRetryAfter, "-1": firstStep, "soon": firstStep, "Sat, 01 Jan 2000 00:00:20 GMT": 20 * time.Second, "Sat, 01 Jan 1994 00:00:20 GMT": firstStep, "99999999999999999999": firstStep} {
		for _, code := range []int{429, 503} {
			t.Run(fmt.Sprint(code, " ", value), func(t *testing.T) {
				bubble(t, nil, func(t *testing.T, w *world) { // which begins on 1 January 2000
					w.idp.sayAll(&http.Response{StatusCode: code, Header: http.Header{"Retry-After": {value}}})
					if e := w.refuse("a", proxy.IntrospectionUnavailable); e.RetryAfter != max(want, leastRetry) {
						t.Errorf("retry after %s, want %s", e.RetryAfter, want)
					}
					w.idp.sayAll(nil)
					time.Sleep(want - time.Millisecond)
					w.refuse("a", proxy.IntrospectionUnavailable)
					time.Sleep(time.Millisecond)
					w.refuse("a", proxy.Inactive)
				})
			})
		}
	}
}

func TestABrokenConnectionIsTriedOnceMore(t *testing.T) {
	broken := trouble{&issuerhttp.Error{Kind: issuerhttp.Broken, Detail: "it closed the connection"}}
	bubble(t, nil, func(t *testing.T, w *world) {
		w.idp.say(opaque, good(nil))
		w.idp.sayAll(broken)
		var wg sync.WaitGroup
		wg.Go(func() {
			time.Sleep(retryPause / 2)
			w.idp.sayAll(nil)
		})
		w.accept(opaque)
		wg.Wait()
		if n := w.idp.asked(); n != 2 || w.failed() != "" {
			t.Errorf("%d questions, want 2", n)
		}
		w.idp.sayAll(broken)
		w.refuse("a", proxy.IntrospectionUnavailable)
		if n, said := w.idp.asked(), w.failed(); n != 2 || said != "it closed the connection" {
			t.Errorf("%d questions, want 2; %q", n, said)
		}
	})
}

func TestAQuestionIsBoundedInTime(t *testing.T) {
	bubble(t, func(_ *world, o *Options) { o.Timeout = 3 * time.Second }, func(t *testing.T, w *world) {
		w.idp.latency = time.Hour
		began := time.Now()
		w.refuse("a", proxy.IntrospectionUnavailable)
		if d := time.Since(began); d != 3*time.Second {
			t.Errorf("refused after %s", d)
		}
		if said := w.failed(); said != "the issuer idp did not answer about a token within 3s" {
			t.Errorf("%q", said)
		}
		began = time.Now()
		if steps, _ := w.Explain(t.Context(), "a", verify.Possession{}); time.Since(began) != 3*time.Second || steps[0].Err == nil || steps[0].Err.Detail != "the issuer idp did not answer about a token within 3s" {
			t.Errorf("%v after %s", steps, time.Since(began))
		}
	})
}

// No token has a part in where the questions go: the first failure to find that out counts.
func TestAnEndpointThatIsNotFound(t *testing.T) {
	asked := 0
	bubble(t, func(_ *world, o *Options) {
		o.Endpoint = func(context.Context) (string, error) {
			asked++
			return "", &issuerhttp.Error{Kind: issuerhttp.Unusable, Detail: "no metadata"}
		}
	}, func(t *testing.T, w *world) {
		for range 3 {
			w.refuse("a", proxy.IntrospectionUnavailable)
		}
		if asked != 1 {
			t.Errorf("%d attempts, want 1", asked)
		}
	})
}

// Credentials that were wrong are forgotten with the configuration that had them.
func TestAReloadEndsTheBackOff(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		w.idp.sayAll(status(401))
		w.refuse("a", proxy.IntrospectionUnavailable)
		w.idp.sayAll(nil)
		w.refuse("a", proxy.IntrospectionUnavailable)
		w.reloaded(func(_ *verify.Options, o *Options) { o.Client.Secret = func() string { return "rotated" } }).refuse("a", proxy.Inactive)
	})
}
