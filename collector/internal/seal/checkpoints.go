package seal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/auditfleet/auditfleet/pkg/checkpoint"
	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// Files in the log's folder beside those of the tree.
const (
	// checkpointsName has every checkpoint that was signed, the newest last, an empty line behind each.
	checkpointsName = "checkpoints"
	// stoppedName says, while it is there, why nothing is signed.
	stoppedName = "stopped"
)

// mostCheckpoints bounds how much of the file of checkpoints is read: a century of one every ten minutes.
const mostCheckpoints = 2 << 30

// splitCheckpoints cuts the text of several checkpoints into them; rest is what begins behind the last
// whole one.
func splitCheckpoints(b []byte) (list [][]byte, rest []byte) {
	for {
		body := bytes.Index(b, []byte("\n\n"))
		if body < 0 {
			return list, b
		}
		signed := bytes.Index(b[body+2:], []byte("\n\n"))
		if signed < 0 {
			return list, b
		}
		end := body + 2 + signed
		list = append(list, b[:end+1])
		b = b[end+2:]
	}
}

// ReadCheckpoints returns the checkpoints that a store's log keeps, the oldest first, whether their
// signatures are right or not. None are no error.
func ReadCheckpoints(store string) ([][]byte, error) {
	b, err := fsys.ReadRegular(filepath.Join(store, Dir, checkpointsName), mostCheckpoints)
	if missing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	list, _ := splitCheckpoints(b)
	return list, nil
}

// parseKept reads a checkpoint of the file.
func parseKept(text []byte) (checkpoint.Checkpoint, error) { return checkpoint.Parse(text) }

// lastCheckpoint returns the last one of the file of checkpoints, and where the next one goes; nil where
// there is none.
func lastCheckpoint(fsy fsys.FS, path string) (text []byte, end int64, err error) {
	f, err := openFile(fsy, path, false)
	if missing(err) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size, err := f.Size()
	if err != nil {
		return nil, 0, err
	}
	// The last one, and a torn one behind it, are within twice the most that one has. What stands
	// before the first empty line there may be a part of one; a signature begins with a dash.
	from := max(size-3*checkpoint.MaxBytes, 0)
	b := make([]byte, size-from)
	if _, err := f.ReadAt(b, from); err != nil && !errors.Is(err, io.EOF) {
		return nil, 0, err
	}
	for skip := 0; from > 0; {
		i := bytes.Index(b[skip:], []byte("\n\n"))
		if i < 0 {
			return nil, size, nil
		}
		skip += i + 2
		if !bytes.HasPrefix(b[skip:], []byte("— ")) {
			b = b[skip:]
			break
		}
	}
	list, rest := splitCheckpoints(b)
	if len(list) == 0 {
		return nil, size - int64(len(rest)), nil
	}
	return list[len(list)-1], size - int64(len(rest)), nil
}

// addCheckpoint appends one, durably; end is where it goes, and what is behind that is cut.
func addCheckpoint(fsy fsys.FS, path string, text []byte, end int64) (next int64, err error) {
	f, err := fsy.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := cutTo(f, end); err != nil {
		return 0, err
	}
	b := append(bytes.Clone(text), '\n')
	if _, err := f.WriteAt(b, end); err != nil {
		return 0, err
	}
	if err := errors.Join(f.Sync(), fsy.SyncDir(filepath.Dir(path))); err != nil {
		return 0, err
	}
	return end + int64(len(b)), nil
}

// Stop writes down why nothing is to be signed until a person has accepted it. What was written
// before stays.
func Stop(fsy fsys.FS, store, why string) error {
	path := filepath.Join(store, Dir, stoppedName)
	was, err := Stopped(store)
	if err != nil {
		return err
	}
	for _, line := range bytes.Split([]byte(was), []byte("\n")) {
		if string(line) == why {
			return nil
		}
	}
	if was != "" {
		why = was + "\n" + why
	}
	if err := fsys.ReplaceOn(fsy, path, append([]byte(why), '\n'), 0o600); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// Stopped returns why nothing is signed; "" when nothing is in the way.
func Stopped(store string) (string, error) {
	b, err := fsys.ReadRegular(filepath.Join(store, Dir, stoppedName), 1<<20)
	if missing(err) {
		return "", nil
	}
	return string(bytes.TrimRight(b, "\n")), err
}

// resume has signing go on.
func resume(fsy fsys.FS, store string) error {
	dir := filepath.Join(store, Dir)
	if err := fsy.Remove(filepath.Join(dir, stoppedName)); err != nil && !missing(err) {
		return err
	}
	return fsy.SyncDir(dir)
}
