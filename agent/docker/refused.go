package docker

import (
	"context"
	"errors"
	"strings"
	"sync"

	"github.com/weft-net/weft/agent/api"
)

// refusals are the driver's last errors. An engine repeats their words to who
// asked it, and nothing else of them: here they are found again.
type refusals struct {
	mu   sync.Mutex
	last [16]*api.Error
	next int
}

func (r *refusals) add(err error) {
	e, ok := errors.AsType[*api.Error](err)
	if !ok {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last[r.next%len(r.last)] = e
	r.next++
}

// behind is the error of ours that an engine's words repeat; nil: it is the
// engine's own.
func (r *refusals) behind(words string) *api.Error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.last {
		if e != nil && strings.Contains(words, sentence(e)) {
			return e
		}
	}
	return nil
}

// said is an engine's refusal about a container in its own words, which tell more
// than its status codes; what we told it is given back as it was.
func (r *refusals) said(err error, container string) error {
	if err == nil {
		return nil
	}
	words := strings.TrimPrefix(err.Error(), "Error response from daemon: ")
	if ours := r.behind(words); ours != nil {
		return ours
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return api.Errorf(api.KindTimeout, "the Docker engine does not answer: it may still do it").WithHint("docker version; agentctl ps")
	case noContainer(err):
		return api.Errorf(api.KindNotFound, "Docker: %s", words)
	case strings.Contains(words, "is not connected to"):
		return api.Errorf(api.KindNotFound, "Docker: %s", words).WithHint("agentctl ps")
	case strings.Contains(words, "private (none) mode"):
		return api.Errorf(api.KindConflict, "Docker: %s", words).
			WithHint("agentctl attach NETWORK --pid $(docker inspect -f '{{.State.Pid}}' %s) --name %s", container, container)
	case strings.Contains(words, "already exists in network"), strings.Contains(words, "already attached"):
		return api.Errorf(api.KindConflict, "Docker: %s", words).WithHint("agentctl ps")
	}
	return api.Errorf(api.KindFailed, "Docker: %s", words).WithHint("docker ps -a; journalctl -u docker")
}

// noContainer reports whether an engine's refusal says that there is no such
// container.
func noContainer(err error) bool { return strings.Contains(err.Error(), "No such container") }
