package diagnose

import (
	"testing"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/config"
	"github.com/weft-net/weft/agent/docker/setup"
)

func TestDockerCheck(t *testing.T) {
	stub := setup.Facts{Version: "20.10.24", Resolv: []string{"127.0.0.53"}}
	fine := setup.Facts{Version: "20.10.24", Resolv: []string{"192.0.2.53"}}
	set := setup.Facts{Version: "29.1.0", Servers: []string{setup.Address}}
	for _, tt := range []struct {
		name  string
		facts setup.Facts
		cfg   config.DNS
		used  bool
		want  string
	}{
		{"redirected", fine, config.DNS{}, true, api.CheckOK},
		{"out of reach", stub, config.DNS{}, true, api.CheckFail},
		{"out of reach, and nobody there", stub, config.DNS{}, false, api.CheckWarn},
		{"set up", set, config.DNS{Intercept: config.InterceptOff}, true, api.CheckOK},
		{"set up, and switched off here", set, config.DNS{Address: config.AddressOff}, true, api.CheckFail},
	} {
		c := DockerNames(tt.facts, config.Config{DNS: tt.cfg}, tt.used)
		if c.State != tt.want || c.Detail == "" || (c.Hint == "") != (tt.want == api.CheckOK) {
			t.Errorf("%s: %+v", tt.name, c)
		}
	}
}
