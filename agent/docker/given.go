package docker

import (
	"context"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/weft-net/weft/discovery/pace"
)

// givenPause is between two lists of the containers: many are often started or
// removed at once.
const givenPause = 10 * time.Millisecond

// listGiven asks for a list of what containers were given; one serves all that
// happened before it.
func (e *engine) listGiven() {
	select {
	case e.containers <- struct{}{}:
	default:
	}
}

// keepGiven tells the agent again and again which addresses containers have by --ip.
func (e *engine) keepGiven(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-e.containers:
		}
		if err := e.sayGiven(ctx); err != nil && ctx.Err() == nil {
			e.log.Debug("docker's containers not listed", "err", err)
			pace.Sleep(ctx, time.Second)
			e.listGiven()
		}
		pace.Sleep(ctx, givenPause)
	}
}

// sayGiven lists the containers, running or not, and hands over what they were given.
func (e *engine) sayGiven(ctx context.Context) error {
	cluster, refused := e.agent.Cluster()
	e.mu.Lock()
	api, objects := e.api, e.objects
	e.mu.Unlock()
	if refused != nil || api == nil || objects == nil {
		return nil // which networks are the cluster's is not known yet
	}
	ctx, cancel := context.WithTimeout(ctx, engineWait)
	defer cancel()
	all, err := api.ContainerList(ctx, client.ContainerListOptions{All: true})
	if err != nil {
		return err
	}
	e.agent.Keep(ctx, givenOf(cluster, objects, all.Items))
	return nil
}

// givenOf are the addresses that containers were given on networks of the cluster. A
// container that never ran has the network's name only.
func givenOf(c Cluster, objects map[string]string, all []container.Summary) (given []Given) {
	byName := map[string]string{}
	for id, name := range objects {
		byName[name] = id
	}
	for _, one := range all {
		if one.NetworkSettings == nil {
			continue
		}
		for name, s := range one.NetworkSettings.Networks {
			if s == nil || s.IPAMConfig == nil || !s.IPAMConfig.IPv4Address.IsValid() {
				continue
			}
			id := s.NetworkID
			if _, ours := objects[id]; !ours {
				id = byName[name]
			}
			if n, ok := c.byID(c.Objects[id]); ok {
				given = append(given, Given{Network: n.ID, Addr: s.IPAMConfig.IPv4Address})
			}
		}
	}
	return given
}
