package engine

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/sidepass/sidepass/proxy"
)

// tenureInterval is how often a stream's tenure is asked about. A list of revocations takes half a second to notice that it
// has grown; this leaves a second, of the two in which a revocation is to take effect, for reading it.
const tenureInterval = 500 * time.Millisecond

// tenure watches over a request that has one, from when it is a stream. Its timer may fire when the exchange is already
// another request's, which is why it refers to none and is not pooled. A nil one watches over nothing.
type tenure struct {
	of     proxy.Tenure
	giveUp context.CancelCauseFunc // ends what goes on with the upstream

	mu     sync.Mutex // held while a stream is being ended: after stop nothing of the request is touched
	timer  *time.Timer
	over   bool
	reason proxy.Reason // why it was ended; "" when it was not
	upload *body        // the request's content, where that alone makes it a stream
	cut    func()       // ends the client's side, once there is an answer; nil before
}

var errOutlived = errors.New("the request outlived its token")

// outlived is the cause of an end: the reason that the tenure gave.
type outlived proxy.Reason

func (o outlived) Error() string { return errOutlived.Error() }

// sending says that content without a length is coming.
func (t *tenure) sending(upload *body) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.upload = upload
	t.watch()
}

// answering says that the answer begins, how the client's side of it is cut, and whether its length is unknown. It returns false
// when the tenure is over: then the request can still be refused.
func (t *tenure) answering(cut func(), endless bool) bool {
	if t == nil {
		return true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cut = cut
	if endless && !t.over {
		t.upload = nil
		t.watch()
	}
	return !t.over
}

// upgraded says that the client's connection was taken over.
func (t *tenure) upgraded(c net.Conn) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cut = func() { _ = c.Close() }
	t.watch()
}

func (t *tenure) watch() {
	if t.timer == nil {
		t.timer = time.AfterFunc(tenureInterval, t.check)
		return
	}
	t.timer.Reset(tenureInterval)
}

// check ends the stream if it has to.
func (t *tenure) check() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over || t.upload != nil && t.upload.ended.Load() {
		return
	}
	reason := t.of.Lasts()
	if reason == proxy.OK {
		t.watch()
		return
	}
	t.over, t.reason = true, reason
	t.giveUp(outlived(reason))
	if t.cut != nil { // a client that does not read must not hold up the end
		t.cut()
	}
}

// cutWrites makes writes to a client fail.
func cutWrites(rw http.ResponseWriter) func() {
	return func() { _ = http.NewResponseController(rw).SetWriteDeadline(past) }
}

// ended is why the stream was ended; "" when it was not, or there is no tenure. It is settled once stop has been called.
func (t *tenure) ended() proxy.Reason {
	if t == nil {
		return ""
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.reason
}

// stop ends the watch; the request is about to end.
func (t *tenure) stop() {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.over = true
	if t.timer != nil {
		t.timer.Stop()
	}
}

// outlived is why the request was given up, if its tenure ended before it did; "" otherwise.
func (x *exchange) outlived() proxy.Reason {
	if x.tenure == nil {
		return ""
	}
	reason, _ := errors.AsType[outlived](context.Cause(x.limited))
	return proxy.Reason(reason)
}
