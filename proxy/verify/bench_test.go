package verify

import (
	"fmt"
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
