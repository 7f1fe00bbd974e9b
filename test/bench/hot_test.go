//go:build linux

package bench

import "testing"

// BenchmarkRequest is a whole request through a sidepass process, for benchstat:
//
//	go test ./test/bench -run '^$' -bench Request -benchtime 50000x -count 10
//
// cpu-ns/op and objects/op, what it allocates, are the process's own; ns/op is the time with 32 requests on the way.
func BenchmarkRequest(b *testing.B) {
	w := newBench(b)
	for _, c := range []struct {
		name string
		s    *subject
	}{
		{"outbound/auto", w.outbound(b, "auto", w.up)}, {"outbound/std", w.outbound(b, "std", w.up)},
		{"inbound/auto", w.inbound(b, "auto", w.up)}, {"inbound/std", w.inbound(b, "std", w.up)},
	} {
		s := c.s
		load(b, s.address, same(s.request), 200, *window/4) // warm up
		b.Run(c.name, func(b *testing.B) {
			objects, used := s.mallocs(b), cpu(b, s.pid)
			b.ResetTimer()
			if _, err := (&loader{status: 200, most: b.N}).run(s.address, same(s.request)); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			used = cpu(b, s.pid) - used
			b.ReportMetric(float64(used.Nanoseconds())/float64(b.N), "cpu-ns/op")
			b.ReportMetric((s.mallocs(b)-objects)/float64(b.N), "objects/op")
		})
	}
}
