package pool_test

import (
	"net/http"
	"testing"

	"github.com/weft-net/weft/discovery/discoverytest"
)

// TestConsulConformance holds a real Consul to the suite that the embedded
// store passes: what the two agree on is all that this package uses.
func TestConsulConformance(t *testing.T) {
	server := discoverytest.StartConsul(t, discoverytest.ConsulConfig{})
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}}
	defer client.CloseIdleConnections()
	discoverytest.PoolConformance(t, discoverytest.Store{URL: server.URL, Client: client})
}
