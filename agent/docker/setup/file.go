package setup

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
)

// backupPath is where Apply keeps the file as it was.
func backupPath(path string) string { return path + ".before-weft" }

// Apply makes the engine whose configuration is at path ask Address, from its
// next start on. It reports whether that changed the file.
func Apply(path string, upstreams []string) (changed bool, err error) {
	old, mode, err := read(path)
	if err != nil {
		return false, err
	}
	next, err := insert(old, upstreams)
	if err != nil {
		return false, fmt.Errorf("%s: %w", path, err)
	}
	if bytes.Equal(old, next) {
		return false, nil
	}
	if old != nil {
		if err := write(backupPath(path), old, mode); err != nil {
			return false, err
		}
	} else if err := os.Mkdir(filepath.Dir(path), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return false, err // a folder above it that is missing is a mistake in the path
	}
	return true, write(path, next, mode)
}

// Revert takes back what Apply did, and nothing that was changed since. It
// reports whether there was anything to take back.
func Revert(path string) (changed bool, err error) {
	now, mode, err := read(path)
	if err != nil || now == nil {
		return false, err
	}
	servers, err := Servers(now)
	if err != nil {
		return false, fmt.Errorf("%s: %w", path, err)
	}
	if len(servers) == 0 || servers[0] != Address {
		return false, nil
	}
	before, _, err := read(backupPath(path))
	if err != nil {
		return false, err
	}
	next, err := remove(now, before)
	if err != nil {
		return false, fmt.Errorf("%s: %w", path, err)
	}
	if next == nil {
		return true, os.Remove(path)
	}
	if err := write(path, next, mode); err != nil {
		return false, err
	}
	if err := os.Remove(backupPath(path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return true, err
	}
	return true, nil
}

// read returns nil for a file that does not exist.
func read(path string) ([]byte, fs.FileMode, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0o644, nil
	}
	if err != nil {
		return nil, 0, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, 0, err
	}
	return append([]byte{}, text...), info.Mode().Perm(), nil
}

// write replaces a file whole.
func write(path string, text []byte, mode fs.FileMode) error {
	return renameio.WriteFile(path, text, mode, renameio.WithTempDir(filepath.Dir(path)), renameio.WithStaticPermissions(mode))
}
