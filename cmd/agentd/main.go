// Command agentd is weft's daemon: one on each host. It keeps no logic of its
// own: it reads the configuration, assembles the agent and waits.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/agent"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// Exit codes, as agentctl's.
const (
	exitOK         = 0
	exitFailed     = 1
	exitMisuse     = 2
	exitPermission = 7
)

// misuse marks an error that is the caller's: exit 2.
type misuse struct{ error }

func (m misuse) Unwrap() error { return m.error }

// run is main without its process: it returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	cmd := command(stderr)
	cmd.SetArgs(args)
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	err := cmd.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	_, _ = fmt.Fprintf(stderr, "agentd: %v\n", err)
	if hint := agent.Hint(err); hint != "" {
		_, _ = fmt.Fprintf(stderr, "hint: %s\n", hint)
	}
	switch {
	case errors.As(err, new(misuse)):
		return exitMisuse
	case errors.Is(err, os.ErrPermission):
		return exitPermission
	}
	return exitFailed
}

func command(stderr io.Writer) *cobra.Command {
	var file string
	flags := map[string]*string{}
	root := &cobra.Command{
		Use:   "agentd [--config FILE] [--KEY VALUE]…",
		Short: "The weft daemon: one on each host",
		Long: "agentd carries this host's part of the overlay and serves agentctl.\n" +
			"It runs until it gets SIGTERM; what it programmed stays in the kernel.\n" +
			"SIGHUP applies a changed log level.",
		Example:           "  agentd --config /etc/weft/agentd.yaml\n  agentd --name host1 --advertise 192.0.2.1",
		Args:              noArgs,
		SilenceUsage:      true,
		SilenceErrors:     true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	root.PersistentFlags().StringVar(&file, "config", "", "`FILE` in YAML; agentd config print-default shows every key")
	for _, k := range agent.Keys() {
		flags[k.Flag] = root.PersistentFlags().String(k.Flag, "", "`"+k.Value+"` "+k.Usage)
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return misuse{err} })
	load := func() (agent.Config, error) {
		given := map[string]string{}
		for name, v := range flags {
			if root.PersistentFlags().Changed(name) {
				given[name] = *v
			}
		}
		cfg, err := agent.Load(file, given)
		if err != nil {
			return cfg, misuse{err}
		}
		return cfg, nil
	}
	root.RunE = func(cmd *cobra.Command, _ []string) error { return serve(cmd.Context(), load, stderr) }
	root.AddCommand(fabricCommand(load), cleanupCommand(load, stderr), configCommand(), versionCommand())
	return root
}

func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return misuse{fmt.Errorf("%s: unknown argument %q", cmd.CommandPath(), args[0])}
	}
	return nil
}

// serve runs the agent until ctx ends.
func serve(ctx context.Context, load func() (agent.Config, error), stderr io.Writer) error {
	cfg, err := load()
	if err != nil {
		return err
	}
	var level slog.LevelVar
	log := logger(cfg, &level, stderr)
	go reload(ctx, cfg, load, &level, log)
	return agent.New(cfg, log).Run(ctx)
}

func logger(cfg agent.Config, level *slog.LevelVar, w io.Writer) *slog.Logger {
	level.Set(cfg.LogLevel)
	opts := &slog.HandlerOptions{Level: level}
	if cfg.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}

// reload applies a changed log level at each SIGHUP, and says which other key
// was changed that needs a restart.
func reload(ctx context.Context, cfg agent.Config, load func() (agent.Config, error), level *slog.LevelVar, log *slog.Logger) {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	for {
		select {
		case <-ctx.Done():
			return
		case <-hup:
		}
		next, err := load()
		if err == nil {
			err = cfg.Reload(next)
		}
		if err != nil {
			log.Error("configuration not reloaded", "err", err)
			continue
		}
		level.Set(next.LogLevel)
		log.Info("configuration reloaded", "log_level", next.LogLevel)
	}
}

func fabricCommand(load func() (agent.Config, error)) *cobra.Command {
	return &cobra.Command{
		Use: "fabric", Short: "Make the fabric namespace and exit", Args: noArgs,
		Long: "fabric makes the network namespace of bridges and VXLAN devices, if it is not there.\n" +
			"A service manager runs it outside the service's mount namespace, where the mount is seen by all.",
		RunE: func(*cobra.Command, []string) error {
			cfg, err := load()
			if err != nil {
				return err
			}
			return agent.MakeFabric(cfg)
		},
	}
}

func cleanupCommand(load func() (agent.Config, error), stderr io.Writer) *cobra.Command {
	return &cobra.Command{
		Use: "cleanup", Short: "Remove everything of weft's from this host's kernel", Args: noArgs,
		Long: "cleanup removes links, rules, the fabric namespace and the resolv.conf files of named namespaces\n" +
			"from a host without a running agent.\n" +
			"The data directory is kept: an agent that is started again is a member again.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := load()
			if err != nil {
				return err
			}
			var level slog.LevelVar
			return agent.Cleanup(cmd.Context(), cfg, logger(cfg, &level, stderr))
		},
	}
}

func configCommand() *cobra.Command {
	config := &cobra.Command{Use: "config", Short: "Check and print configurations", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	config.AddCommand(
		&cobra.Command{
			Use: "check FILE", Short: "Say what is wrong with a configuration file", Args: cobra.ExactArgs(1),
			Example: "  agentd config check /etc/weft/agentd.yaml",
			RunE: func(cmd *cobra.Command, args []string) error {
				if _, err := agent.Load(args[0], nil); err != nil {
					return misuse{err}
				}
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s is valid\n", args[0])
				return err
			},
		},
		&cobra.Command{
			Use: "print-default", Short: "Print every key with its default", Args: noArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				_, err := fmt.Fprint(cmd.OutOrStdout(), agent.DefaultYAML)
				return err
			},
		})
	return config
}

func versionCommand() *cobra.Command {
	return &cobra.Command{Use: "version", Short: "Print the version", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), agent.Version)
			return err
		}}
}
