package linux

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
)

var labs atomic.Uint32

// nftNetns makes a network namespace and removes it after the test.
func nftNetns(t testing.TB) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: network namespaces")
	}
	name := fmt.Sprintf("weft-t-nft-%d-%d", os.Getpid(), labs.Add(1))
	nftRun(t, "ip", "netns", "add", name)
	t.Cleanup(func() { nftRun(t, "ip", "netns", "del", name) })
	return name
}

// nftOpen opens our tables in two namespaces.
func nftOpen(t testing.TB, host, fabric string) *nftTables {
	t.Helper()
	n, err := openTables(nsFile(t, host), nsFile(t, fabric))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

func nsFile(t testing.TB, name string) *os.File {
	t.Helper()
	f, err := os.Open("/run/netns/" + name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// nftRun runs a program and returns what it printed.
func nftRun(t testing.TB, args ...string) string {
	t.Helper()
	out, err := nftTry(args...)
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func nftTry(args ...string) (string, error) {
	out, err := exec.CommandContext(context.Background(), args[0], args[1:]...).CombinedOutput()
	return string(out), err
}

// nftIn runs a command line in a namespace.
func nftIn(t testing.TB, ns, line string) string {
	t.Helper()
	return nftRun(t, append([]string{"ip", "netns", "exec", ns}, strings.Fields(line)...)...)
}
