package fleet

import (
	"flag"
	"testing"

	"go.uber.org/goleak"
)

var simulate = flag.Bool("simulate", false, "run the simulation of docs/fleet.md, and write its tables and docs/fleet.svg")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
