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

// door stands before the authorization server, whose clients never change: it knows which secrets are good now, lets those in, and
// says the server's faults.
type door struct {
	mu       sync.Mutex
	fault    *fault        // nil: none
	felt     chan struct{} // closed when the first token request meets the fault
	until    time.Time     // its end; zero until it is felt
	newest   string
	accepted map[string]bool
	used     map[string]int // :: secret → token requests that were let in with it, since there is a newest
	refused  int            // token requests that came with another, since then
	count    int            // of secrets
}

func newDoor() *door {
	d := &door{accepted: map[string]bool{}, used: map[string]int{}}
	d.accept(d.next())
	return d
}

// token is the token endpoint's Response. It is true where a fault has answered.
func (d *door) token(w http.ResponseWriter, r *http.Request) bool {
	if d.troubled(w, r, true) {
		return true
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	_, encoded, _ := r.BasicAuth()
	secret, err := url.QueryUnescape(encoded) // RFC 6749, section 2.3.1
	if err == nil && d.accepted[secret] {
		d.used[secret]++
		r.SetBasicAuth(clientID, behindTheDoor)
	} else {
		d.refused++
	}
	return false // the server refuses whoever does not come with its own secret
}

// other is the other endpoints' Response.
func (d *door) other(w http.ResponseWriter, r *http.Request) bool { return d.troubled(w, r, false) }

// troubled says a fault, if there is one at the moment of the request: the fault ends by the clock, however long this process was
// kept from running meanwhile.
func (d *door) troubled(w http.ResponseWriter, r *http.Request, token bool) bool {
	now := time.Now()
	d.mu.Lock()
	f := d.fault
	if f == nil || !d.until.IsZero() && now.After(d.until) {
		d.mu.Unlock()
		return false
	}
	if token && d.until.IsZero() {
		d.until = now.Add(f.lasts)
		close(d.felt)
	}
	d.mu.Unlock()
	switch {
	case f.status == 0 && f.cost == brokenCost:
		panic(http.ErrAbortHandler) // net/http closes the connection and says nothing
	case f.status == 0:
		<-r.Context().Done() // the sidecar gives up, and closes it
		return true
	}
	var header []string
	if f.retryAfter > 0 {
		header = []string{"Retry-After", strconv.Itoa(int(f.retryAfter / time.Second))}
	}
	return issuer.Respond(f.status, "{}", header...)(w, r)
}

// set begins a fault, or ends it with nil. felt is closed when the first token request meets it.
func (d *door) set(f *fault) (felt <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fault, d.until, d.felt = f, time.Time{}, make(chan struct{})
	return d.felt
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
	d.used, d.refused = map[string]int{}, 0
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

func (d *door) refusals() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.refused
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
	for _, f := range p.faults {
		events = append(events, event{f.name, refreshed + f.lasts + f.calm, func(ctx context.Context) { w.suffer(ctx, f) }})
	}
	if p.length >= shortest {
		events = append(events, event{"slow", p.life/3 + p.timeout, w.slow}, event{"the secret changes at the server first", refreshed + p.gap + time.Second, w.changeSecret})
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

// suffer is a fault, which is felt as soon as a token is due, and the calm after it in which the back-offs end.
func (w *world) suffer(ctx context.Context, f fault) {
	felt := w.door.set(&f)
	defer w.door.set(nil)
	select {
	case <-felt:
		w.tally.count("outages of every sort")
	case <-ctx.Done():
		return
	}
	sleep(ctx, f.lasts+f.calm)
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
	if !w.await(ctx, "the old secret is refused", func() bool { return w.door.refusals() > 0 }) || !sleep(ctx, w.plan.gap) {
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
