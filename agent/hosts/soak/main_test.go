package soak_test

import (
	"flag"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
)

var (
	duration = flag.Duration("duration", 20*time.Second, "how long faults are injected")
	only     = flag.String("only", "", "a regular expression of the names of faults")
	seed     = flag.Uint64("seed", 0, "of the faults; 0 is a new one")
)

func TestMain(m *testing.M) { agenttest.Main(m) }
