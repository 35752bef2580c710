package endpoint

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/journal"
	"github.com/weft-net/weft/discovery"
)

// nobodyElse is a cluster of one host.
type nobodyElse struct{ Directory }

func (nobodyElse) View() discovery.View { return discovery.View{} }

// engine is a runtime that has to be asked.
type engine struct {
	has   string
	asked []any
}

func (e *engine) Connect(_ context.Context, r api.ConnectRequest) (api.Attachment, error) {
	e.asked = append(e.asked, r)
	return api.Attachment{Name: "asked"}, e.find(r.Container)
}

func (e *engine) Disconnect(_ context.Context, r api.DisconnectRequest) error {
	e.asked = append(e.asked, r)
	return e.find(r.Container)
}

func (e *engine) Found() bool { return e.has != "" }

func (e *engine) find(name string) error {
	if name != e.has {
		return api.Errorf(api.KindNotFound, "No such container: %s", name)
	}
	return nil
}

func TestRuntimeThatHasToBeAsked(t *testing.T) {
	e := &engine{has: "abcd"}
	m := New(Config{Journal: openJournal(t)})
	m.Use(nil, nobodyElse{})
	for i, l := range []journal.Local{
		{Endpoint: discovery.Endpoint{ID: discovery.EndpointID{1}, Name: "shop", Runtime: discovery.RuntimeDocker}, Container: "abcd"},
		{Endpoint: discovery.Endpoint{ID: discovery.EndpointID{2}, Name: "web", Runtime: discovery.RuntimeNetns}, Cookie: 7},
		{Endpoint: discovery.Endpoint{ID: discovery.EndpointID{3}, Name: "host1", Runtime: discovery.RuntimeHost}},
	} {
		l.Created = time.Unix(int64(i), 0)
		if err := m.Journal.Put(l); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := m.container(nil, "shop"); api.KindOf(err) != api.KindConflict || !strings.Contains(err.Error(), "container of docker") {
		t.Errorf("without an engine: %v", err)
	}
	runtimes := map[string]Connector{"docker": e}
	for name, wantAsk := range map[string]bool{"shop": true, "abcd": true, "unknown": true, "web": false, "host1": true} {
		l, ask, err := m.container(runtimes, name)
		if err != nil || (ask != nil) != wantAsk {
			t.Errorf("%s: %+v, asked %v, %v; want asked %v", name, l, ask != nil, err, wantAsk)
		}
	}
	runtimes["docker"] = &engine{}
	if _, ask, err := m.container(runtimes, "shop"); err != nil || ask == nil {
		t.Errorf("an engine that is not there says so itself: %v, %v", ask, err)
	}
	if err := unknownToRuntime("x", e.find("x")); api.KindOf(err) != api.KindNotFound || !strings.Contains(err.Error(), "on the networks of this host") {
		t.Errorf("a container that the engine lacks: %v", err)
	}
}
