package hostport

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// program names the program that holds a port of this host: "nginx (pid 812)";
// empty when none is found, such as one of another process id namespace.
func program(protocol string, port uint16) string {
	for _, family := range []string{"", "6"} {
		b, err := os.ReadFile("/proc/self/net/" + protocol + family)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			if inode := holds(line, protocol, port); inode != "" {
				if owner := socketOwner(inode); owner != "" {
					return owner
				}
			}
		}
	}
	return ""
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
