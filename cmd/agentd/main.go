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
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/weft-net/weft/agent"
	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/config"
	"github.com/weft-net/weft/cmd/manpage"
)

func main() {
	code := run(untilAsked(), os.Args[1:], os.Stdout, os.Stderr)
	os.Exit(code)
}

// asked is why the process stops: a signal. Go does not tell who sent it.
type asked struct {
	sig     os.Signal
	managed bool // a service manager started the process
}

func (a asked) Error() string {
	name := map[os.Signal]string{syscall.SIGTERM: "SIGTERM", syscall.SIGINT: "SIGINT"}[a.sig]
	switch {
	case a.managed && a.sig == syscall.SIGTERM:
		return name + ", as systemctl stop and restart, a shutdown and an upgrade send it (journalctl -u agentd; last -x)"
	case a.sig == syscall.SIGINT:
		return name + ", as Ctrl-C on its terminal sends it"
	}
	return name + " from a user or a program (kill)"
}

// untilAsked is a context that ends with the first signal that asks to stop; its cause
// is an asked.
func untilAsked() context.Context {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		cancel(asked{<-signals, os.Getenv("INVOCATION_ID") != "" || os.Getenv("NOTIFY_SOCKET") != ""})
	}()
	return ctx
}

// Exit codes, as agentctl's.
const (
	exitOK         = 0
	exitFailed     = 1
	exitMisuse     = 2
	exitConflict   = 5
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
	if inJournal(stderr) {
		stderr = prefixed{stderr, priority(slog.LevelError)}
	}
	_, _ = fmt.Fprintf(stderr, "agentd: %v\n", err)
	if hint := agent.Hint(err); hint != "" {
		for line := range strings.Lines(hint) {
			_, _ = fmt.Fprintf(stderr, "hint: %s\n", strings.TrimSpace(line))
		}
	}
	switch {
	case errors.As(err, new(misuse)):
		return exitMisuse
	case agent.IsCopy(err):
		return exitConflict
	case errors.Is(err, os.ErrPermission):
		return exitPermission
	}
	return exitFailed
}

func command(stderr io.Writer) *cobra.Command {
	flags := map[string]*string{}
	root := &cobra.Command{
		Use:   "agentd [--config FILE] [--KEY VALUE]…",
		Short: "The weft daemon: one on each host",
		Long: "agentd carries this host's part of the overlay and serves agentctl.\n" +
			"It runs until it gets SIGTERM; what it programmed stays in the kernel.\n" +
			"SIGHUP applies a changed log level and address of Consul.",
		Example:           "  agentd --config /etc/weft/agentd.yaml\n  agentd --name host1 --advertise 192.0.2.1",
		Args:              noArgs,
		SilenceUsage:      true,
		SilenceErrors:     true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	file := keyFlag(root.PersistentFlags(), config.Key{Flag: "config", Value: "FILE", Usage: "in YAML; agentd config print-default shows every key"})
	for _, k := range config.Keys() {
		flags[k.Flag] = keyFlag(root.PersistentFlags(), k)
	}
	// Of our own: cobra's needs text/template, with which the linker keeps every
	// exported method of every library, a third of the program.
	version := root.Flags().BoolP("version", "v", false, "version for agentd")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return misuse{err} })
	load := func() (config.Config, error) {
		given := map[string]string{}
		for name, v := range flags {
			if root.PersistentFlags().Changed(name) {
				given[name] = *v
			}
		}
		cfg, err := config.Load(*file, given)
		if err != nil {
			return cfg, misuse{err}
		}
		return cfg, nil
	}
	root.RunE = func(cmd *cobra.Command, _ []string) error {
		if *version {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), api.Release())
			return err
		}
		return serve(cmd.Context(), load, stderr)
	}
	root.AddCommand(fabricCommand(load), cleanupCommand(load, stderr), configCommand(), versionCommand(), manCommand())
	return root
}

// keyFlag is a flag whose help has what it takes once, before its usage: pflag
// would repeat the word in the usage.
func keyFlag(flags *pflag.FlagSet, k config.Key) *string {
	v := &keyValue{takes: k.Value}
	flags.Var(v, k.Flag, k.Usage)
	return &v.text
}

// keyValue implements pflag.Value.
type keyValue struct{ text, takes string }

func (v *keyValue) String() string { return v.text }
func (v *keyValue) Type() string   { return v.takes }

// Set implements pflag.Value. What takes several may be given several times.
func (v *keyValue) Set(s string) error {
	if v.text != "" && strings.HasSuffix(v.takes, ",...") {
		s = v.text + "," + s
	}
	v.text = s
	return nil
}

// one checks that a command has one argument.
func one(name string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return misuse{fmt.Errorf("%s: want one %s, got %d", verb(cmd), name, len(args))}
		}
		return nil
	}
}

// verb is the command without the program: "config check".
func verb(cmd *cobra.Command) string { return strings.TrimPrefix(cmd.CommandPath(), "agentd ") }

func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return misuse{fmt.Errorf("%s: unknown argument %q", verb(cmd), args[0])}
	}
	return nil
}

// serve runs the agent until ctx ends.
func serve(ctx context.Context, load func() (config.Config, error), stderr io.Writer) error {
	cfg, err := load()
	if err != nil {
		return err
	}
	var level slog.LevelVar
	log := logger(cfg, &level, stderr)
	sockets, err := handedOver(log)
	if err != nil {
		return err
	}
	a := agent.New(cfg, sockets, log)
	m := manager{log}
	defer context.AfterFunc(ctx, sayWhy(ctx, log))()
	ctx, cancel := context.WithCancel(ctx)
	var tasks sync.WaitGroup
	tasks.Go(func() { m.guard(ctx, a.Alive) })
	tasks.Go(func() {
		select {
		case <-ctx.Done():
			return
		case <-a.Ready(): // it has the data directory: the file is no other agent's
		}
		if err := noteRunning(cfg); err != nil {
			log.Warn("a reload cannot tell which keys need a restart", "err", err)
		}
		tasks.Go(func() { m.follow(ctx, a) })
		r := reloader{cfg: cfg, load: load, level: &level, agent: a, manager: m}
		r.run(ctx)
	})
	defer tasks.Wait()
	defer cancel()
	err = a.Run(ctx)
	if err == nil { // it ran: an agent that could not start leaves alone what another one wrote
		_ = os.Remove(filepath.Join(cfg.RunDir, runningFile))
	}
	return err
}

// sayWhy writes the line that says who ended the agent, and after how long.
func sayWhy(ctx context.Context, log *slog.Logger) func() {
	start := time.Now()
	return func() {
		log.Info("the agent stops, what is attached goes on", "asked_by", context.Cause(ctx), "ran", time.Since(start).Round(time.Second))
	}
}

// logger writes to w. Lines for the journal begin with their priority, and
// leave out the time that it adds by itself.
func logger(cfg config.Config, level *slog.LevelVar, w io.Writer) *slog.Logger {
	level.Set(cfg.LogLevel)
	opts := &slog.HandlerOptions{Level: level}
	handler := func(w io.Writer) slog.Handler {
		if cfg.LogFormat == "json" {
			return slog.NewJSONHandler(w, opts)
		}
		return slog.NewTextHandler(w, opts)
	}
	if !inJournal(w) {
		return slog.New(handler(w))
	}
	opts.ReplaceAttr = func(groups []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey && len(groups) == 0 {
			return slog.Attr{}
		}
		return a
	}
	return slog.New(newJournalHandler(w, handler))
}

func fabricCommand(load func() (config.Config, error)) *cobra.Command {
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

func cleanupCommand(load func() (config.Config, error), stderr io.Writer) *cobra.Command {
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
	running := false
	check := &cobra.Command{
		Use: "check [--running] FILE", Short: "Say what is wrong with a configuration file", Args: one("FILE"),
		Example: "  agentd config check /etc/weft/agentd.yaml",
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := config.Load(args[0], nil)
			if err != nil {
				return misuse{err}
			}
			if running {
				return checkRunning(cfg)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is valid\n", args[0])
			return err
		},
	}
	check.Flags().BoolVar(&running, "running", false, "fail for a key that the running agent has otherwise and a reload does not apply")
	group := &cobra.Command{Use: "config", Short: "Check and print configurations", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	group.AddCommand(
		check,
		&cobra.Command{
			Use: "print-default", Short: "Print every key with its default", Args: noArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				_, err := fmt.Fprint(cmd.OutOrStdout(), config.DefaultYAML)
				return err
			},
		})
	return group
}

func versionCommand() *cobra.Command {
	return &cobra.Command{Use: "version", Short: "Print the version", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), api.Release())
			return err
		}}
}

// manCommand writes agentd(8), with its commands, and agentd.yaml(5) beside it.
func manCommand() *cobra.Command {
	see := []string{"agentctl(1)", "agentd.yaml(5)", "weft-netns@.service(8)", "weft-operations(7)", "weft-security(7)"}
	cmd := manpage.Book{Program: "agentd", Section: 8, Version: api.Release(), SeeAlso: see}.Command()
	pages := cmd.RunE
	cmd.Args = one("DIR")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		yaml := manpage.File("agentd.yaml", 5, api.Release(), "configuration of the weft agent",
			"agentd(8) reads /etc/weft/agentd.yaml when systemd starts it. Below is every key with its default;\n"+
				"`agentd config check FILE` says what is wrong with a file.", config.DefaultYAML)
		return errors.Join(pages(cmd, args), os.WriteFile(filepath.Join(args[0], "agentd.yaml.5"), []byte(yaml), 0o644))
	}
	return cmd
}
