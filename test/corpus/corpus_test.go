package corpus

import (
	"reflect"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestParse(t *testing.T) {
	for line, want := range map[string][]any{
		`string("a\r\n\x91\"),( ")`:             {"a\r\n\x91\"),( "},
		`string(""), uint16(65535), bool(true)`: {"", uint16(65535), true},
		`bool(false), string("x")`:              {false, "x"},
		``:                                      nil,
		`string("a"`:                            nil,
		`string("a") `:                          nil,
		`string("a"), `:                         nil,
		`string(a)`:                             nil,
		`uint16(65536)`:                         nil,
		`int(1)`:                                nil,
	} {
		if got, err := parse(line); !reflect.DeepEqual(got, want) || (err == nil) != (want != nil) {
			t.Errorf("%s: %#v %v", line, got, err)
		}
	}
}
