package main

import (
	"context"
	"errors"
	"fmt"
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
		Use:   "fabric -- COMMAND [ARG]...",
		Short: "Run a command in the fabric namespace",
		Long: `Run a command in the fabric namespace, where the bridges and VXLAN devices are;
its exit code is passed on.`,
		Example: "  agentctl fabric -- bridge fdb show",
		Args:    wants(1, -1, "a COMMAND"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var st api.Status
			err := a.call(cmd, shortCall, func(ctx context.Context, agent api.Service) (err error) {
				st, err = agent.Status(ctx)
				return err
			})
			switch {
			case err != nil:
				return err
			case st.Fabric == "":
				return api.Errorf(api.KindNotFound, "fabric: the agent has no fabric namespace yet")
			}
			return execError(args, execIn(st, args))
		},
	}
	cmd.Flags().SetInterspersed(false) // what follows the COMMAND is its own
	return cmd
}

// execIn becomes the command args in the fabric namespace. It returns only if
// it fails, and then the thread it ran on is good for nothing else.
func execIn(st api.Status, args []string) error {
	binary, err := exec.LookPath(args[0])
	if err != nil {
		return err
	}
	ns, err := openNamespace(st)
	if err != nil {
		return err
	}
	defer ns.Close()
	// A namespace belongs to a thread, and execve(2) keeps the namespaces of the
	// thread that calls it.
	runtime.LockOSThread()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return &fs.PathError{Op: "setns", Path: ns.Name(), Err: err}
	}
	return &fs.PathError{Op: "exec", Path: binary, Err: syscall.Exec(binary, args, os.Environ())}
}

// openNamespace opens the fabric namespace. `ip netns exec` gives an agent a
// mount namespace of its own, and what the agent mounts there shows outside as
// an empty file: then the way is through the agent's root (proc(5)).
func openNamespace(st api.Status) (*os.File, error) {
	f, err := os.Open(st.Fabric)
	if err == nil && isNamespace(f) || st.PID <= 0 {
		return f, err
	}
	through, throughErr := os.Open(fmt.Sprintf("/proc/%d/root%s", st.PID, st.Fabric))
	if throughErr != nil {
		return f, err
	}
	f.Close() // nil when there was none, which Close allows
	return through, nil
}

// isNamespace reports whether f is a namespace, and not the file that one is
// mounted on.
func isNamespace(f *os.File) bool {
	var fs unix.Statfs_t
	return unix.Fstatfs(int(f.Fd()), &fs) == nil && fs.Type == unix.NSFS_MAGIC
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
