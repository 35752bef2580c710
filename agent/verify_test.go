package agent

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/overlay"
)

// What the kernel of another host refuses is drift there: verify --all lists it with
// that host's name, and a repair says what it could not mend.
func TestFlowVerifyAsksEveryMember(t *testing.T) {
	one, two := pair(t)
	if _, err := one.Attach(t.Context(), api.AttachRequest{Network: "blue", Netns: "/run/sandbox/0", Name: "web"}); err != nil {
		t.Fatal(err)
	}
	if _, err := two.Attach(t.Context(), api.AttachRequest{Network: "blue", Netns: "/run/sandbox/1", Name: "db"}); err != nil {
		t.Fatal(err)
	}
	var refuses atomic.Bool
	two.stop()
	two.kernel.Fail = func(o overlay.Object, deleting bool) error {
		if _, entry := o.(overlay.Neigh); entry && refuses.Load() {
			return errors.New("refused")
		}
		return nil
	}
	two.start()
	two.eventually("two knows web again", func() error {
		for _, o := range two.objects() {
			if _, ok := o.(overlay.Neigh); ok {
				return nil
			}
		}
		return errors.New("no neighbour entry")
	})
	wants := func(what string, r api.VerifyRequest, want string) {
		t.Helper()
		one.eventually(what, func() error {
			v, err := one.Verify(t.Context(), r)
			if err != nil {
				return err
			}
			got := fmt.Sprint(len(v.Drift), " ", len(v.Unasked))
			for _, d := range v.Drift {
				got += fmt.Sprintf(" %s %s %s repaired:%v", d.Host, d.Network, d.Kind, d.Repaired)
			}
			if got != want || v.Checked == 0 {
				return fmt.Errorf("%d checked: %s, want %s", v.Checked, got, want)
			}
			return nil
		})
	}
	wants("all is well", api.VerifyRequest{All: true}, "0 0")
	refuses.Store(true)
	for _, o := range two.objects() {
		if _, ok := o.(overlay.Neigh); ok {
			two.kernel.Remove(o.Key())
		}
	}
	wants("only the other host differs", api.VerifyRequest{}, "0 0")
	wants("the other host is asked", api.VerifyRequest{All: true}, "1 0 host2 blue missing repaired:false")
	wants("it cannot be mended", api.VerifyRequest{All: true, Repair: true}, "1 0 host2 blue missing repaired:false")
	refuses.Store(false)
	v, err := one.Verify(t.Context(), api.VerifyRequest{All: true, Repair: true})
	if err != nil || len(v.Drift) > 1 || len(v.Drift) == 1 && !v.Drift[0].Repaired {
		t.Errorf("%+v, %v", v, err)
	}
	wants("it is mended", api.VerifyRequest{All: true}, "0 0")
	two.stop()
	one.eventually("the member that is away is named", func() error {
		v, err := one.Verify(t.Context(), api.VerifyRequest{All: true})
		if err != nil || len(v.Unasked) != 1 || v.Unasked[0].Host != "host2" || v.Unasked[0].Why == "" {
			return fmt.Errorf("%+v, %w", v, err)
		}
		return nil
	})
}

// A member of an older release takes the question for one about addresses.
func TestFlowVerifySaysWhoIsOlder(t *testing.T) {
	one, two := pair(t)
	two.agent.peers.Handle("verify", nil)
	v, err := one.Verify(t.Context(), api.VerifyRequest{All: true})
	if err != nil || len(v.Unasked) != 1 || !strings.Contains(v.Unasked[0].Why, "does not know this question") {
		t.Errorf("%+v, %v", v, err)
	}
	var id discovery.HostID
	if reply, ok := two.agent.peers.Serve(id, []byte{1}); ok {
		t.Errorf("another's message was answered: %q", reply)
	}
}
