package trial_test

import (
	"testing"

	"github.com/weft-net/weft/agent/agenttest"
)

func TestMain(m *testing.M) { agenttest.Main(m) }
