package survey

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Speakers are the other programs that have the kernel's network or packet filter open
// to change it: "name (pid)", sorted. They are in the calling thread's namespace, and a
// program that speaks for a moment alone, as ip(8), is among them by chance.
func Speakers() []string {
	f, err := os.Open("/proc/thread-self/net/netlink")
	if err != nil {
		return nil
	}
	defer f.Close()
	var all []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text()) // sk, protocol, port id, …
		if len(fields) < 3 || fields[1] != strconv.Itoa(unix.NETLINK_ROUTE) && fields[1] != strconv.Itoa(unix.NETLINK_NETFILTER) {
			continue
		}
		// A program's first socket has its pid as port id (netlink(7)); the others have
		// numbers that are no pid.
		pid, err := strconv.Atoi(fields[2])
		if err != nil || pid <= 0 || pid == os.Getpid() {
			continue
		}
		name, err := os.ReadFile(filepath.Join("/proc", fields[2], "comm"))
		if err == nil {
			all = append(all, fmt.Sprintf("%s (%d)", strings.TrimSpace(string(name)), pid))
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}
