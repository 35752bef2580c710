package history

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// segments are the files of a journal. Each is named for its first entry, and only the
// newest is written. They are used by one goroutine; readers open the files by name.
type segments struct {
	dir string
	max int64
	age time.Duration

	last  uint64    // number that was given last
	names []sizeOf  // the oldest first; the last one is open
	file  *os.File  // nil: none is open
	begun time.Time // of the open one
	room  time.Time // when the disk had room
	tried time.Time // when the directory was opened last
	wrong error     // and why that failed
}

type sizeOf struct {
	first uint64
	bytes int64
}

const (
	share    = 16        // a segment is this part of all, in bytes and in time
	leaveFor = 16 << 20  // bytes of the disk that are the endpoints'
	roomFor  = 1 << 20   // bytes that may be written before the next look
	mode     = os.O_RDWR // of a segment that is appended to
)

var segmentName = regexp.MustCompile(`^[0-9]{20}\.jsonl$`)

func segmentPath(dir string, first uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%020d.jsonl", first))
}

// number is that of a new entry.
func (s *segments) number(now time.Time) uint64 {
	s.last = max(s.last+1, uint64(max(now.UnixMicro(), 0)))
	return s.last
}

// ErrForeign: the directory, or something in it, is not the journal's.
var ErrForeign = errors.New("not written by weft: it is left alone")

// list returns the segments of a directory, the oldest first. Whatever else is there
// makes it somebody else's directory.
func list(dir string) ([]sizeOf, error) {
	if err := ours(dir, os.ModeDir); err != nil {
		return nil, err
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var out []sizeOf
	for _, f := range files {
		path := filepath.Join(dir, f.Name())
		if !segmentName.MatchString(f.Name()) {
			return nil, fmt.Errorf("%s: %w", path, ErrForeign)
		}
		if err := ours(path, 0); errors.Is(err, os.ErrNotExist) {
			continue // it grew too old meanwhile
		} else if err != nil {
			return nil, err
		}
		first, err := strconv.ParseUint(f.Name()[:20], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, ErrForeign)
		}
		info, err := f.Info()
		if err != nil {
			continue
		}
		out = append(out, sizeOf{first, info.Size()})
	}
	slices.SortFunc(out, func(a, b sizeOf) int { return cmp.Compare(a.first, b.first) })
	return out, nil
}

// ours checks that a path is of the kind wanted, of this user, and no other user's to
// change.
func ours(path string, kind os.FileMode) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case info.Mode().Type() != kind:
		return fmt.Errorf("%s: it is a %s: %w", path, info.Mode().Type(), ErrForeign)
	case ok && int(st.Uid) != os.Geteuid():
		return fmt.Errorf("%s: it belongs to user %d: %w", path, st.Uid, ErrForeign)
	case info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("%s: others may write it (%o): %w", path, info.Mode().Perm(), ErrForeign)
	}
	return nil
}

// open opens the directory, at most once a second while that fails.
func (s *segments) open(now time.Time) error {
	if s.wrong != nil && now.Sub(s.tried).Abs() < time.Second {
		return s.wrong
	}
	s.tried, s.wrong = now, s.find()
	return s.wrong
}

// find finds what there is, and mends the end of the newest segment: a writer that was
// killed, or a disk that was full, leaves a part of a line.
func (s *segments) find() error {
	s.close()
	if err := os.Mkdir(s.dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	names, err := list(s.dir)
	if err != nil {
		return err
	}
	s.names = names
	if len(names) == 0 {
		return nil
	}
	newest := &s.names[len(names)-1]
	f, err := os.OpenFile(segmentPath(s.dir, newest.first), mode|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	whole, last, err := repair(f)
	if err != nil {
		_ = f.Close()
		return fmt.Errorf("%s: %w", f.Name(), err)
	}
	s.last = max(s.last, last, newest.first)
	newest.bytes = whole
	s.file, s.begun = f, time.UnixMicro(int64(newest.first))
	return nil
}

// repair cuts off what is no whole entry at the end of a file. It returns the bytes
// that are left and the number of the last entry.
func repair(f *os.File) (whole int64, last uint64, err error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, 0, err
	}
	for end := size; ; {
		start := max(end-2*largest, 0)
		tail := make([]byte, end-start)
		if _, err := f.ReadAt(tail, start); err != nil && !errors.Is(err, io.EOF) {
			return 0, 0, err
		}
		keep, id := lastWhole(tail)
		if keep == 0 && start > 0 {
			end = start + 1 // nothing in this part: the line before ends in an earlier one
			continue
		}
		if keep > 0 || start == 0 {
			whole, last = start+int64(keep), id
			break
		}
	}
	if whole < size {
		if err := f.Truncate(whole); err != nil {
			return 0, 0, err
		}
	}
	_, err = f.Seek(whole, io.SeekStart)
	return whole, last, err
}

// lastWhole returns where the last whole entry of a part ends, and its number.
func lastWhole(part []byte) (end int, id uint64) {
	for end = bytes.LastIndexByte(part, '\n') + 1; end > 0; {
		start := bytes.LastIndexByte(part[:end-1], '\n') + 1
		var e Entry
		if json.Unmarshal(part[start:end-1], &e) == nil && e.ID > 0 {
			return end, e.ID
		}
		end = start
	}
	return 0, 0
}

// append writes whole lines; first is the number of the first. After an error none of
// them is there.
func (s *segments) append(lines []byte, first uint64, now time.Time) error {
	if s.file == nil && len(s.names) == 0 {
		if err := s.open(now); err != nil { // also after the directory went away
			return err
		}
	}
	if err := s.checkRoom(now, len(lines)); err != nil {
		return err
	}
	if s.file == nil || s.full(now, int64(len(lines))) {
		if err := s.begin(first, now, int64(len(lines))); err != nil {
			return err
		}
	}
	newest := &s.names[len(s.names)-1]
	n, err := s.file.Write(lines)
	if err == nil {
		newest.bytes += int64(n)
		return nil
	}
	if cut := s.file.Truncate(newest.bytes); cut != nil {
		s.close() // a reader passes over the part of a line; the next segment begins anew
	} else {
		_, _ = s.file.Seek(newest.bytes, io.SeekStart)
	}
	s.room = time.Time{}
	return err
}

// full reports whether the open segment is to be followed by another one.
func (s *segments) full(now time.Time, more int64) bool {
	newest := s.names[len(s.names)-1]
	return newest.bytes > 0 && newest.bytes+more > s.max/share || now.Sub(s.begun) > s.age/share
}

// begin opens a new segment, and removes what is too much beside the bytes that come.
func (s *segments) begin(first uint64, now time.Time, more int64) error {
	f, err := os.OpenFile(segmentPath(s.dir, first), mode|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	s.close()
	s.file, s.begun = f, now
	s.names = append(s.names, sizeOf{first: first})
	s.prune(now, more)
	return nil
}

// prune removes segments that are too old, and the oldest ones while all of them are
// too large with a segment's share or more to come. The one that is open stays.
func (s *segments) prune(now time.Time, more int64) {
	var total int64
	for _, one := range s.names {
		total += one.bytes
	}
	for len(s.names) > 1 {
		old := now.Sub(time.UnixMicro(int64(s.names[1].first))) > s.age
		if !old && total+max(more, s.max/share) <= s.max {
			return
		}
		if err := os.Remove(segmentPath(s.dir, s.names[0].first)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return
		}
		total -= s.names[0].bytes
		s.names = s.names[1:]
	}
}

// checkRoom leaves the last of a disk to the files without which nothing can be
// attached.
func (s *segments) checkRoom(now time.Time, more int) error {
	if now.Sub(s.room) < time.Second {
		return nil
	}
	var fs syscall.Statfs_t
	if err := syscall.Statfs(s.dir, &fs); err != nil {
		s.names = nil
		s.close()
		return fmt.Errorf("%s: %w", s.dir, err)
	}
	if free := int64(fs.Bavail) * fs.Bsize; free < leaveFor+roomFor+int64(more) {
		return fmt.Errorf("%s: %d MiB are free on this disk, the last %d are left to the endpoints: %w", s.dir, free>>20, (leaveFor+roomFor)>>20, syscall.ENOSPC)
	}
	s.room = now
	return nil
}

// tend looks after the files while nothing happens: it opens what could not be opened
// before, and lets the old go.
func (s *segments) tend(now time.Time) error {
	if _, err := os.Lstat(s.dir); errors.Is(err, os.ErrNotExist) || s.file == nil {
		if err := s.open(now); err != nil {
			return err
		}
	}
	s.room = time.Time{}
	if err := s.checkRoom(now, 0); err != nil {
		return err
	}
	if s.file != nil {
		if err := syscall.Access(s.dir, 2); err != nil { // W_OK: a file system that was made read-only
			return fmt.Errorf("%s: %w", s.dir, err)
		}
		s.prune(now, 0)
	}
	return nil
}

func (s *segments) close() {
	if s.file != nil {
		_ = s.file.Close()
		s.file = nil
	}
}
