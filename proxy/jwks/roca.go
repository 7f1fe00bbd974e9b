package jwks

import "math/big"

// rocaPrimes are the primes whose product divides the M of ROCA at every key length.
var rocaPrimes = [...]int64{
	3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
}

// roca says whether an RSA modulus is one from which the private key can be computed, as a library in smart cards and TPMs
// made them (CVE-2017-15361): both its factors, and so the modulus, are powers of 65537 modulo M. Of other moduli one in 2^154 is.
func roca(n *big.Int) bool {
	var p, r big.Int
	for _, prime := range rocaPrimes {
		rest := r.Mod(n, p.SetInt64(prime)).Int64()
		power := int64(1)
		for rest != power {
			if power = power * 65537 % prime; power == 1 {
				return false
			}
		}
	}
	return true
}
