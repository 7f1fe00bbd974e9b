package engine

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sidepass/sidepass/proxy"
)

func TestGenerations(t *testing.T) {
	var g Generations
	if gate, lease := g.Acquire(); gate != nil {
		t.Error("there is a gate before the first Swap")
	} else {
		lease.Release()
	}
	closed := map[string]int{}
	swap := func(name string) {
		g.Swap(gateFunc(func(context.Context, *proxy.Request) proxy.Verdict { return proxy.Verdict{Detail: name} }), func() { closed[name]++ })
	}
	name := func(gate proxy.Gate) string { return gate.Admit(t.Context(), nil).Detail }
	swap("a")
	a1, lease1 := g.Acquire()
	_, lease2 := g.Acquire()
	swap("b")
	b, lease3 := g.Acquire()
	if name(a1) != "a" || name(b) != "b" {
		t.Errorf("got %s and %s", name(a1), name(b))
	}
	lease3.Release()
	lease1.Release()
	if len(closed) != 0 {
		t.Errorf("closed too early: %v", closed)
	}
	lease2.Release()
	if closed["a"] != 1 || closed["b"] != 0 {
		t.Errorf("closed %v, want a once", closed)
	}
	swap("c")
	g.Swap(nil, nil)
	if closed["b"] != 1 || closed["c"] != 1 {
		t.Errorf("closed %v, want all once", closed)
	}
	if gate, _ := g.Acquire(); gate != nil {
		t.Error("there is a gate after Swap(nil)")
	}
}

// A generation that Acquire loaded just before its last user left must not come back to life.
func TestClosedGenerationCannotBeTaken(t *testing.T) {
	closed := 0
	g := &generation{onClose: func() { closed++ }}
	g.users.Store(1)
	if !g.take() {
		t.Error("an open one cannot be taken")
	}
	g.drop()
	g.drop()
	if g.take() || closed != 1 {
		t.Errorf("it can be taken after it was closed %d times", closed)
	}
}

func TestAcquireDoesNotAllocate(t *testing.T) {
	var g Generations
	g.Swap(refusing(proxy.NoRoute), nil)
	if n := testing.AllocsPerRun(100, func() { _, l := g.Acquire(); l.Release() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// 100 swaps under load: every request is answered by a generation that is still open, and each generation is closed once.
func TestSwapUnderLoadLosesNothing(t *testing.T) {
	o := newOrigin(t, nil)
	up := upstream(t, o.URL)
	type life struct {
		using  atomic.Int64
		closed atomic.Int64
	}
	var lives []*life
	var violations atomic.Int64
	next := func(g *Generations) {
		l := &life{}
		lives = append(lives, l)
		g.Swap(gateFunc(func(context.Context, *proxy.Request) proxy.Verdict {
			if l.closed.Load() != 0 {
				violations.Add(1)
			}
			l.using.Add(1)
			return proxy.Verdict{Action: proxy.Forward, Upstream: up, Follow: followFunc(func(*proxy.Head, bool) (proxy.Verdict, bool) {
				l.using.Add(-1)
				return proxy.Verdict{}, false
			})}
		}), func() {
			if l.using.Load() != 0 {
				violations.Add(1)
			}
			l.closed.Add(1)
		})
	}
	s := serve(t, refusing(proxy.NoRoute))
	next(s.gens)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var answered, failed atomic.Int64
	for i := range 8 {
		c := client(t, i%2 == 0)
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				res, err := c.Get("http://" + s.addr)
				if err != nil {
					failed.Add(1)
					continue
				}
				b, err := io.ReadAll(res.Body)
				_ = res.Body.Close()
				if err != nil || res.StatusCode != http.StatusOK || string(b) != "ok" {
					failed.Add(1)
				}
				answered.Add(1)
			}
		})
	}
	for range 100 {
		n := answered.Load()
		next(s.gens)
		eventually(t, "a request under the new generation", func() bool { return answered.Load() > n })
	}
	close(stop)
	wg.Wait()
	s.gens.Swap(nil, nil)
	for i, l := range lives {
		eventually(t, fmt.Sprintf("generation %d to be closed", i), func() bool { return l.closed.Load() == 1 })
	}
	if violations.Load() != 0 || failed.Load() != 0 {
		t.Errorf("%d violations, %d of %d requests failed", violations.Load(), failed.Load(), answered.Load())
	}
}
