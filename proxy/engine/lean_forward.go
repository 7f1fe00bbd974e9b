package engine

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/net/http/httpguts"

	"github.com/sidepass/sidepass/proxy"
	"github.com/sidepass/sidepass/proxy/engine/h1"
)

func unsafeString(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// forward sends the request on and the answer back.
func (l *lean) forward() {
	v := &l.verdict
	if err := l.aim(v); err != nil {
		l.fail(explain(err))
		return
	}
	if !l.up.lean(l.scheme) || v.Tenure != nil && l.head.Chunked {
		l.bridge()
		return
	}
	if v.Timeout > 0 {
		l.limit = newTimeLimit(l, v.Timeout)
	}
	k, err := l.send()
	if err != nil {
		l.lost(err)
		return
	}
	if v.Follow != nil {
		if k, err = l.follow(k); err != nil {
			l.lost(err)
			return
		}
	}
	l.answer(k)
}

// aim works out the destination that a verdict names, and holds what it sets against what a field may be.
func (l *lean) aim(v *proxy.Verdict) error {
	d, err := destinationOf(v)
	if err != nil {
		return err
	}
	l.destination, l.path = d, cmp.Or(v.Path, l.req.Target.Path)
	for i := range v.Set {
		if f := &v.Set[i]; !h1.IsToken(f.Name) || !h1.IsLine(f.Value) {
			return errSet
		}
	}
	return nil
}

// timeLimit ends the exchange with the upstream at the end of the verdict's time.
type timeLimit struct {
	ctx    context.Context // of the connection that is being made
	cancel context.CancelFunc
	timer  *time.Timer
	mu     sync.Mutex
	ended  bool // the exchange came first
	over   bool
}

func newTimeLimit(l *lean, d time.Duration) *timeLimit {
	ctx, cancel := context.WithCancel(l.ctx)
	t := &timeLimit{ctx: ctx, cancel: cancel}
	t.timer = time.AfterFunc(d, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.ended {
			return
		}
		t.over = true
		t.cancel()
		l.cutUpstream()
	})
	return t
}

func (t *timeLimit) stop() {
	if t != nil {
		t.timer.Stop()
		t.cancel()
		t.mu.Lock()
		defer t.mu.Unlock()
		t.ended = true
	}
}

// passed says whether the time is over; a nil limit never is.
func (t *timeLimit) passed() bool {
	if t == nil {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.over
}

// use makes a connection the one that is closed when the client goes, or the time is over; false says that it has been already.
func (l *lean) use(k *link) bool {
	l.using.Store(k)
	return !l.gone.Load() && !l.limit.passed()
}

// drop closes a connection whose exchange did not end in good order.
func (l *lean) drop(k *link) {
	l.using.Store(nil)
	_ = k.conn.Close()
}

// send sends the request and reads the head of its answer. A free connection that turns out to be closed is not the last.
func (l *lean) send() (*link, error) {
	key := linkKey{l.scheme, l.authority}
	for again := false; ; {
		var k *link
		if !again {
			k = l.up.links.get(key)
		}
		fresh := k == nil
		if fresh {
			var err error
			if k, err = l.up.dialLink(l.dialing(), key); err != nil {
				return nil, err
			}
		}
		if !l.use(k) {
			l.drop(k)
			return nil, errClientGone
		}
		written, err := l.sendOn(k)
		if err == errStale {
			l.drop(k)
			continue
		}
		if err == nil {
			if err = k.interim(l); err == nil {
				return k, nil
			}
		}
		nothing := k.r == k.w && !l.wrote
		l.drop(k)
		if fresh || !nothing || l.gone.Load() || l.limit.passed() || l.pump != nil || !closedEarly(err) || written && !mayRepeat(l.head.Method) {
			return nil, err
		}
		again = true
	}
}

// dialing is the context of a connection that is being made: it ends with the client, and with the time.
func (l *lean) dialing() context.Context {
	if l.limit != nil {
		return l.limit.ctx
	}
	return l.ctx
}

// closedEarly says whether a connection was closed under us.
func closedEarly(err error) bool { return err == io.EOF || closed(err, "") }

// mayRepeat says whether a request may be sent again without knowing what became of the first (RFC 9110, section 9.2.2).
func mayRepeat(method string) bool {
	return method == "GET" || method == "HEAD" || method == "OPTIONS" || method == "TRACE"
}

// sendOn writes the request. Content that has not arrived yet is sent by a pump, which goes on while the answer is read. A connection that was used
// before is looked at first; one that is no good any more is errStale.
func (l *lean) sendOn(k *link) (written bool, err error) {
	b := l.appendRequest(l.out[:0])
	switch {
	case l.unread && l.pump == nil:
	case l.pump != nil: // again
		b = l.pump.appendKept(b, l.head.Chunked)
	default:
		b = append(b, l.inline...)
	}
	l.out = b
	if k.socket != nil && (!l.unread || l.pump != nil) {
		n, m, err := k.socket.ask(b, k.buf, k.used)
		k.r, k.w = 0, m
		return n > 0, err
	}
	if k.used && !k.usable() {
		return false, errStale
	}
	n, err := k.conn.Write(b)
	if err == nil && l.unread && l.pump == nil {
		l.pump = newPump(l, k)
		if !l.expects {
			l.pump.begin(false)
		}
	}
	return n > 0, err
}

// appendRequest appends the head that is sent on.
func (l *lean) appendRequest(b []byte) []byte {
	h, v := &l.head, &l.verdict
	b = append(b, h.Method...)
	b = append(b, ' ')
	b = append(b, l.path...)
	b = append(b, l.req.Target.Query...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, l.host...)
	b = append(b, "\r\n"...)
	f, trailers := l.s.options.Forwarded, false
	for i := range h.Fields {
		field := &h.Fields[i]
		switch field.Kind {
		case h1.Host, h1.ContentLength, h1.TransferEncoding, h1.Connection, h1.KeepAlive, h1.ProxyConnection, h1.ProxyAuthorization,
			h1.ProxyAuthenticate, h1.Trailer, h1.Upgrade:
			continue
		case h1.TE:
			if !trailers && httpguts.HeaderValuesContainsToken([]string{field.Value}, "trailers") {
				b, trailers = append(b, "Te: trailers\r\n"...), true
			}
			continue
		}
		if h.Named(field.Name) && !staysNamed(field, f == nil) || f != nil && l.saysClient(field.Name) || concerns(v, field.Name) {
			continue
		}
		b = appendField(b, field.Name, field.Value)
	}
	if f != nil {
		b = l.appendForwarded(b)
	}
	if via := l.s.viaOf(1, h.Minor); via != "" {
		b = appendField(b, "Via", via)
	}
	for i := range v.Set {
		b = appendField(b, v.Set[i].Name, v.Set[i].Value)
	}
	switch {
	case h.Chunked:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	case h.Length >= 0:
		b = appendLength(b, h.Length)
	}
	return append(b, "\r\n"...)
}

// staysNamed says whether a field is for the upstream although Connection names it: so that a client cannot have it removed.
func staysNamed(f *h1.Field, clientsOwn bool) bool {
	return f.Kind == h1.Via || h1.Same(f.Name, "Authorization") || clientsOwn && isClientField(f.Name)
}

// isClientField says whether a name is one of clientFields.
func isClientField(name string) bool {
	for _, one := range clientFields {
		if h1.Same(name, one) {
			return true
		}
	}
	return false
}

// saysClient says whether a field is one that we write instead, or that its sender is not believed.
func (l *lean) saysClient(name string) bool {
	if l.trusted {
		return isClientField(name)
	}
	return claimsClient(name)
}

// appendForwarded appends what [Forwarded] says of the client.
func (l *lean) appendForwarded(b []byte) []byte {
	proto := "http"
	if l.tls != nil {
		proto = "https"
	}
	b = l.appendClient(b, "X-Forwarded-For", l.node, true)
	if l.trusted {
		b = l.appendClient(b, "Forwarded", l.nodeQuoted, true)
	}
	b = l.appendClient(b, "X-Forwarded-Proto", proto, false)
	return l.appendClient(b, "X-Forwarded-Host", l.req.Host, false)
}

// appendClient appends a field with what a trusted peer says in it, and what we say: after that in a list, or else where there is
// nothing. In Forwarded we have nothing to say alone.
func (l *lean) appendClient(b []byte, name, own string, list bool) []byte {
	if concerns(&l.verdict, name) {
		return b
	}
	had := false
	if l.trusted {
		for i := range l.head.Fields {
			f := &l.head.Fields[i]
			switch {
			case !h1.Same(f.Name, name):
				continue
			case had:
				b = append(b, ", "...)
			default:
				b = append(append(b, name...), ": "...)
			}
			b, had = append(b, f.Value...), true
		}
	}
	switch {
	case had && list:
		b = append(append(b, ", "...), own...)
	case had, own == "", name == "Forwarded":
	default:
		return appendField(b, name, own)
	}
	if had {
		b = append(b, "\r\n"...)
	}
	return b
}

// interim reads answers up to the head of the final one, and passes the interim ones on.
func (k *link) interim(l *lean) error {
	for n := 0; ; n++ {
		if err := k.readHead(l.head.Method); err != nil {
			return err
		}
		switch s := k.head.Status; {
		case s >= 200:
			return nil
		case s == http.StatusSwitchingProtocols:
			return errSwitched
		case n >= maxInterim:
			return errStatus
		case s == http.StatusContinue:
			if l.pump != nil {
				l.pump.begin(true)
			}
		case l.head.Minor == 0:
		case l.again:
		default:
			b := appendStatus(l.out[:0], s, k.head.Phrase)
			b = l.appendAnswerFields(b, k)
			if !l.write(append(b, "\r\n"...)) {
				return errClientGone
			}
		}
	}
}

// maxInterim is how many interim answers a final one may have before it.
const maxInterim = 16

// follow shows the answer to the verdict's Follow, and sends the request once more where it wants so.
func (l *lean) follow(k *link) (*link, error) {
	f := l.verdict.Follow
	l.seen = proxy.Head{Status: k.head.Status, Header: &k.head}
	replayable := l.replayable(&l.seen)
	next, again := f.Answered(l.dialing(), &l.seen, replayable)
	if !again || !replayable || next.Action != proxy.Forward {
		return k, nil
	}
	l.forget(k)
	if next.Note == (proxy.Note{}) {
		next.Note = l.verdict.Note
	}
	l.verdict, l.again = next, true
	if err := l.aim(&l.verdict); err != nil {
		return nil, err
	}
	if !l.up.lean(l.scheme) {
		return nil, errNoUpstream
	}
	k, err := l.send()
	if err != nil {
		return nil, err
	}
	l.seen = proxy.Head{Status: k.head.Status, Header: &k.head, Again: true}
	f.Answered(l.dialing(), &l.seen, false)
	return k, nil
}

// replayable says whether the request can be sent again. When the answer refuses the token, and what was not read yet of the
// content may be short, it is read first.
func (l *lean) replayable(head *proxy.Head) bool {
	limit := l.verdict.ReplayLimit
	switch {
	case l.unread && l.pump == nil:
		return false
	case l.pump == nil:
		return int64(len(l.inline)) <= limit || len(l.inline) == 0
	case !head.Unauthorized() || l.head.Length > limit:
		return l.pump.ended() && l.pump.whole
	}
	l.pump.begin(true) // the client is waiting, and the content is wanted now
	if l.head.Chunked {
		return l.pump.wait(restOfUnknown) && l.pump.whole
	}
	return l.pump.wait(restOfKnown) && l.pump.whole
}

// forget ends an answer that nobody will see; where it is short, its connection can be used again.
func (l *lean) forget(k *link) {
	if !k.head.Chunked && k.head.Length >= 0 && k.head.Length <= 16<<10 && k.head.Persists() && (l.pump == nil || l.pump.ended()) {
		left := int(k.head.Length)
		for {
			n := min(left, k.w-k.r)
			k.r += n
			if left -= n; left == 0 {
				break
			}
			if _, err := k.more(); err != nil {
				l.drop(k)
				return
			}
		}
		if k.r == k.w && l.giveBack(k, time.Now()) {
			return
		}
	}
	l.drop(k)
}

// lost answers a request that has no answer from its upstream.
func (l *lean) lost(err error) {
	switch {
	case l.limit.passed():
		l.fail(fail(proxy.UpstreamTimeout, "The upstream did not answer within the route's `timeout`.", errTimeout))
	case l.gone.Load(), err == errClientGone:
		l.last, l.err = true, errClientGone
	case l.pump != nil && l.pump.faulty():
		var problem h1.Problem
		if errors.As(l.pump.fault, &problem) {
			l.fail(fail(proxy.MalformedRequest, string(problem), problem))
			return
		}
		l.last, l.err = true, errClientGone
	default:
		var problem h1.Problem
		if errors.As(err, &problem) {
			l.fail(fail(proxy.UpstreamProtocol, "What the upstream answered is not valid HTTP; if it speaks TLS, write `upstream: https://…`. "+string(problem), problem))
			return
		}
		l.fail(explain(err))
	}
}

// fail turns a failure into a refusal.
func (l *lean) fail(f *failure) {
	l.err = f
	l.verdict.Action, l.verdict.Reason, l.verdict.Detail = proxy.Refuse, f.reason, f.detail
	l.refuse(&l.verdict)
}
