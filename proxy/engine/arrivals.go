package engine

import (
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// arrivals are the connections of a server of net/http whose first request has not come to its handler yet. Its Shutdown drops them
// without an answer, even where the request has been read.
type arrivals struct {
	mu    sync.Mutex
	conns map[net.Conn]*arrival
}

type arrival struct {
	of   *arrivals
	conn net.Conn
	over atomic.Bool
}

// arrivalKey is the key of a connection's arrival.
type arrivalKey struct{}

// begin notes a new connection.
func (a *arrivals) begin(ctx context.Context, c net.Conn) context.Context {
	one := &arrival{of: a, conn: c}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.conns == nil {
		a.conns = map[net.Conn]*arrival{}
	}
	a.conns[c] = one
	return context.WithValue(ctx, arrivalKey{}, one)
}

// ended forgets a connection that closed or was taken over, perhaps before its first request.
func (a *arrivals) ended(c net.Conn, state http.ConnState) {
	if state == http.StateClosed || state == http.StateHijacked {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.conns, c)
	}
}

// arrived notes that a request has come to the handler.
func arrived(ctx context.Context) {
	if one, ok := ctx.Value(arrivalKey{}).(*arrival); ok && !one.over.Swap(true) {
		one.of.mu.Lock()
		defer one.of.mu.Unlock()
		delete(one.of.conns, one.conn)
	}
}

// await waits until there are none, for at most as long as a new connection may take when the server shuts down.
func (a *arrivals) await(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, freshTicks*tick)
	defer cancel()
	for {
		a.mu.Lock()
		left := len(a.conns)
		a.mu.Unlock()
		if left == 0 {
			return
		}
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return
		}
	}
}
