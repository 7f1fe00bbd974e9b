package verify

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/sidepass/sidepass/proxy"
)

func BenchmarkVerify(b *testing.B) {
	for _, alg := range []string{"RS256", "PS256", "ES256", "ES384", "ES512", "EdDSA"} {
		b.Run(alg, func(b *testing.B) {
			k := pair(alg, "k", "good")
			w := newWorld(b, trust1(func(t *Trust) { t.Algorithms = []string{alg} }))
			w.keys.replace(keySet(k.jwk(nil)))
			benchmark(b, w, []string{k.jwt(k.header(nil), claims(nil))}, proxy.OK)
		})
	}
}

// BenchmarkParse is what comes before the issuer is looked up: the text taken apart, header and payload read strictly.
func BenchmarkParse(b *testing.B) {
	w := newWorld(b, nil)
	token := w.mint(nil)
	b.ReportAllocs()
	for b.Loop() {
		j := judgement{v: w.Verifier, compact: token, now: t0}
		if err := j.run(b.Context(), checks[:3]); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCached(b *testing.B) {
	for _, n := range []int{1, 5000} {
		b.Run(fmt.Sprint(n, " tokens"), func(b *testing.B) {
			w := cachedWorld(b, func(o *Options) { o.Observer = Observer{} })
			tokens := make([]string, n)
			for i := range tokens {
				tokens[i] = w.ed.jwt(w.ed.header(nil), claims(m{"jti": fmt.Sprint(i)}))
			}
			benchmark(b, w, tokens, proxy.OK)
		})
	}
}

func BenchmarkRefused(b *testing.B) {
	w := cachedWorld(b, func(o *Options) { o.Observer = Observer{} })
	evil := pair("RS256", "rs", "evil")
	for reason, token := range map[proxy.Reason]string{
		proxy.BadSignature: evil.jwt(evil.header(nil), claims(nil)), proxy.Expired: w.mint(m{"exp": 1}), proxy.UnknownKey: w.rs.jwt(w.rs.header(m{"kid": "x"}), claims(nil)),
		proxy.MalformedToken: "a.b.c",
	} {
		b.Run(string(reason), func(b *testing.B) { benchmark(b, w, []string{token}, reason) })
	}
	b.Run("bad_signature for the first time", func(b *testing.B) {
		benchmark(b, newWorld(b, nil), []string{evil.jwt(evil.header(nil), claims(nil))}, proxy.BadSignature)
	})
}

// BenchmarkCacheMemory fills a cache with tokens of the usual size: go test ./proxy/verify -run '^$' -bench CacheMemory -benchtime 1x
func BenchmarkCacheMemory(b *testing.B) {
	for _, entries := range []int{defaultEntries, 100_000} {
		b.Run(fmt.Sprint(entries), func(b *testing.B) {
			for b.Loop() {
				bytes, tokens := fill(b, entries, 100_000)
				b.ReportMetric(float64(bytes)/float64(tokens), "B/token")
				b.ReportMetric(float64(bytes)/(1<<20), "MiB")
				b.ReportMetric(float64(tokens), "tokens")
			}
		})
	}
}

// The default bound holds whatever arrives, in tokens and in memory.
func TestTheDefaultCacheIsBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("makes 100,000 tokens")
	}
	bytes, tokens := fill(t, 0, 100_000)
	if tokens > defaultEntries || tokens < defaultEntries*9/10 {
		t.Errorf("%d tokens are kept, want %d", tokens, defaultEntries)
	}
	if most := defaultEntries * entryBytes; bytes > most {
		t.Errorf("they hold %d bytes, want at most %d", bytes, most)
	}
}

// fill sends distinct good tokens into a cache of so many entries, and returns the memory and the tokens that it then holds. All
// checks are made but the signature's, for the sake of time.
func fill(tb testing.TB, entries, distinct int) (bytes, tokens int) {
	tb.Helper()
	w := newWorld(tb, func(o *Options) { o.Cache = newCache(tb, entries) })
	header := b64([]byte(w.rs.header(nil)))
	payload := claims(m{"jti": "JTI", "client_id": "svc-a", "roles": []string{"reader", "writer"}, "tenant": "t-1"})
	before := heap()
	for i := range distinct {
		token := header + "." + b64([]byte(strings.Replace(payload, "JTI", fmt.Sprintf("%032x", i), 1))) + ".AAAA"
		j := judgement{v: w.Verifier, compact: token, now: t0}
		for _, c := range checks {
			if c.name == "signature" {
				j.key = j.keys[0]
			} else if err := j.check(tb.Context(), c); err != nil {
				tb.Fatal(err)
			}
		}
		w.o.Cache.keep(digestOf(token), &j)
	}
	bytes = int(heap()) - int(before)
	tokens = w.o.Cache.Len()
	runtime.KeepAlive(w)
	return bytes, tokens
}

// heap is the memory in use.
func heap() uint64 {
	runtime.GC()
	runtime.GC() // what the first one only unlinked
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return s.HeapAlloc
}

func benchmark(b *testing.B, w *world, tokens []string, want proxy.Reason) {
	b.Helper()
	for _, token := range tokens {
		_, _ = w.Verify(b.Context(), token, Possession{})
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		_, err := w.Verify(b.Context(), tokens[i%len(tokens)], Possession{})
		got := proxy.OK
		if e, ok := err.(*Error); ok {
			got = e.Reason
		}
		if got != want {
			b.Fatalf("%v, want %s", err, want)
		}
	}
}
