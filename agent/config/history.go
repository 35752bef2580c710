package config

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// History bounds what this host writes down of what happened.
type History struct {
	Max int64         // bytes on the disk
	Age time.Duration // older events are removed
}

// What history_max may be, in bytes.
const (
	leastHistory = 1 << 20
	mostHistory  = 1 << 40
)

func (in raw) history(fail func(key, value, want string)) (h History) {
	var err error
	if h.Max, err = bytesOf(cmp.Or(in.HistoryMax, "64MiB")); err != nil {
		fail("history_max", in.HistoryMax, "size such as 64MiB")
	}
	if h.Age, err = time.ParseDuration(cmp.Or(in.HistoryAge, "720h")); err != nil {
		fail("history_age", in.HistoryAge, "duration such as 720h")
	}
	return h
}

func (h History) check() error {
	switch {
	case h.Max < leastHistory || h.Max > mostHistory:
		return fmt.Errorf("history_max: %d bytes are not from 1MiB to 1024GiB", h.Max)
	case h.Age < time.Hour:
		return fmt.Errorf("history_age: %s is less than an hour", h.Age)
	}
	return nil
}

// bytesOf reads a size: a whole number with KiB, MiB or GiB behind it, or of bytes.
func bytesOf(s string) (int64, error) {
	unit := int64(1)
	for suffix, u := range map[string]int64{"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30} {
		if rest, ok := strings.CutSuffix(s, suffix); ok {
			s, unit = strings.TrimSpace(rest), u
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err == nil && (n < 0 || n > mostHistory/unit) {
		err = strconv.ErrRange
	}
	return n * unit, err
}
