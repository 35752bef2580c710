package main

import (
	"context"
	"slices"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/agent/api"
)

// listing is a command that shows those of a list that its --filter keeps.
type listing[T any] struct {
	known map[string]matcher[T] // the keys of --filter
	usage string                // of --filter
	ask   func(context.Context, api.Service) ([]T, error)
	order func(x, y T) int
	show  func(list []T) error
}

// of makes cmd the command. out is that of show.
func (l listing[T]) of(a *app, cmd *cobra.Command, out *output) *cobra.Command {
	var filters []string
	cmd.Aliases = []string{"list"}
	cmd.Args = wants(0, 0, "")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := out.check(cmd); err != nil {
			return err
		}
		keep, err := filterOf(cmd, filters, l.known)
		if err != nil {
			return err
		}
		return a.call(cmd, shortCall, func(ctx context.Context, agent api.Service) error {
			list, err := l.ask(ctx, agent)
			if err != nil {
				return err
			}
			list = slices.DeleteFunc(list, func(row T) bool { return !keep(row) })
			slices.SortFunc(list, l.order)
			return l.show(list)
		})
	}
	cmd.Flags().StringArrayVarP(&filters, "filter", "f", nil, l.usage)
	cmd.RegisterFlagCompletionFunc("filter", filterKeys(l.known))
	out.addFlags(cmd, "table")
	return cmd
}
