package engine

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/sidepass/sidepass/proxy/engine/h1"
)

// pump sends a request's content on while it arrives, on a goroutine of its own, so that an answer may come first. Up to a limit it
// also keeps the content, so that it can be sent again. Its results are there once done is closed.
type pump struct {
	l     *lean
	k     *link
	limit int64
	done  chan struct{}

	mu    sync.Mutex  // while it is decided whether it runs
	begun bool        // it runs or has run
	never bool        // it will not: the answer came first
	timer *time.Timer // begins it when the upstream does not say that it may go on

	read     atomic.Bool // the content has been read to its end; sending the last of it may go on
	received atomic.Int64

	fault  error // reading the content failed; nil at its end
	unsent error // sending it on failed
	kept   []byte
	whole  bool   // kept is all of it
	rest   []byte // what was read beyond the content
}

// patience is how long a client is left waiting that expects 100 (Continue).
const patience = time.Second

func newPump(l *lean, k *link) *pump {
	p := &pump{l: l, k: k, done: make(chan struct{})}
	if l.verdict.Follow != nil {
		p.limit = l.verdict.ReplayLimit
	}
	if l.expects {
		p.timer = time.AfterFunc(patience, func() { p.begin(true) })
	}
	return p
}

// begin lets the pump run, unless it does already. The client is told to go on where it waits for that.
func (p *pump) begin(tell bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.begun || p.never {
		return
	}
	p.begun = true
	if tell {
		p.l.goOn()
	}
	go p.run()
}

// forgo keeps the pump from beginning: the final answer comes first.
func (p *pump) forgo() {
	if p.timer != nil {
		p.timer.Stop()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.never = !p.begun
}

// sent says whether all of the content has been sent on. What is on its way still gets a moment.
func (p *pump) sent() bool { return p.read.Load() && p.wait(linger) && p.unsent == nil }

// faulty says whether the content could not be read to its end.
func (p *pump) faulty() bool { return p.ended() && p.fault != nil }

// ended says whether the pump has stopped, for whatever reason.
func (p *pump) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// wait waits for the pump, so long, and says whether it has come to the end of the content.
func (p *pump) wait(d time.Duration) bool {
	if p.ended() {
		return p.fault == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-p.done:
		return p.fault == nil
	case <-timer.C:
		return false
	}
}

// run reads the content to its end. Where that fails, the exchange with the upstream ends too: its request will never be complete.
func (p *pump) run() {
	if p.fault = p.copy(); p.fault != nil {
		p.whole = false
	}
	close(p.done)
	if p.fault != nil {
		_ = p.k.conn.Close()
	}
}

// copy reads the content and sends it on. When the upstream no longer takes it, it is only read and kept.
func (p *pump) copy() error {
	l := p.l
	p.whole = p.limit > 0
	buf := l.s.buffers.Get()
	defer l.s.buffers.Put(buf)
	out := l.s.buffers.Get()
	defer l.s.buffers.Put(out)
	r, w := 0, 0
	early := l.buf[l.r:l.w]
	var chunks h1.Chunks
	left := l.head.Length
	for {
		b := out[:0]
		for r < w || l.head.Chunked {
			if !l.head.Chunked {
				n := int(min(left, int64(w-r)))
				p.keep(buf[r : r+n])
				b = append(b, buf[r:r+n]...)
				r += n
				left -= int64(n)
				break
			}
			n, part, err := chunks.Next(buf[r:w])
			if err != nil {
				return err
			}
			r += n
			if len(part) > 0 {
				p.keep(part)
				b = appendChunk(b, part)
				continue
			}
			break
		}
		ended := left == 0 || l.head.Chunked && chunks.Done()
		if ended {
			p.rest = append(append([]byte(nil), buf[r:w]...), early...) // the next request's, whether or not the upstream takes the last of this one
			p.read.Store(true)
		}
		if l.head.Chunked && ended {
			b = append(b, "0\r\n\r\n"...) // its trailer fields end here
		}
		if len(b) > 0 && p.unsent == nil {
			if _, p.unsent = p.k.conn.Write(b); p.unsent != nil && p.limit == 0 {
				return nil
			}
		}
		if ended {
			l.state.CompareAndSwap(sending, judging)
			return nil
		}
		if p.unsent != nil && !p.whole {
			return nil // nobody wants it
		}
		if r > 0 {
			w = copy(buf, buf[r:w])
			r = 0
		}
		if len(early) > 0 {
			n := copy(buf[w:], early)
			early, w = early[n:], w+n
			continue
		}
		n, err := l.conn.Read(buf[w:])
		w += n
		if n == 0 && err != nil {
			return err
		}
	}
}

// keep keeps content, as long as there is not too much of it.
func (p *pump) keep(b []byte) {
	received := p.received.Add(int64(len(b)))
	if !p.whole {
		return
	}
	if received > p.limit {
		p.kept, p.whole = nil, false
		return
	}
	p.kept = append(p.kept, b...)
}

// appendKept appends the content for a second request.
func (p *pump) appendKept(b []byte, chunked bool) []byte {
	if !chunked {
		return append(b, p.kept...)
	}
	if len(p.kept) > 0 {
		b = appendChunk(b, p.kept)
	}
	return append(b, "0\r\n\r\n"...)
}

// pending says whether content of the request may still be on the connection.
func (l *lean) pending() bool {
	return l.unread && (l.pump == nil || !l.pump.read.Load())
}

// leaveContent ends the reading of content when the exchange is over. It leaves buf alone: the request is still to be reported.
func (l *lean) leaveContent() {
	p := l.pump
	if p != nil {
		p.forgo()
	}
	if p == nil || p.never { // nobody reads it
		l.last = true
		l.linger()
		return
	}
	if p.read.Load() && !p.wait(linger) {
		_ = p.k.conn.Close() // the upstream has answered and does not take the rest
		<-p.done
	}
	if !p.ended() {
		// The answer has been sent, and says that the connection ends.
		l.last = true
		_ = p.k.conn.Close()
		if closeWrite(l.conn) == nil {
			p.wait(linger)
		}
		_ = l.conn.SetReadDeadline(past)
		<-p.done
	}
	if !p.read.Load() {
		l.last = true
		if p.fault == nil { // the upstream did not want the rest, and nobody reads it
			l.linger()
		}
	}
}
