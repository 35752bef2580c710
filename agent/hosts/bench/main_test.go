package bench_test

import (
	"os"
	"testing"

	"github.com/weft-net/weft/agent/agenttest"
)

func TestMain(m *testing.M) {
	if arguments := os.Getenv(crowdVariable); arguments != "" {
		if err := beCrowd(arguments); err != nil {
			panic(err)
		}
		return
	}
	agenttest.Main(m)
}
