package lines

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/cespare/xxhash/v2"
)

// Position is a place in a followed log. The zero value is the log's start.
type Position struct {
	dev, ino uint64
	offset   int64
	head     uint64 // of the file's first bytes, 0 while it has fewer than headBytes: see headOf
}

// The state file says how far a followed file was read and spooled: one line
// "auditfleet-follow 2 DEV INODE OFFSET HEAD". It is written after the spool was
// synced, so that a crash reads at most the last second again.
const stateHeader = "auditfleet-follow 2"

// stateHeader1 is that of versions before, without HEAD.
const stateHeader1 = "auditfleet-follow 1"

// headBytes is how much of a file's beginning tells it from another one: the first record of a log
// has its time and serial there.
const headBytes = 64

// headOf returns what the first bytes of a file are known by. A disk may have another device number after
// the next boot, and inodes are the same on many disks: both together say that it is that file.
func headOf(file io.ReaderAt) uint64 {
	var b [headBytes]byte
	if _, err := file.ReadAt(b[:], 0); err != nil {
		return 0
	}
	return max(1, xxhash.Sum64(b[:]))
}

// ErrStateFile is returned for a file that is not a state file of this program.
var ErrStateFile = errors.New("not a state file of ours")

// LoadPosition reads a state file; it returns the zero Position when there is none.
func LoadPosition(path string) (Position, error) {
	if err := fsys.CheckDir(filepath.Dir(path), false); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Position{}, fmt.Errorf("state file: %w", err)
	}
	file, err := fsys.OpenOwn(path, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return Position{}, nil
	}
	if err != nil {
		return Position{}, fmt.Errorf("state file: %w", err)
	}
	b, err := io.ReadAll(io.LimitReader(file, 4096))
	if err = errors.Join(err, file.Close()); err != nil {
		return Position{}, fmt.Errorf("state file: %w", err)
	}
	var p Position
	rest, ok := bytes.CutPrefix(b, []byte(stateHeader+" "))
	if ok {
		_, err = fmt.Sscanf(string(rest), "%d %d %d %d\n", &p.dev, &p.ino, &p.offset, &p.head)
	} else if rest, ok = bytes.CutPrefix(b, []byte(stateHeader1+" ")); ok {
		_, err = fmt.Sscanf(string(rest), "%d %d %d\n", &p.dev, &p.ino, &p.offset)
	}
	if !ok || err != nil || p.offset < 0 {
		return Position{}, fmt.Errorf("%s: %w: remove it to read the source from its start", path, ErrStateFile)
	}
	return p, nil
}

// Mark encodes the position for the spool, which stores it with the records (spool.Append).
// It includes the state file's name, because each state file has its own position.
func (p Position) Mark(stateFile string) []byte {
	return fmt.Appendf(nil, "%016x %d %d %d %d", xxhash.Sum64String(stateFile), p.dev, p.ino, p.offset, p.head)
}

// ParseMark decodes what Mark encodes; ok is false for another state file's mark, and for
// bytes that are no mark.
func ParseMark(mark []byte, stateFile string) (p Position, ok bool) {
	var file uint64
	n, err := fmt.Sscanf(string(mark), "%x %d %d %d %d", &file, &p.dev, &p.ino, &p.offset, &p.head)
	// Marks of versions before have no head.
	return p, (n == 5 && err == nil || n == 4) && p.offset >= 0 && file == xxhash.Sum64String(stateFile)
}

// Save replaces the state file atomically.
func (p Position) Save(path string) error {
	text := fmt.Appendf(nil, "%s %d %d %d %d\n", stateHeader, p.dev, p.ino, p.offset, p.head)
	if err := fsys.Replace(path, text, 0o600, true); err != nil {
		return fmt.Errorf("state file: %w", err)
	}
	return nil
}
