package seal

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func line(b byte) string {
	return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{b}, KeyBytes)) + "\n"
}

func parse(t *testing.T, text string) *Keys {
	t.Helper()
	k, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestParse(t *testing.T) {
	for name, text := range map[string]string{"empty": "", "blank": "\n \n", "short": "c2hvcnQ=\n", "not base64": line(1) + "secret-canary", "33 bytes": base64.StdEncoding.EncodeToString(make([]byte, 33))} {
		if _, err := Parse([]byte(text)); err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v", name, err)
		}
	}
	parse(t, "\n"+line(1)+"\n"+strings.TrimSpace(line(2)))
	parse(t, strings.ReplaceAll(line(1)+line(2), "\n", "\r\n"))
}

func TestSeal(t *testing.T) {
	one, both, swapped, two := parse(t, line(1)), parse(t, line(1)+line(2)), parse(t, line(2)+line(1)), parse(t, line(2))
	text, bound := []byte("a token"), []byte("its place")
	sealed := one.Seal(text, bound)
	if bytes.Contains(sealed, text) || bytes.Contains(sealed, bound) {
		t.Error("it can be read")
	}
	if bytes.Equal(sealed, one.Seal(text, bound)) {
		t.Error("the same text looks the same twice")
	}
	for name, k := range map[string]*Keys{"the key": one, "the first of two": both, "the second of two": swapped} {
		if got, err := k.Open(sealed, bound); err != nil || !bytes.Equal(got, text) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if _, err := two.Open(sealed, bound); err != ErrSealed {
		t.Errorf("another key: %v", err)
	}
	if _, err := one.Open(sealed, []byte("another place")); err != ErrSealed {
		t.Errorf("moved: %v", err)
	}
	for i := range sealed {
		changed := bytes.Clone(sealed)
		changed[i] ^= 1
		if _, err := both.Open(changed, bound); err != ErrSealed {
			t.Errorf("byte %d changed: %v", i, err)
		}
		if _, err := both.Open(sealed[:i], bound); err != ErrSealed {
			t.Errorf("cut to %d bytes: %v", i, err)
		}
	}
}

func TestName(t *testing.T) {
	one, two := parse(t, line(1)), parse(t, line(2)+line(1))
	if one.Name("a") != parse(t, line(1)+line(2)).Name("a") {
		t.Error("the same first key makes another name")
	}
	if one.Name("a") == one.Name("b") || one.Name("a") == two.Name("a") || strings.Contains(one.Name("audience"), "audience") {
		t.Error("names do not differ, or tell what they are of")
	}
}

func TestKeysCannotBePrinted(t *testing.T) {
	k := parse(t, line(7))
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if got := fmt.Sprintf(verb, k) + fmt.Sprintf(verb, *k); got != "[keys][keys]" {
			t.Errorf("%s prints %s", verb, got)
		}
	}
}
