package nft

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/weft-net/weft/overlay"
	"github.com/weft-net/weft/overlay/overlaytest"
)

var discard = slog.New(slog.DiscardHandler)

var serial atomic.Int32

func needRoot(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root to make network namespaces")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("needs ip(8)")
	}
}

func sh(t testing.TB, format string, args ...any) string {
	t.Helper()
	out, err := try(t, format, args...)
	if err != nil {
		t.Fatalf("%s: %v\n%s", fmt.Sprintf(format, args...), err, out)
	}
	return out
}

func try(t testing.TB, format string, args ...any) (string, error) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	out, err := exec.CommandContext(ctx, "sh", "-c", fmt.Sprintf(format, args...)).CombinedOutput()
	return string(out), err
}

// newNamespace makes a network namespace that is removed after the test.
func newNamespace(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("weft-n-%d-%d", os.Getpid(), serial.Add(1))
	sh(t, "ip netns add %s", name)
	t.Cleanup(func() { try(t, "ip netns del %s", name) })
	return name
}

func openNetns(t testing.TB, name string) *os.File {
	t.Helper()
	f, err := os.Open("/run/netns/" + name)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func contains(t testing.TB, text string, all ...string) {
	t.Helper()
	for _, want := range all {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in:\n%s", want, text)
		}
	}
}

// filterOf are the tables and elements that a state needs, tables first.
func filterOf(t testing.TB, s overlay.State) []overlay.Object {
	t.Helper()
	k := overlaytest.New()
	must(t, overlay.New(k, "weft", discard).Set(t.Context(), s))
	all, err := k.List(t.Context())
	must(t, err)
	var filter []overlay.Object
	for _, o := range all {
		switch o.(type) {
		case overlay.NFTable, overlay.NFElement:
			filter = append(filter, o)
		}
	}
	slices.SortFunc(filter, func(a, b overlay.Object) int {
		return cmp.Or(cmp.Compare(a.Rank(), b.Rank()), cmp.Compare(a.String(), b.String()))
	})
	return filter
}

// tablesOf are the tables among objects.
func tablesOf(objects []overlay.Object) (tables []overlay.NFTable) {
	for _, o := range objects {
		if t, ok := o.(overlay.NFTable); ok {
			tables = append(tables, t)
		}
	}
	return tables
}

func stateNamed(t testing.TB, name string) overlay.State {
	t.Helper()
	for _, s := range overlaytest.States(underlays[0]) {
		if s.Name == name {
			return s.State
		}
	}
	t.Fatalf("no state is named %q", name)
	return overlay.State{}
}
