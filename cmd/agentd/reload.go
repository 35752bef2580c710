package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/weft-net/weft/agent"
	"github.com/weft-net/weft/agent/config"
)

// reloader applies a changed log level and address of Consul at each SIGHUP, and says which other key
// was changed that needs a restart.
type reloader struct {
	cfg     config.Config
	load    func() (config.Config, error)
	level   *slog.LevelVar
	agent   *agent.Agent
	manager manager
}

// run begins when the agent is ready: before that there is nothing to reload,
// and the READY=1 that ends a reload would not be true.
func (r reloader) run(ctx context.Context) {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	select {
	case <-ctx.Done():
		return
	case <-r.agent.Ready():
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-hup:
			r.manager.reloading()
			r.manager.tell("READY=1", "STATUS="+r.once(ctx))
		}
	}
}

// once reloads the configuration and returns the status line from then on.
func (r reloader) once(ctx context.Context) string {
	log := r.manager.log
	next, err := r.load()
	if err == nil {
		err = r.cfg.Reload(next)
	}
	if err == nil {
		err = r.agent.Reload(next)
	}
	if err != nil {
		log.Error("configuration not reloaded", "err", err)
		return oneLine("configuration not reloaded: " + err.Error())
	}
	r.level.Set(next.LogLevel)
	log.Info("configuration reloaded", "log_level", next.LogLevel)
	return summary(ctx, r.agent)
}
