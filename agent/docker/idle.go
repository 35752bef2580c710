package docker

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"runtime"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/discovery/pace"
)

// Idle makes containers that do nothing but have a network, as the connectivity suite
// wants them. They are of an image of their own, with one program of 140 bytes: nothing
// is fetched, and no image of the user's is used.
type Idle struct{ engine *engine }

// Idle returns what makes them.
func (s *Service) Idle() Idle { return Idle{s.engine} }

const (
	idleImage   = "weft-idle"
	idleNetwork = 5 * time.Second // until the engine has a network that was just made
	idleAgain   = 100 * time.Millisecond
)

// Usable says why there can be none here; nil: there can.
func (i Idle) Usable() error {
	switch {
	case i.engine.client() == nil:
		return errAway()
	case idleProgram() == nil:
		return api.Errorf(api.KindFailed, "there is no idle program for %s", runtime.GOARCH)
	}
	return nil
}

// Start starts one on a network, under a name, and returns the path of its namespace and
// its address.
func (i Idle) Start(ctx context.Context, network, name, label, value string) (path string, a netip.Addr, err error) {
	c := i.engine.client()
	if err := i.Usable(); err != nil {
		return "", a, err
	}
	image := idleImage + ":" + value
	if err := importIdle(ctx, c, image, label+"="+value); err != nil {
		return "", a, fmt.Errorf("docker: image %s: %w", image, err)
	}
	config := client.ContainerCreateOptions{Name: name, Config: &container.Config{Image: image, Cmd: []string{"/idle"}, Labels: map[string]string{label: value}},
		HostConfig: &container.HostConfig{NetworkMode: container.NetworkMode(network), ReadonlyRootfs: true, CapDrop: []string{"ALL"}}}
	var made client.ContainerCreateResult
	for late := time.Now().Add(idleNetwork); ; {
		if made.ID == "" {
			made, err = c.ContainerCreate(ctx, config)
		}
		if err == nil {
			_, err = c.ContainerStart(ctx, made.ID, client.ContainerStartOptions{})
		}
		if err == nil {
			break
		}
		if time.Now().After(late) || !pace.Sleep(ctx, idleAgain) {
			return "", a, fmt.Errorf("docker: container %s: %w", name, err)
		}
	}
	got, err := c.ContainerInspect(ctx, made.ID, client.ContainerInspectOptions{})
	if err != nil {
		return "", a, fmt.Errorf("docker: container %s: %w", name, err)
	}
	if s := got.Container.NetworkSettings; s != nil && s.Networks[network] != nil {
		a = s.Networks[network].IPAddress
	}
	if got.Container.State == nil || got.Container.State.Pid == 0 || !a.IsValid() {
		return "", a, fmt.Errorf("docker: container %s does not run", name)
	}
	return fmt.Sprintf("/proc/%d/ns/net", got.Container.State.Pid), a, nil
}

// Remove removes all containers with the label, and their images, but those whose value
// is keep.
func (i Idle) Remove(ctx context.Context, label, keep string) error {
	c := i.engine.client()
	if c == nil {
		return nil // their networks are gone, and the next start of the engine shows them
	}
	list, err := c.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: client.Filters{}.Add("label", label)})
	if err != nil {
		return err
	}
	var errs []error
	for _, one := range list.Items {
		if one.Labels[label] != keep {
			_, err := c.ContainerRemove(ctx, one.ID, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
			errs = append(errs, err)
		}
	}
	images, err := c.ImageList(ctx, client.ImageListOptions{Filters: client.Filters{}.Add("label", label).Add("reference", idleImage)})
	errs = append(errs, err)
	for _, one := range images.Items {
		if one.Labels[label] != keep {
			_, err := c.ImageRemove(ctx, one.ID, client.ImageRemoveOptions{Force: true})
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// importIdle gives the engine the image.
func importIdle(ctx context.Context, c *client.Client, ref, label string) error {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	program := idleProgram()
	err := w.WriteHeader(&tar.Header{Name: "idle", Mode: 0o755, Size: int64(len(program))})
	if err == nil {
		_, err = w.Write(program)
	}
	if err := errors.Join(err, w.Close()); err != nil {
		return err
	}
	r, err := c.ImageImport(ctx, client.ImageImportSource{Source: &b, SourceName: "-"}, ref, client.ImageImportOptions{Changes: []string{"LABEL " + label}})
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, r) // the image is there when the answer ends
	return errors.Join(err, r.Close())
}

// idleProgram is an executable (elf(5)) that calls pause(2) for ever; nil: there is none
// for this machine.
func idleProgram() []byte {
	if runtime.GOARCH != "amd64" {
		return nil
	}
	const base, header, program = 0x400000, 64, 56
	code := []byte{
		0xb8, 0x22, 0, 0, 0, // mov eax, 34 (pause)
		0x0f, 0x05, // syscall
		0xeb, 0xf7, // jmp to the start
	}
	size := uint64(header + program + len(code))
	b := append([]byte{0x7f, 'E', 'L', 'F', 2, 1, 1}, make([]byte, 9)...)
	le := binary.LittleEndian
	b = le.AppendUint16(b, 2)  // executable
	b = le.AppendUint16(b, 62) // x86-64
	b = le.AppendUint32(b, 1)
	b = le.AppendUint64(b, base+header+program) // where it begins
	b = le.AppendUint64(b, header)              // the program header
	b = le.AppendUint64(b, 0)
	b = le.AppendUint32(b, 0)
	for _, v := range []uint16{header, program, 1, 0, 0, 0} {
		b = le.AppendUint16(b, v)
	}
	b = le.AppendUint32(b, 1) // to be loaded
	b = le.AppendUint32(b, 5) // readable, executable
	for _, v := range []uint64{0, base, base, size, size, 0x1000} {
		b = le.AppendUint64(b, v)
	}
	return append(b, code...)
}
