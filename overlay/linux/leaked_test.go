package linux

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestLostFabricIsHealed(t *testing.T) {
	h := newHost(t)
	s := h.state(t, "remote endpoints")
	h.set(t, s)
	want := h.text(t)
	// Somebody unmounts the namespace while this process still holds it.
	held, err := os.Open(h.k.FabricPath())
	must(t, err)
	defer held.Close()
	must(t, unix.Unmount(h.k.FabricPath(), unix.MNT_DETACH))
	must(t, os.Remove(h.k.FabricPath()))

	h.open(t)
	h.set(t, s)
	if got := h.text(t); got != want {
		t.Errorf("kernel before:\n%s\nafter:\n%s", want, got)
	}
}
