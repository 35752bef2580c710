package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/weft-net/weft/agent"
	"github.com/weft-net/weft/agent/config"
)

// reloader applies a changed log level and address of Consul at each SIGHUP, and says
// which other keys were changed that need a restart.
type reloader struct {
	cfg     config.Config
	load    func() (config.Config, error)
	level   *slog.LevelVar
	agent   *agent.Agent
	manager manager
}

// run is called when the agent is ready: before that there is nothing to reload,
// and the READY=1 that ends a reload would not be true.
func (r reloader) run(ctx context.Context) {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
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
	if err != nil {
		log.Error("configuration not reloaded", "err", err)
		return oneLine("configuration not reloaded: " + err.Error())
	}
	r.level.Set(next.LogLevel)
	log.Info("configuration reloaded", "log_level", next.LogLevel)
	if err := errors.Join(r.agent.Reload(next), r.cfg.Reload(next)); err != nil {
		log.Error("not all of the configuration is reloaded", "err", err)
		return oneLine(err.Error())
	}
	return summary(ctx, r.agent)
}

// runningFile is in the run directory: what the agent was started with, so that a
// reload can fail for a key that it does not apply.
const runningFile = "running.json"

// noteRunning writes what the agent was started with. An agent that is refused, since
// another one has its data directory, must not get here.
func noteRunning(cfg config.Config) error {
	text, err := json.Marshal(cfg.Running())
	if err == nil {
		err = os.MkdirAll(cfg.RunDir, 0o755)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(cfg.RunDir, runningFile), text, 0o644)
	}
	return err
}

// checkRunning returns an error that names the keys for which the agent of a run
// directory has to be restarted.
func checkRunning(cfg config.Config) error {
	text, err := os.ReadFile(filepath.Join(cfg.RunDir, runningFile))
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("no agent was started with run_dir %s: %w", cfg.RunDir, config.ErrRestart)
	}
	running := map[string]string{}
	if err == nil {
		err = json.Unmarshal(text, &running)
	}
	if err != nil {
		return err
	}
	return cfg.CheckRunning(running)
}
