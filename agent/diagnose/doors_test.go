package diagnose

import (
	"errors"
	"testing"

	"github.com/weft-net/weft/agent/api"
)

func TestADoorThatIsShutIsToldWithItsReason(t *testing.T) {
	public := Door{What: "public socket", At: "/run/weft/public.sock"}
	scraped := Door{What: "metrics", At: "http://127.0.0.1:9798/metrics"}
	taken := scraped
	taken.Err = errors.New("9798/tcp, for metrics: nginx (pid 812) has it")
	for _, tt := range []struct {
		doors []Door
		want  api.Check
	}{
		{[]Door{public}, api.Check{Name: "listeners", State: api.CheckOK, Detail: "public socket at /run/weft/public.sock"}},
		{[]Door{public, scraped}, api.Check{Name: "listeners", State: api.CheckOK, Detail: "public socket at /run/weft/public.sock, metrics at http://127.0.0.1:9798/metrics"}},
		{[]Door{public, taken}, api.Check{Name: "listeners", State: api.CheckWarn,
			Detail: "metrics at http://127.0.0.1:9798/metrics is not served: 9798/tcp, for metrics: nginx (pid 812) has it, public socket at /run/weft/public.sock",
			Hint:   "ss -ltnp # or another metrics_listen in agentd.yaml, then systemctl restart agentd"}},
	} {
		if got := Doors(tt.doors); got != tt.want {
			t.Errorf("%+v\nwant %+v", got, tt.want)
		}
	}
}
