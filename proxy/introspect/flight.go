package introspect

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/sidepass/sidepass/proxy"
	"github.com/sidepass/sidepass/proxy/verify"
)

const (
	// inactiveFor is how long a token that is not active is not asked about again, nor one whose answer is of no use here.
	inactiveFor = 10 * time.Second
	// retryPause is how long a flight waits before it tries a broken connection once more.
	retryPause = 100 * time.Millisecond
	// maxFlights bounds the questions at a time: a flood of made-up tokens must not become one at the issuer.
	maxFlights = 256
)

// flight is one question about a token, which any number of callers may wait for. It belongs to the cache and goes on when they
// give up.
type flight struct {
	done   chan struct{} // closed at the end
	answer *answer       // set before; nil when there is none
	retry  time.Duration // then: when another question makes sense
	pass   pass
}

// ask joins the flight for a token, or begins one, and waits for it.
func (i *Introspector) ask(ctx context.Context, token digest, compact string) (*answer, *verify.Error) {
	f, a, err := i.join(token, compact)
	if f == nil {
		return a, err
	}
	select {
	case <-f.done:
	case <-ctx.Done():
		return nil, i.unavailable(0)
	}
	if f.answer == nil {
		return nil, i.unavailable(f.retry)
	}
	return f.answer, nil
}

// join returns the flight to wait for; without one, the answer that has just come, or why nothing is asked.
func (i *Introspector) join(token digest, compact string) (*flight, *answer, *verify.Error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if f := i.flights[token]; f != nil {
		return f, nil, nil
	}
	now := time.Now()
	if a := i.o.Cache.get(entryKey{i.server, token}, now); a != nil { // its flight landed after the caller looked
		return nil, a, nil
	}
	if len(i.flights) >= maxFlights {
		return nil, nil, i.unavailable(0)
	}
	p, wait := i.backoff.admit(now)
	if wait > 0 {
		return nil, nil, i.unavailable(wait)
	}
	f := &flight{done: make(chan struct{}), pass: p}
	text := strings.Clone(compact) // the request's buffer may be used again before the flight ends
	if !i.o.Cache.launch(func() { i.fly(f, token, text) }) {
		return nil, nil, i.unavailable(0)
	}
	i.flights[token] = f
	return f, nil, nil
}

// fly runs a flight: it asks, keeps and reports the answer, and releases who waits.
func (i *Introspector) fly(f *flight, token digest, compact string) {
	ctx, cancel := context.WithTimeout(i.o.Cache.ctx, i.o.Timeout)
	defer cancel()
	began := time.Now()
	a, no := i.question(ctx, compact)
	now := time.Now()
	if no == nil {
		i.o.Observer.Asked(now.Sub(began), nil)
	} else if i.o.Cache.ctx.Err() == nil { // the end of the process is no failure
		i.o.Observer.Asked(now.Sub(began), no)
	}

	i.mu.Lock()
	if no == nil {
		i.backoff = backoff{}
		i.o.Cache.put(entryKey{i.server, token}, a, now)
	} else {
		f.retry = i.backoff.failed(f.pass, no, now)
	}
	delete(i.flights, token)
	i.mu.Unlock()
	f.answer = a
	close(f.done)
}

// question asks the issuer, once more where the connection broke, and says until when the answer may be used. Its age counts from the
// moment of the question.
func (i *Introspector) question(ctx context.Context, compact string) (*answer, *failure) {
	asked := time.Now()
	text, no := i.post(ctx, compact)
	if no != nil && no.broken {
		select {
		case <-time.After(retryPause):
			text, no = i.post(ctx, compact)
		case <-ctx.Done():
		}
	}
	if no != nil {
		return nil, no
	}
	return i.read(text, asked)
}

// read makes an answer of its text.
func (i *Introspector) read(text string, asked time.Time) (*answer, *failure) {
	active, err := verify.Active(text)
	if err != nil {
		return nil, garbage("the issuer's answer about a token " + err.Error())
	}
	if !active {
		return &answer{until: asked.Add(inactiveFor)}, nil
	}
	a := &answer{active: true, text: text}
	a.until = asked.Add(i.o.MaxAge)
	token, refused := i.judge(a, verify.Possession{})
	var why *verify.Error
	switch {
	case errors.As(refused, &why) && why.Reason == proxy.MalformedToken:
		return nil, garbage(why.Detail)
	case errors.As(refused, &why) && why.Reason == proxy.BindingFailed: // who may use it is judged at each use, as its time is
	case refused != nil: // it is judged again at each use, and asked about again soon
		a.until = asked.Add(min(i.o.MaxAge, inactiveFor))
	case !token.Expiry.IsZero() && token.Expiry.Before(a.until):
		a.until = token.Expiry
	}
	return a, nil
}
