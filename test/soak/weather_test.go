//go:build linux

package soak

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/sidepass/sidepass/test/issuer"
)

const (
	clientID      = "svc"
	canary        = "canary-s3cr=t" // in each secret that the sidecar has
	behindTheDoor = "known-to-the-authorization-server-alone"
)

// door stands before the token endpoint, whose clients never change: it knows which secrets are good now, lets those in, and
// says the server's faults.
type door struct {
	mu       sync.Mutex
	fault    issuer.Response // nil: none
	newest   string
	accepted map[string]bool
	used     map[string]int // :: secret → token requests that came with it, since it is the newest
	count    int            // of secrets
}

func newDoor() *door {
	d := &door{accepted: map[string]bool{}, used: map[string]int{}}
	d.accept(d.next())
	return d
}

// answer is the token endpoint's Response.
func (d *door) answer(w http.ResponseWriter, r *http.Request) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fault != nil && d.fault(w, r) {
		return true
	}
	_, encoded, _ := r.BasicAuth()
	secret, err := url.QueryUnescape(encoded) // RFC 6749, section 2.3.1
	if err == nil && d.accepted[secret] {
		d.used[secret]++
		r.SetBasicAuth(clientID, behindTheDoor)
	}
	return false // the server refuses whoever does not come with its own secret
}

func (d *door) set(f issuer.Response) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fault = f
}

func (d *door) current() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.newest
}

// next makes a new secret, which is not accepted yet.
func (d *door) next() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.count++
	d.newest = fmt.Sprintf("%s+/&%%-%d", canary, d.count)
	d.used = map[string]int{}
	return d.newest
}

// accept makes these the secrets that are good.
func (d *door) accept(secrets ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.accepted)
	for _, s := range secrets {
		d.accepted[s] = true
	}
}

func (d *door) uses(secret string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.used[secret]
}

// event is something that happens to the authorization server; it takes at most so long.
type event struct {
	name  string
	takes time.Duration
	does  func(ctx context.Context)
}

// weather lets one event follow another as long as there is time for a whole one, so that the run ends in fair weather.
func (w *world) weather(ctx context.Context) {
	p := w.plan
	// By then some token has been due, and there was a request for it.
	refreshed := time.Duration(float64(p.life)*p.refreshAt) + 300*time.Millisecond
	events := []event{{"a new key and a new secret, the old ones stay good", refreshed, w.rotate}}
	for _, f := range p.faults() {
		if f.lasts > 0 {
			events = append(events, event{f.name, f.lasts + f.calm, func(ctx context.Context) { w.suffer(ctx, f) }})
		}
	}
	if p.length >= shortest {
		events = append(events, event{"slow", p.life/3 + p.timeout, w.slow}, event{"the secret changes at the server first", p.gap + refreshed, w.changeSecret})
	}
	defer w.withdrawals.Wait()
	end := w.began.Add(p.length)
	for n := 0; ctx.Err() == nil; n++ {
		e := events[n%len(events)]
		if time.Until(end) < e.takes {
			w.tally.weather("fair until the end")
			return
		}
		w.tally.weather(e.name)
		e.does(ctx)
		// All tokens may have been obtained just now, and a short fault would pass before they are due.
		sleep(ctx, refreshed/4)
	}
}

// rotate makes a new signing key, and a second secret as authorization servers do that let an operator change it at leisure.
// A server that went down before the new key was known would not be the pair's fault: the event ends when inbound has it.
func (w *world) rotate(ctx context.Context) {
	fetched := w.in.metric("sidepass_jwks_refreshes_total", `result="ok"`)
	retired := w.iss.Keys()
	w.iss.Rotate()
	w.tally.count("key rotations")
	w.withdrawals.Go(func() { w.withdraw(ctx, retired[len(retired)-1].ID()) })
	old, secret := w.door.current(), w.door.next()
	w.door.accept(old, secret)
	w.out.write("secret", secret)
	w.tally.count("secret rotations")
	if w.await(ctx, "the new secret is used", func() bool { return w.door.uses(secret) > 0 }) {
		w.door.accept(secret)
	}
	w.await(ctx, "the new key is fetched", func() bool {
		return w.in.metric("sidepass_jwks_refreshes_total", `result="ok"`) > fetched
	})
}

// withdraw takes a key out of the set when no token that it signed is sent any more.
func (w *world) withdraw(ctx context.Context, kid string) {
	if !sleep(ctx, w.plan.life+500*time.Millisecond) {
		return
	}
	if err := w.iss.Withdraw(kid); err != nil {
		w.t.Error(err)
	}
	w.tally.count("keys withdrawn")
}

// suffer is a fault, and the calm after it in which the back-offs end.
func (w *world) suffer(ctx context.Context, f fault) {
	w.tally.count("outages of every sort")
	end := w.impose(f)
	whole := sleep(ctx, f.lasts)
	end()
	if whole {
		sleep(ctx, f.calm)
	}
}

// impose begins a fault, and returns what ends it.
func (w *world) impose(f fault) (end func()) {
	status := http.StatusServiceUnavailable
	switch f.name {
	case w.plan.down.name:
		w.iss.Down(true)
		return func() { w.iss.Down(false) }
	case w.plan.hanging.name:
		w.latency(4 * w.plan.timeout)
		return func() { w.latency(0) }
	case w.plan.limited.name:
		status = http.StatusTooManyRequests
	}
	var header []string
	if f.retryAfter > 0 {
		header = []string{"Retry-After", strconv.Itoa(int(f.retryAfter / time.Second))}
	}
	no := issuer.Respond(status, "{}", header...)
	w.door.set(no)
	w.iss.SetResponse(issuer.JWKS, no)
	return func() {
		w.door.set(nil)
		w.iss.SetResponse(issuer.JWKS, nil)
	}
}

// slow makes the server take its time, but less than the timeout.
func (w *world) slow(ctx context.Context) {
	w.latency(w.plan.slow)
	sleep(ctx, w.plan.life/3)
	w.latency(0)
	sleep(ctx, w.plan.timeout)
}

func (w *world) latency(d time.Duration) {
	for _, e := range []issuer.Endpoint{issuer.Token, issuer.JWKS, issuer.Discovery} {
		w.iss.SetLatency(e, d)
	}
}

// changeSecret lets the old secret be refused before the new one is in the file. A refusal is remembered for 5 s and more, but
// forgotten at once when the file changes.
func (w *world) changeSecret(ctx context.Context) {
	secret := w.door.next()
	w.door.accept(secret)
	w.tally.count("secret rotations")
	if !sleep(ctx, w.plan.gap) {
		return
	}
	w.out.write("secret", secret)
	w.await(ctx, "the new secret is used", func() bool { return w.door.uses(secret) > 0 })
}

// await waits for something that must happen within two lives of a token, and says whether it did.
func (w *world) await(ctx context.Context, what string, f func() bool) bool {
	for end := time.Now().Add(2 * w.plan.life); !f(); {
		if !sleep(ctx, 25*time.Millisecond) {
			return false
		}
		if time.Now().After(end) {
			w.t.Errorf("at %s, after two lives of a token still not so: %s", w.at(), what)
			return false
		}
	}
	return true
}

func (w *world) at() time.Duration { return time.Since(w.began).Round(time.Millisecond) }

// operate reloads the sidecars, in turn by SIGHUP, by a changed file, both at once, and with a file that is no configuration.
func (w *world) operate(ctx context.Context) {
	for n := 0; sleep(ctx, w.plan.reloadEvery); n++ {
		switch n % 6 {
		case 0:
			w.reload(ctx, w.out, "ok", func() { w.out.signal(syscall.SIGHUP) })
		case 1:
			w.reload(ctx, w.in, "ok", func() { w.in.configure("") })
		case 2:
			w.reload(ctx, w.out, "ok", func() { w.out.configure("") })
		case 3:
			w.reload(ctx, w.in, "ok", func() { w.in.signal(syscall.SIGHUP) })
		case 4:
			s := []*sidecar{w.in, w.out}[n/6%2]
			w.reload(ctx, s, "error", func() { s.configure("nonsense: 1\n") })
			w.reload(ctx, s, "ok", func() { s.configure("") })
		case 5:
			w.reload(ctx, w.in, "ok", func() {
				w.in.configure("")
				w.in.signal(syscall.SIGHUP)
				w.out.signal(syscall.SIGHUP)
			})
		}
	}
}

// reload causes a reload and waits for it. What was begun is ended although the run may end meanwhile.
func (w *world) reload(ctx context.Context, s *sidecar, result string, cause func()) {
	before := s.metric("sidepass_config_reloads_total", `result="`+result+`"`)
	cause()
	w.tally.count("reloads caused, " + result)
	w.await(context.WithoutCancel(ctx), s.name+": a reload ends with "+result, func() bool {
		return s.metric("sidepass_config_reloads_total", `result="`+result+`"`) > before
	})
}
