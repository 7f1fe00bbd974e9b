package inbound

import (
	"context"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/sidepass/sidepass/proxy"
	"github.com/sidepass/sidepass/proxy/verify"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fields are header fields in a list.
type fields []proxy.Field

func (f fields) First(name string) (value string, lines int) {
	for i := range f {
		if strings.EqualFold(f[i].Name, name) {
			if lines == 0 {
				value = f[i].Value
			}
			lines++
		}
	}
	return value, lines
}

func (f fields) At(name string, i int) string {
	for _, x := range f {
		if strings.EqualFold(x.Name, name) {
			if i == 0 {
				return x.Value
			}
			i--
		}
	}
	return ""
}

// app is a destination with a name.
type app string

func (a app) String() string { return string(a) }

// tokens is a verifier that knows tokens by their text.
type tokens map[string]*verify.Token

func (ts tokens) Verify(_ context.Context, compact string, _ verify.Possession) (*verify.Token, error) {
	if tok := ts[compact]; tok != nil {
		return tok, nil
	}
	return nil, &verify.Error{Reason: proxy.BadSignature}
}

func (ts tokens) Recheck(*verify.Token) error { return nil }

// failing is a verifier that refuses everything.
type failing struct{ err error }

func (f failing) Verify(context.Context, string, verify.Possession) (*verify.Token, error) {
	return nil, f.err
}

func (f failing) Recheck(*verify.Token) error { return f.err }

// unasked fails the test when a token is judged that should not be.
type unasked struct{ t *testing.T }

func (u unasked) Verify(_ context.Context, compact string, _ verify.Possession) (*verify.Token, error) {
	u.t.Error("the verifier was asked")
	return nil, &verify.Error{Reason: proxy.InternalError}
}

func (u unasked) Recheck(*verify.Token) error {
	_, err := u.Verify(context.Background(), "", verify.Possession{})
	return err
}

var trusted = []Issuer{{Name: "idp", URL: "https://idp.example.com/"}}

// gate makes a gate; what o lacks is filled in.
func gate(t testing.TB, o Options) *Gate {
	t.Helper()
	g, err := New(filled(o))
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func filled(o Options) Options {
	if o.Verifier == nil {
		o.Verifier = tokens{"good": token(claims{"scope": "read:orders"})}
	}
	if o.Upstream == nil {
		o.Upstream = app("app")
	}
	if o.Issuers == nil {
		o.Issuers = trusted
	}
	return o
}

// request is one over HTTP/1.1; lines are "Name: value".
func request(t testing.TB, method, target string, lines ...string) *proxy.Request {
	t.Helper()
	parsed, err := proxy.ParseTarget(method, target)
	if err != nil {
		t.Fatalf("%s %s: %v", method, target, err)
	}
	var f fields
	for _, l := range lines {
		name, value, _ := strings.Cut(l, ":")
		f = append(f, proxy.Field{Name: name, Value: strings.TrimPrefix(value, " ")})
	}
	return &proxy.Request{Method: method, Target: parsed, Host: "service-b", Header: f}
}

func bearer(tok string) string { return "Authorization: Bearer " + tok }

// admit asks the gate.
func admit(t testing.TB, g *Gate, method, target string, lines ...string) proxy.Verdict {
	t.Helper()
	return g.Admit(t.Context(), request(t, method, target, lines...))
}

// forwarded and refused check the members of a verdict that have to agree.
func forwarded(t testing.TB, v proxy.Verdict) {
	t.Helper()
	if v.Action != proxy.Forward || v.Reason != proxy.OK || v.Note.Decision != proxy.Allow || v.Upstream == nil || v.Path != "" {
		t.Errorf("action %d, reason %s, note %+v: want the request forwarded as it came", v.Action, v.Reason, v.Note)
	}
}

func refused(t testing.TB, v proxy.Verdict, reason proxy.Reason) {
	t.Helper()
	if v.Action != proxy.Refuse || v.Reason != reason || v.Note.Decision != proxy.Deny || v.Upstream != nil || v.Set != nil {
		t.Errorf("action %d, reason %s, note %+v: want it refused with %s", v.Action, v.Reason, v.Note, reason)
	}
}
