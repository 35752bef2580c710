package history

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/weft-net/weft/agent/event"
)

// Filter selects events. Zero fields select all.
type Filter struct {
	After    uint64       `json:"after,omitempty"` // entries with larger numbers
	Since    time.Time    `json:"since,omitzero"`
	Until    time.Time    `json:"until,omitzero"`
	Kinds    []event.Kind `json:"kinds,omitempty"`
	Network  string       `json:"network,omitempty"`
	Endpoint string       `json:"endpoint,omitempty"` // its name, its address, its id or the start of it
}

// shortestID is how much of an endpoint's id tells it.
const shortestID = 4

// Match reports whether an event is selected.
func (f Filter) Match(e Entry) bool {
	switch {
	case e.ID <= f.After, e.At.Before(f.Since), !f.Until.IsZero() && e.At.After(f.Until):
		return false
	case len(f.Kinds) > 0 && !slices.Contains(f.Kinds, e.Kind):
		return false
	case f.Network != "" && !strings.EqualFold(e.Network, f.Network):
		return false
	case f.Endpoint == "":
		return true
	}
	id := len(f.Endpoint) >= shortestID && strings.HasPrefix(e.Endpoint, strings.ToLower(f.Endpoint))
	return id || e.Addr == f.Endpoint || e.Endpoint != "" && strings.EqualFold(e.Subject, f.Endpoint)
}

// may reports whether the line of an entry may match: it is cheaper than to decode it.
func (f Filter) may(line []byte) bool {
	id, ok := numberOf(line)
	if !ok || id <= f.After || !f.Since.IsZero() && int64(id) < f.Since.UnixMicro() {
		return false
	}
	if f.Network != "" && !containsFold(line, f.Network) || f.Endpoint != "" && !containsFold(line, f.Endpoint) {
		return false
	}
	return len(f.Kinds) == 0 || slices.ContainsFunc(f.Kinds, func(k event.Kind) bool { return bytes.Contains(line, []byte(k)) })
}

func containsFold(line []byte, word string) bool {
	return bytes.Contains(bytes.ToLower(line), []byte(strings.ToLower(word)))
}

// numberOf reads the number that begins a line.
func numberOf(line []byte) (uint64, bool) {
	rest, ok := bytes.CutPrefix(line, []byte(`{"id":`))
	end := bytes.IndexByte(rest, ',')
	if !ok || end < 0 {
		return 0, false
	}
	id, err := strconv.ParseUint(string(rest[:end]), 10, 64)
	return id, err == nil
}

// Read calls each with the entries that match, the oldest first, until it returns
// false or ctx ends. It sees everything that was emitted before the call.
func (j *Journal) Read(ctx context.Context, f Filter, each func(Entry) bool) error {
	j.flush(ctx)
	return read(ctx, j.cfg.Dir, f, each)
}

// read reads the segments of a directory. It passes over lines that are not whole.
func read(ctx context.Context, dir string, f Filter, each func(Entry) bool) error {
	names, err := list(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	after := max(f.After, uint64(max(f.Since.UnixMicro(), 0)))
	for i, one := range names {
		if i+1 < len(names) && names[i+1].first <= after {
			continue // all of its numbers are smaller
		}
		more, err := readSegment(ctx, segmentPath(dir, one.first), f, each)
		if err != nil || !more {
			return err
		}
	}
	return nil
}

func readSegment(ctx context.Context, path string, f Filter, each func(Entry) bool) (more bool, err error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	if errors.Is(err, os.ErrNotExist) {
		return true, nil // it grew too old meanwhile
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = file.Close() }()
	r := bufio.NewReaderSize(file, 4*largest)
	for n := 0; ; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return false, ctx.Err()
		}
		line, err := r.ReadSlice('\n')
		switch {
		case errors.Is(err, io.EOF): // what has no end yet is not whole
			return true, nil
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err != nil:
			return false, err
		}
		if !f.may(line) {
			continue
		}
		var e Entry
		if json.Unmarshal(line, &e) == nil && f.Match(e) && !each(e) {
			return false, nil
		}
	}
}
