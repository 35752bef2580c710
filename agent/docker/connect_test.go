package docker

import (
	"net/http"
	"strings"
	"testing"

	"github.com/weft-net/weft/agent/api"
)

// Docker takes the start of an id however short. Here a word calls a container by its
// name, its id, or four digits of that: as everywhere.
func TestAContainerIsNotCalledByOneDigitOfItsID(t *testing.T) {
	id := "b" + strings.Repeat("0", 63)
	asked := make(chan string, 8)
	f := newFake()
	f.cluster.Networks = f.cluster.Networks[:1]
	f.cluster.Objects["n1"] = "b1"
	container := saying(`{"Id":"` + id + `","Name":"/web","State":{"Running":true}}`)
	e := listed(t, f, `[{"Name":"blue","Id":"n1","Driver":"weft","Labels":{"weft":"1"}}]`, map[string]http.HandlerFunc{
		"GET /containers/b/json": container, "GET /containers/b000/json": container, "GET /containers/web/json": container, "GET /containers/" + id + "/json": container,
		"GET /networks/n1": saying(`{"Name":"blue","Id":"n1","Containers":{"` + id + `":{"Name":"web","EndpointID":"e1"}}}`),
		"POST /networks/n1/disconnect": func(w http.ResponseWriter, _ *http.Request) {
			asked <- "disconnect"
			w.WriteHeader(http.StatusOK)
		},
	})
	s := &Service{engine: e, driver: newDriver(agentOf(f), e.log)}
	if err := s.Disconnect(t.Context(), "b1", "b", false); api.KindOf(err) != api.KindNotFound || err == nil {
		t.Errorf("one digit: %v", err)
	}
	if _, err := s.Connect(t.Context(), Connection{Network: "b1", Container: "b"}); api.KindOf(err) != api.KindNotFound {
		t.Errorf("connect by one digit: %v", err)
	}
	if len(asked) > 0 {
		t.Error("the engine was asked to take it off")
	}
	for _, word := range []string{"b000", "web", id} {
		if err := s.Disconnect(t.Context(), "b1", word, false); err != nil {
			t.Errorf("%s: %v", word, err)
		}
	}
	if len(asked) != 3 {
		t.Errorf("taken off %d times", len(asked))
	}
}
