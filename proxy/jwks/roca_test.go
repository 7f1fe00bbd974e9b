package jwks

import (
	"errors"
	"math/big"
	"strings"
	"testing"
)

// A published key that was made so is among the vectors that proxy/verify is held against.
func TestModuliThatCanBeBroken(t *testing.T) {
	m := big.NewInt(1)
	for _, p := range rocaPrimes {
		m.Mul(m, big.NewInt(p))
	}
	n := new(big.Int).Set(rsaKey().N)
	n.Sub(n, new(big.Int).Mod(n, m)).Add(n, new(big.Int).Exp(big.NewInt(65537), big.NewInt(1_234_567), m))
	if n.Bit(0) == 0 {
		n.Add(n, m)
	}
	step := new(big.Int).Div(m, big.NewInt(11)) // changes the rest modulo 11 alone, where 1 and 10 are the powers of 65537
	for range 11 {
		rest := new(big.Int).Mod(n, big.NewInt(11)).Int64()
		s, err := Parse(document(rsaJWK(map[string]any{"n": b64(n.Bytes())})))
		if broken := rest == 1 || rest == 10; !broken && err != nil || broken && (!errors.Is(err, ErrNoKeys) || !strings.Contains(s.Notes[0], "ROCA")) {
			t.Errorf("a modulus of rest %d: %v, %q", rest, err, s.Notes)
		}
		n.Add(n, step).Add(n, step)
	}
}
