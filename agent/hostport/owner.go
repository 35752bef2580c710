package hostport

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// HeldError says which program has a port of this host that the agent needs.
type HeldError struct {
	What   string // the port and what it is for
	Holder string // "nginx (pid 812)"; empty: not found
	Err    error  // of the one who wanted it
}

// Held names who has a port, over the first of the protocols (tcp, udp) that anybody
// has it. It returns nil for nil.
func Held(err error, what string, port uint16, protocols ...string) error {
	if err == nil {
		return nil
	}
	for _, protocol := range protocols {
		if holder := program(protocol, port); holder != "" {
			return &HeldError{fmt.Sprintf("%d/%s, %s", port, protocol, what), holder, err}
		}
	}
	return &HeldError{What: fmt.Sprintf("%d/%s, %s", port, strings.Join(protocols, " or "), what), Err: err}
}

// Error names the port and who has it.
func (e *HeldError) Error() string {
	if e.Holder == "" {
		return fmt.Sprintf("port %s, is taken: %v", e.What, e.Err)
	}
	return fmt.Sprintf("port %s, is held by %s", e.What, e.Holder)
}

// Unwrap returns what the one who wanted the port was told.
func (e *HeldError) Unwrap() error { return e.Err }

// program names the program that holds a port of this host: "nginx (pid 812)";
// empty when none is found, such as one of another process id namespace.
func program(protocol string, port uint16) string {
	for _, h := range Holders(protocol, port) {
		if h != Unseen {
			return h
		}
	}
	return ""
}

// Holders that are no program. Some kernels give a tunnel device's socket an inode that
// no process has.
const (
	Kernel = "the kernel, for a tunnel device (ip -d link show)"
	Unseen = "the kernel or a program that is not seen from here"
)

// Holders names the programs that have a port of this host, at whichever of its
// addresses, as program does; what has it and is not found is Unseen.
func Holders(protocol string, port uint16) (all []string) {
	for _, family := range []string{"", "6"} {
		// Of the thread: the process's first one may be in a sandbox at this moment.
		b, err := os.ReadFile("/proc/thread-self/net/" + protocol + family)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			owner := ""
			switch inode := holds(line, protocol, port); inode {
			case "":
			case "0":
				owner = Kernel
			default:
				owner = cmp.Or(socketOwner(inode), Unseen)
			}
			if owner != "" && !slices.Contains(all, owner) {
				all = append(all, owner)
			}
		}
	}
	return all
}

// holds returns the inode of the socket in a line of /proc/net/tcp or udp
// (proc(5)) if it is bound to the port, and for TCP listening.
func holds(line, protocol string, port uint16) (inode string) {
	f := strings.Fields(line)
	const listening = "0A"
	if len(f) < 10 || protocol == "tcp" && f[3] != listening {
		return ""
	}
	_, hex, _ := strings.Cut(f[1], ":")
	if n, err := strconv.ParseUint(hex, 16, 16); err != nil || uint16(n) != port {
		return ""
	}
	return f[9]
}

func socketOwner(inode string) string {
	files, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, file := range files {
		if target, err := os.Readlink(file); err != nil || target != "socket:["+inode+"]" {
			continue
		}
		pid := strings.Split(file, "/")[2]
		name, err := os.ReadFile("/proc/" + pid + "/comm")
		if err != nil {
			continue
		}
		return fmt.Sprintf("%s (pid %s)", strings.TrimSpace(string(name)), pid)
	}
	return ""
}
