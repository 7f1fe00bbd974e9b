package engine

import (
	"io"
	"net/http"
	"net/textproto"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/sidepass/sidepass/proxy"
	"github.com/sidepass/sidepass/proxy/engine/h1"
)

// answer passes the upstream's answer on.
func (l *lean) answer(k *link) {
	h := &k.head
	if l.pump != nil {
		l.pump.forgo()
	}
	if l.pending() {
		l.last = true // where the request ends and the next begins is not sure (RFC 9112, section 9.3)
	}
	none := l.hasNoContent(h.Status)
	chunks := !none && (h.Chunked || h.Length < 0) && l.head.Minor == 1
	if !none && !chunks && h.Length < 0 {
		l.last = true // to HTTP/1.0 the end of the connection is that of the content
	}
	l.status, l.wrote = h.Status, true
	b := appendStatus(l.out[:0], h.Status, h.Phrase)
	b = l.appendAnswerFields(b, k)
	if chunks {
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	}
	b = l.appendConnection(b)
	b = append(b, "\r\n"...)
	whole := true
	switch {
	case none:
		l.out = b
		l.observe()
		l.write(b)
	case h.Chunked || h.Length < 0:
		if of := l.verdict.Tenure; of != nil {
			l.tenure = &tenure{of: of, giveUp: func(error) { _ = k.conn.Close() }}
			l.tenure.answering(func() { _ = l.conn.SetWriteDeadline(past) }, true)
		}
		whole = l.stream(b, k, chunks)
	default:
		whole = l.copyLength(b, k)
	}
	l.done(k, whole)
}

// appendAnswerFields appends an answer's fields as they are passed on.
func (l *lean) appendAnswerFields(b []byte, k *link) []byte {
	h := &k.head
	dated := false
	var own []string // Proxy-Status
	for i := range h.Fields {
		f := &h.Fields[i]
		if f.Kind != h1.ContentLength && h.Named(f.Name) {
			continue
		}
		switch f.Kind {
		case h1.TransferEncoding, h1.Connection, h1.KeepAlive, h1.ProxyConnection, h1.ProxyAuthorization, h1.ProxyAuthenticate, h1.TE, h1.Upgrade:
			continue
		case h1.Trailer:
			if !h.Chunked || l.head.Minor == 0 {
				continue
			}
		case h1.ProxyStatus:
			own = append(own, f.Value)
			continue
		case h1.ContentLength:
			if h.Status < 200 || h.Status == http.StatusNoContent { // RFC 9110, section 8.6
				continue
			}
		case h1.Other:
			if h1.Same(f.Name, proxy.InstanceField) {
				continue
			}
			dated = dated || h1.Same(f.Name, "Date")
		}
		b = appendField(b, f.Name, f.Value)
	}
	b = appendOthersStatus(b, own)
	if !dated && h.Status >= 200 {
		b = appendField(b, "Date", l.s.lean.now()) // RFC 9110, section 6.6.1
	}
	if l.s.options.ViaOnAnswers && h.Status >= 200 {
		if via := l.s.viaOf(1, h.Minor); via != "" {
			b = appendField(b, "Via", via)
		}
	}
	return b
}

// appendOthersStatus appends the Proxy-Status fields of an upstream, without members that only we may write.
func appendOthersStatus(b []byte, values []string) []byte {
	if values == nil {
		return b
	}
	rest := http.Header{"Proxy-Status": values}
	dropOwn(rest)
	for _, v := range rest["Proxy-Status"] {
		b = appendField(b, "Proxy-Status", v)
	}
	return b
}

// copyLength passes on content of a known length. What came with the head goes with it.
func (l *lean) copyLength(b []byte, k *link) bool {
	left := k.head.Length
	part := k.buf[k.r:k.w]
	if int64(len(part)) > left {
		part = part[:left]
	}
	k.r += len(part)
	b = append(b, part...)
	l.out = b
	l.sent += int64(len(part))
	if left -= int64(len(part)); left == 0 {
		l.observe()
	}
	if !l.write(b) {
		return false
	}
	if left == 0 {
		return true
	}
	buf := l.s.buffers.Get()
	defer l.s.buffers.Put(buf)
	for left > 0 {
		n, err := k.conn.Read(buf[:min(left, int64(len(buf)))])
		if n > 0 {
			if !l.write(buf[:n]) {
				return false
			}
			l.sent += int64(n)
			left -= int64(n)
		}
		if err != nil && left > 0 {
			l.brokeOff(err)
			return false
		}
	}
	return true
}

// stream passes on content whose length is not known, as soon as it comes. b is the head.
func (l *lean) stream(b []byte, k *link, chunks bool) bool {
	if k.head.Chunked {
		k.chunks.Reset()
	}
	if !chunks {
		l.last = true
	}
	for {
		ended := false
		for {
			part, end, err := k.content()
			if err != nil {
				l.out = b
				l.write(b) // what came before it was right
				l.brokeOff(err)
				return false
			}
			if len(part) > 0 {
				l.sent += int64(len(part))
				if chunks {
					b = appendChunk(b, part)
				} else {
					b = append(b, part...)
				}
				continue
			}
			ended = end
			break
		}
		if ended {
			if chunks {
				b = l.appendLastChunk(b, k)
			}
			l.out = b
			return l.write(b)
		}
		if len(b) > 0 && !l.write(b) {
			return false
		}
		b = b[:0]
		if len(k.buf) < bufferSize { // content comes in larger pieces than heads
			k.buf = append(make([]byte, 0, bufferSize), k.buf[k.r:k.w]...)[:bufferSize]
			k.r, k.w = 0, k.w-k.r
		}
		if _, err := k.more(); err == io.EOF && !k.head.Chunked {
			if chunks {
				b = append(b, "0\r\n\r\n"...)
				l.write(b)
			}
			l.out = b
			return false // the connection has ended
		} else if err != nil {
			l.out = b
			l.brokeOff(err)
			return false
		}
	}
}

// content returns the next content in buf; none where more has to be read, or at the end.
func (k *link) content() (part []byte, end bool, err error) {
	if !k.head.Chunked {
		part = k.buf[k.r:k.w]
		k.r = k.w
		return part, false, nil
	}
	n, part, err := k.chunks.Next(k.buf[k.r:k.w])
	k.r += n
	return part, k.chunks.Done(), err
}

// appendLastChunk ends content in chunks, with the upstream's trailer fields.
func (l *lean) appendLastChunk(b []byte, k *link) []byte {
	b = append(b, "0\r\n"...)
	var own []string // Proxy-Status
	for _, f := range k.chunks.Trailer() {
		switch {
		case f.Kind == h1.ProxyStatus:
			own = append(own, f.Value)
		case f.Kind == h1.Other && !h1.Same(f.Name, proxy.InstanceField) && httpguts.ValidTrailerHeader(textproto.CanonicalMIMEHeaderKey(f.Name)):
			b = appendField(b, f.Name, f.Value)
		}
	}
	b = appendOthersStatus(b, own)
	return append(b, "\r\n"...)
}

// brokeOff notes why an answer ended before its end. The client's connection is cut, so that it never looks whole.
func (l *lean) brokeOff(err error) {
	l.last = true
	switch {
	case l.limit.passed():
		l.err = fail(proxy.UpstreamTimeout, "The answer was not complete when the route's `timeout` was over.", errTimeout)
	case l.gone.Load():
		l.err = errClientGone
	default:
		l.err = fail(proxy.UpstreamUnreachable, "The upstream's answer broke off.", err)
	}
}

// done gives the upstream's connection back where its exchange has ended in good order.
func (l *lean) done(k *link, whole bool) {
	if !whole || !k.head.Persists() || k.r != k.w || l.pump != nil && !l.pump.sent() || k.head.Length < 0 && !k.head.Chunked {
		l.drop(k)
		return
	}
	now := l.start
	if now.IsZero() {
		now = time.Now()
	}
	l.limit.stop()
	l.tenure.stop()
	if !l.giveBack(k, now) {
		l.drop(k)
	}
}

// giveBack puts a connection where others find it, unless somebody was quicker to close it.
func (l *lean) giveBack(k *link, now time.Time) bool {
	if !l.using.CompareAndSwap(k, nil) {
		return false
	}
	if len(k.buf) > bufferSize {
		k.buf = make([]byte, linkBuffer)
	}
	k.used = true
	l.up.links.put(k, now)
	return true
}
