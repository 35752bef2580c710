package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/agent/api"
)

func newFabric(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "fabric -- COMMAND [ARG]...",
		Short:   "Run a command in the fabric namespace",
		Long:    "Run a command in the fabric namespace, where the bridges and VXLAN devices are; its exit code is passed on.",
		Example: "  agentctl fabric -- bridge fdb show",
		Args:    wants(1, -1, "a COMMAND"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var path string
			err := a.call(cmd, shortCall, func(ctx context.Context, agent api.Service) error {
				st, err := agent.Status(ctx)
				path = st.Fabric
				return err
			})
			switch {
			case err != nil:
				return err
			case path == "":
				return api.Errorf(api.KindNotFound, "fabric: the agent has no fabric namespace yet").WithHint("agentctl status")
			}
			return execIn(path, args)
		},
	}
	cmd.Flags().SetInterspersed(false) // what follows the COMMAND is its own
	return cmd
}

// execIn becomes the command args in the network namespace at path. It returns
// only if it fails, and then the thread it ran on is good for nothing else.
func execIn(path string, args []string) error {
	binary, err := exec.LookPath(args[0])
	if err != nil {
		return execError(args, err)
	}
	ns, err := os.Open(path)
	if err != nil {
		return execError(args, err)
	}
	defer ns.Close()
	// A namespace belongs to a thread, and execve(2) keeps the namespaces of the
	// thread that calls it.
	runtime.LockOSThread()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return execError(args, &fs.PathError{Op: "setns", Path: path, Err: err})
	}
	return execError(args, &fs.PathError{Op: "exec", Path: binary, Err: syscall.Exec(binary, args, os.Environ())})
}

func execError(args []string, err error) error {
	switch {
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		return api.Errorf(api.KindNotFound, "fabric: %v", err)
	case errors.Is(err, fs.ErrPermission):
		return api.Errorf(api.KindPermission, "fabric: %v", err).WithHint("sudo agentctl fabric -- %s", strings.Join(args, " "))
	}
	return api.Errorf(api.KindFailed, "fabric: %v", err)
}
