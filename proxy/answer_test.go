package proxy

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"
)

func get(r Reply, name string) (string, bool) {
	i := slices.IndexFunc(r.Header, func(f Field) bool { return f.Name == name })
	if i < 0 {
		return "", false
	}
	return r.Header[i].Value, true
}

// The table of the contract, direction by direction.
func TestEveryReasonHasItsStatus(t *testing.T) {
	want := map[int]string{
		400: "malformed_request multiple_tokens malformed_authorization ambiguous_path authorization_present",
		401: "no_token malformed_token algorithm_not_allowed unknown_key bad_signature untrusted_issuer wrong_audience expired not_yet_valid too_old wrong_type missing_claim revoked inactive binding_failed invalid_dpop_proof use_dpop_nonce no_subject_token subject_refused",
		403: "insufficient_scope client_not_allowed claim_mismatch no_rule no_route connect_denied cross_site",
		405: "method_not_allowed",
		421: "wrong_host",
		431: "headers_too_large",
		500: "internal_error",
		502: "upstream_unreachable upstream_tls upstream_protocol token_refused",
		503: "keys_unavailable introspection_unavailable revocations_unavailable token_unavailable",
		504: "upstream_timeout",
		508: "loop_detected",
	}
	n := 0
	for status, words := range want {
		for _, w := range strings.Fields(words) {
			n++
			if got := Reason(w).Status(); got != status {
				t.Errorf("%s has the status %d, want %d", w, got, status)
			}
		}
	}
	if got := len(Reasons()); got != n {
		t.Errorf("%d reasons, want %d", got, n)
	}
	if OK.Status() != 0 || Reason("no such word").Status() != 500 {
		t.Error("ok has no status, and an unknown word fails closed with 500")
	}
}

func TestRefusal(t *testing.T) {
	for _, c := range []struct {
		v    Verdict
		want map[string]string
	}{
		{Verdict{Reason: NoToken}, map[string]string{"Www-Authenticate": "Bearer", "Proxy-Status": `sidepass; error=http_request_denied; details="no_token"`, "Content-Type": "application/problem+json"}},
		{Verdict{Reason: NoToken, ResourceMetadata: "https://a/.well-known/x"}, map[string]string{"Www-Authenticate": `Bearer resource_metadata="https://a/.well-known/x"`}},
		{Verdict{Reason: Expired}, map[string]string{"Www-Authenticate": `Bearer error="invalid_token", error_description="The token has expired."`}},
		{Verdict{Reason: InsufficientScope, Scope: "read write", Detail: `needs "read"` + "\n"}, map[string]string{"Www-Authenticate": `Bearer error="insufficient_scope", error_description="needs 'read'", scope="read write"`}},
		{Verdict{Reason: NoRule}, map[string]string{"Www-Authenticate": "Bearer"}},
		{Verdict{Reason: MultipleTokens, Detail: "x"}, map[string]string{"Www-Authenticate": `Bearer error="invalid_request", error_description="x"`}},
		{Verdict{Reason: TokenUnavailable}, map[string]string{"Retry-After": "1"}},
		{Verdict{Reason: KeysUnavailable, RetryAfter: 2001 * time.Millisecond}, map[string]string{"Retry-After": "3"}},
		{Verdict{Reason: MethodNotAllowed}, map[string]string{"Allow": "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"}},
		{Verdict{}, map[string]string{"Proxy-Status": `sidepass; error=proxy_internal_error; details="internal_error"`}},
	} {
		r := Refusal(&c.v, false, "urn:uuid:1")
		for name, want := range c.want {
			if got, _ := get(r, name); got != want {
				t.Errorf("%q: %s is %q, want %q", c.v.Reason, name, got, want)
			}
		}
		var p map[string]any
		if err := json.Unmarshal(r.Body, &p); err != nil {
			t.Fatalf("%s: %v", c.v.Reason, err)
		}
		for _, m := range []string{"title", "status", "detail", "code", "instance"} {
			if p[m] == nil || p[m] == "" {
				t.Errorf("%q: the problem lacks %s: %s", c.v.Reason, m, r.Body)
			}
		}
		if p["status"] != float64(r.Status) {
			t.Errorf("%q: the problem says %v, the answer %d", c.v.Reason, p["status"], r.Status)
		}
	}
	for _, quiet := range []Reason{NoRoute, TokenRefused, AmbiguousPath} {
		if _, ok := get(Refusal(&Verdict{Reason: quiet}, false, ""), "Www-Authenticate"); ok {
			t.Errorf("%s has a challenge; it has nothing to do with the caller's token", quiet)
		}
	}
}

// One line a scheme: Bearer first, unless the error is a proof's.
func TestChallenges(t *testing.T) {
	const metadata, inQuotes = "https://a/.well-known/x", `resource_metadata="https://a/.well-known/x"`
	used, offered := &DPoP{Algorithms: "ES256 EdDSA", Used: true}, &DPoP{Algorithms: "ES256 EdDSA"}
	for _, c := range []struct {
		v     Verdict
		want  []string
		nonce string
	}{
		{Verdict{Reason: NoToken}, []string{"Bearer"}, ""},
		{Verdict{Reason: NoToken, DPoP: offered}, []string{"Bearer", `DPoP algs="ES256 EdDSA"`}, ""},
		{Verdict{Reason: NoToken, DPoP: offered, ResourceMetadata: metadata}, []string{"Bearer " + inQuotes, `DPoP algs="ES256 EdDSA", ` + inQuotes}, ""},
		{Verdict{Reason: Expired, DPoP: offered, Detail: "x"}, []string{`Bearer error="invalid_token", error_description="x"`, `DPoP algs="ES256 EdDSA"`}, ""},
		{Verdict{Reason: Expired, DPoP: used, Detail: "x"}, []string{`Bearer error="invalid_token", error_description="x"`, `DPoP error="invalid_token", algs="ES256 EdDSA"`}, ""},
		{Verdict{Reason: NoRule, DPoP: offered}, []string{"Bearer"}, ""},
		{Verdict{Reason: NoRule, DPoP: used}, []string{"Bearer", `DPoP algs="ES256 EdDSA"`}, ""},
		{Verdict{Reason: InsufficientScope, DPoP: offered, Scope: "a", Detail: "x"}, []string{`Bearer error="insufficient_scope", error_description="x", scope="a"`}, ""},
		{Verdict{Reason: InsufficientScope, DPoP: used, Scope: "a", Detail: "x"}, []string{`Bearer error="insufficient_scope", error_description="x", scope="a"`,
			`DPoP error="insufficient_scope", scope="a", algs="ES256 EdDSA"`}, ""},
		{Verdict{Reason: MultipleTokens, DPoP: offered, Detail: "x"}, []string{`Bearer error="invalid_request", error_description="x"`}, ""},
		{Verdict{Reason: AmbiguousPath, DPoP: used}, nil, ""},
		{Verdict{Reason: InvalidDPoPProof, DPoP: used, Detail: "x", ResourceMetadata: metadata}, []string{`DPoP error="invalid_dpop_proof", error_description="x", algs="ES256 EdDSA", ` + inQuotes, "Bearer " + inQuotes}, ""},
		{Verdict{Reason: UseDPoPNonce, DPoP: &DPoP{Algorithms: "ES256", Nonce: "n-1"}, Detail: "x"}, []string{`DPoP error="use_dpop_nonce", error_description="x", algs="ES256"`, "Bearer"}, "n-1"},
		{Verdict{Reason: InvalidDPoPProof, Detail: "x"}, []string{`DPoP error="invalid_dpop_proof", error_description="x"`, "Bearer"}, ""},
	} {
		for _, grpc := range []bool{false, true} {
			r := Refusal(&c.v, grpc, "")
			var got []string
			for _, f := range r.Header {
				if f.Name == "Www-Authenticate" {
					got = append(got, f.Value)
				}
			}
			if nonce, _ := get(r, "Dpop-Nonce"); !slices.Equal(got, c.want) || nonce != c.nonce {
				t.Errorf("%s, %+v: %q and nonce %q, want %q and %q", c.v.Reason, c.v.DPoP, got, nonce, c.want, c.nonce)
			}
		}
	}
}

func TestClaimsChallengeIsInTheBody(t *testing.T) {
	const challenge = `{"access_token":{"acrs":{"essential":true,"value":"c1"}}}`
	for claims, want := range map[string]any{challenge: challenge, "": nil} {
		var p map[string]any
		if err := json.Unmarshal(Refusal(&Verdict{Reason: SubjectRefused, Claims: claims}, false, "").Body, &p); err != nil || p["claims"] != want {
			t.Errorf("claims are %v, want %v", p["claims"], want)
		}
	}
}

func TestRefusalOverGRPCIsTrailersOnly(t *testing.T) {
	for reason, want := range map[Reason]string{NoToken: "16", NoRule: "7", AmbiguousPath: "3", UpstreamUnreachable: "14", UpstreamTimeout: "14", TokenUnavailable: "14", InternalError: "13"} {
		r := Refusal(&Verdict{Reason: reason}, true, "")
		status, _ := get(r, "Grpc-Status")
		message, _ := get(r, "Grpc-Message")
		kind, _ := get(r, "Content-Type")
		ps, _ := get(r, "Proxy-Status")
		if r.Status != 200 || status != want || message != string(reason) || kind != "application/grpc" || len(r.Body) != 0 || !strings.Contains(ps, string(reason)) {
			t.Errorf("%s: %+v", reason, r)
		}
	}
}
