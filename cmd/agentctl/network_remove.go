package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/weft-net/weft/agent/api"
)

func newNetworkRemove(a *app) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:     "rm NAME... [-f]",
		Aliases: []string{"remove", "delete"},
		Short:   "Remove networks",
		Long: `Remove networks and print the names of those that are gone.

NAME is a name or an id. With -f a network that does not exist is no error, and
the endpoints of every host are detached, live ones too. Several networks are
removed at once, and --timeout is the time of each.`,
		Example: "  agentctl network rm backend",
		Args:    wants(1, -1, "the NAME of a network"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return (&removal{app: a, cmd: cmd, force: force}).of(args)
		},
		ValidArgsFunction: a.complete(networkNames),
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "detach the endpoints of all hosts, and free what dead hosts hold")
	return cmd
}

// removal removes networks.
type removal struct {
	*app
	cmd   *cobra.Command
	force bool
}

// removedAtOnce is how many networks are removed at a time. Each waits for the other
// hosts, which take most of a second to give back what they hold of it.
const removedAtOnce = 8

// of removes networks by name, each once. It prints those that are gone in their order.
func (r *removal) of(names []string) error {
	var once []string
	for _, n := range names {
		if !slices.Contains(once, n) {
			once = append(once, n)
		}
	}
	done := make([]chan error, len(once))
	for i := range once {
		done[i] = make(chan error, 1)
	}
	go func() {
		var group errgroup.Group
		group.SetLimit(removedAtOnce)
		for i, name := range once {
			group.Go(func() error { done[i] <- r.one(name); return nil })
		}
	}()
	kept := failures{total: len(once)}
	for i, name := range once {
		err := <-done[i]
		switch {
		case err == nil:
			_, err = fmt.Fprintln(r.out, name)
		case r.force && api.KindOf(err) == api.KindNotFound:
			err = nil
		}
		kept.add(name, err)
		if len(once) > 1 {
			r.progress(fmt.Sprintf("%d of %d networks, %d not removed", i+1, len(once), len(kept.names)))
		}
	}
	return kept.summary()
}

// one removes one network, in a time of its own.
func (r *removal) one(name string) error {
	return r.call(r.cmd, shortCall, func(ctx context.Context, agent api.Service) error {
		return agent.NetworkRemove(ctx, name, r.force)
	})
}

// failures are the networks that were not removed.
type failures struct {
	total int
	names []string
	errs  []error
}

func (f *failures) add(name string, err error) {
	if err != nil {
		f.names, f.errs = append(f.names, name), append(f.errs, err)
	}
}

// mostHints is how many hints a summary has: those of hundreds of networks would hide
// what is wrong.
const mostHints = 3

// summary is one error for all: each reason once, with the networks that it is of. Its
// kind is the first one's; nil: all are gone.
func (f *failures) summary() error {
	if len(f.errs) < 2 {
		return errors.Join(f.errs...)
	}
	var reasons, hints []string
	of := map[string][]string{}
	for i, err := range f.errs {
		e, ok := errors.AsType[*api.Error](err)
		if !ok {
			e = api.Errorf(api.KindFailed, "%v", err)
		}
		why := strings.TrimPrefix(e.Message, "network rm "+f.names[i]+": ")
		if of[why] == nil {
			reasons = append(reasons, why)
		}
		of[why] = append(of[why], f.names[i])
		if e.Hint != "" && !slices.Contains(hints, e.Hint) && len(hints) < mostHints {
			hints = append(hints, e.Hint)
		}
	}
	for i, why := range reasons {
		reasons[i] = abridged(of[why]) + ": " + why
	}
	return api.Errorf(api.KindOf(f.errs[0]), "network rm: %d of %d not removed: %s", len(f.errs), f.total, strings.Join(reasons, "; ")).
		WithHint("%s", strings.Join(hints, "\n"))
}

// abridged is a list of names for one line.
func abridged(names []string) string {
	const most = 5
	if len(names) <= most+1 {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}
