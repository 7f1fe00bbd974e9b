package engine

import (
	"sync/atomic"

	"github.com/sidepass/sidepass/proxy"
)

// Generations holds the gate that judges requests now, and lets it be replaced while requests run. Each request keeps
// the gate that it started with until it ends, streams included. The zero value has no gate: requests get
// internal_error. It is safe for concurrent use and must not be copied.
type Generations struct {
	current atomic.Pointer[generation]
}

type generation struct {
	gate    proxy.Gate
	onClose func()
	// users counts the requests that run under this generation, plus one while it is the current one. Once it is 0 it
	// stays 0.
	users atomic.Int64
}

// Lease is one request's hold on a generation. The zero value holds nothing.
type Lease struct{ g *generation }

// Acquire returns the current gate, or nil when there is none, and the hold on it. It does not allocate.
func (g *Generations) Acquire() (proxy.Gate, Lease) {
	for {
		now := g.current.Load()
		if now == nil {
			return nil, Lease{}
		}
		if now.take() {
			return now.gate, Lease{now}
		}
		// It was replaced and closed since the load: the next load finds its successor.
	}
}

// Release ends the hold; call it exactly once. The last holder of a replaced generation runs its onClose.
func (l Lease) Release() {
	if l.g != nil {
		l.g.drop()
	}
}

// Swap makes gate the one for all requests that start from now on. onClose, which may be nil, runs once, when gate has
// been replaced in turn and its last request has ended; it runs on the goroutine that ended last, so it should be
// short. A nil gate leaves none, which is how the last generation is closed.
func (g *Generations) Swap(gate proxy.Gate, onClose func()) {
	var next *generation
	if gate != nil {
		next = &generation{gate: gate, onClose: onClose}
		next.users.Store(1)
	}
	if old := g.current.Swap(next); old != nil {
		old.drop()
	}
}

func (g *generation) take() bool {
	for {
		n := g.users.Load()
		if n == 0 {
			return false
		}
		if g.users.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (g *generation) drop() {
	if g.users.Add(-1) == 0 && g.onClose != nil {
		g.onClose()
	}
}
