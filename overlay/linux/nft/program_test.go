package nft

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/overlay"
)

// instead puts a shell script in the place of nft(8) for the test.
func instead(t *testing.T, script string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "nft")
	must(t, os.WriteFile(file, []byte("#!/bin/sh\n"+script), 0o755))
	before := programs
	t.Cleanup(func() { programs = before })
	programs = []string{file}
}

func TestWithoutTheProgram(t *testing.T) {
	l := newNFTLab(t)
	before := programs
	t.Cleanup(func() { programs = before })
	programs = []string{"/nowhere/nft"}
	if err := Installed(); !errors.Is(err, overlay.ErrNoNFT) || !strings.Contains(err.Error(), "nftables") {
		t.Errorf("got error %v, want one that names the package", err)
	}
	err := l.nft.Put(t.Context(), filterOf(t, stateNamed(t, "member of no network"))...)
	if failed := new(overlay.ObjectError); !errors.As(err, &failed) || !errors.Is(err, overlay.ErrNoNFT) {
		t.Errorf("got error %v, want ErrNoNFT for a table", err)
	}
}

// Sockets of an agent are no business of a program that it runs.
func TestProgramInheritsNothing(t *testing.T) {
	newNFTLab(t) // which has sockets
	instead(t, "ls -l /proc/$$/fd; env")
	out, err := run(t.Context(), programTimeout, "", "list")
	must(t, err)
	if strings.Contains(out, "socket:") || strings.Contains(out, "net:[") || strings.Contains(out, "HOME=") {
		t.Errorf("it has:\n%s", out)
	}
}

// A program that hangs is ended, and the namespace that it was given goes with
// it.
func TestProgramThatHangs(t *testing.T) {
	needRoot(t)
	file := filepath.Join(t.TempDir(), "namespace")
	instead(t, fmt.Sprintf("readlink /proc/self/ns/net >%s\nexec sleep 60", file))
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err := loaded(ctx, "table inet weft {\n}\n")
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got error %v, want context.DeadlineExceeded", err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	b, err := os.ReadFile(file)
	must(t, err)
	namespace := strings.TrimSpace(string(b))
	home, err := os.Readlink("/proc/thread-self/ns/net")
	must(t, err)
	if namespace == home {
		t.Fatal("it was run in the namespace of this process")
	}
	threads, err := filepath.Glob("/proc/[0-9]*/task/*/ns/net")
	must(t, err)
	descriptors, err := filepath.Glob("/proc/self/fd/*")
	must(t, err)
	for _, link := range append(threads, descriptors...) {
		if to, _ := os.Readlink(link); to == namespace {
			t.Errorf("%s still is %s", link, namespace)
		}
	}
}

// Elements go to the kernel while nft(8) takes its time over other rules.
func TestElementsDoNotWaitForTheProgram(t *testing.T) {
	l := newNFTLab(t)
	l.put(t, filterOf(t, stateNamed(t, "member of no network"))...)
	begun := filepath.Join(t.TempDir(), "begun")
	instead(t, "touch "+begun+"\nexec sleep 60")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- l.nft.Put(ctx, tablesAsObjects(filterOf(t, stateNamed(t, "another tunnel port")))...) }()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if _, err := os.Stat(begun); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the program was not started")
		}
	}
	want := vtepElement(underlays[0].Next())
	start := time.Now()
	l.put(t, want)
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want context.Canceled", err)
	}
}

// A rule that another program changed is put right without nft(8), which only
// tells people what there was.
func TestRepairNeedsNoProgram(t *testing.T) {
	l := newNFTLab(t)
	want := filterOf(t, stateNamed(t, "one network with a local endpoint"))
	l.put(t, want...)
	sh(t, "ip netns exec %s nft flush chain inet weft forward", l.host)
	instead(t, "exit 1")
	l.put(t, tablesAsObjects(want)...)
	same(t, want, l.list(t))
}

// On a starved machine the program gets more time with each try, and no more than it
// needs once it is quick again.
func TestProgramThatIsSlowGetsMoreTime(t *testing.T) {
	p := patience{first: programTimeout}
	cut := fmt.Errorf("nft -f -: %w", context.DeadlineExceeded)
	var got []time.Duration
	for _, err := range []error{cut, cut, cut, cut, context.Canceled, nil, cut, errors.New("syntax error")} {
		got = append(got, p.bound()/time.Second)
		p.learn(err)
	}
	if want := []time.Duration{5, 10, 20, 20, 20, 20, 5, 10}; !slices.Equal(got, want) {
		t.Errorf("seconds %d, want %d", got, want)
	}
	for range 1000 {
		p.learn(cut)
	}
	if p.bound() != mostTimeout {
		t.Errorf("after a thousand: %v", p.bound())
	}
}

// A table is put in the end, however slow the program is.
func TestTableIsPutOnceTheProgramGetsTheTime(t *testing.T) {
	l := newNFTLab(t)
	real, err := program()
	must(t, err)
	instead(t, "sleep 0.5\nexec "+real+" \"$@\"")
	t.Cleanup(func() { loading.first = programTimeout; loading.cut.Store(0) })
	loading.first = 100 * time.Millisecond
	def := tablesAsObjects(filterOf(t, stateNamed(t, "another tunnel port")))
	tries := 1
	for ; tries < 10 && l.nft.Put(t.Context(), def...) != nil; tries++ {
	}
	if tries == 1 || tries == 10 {
		t.Errorf("put with try %d, want a few", tries)
	}
}
