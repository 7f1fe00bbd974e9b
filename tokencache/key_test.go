package tokencache

import "testing"

func TestKey(t *testing.T) {
	base := KeyFields{Issuer: "https://idp", TokenEndpoint: "https://idp/token", ClientID: "svc", AuthMethod: "client_secret_basic",
		Grant: "client_credentials", Audience: []string{"a", "b"}, Resource: []string{"r"}, Scopes: []string{"read", "write"},
		Params: []Param{{"organization", "org"}}, Binding: "b"}
	for name, tc := range map[string]struct {
		change func(*KeyFields)
		same   bool
	}{
		"nothing":                      {func(*KeyFields) {}, true},
		"scopes in another order":      {func(f *KeyFields) { f.Scopes = []string{"write", "read"} }, true},
		"a scope twice":                {func(f *KeyFields) { f.Scopes = []string{"read", "write", "read"} }, true},
		"another issuer":               {func(f *KeyFields) { f.Issuer += "/" }, false},
		"another token endpoint":       {func(f *KeyFields) { f.TokenEndpoint = "" }, false},
		"another client":               {func(f *KeyFields) { f.ClientID = "SVC" }, false},
		"another method":               {func(f *KeyFields) { f.AuthMethod = "client_secret_post" }, false},
		"another grant":                {func(f *KeyFields) { f.Grant = "token_exchange" }, false},
		"fewer scopes":                 {func(f *KeyFields) { f.Scopes = []string{"read"} }, false},
		"scopes in one word":           {func(f *KeyFields) { f.Scopes = []string{"read write"} }, false},
		"no scopes":                    {func(f *KeyFields) { f.Scopes = nil }, false},
		"audiences in one word":        {func(f *KeyFields) { f.Audience = []string{"a b"} }, false},
		"audience moves to resource":   {func(f *KeyFields) { f.Audience, f.Resource = []string{"a"}, []string{"b", "r"} }, false},
		"another parameter":            {func(f *KeyFields) { f.Params = []Param{{"organization", "org2"}} }, false},
		"name and value share letters": {func(f *KeyFields) { f.Params = []Param{{"organizationo", "rg"}} }, false},
		"another binding":              {func(f *KeyFields) { f.Binding = "c" }, false},
		"no binding":                   {func(f *KeyFields) { f.Binding = "" }, false},
	} {
		f := base
		tc.change(&f)
		if got := KeyOf(f) == KeyOf(base); got != tc.same {
			t.Errorf("%s: same key = %t, want %t", name, got, tc.same)
		}
	}
	// No separator can be imitated, whatever is in a value.
	seen := map[Key][]string{}
	for _, a := range [][]string{nil, {""}, {"", ""}, {"a+b", "c"}, {"a", "b+c"}, {"a b", "c"}, {"a", "b c"}, {"a,b", "c"}, {"a", "b,c"},
		{"a\x00b", "c"}, {"a", "b\x00c"}, {"a", "b", "c"}, {"abc"}, {"ab", "c"}, {"c", "ab"}} {
		k := KeyOf(KeyFields{Audience: a})
		if other, ok := seen[k]; ok {
			t.Errorf("audiences %q and %q have one key", a, other)
		}
		seen[k] = a
	}
}

func TestKeyLeavesScopesAlone(t *testing.T) {
	scopes := []string{"write", "read"}
	KeyOf(KeyFields{Scopes: scopes})
	if scopes[0] != "write" {
		t.Error("KeyOf sorted its caller's list")
	}
}

func TestKeyOfASubject(t *testing.T) {
	base, other := KeyOf(KeyFields{Audience: []string{"a"}}), KeyOf(KeyFields{Audience: []string{"b"}})
	before := base
	seen := map[Key]bool{base: true, other: true}
	for _, k := range []Key{base, other} {
		for _, subject := range []string{"", "s", "S", "s ", "ss"} {
			if seen[k.of(subject)] {
				t.Errorf("subject %q has the key of something else", subject)
			}
			seen[k.of(subject)] = true
		}
	}
	if again := before.of("s"); base.of("s") != again || base != before {
		t.Error("one subject has two keys")
	}
}
