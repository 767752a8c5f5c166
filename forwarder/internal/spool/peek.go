package spool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/seglog"
)

// Waiting says how much a spool holds.
type Waiting struct {
	Records uint64    // records not acknowledged by the state file, which a running spool writes about once a second
	Bytes   int64     // size of all segments, preallocated space not counted
	Since   time.Time // when the oldest of these records was appended; zero when there is none
}

// Peek reads how much waits in the spool in a folder, which another process may have open.
// It takes no lock and writes nothing. ErrState: the state file has no valid slot.
func Peek(fs fsys.FS, dir string) (w Waiting, err error) {
	view, err := seglog.OpenReadOnly(seglog.Options{FS: fs, Dir: dir, Kind: Kind})
	if err != nil {
		return w, fmt.Errorf("look into the spool: %w", err)
	}
	// The state first: what is acknowledged later counts as waiting, not the other way round.
	state, err := fs.OpenFile(filepath.Join(dir, stateName), os.O_RDONLY, 0)
	if err != nil {
		return w, fmt.Errorf("look into the spool: %w", err)
	}
	c, ok := readState(state)
	if err := state.Close(); err != nil || !ok {
		return w, errors.Join(fmt.Errorf("look into the spool: %s: %w", state.Name(), ErrState), err)
	}
	last, size, err := view.End()
	if err != nil {
		return w, fmt.Errorf("look into the spool: %w", err)
	}
	w.Bytes = size
	first := max(c.acked+1, view.First())
	if first > last {
		return w, nil
	}
	w.Records = last - first + 1
	r, err := view.Reader(first)
	if err != nil {
		return w, fmt.Errorf("look into the spool: %w", err)
	}
	defer func() { _ = r.Close() }() // only read
	for {
		_, entry, err := r.Next()
		var damage *seglog.CorruptError
		if errors.As(err, &damage) {
			continue
		}
		if err != nil {
			return w, fmt.Errorf("look into the spool: %w", err)
		}
		if ms, _, _, err := parseEntry(entry); err == nil {
			w.Since = time.UnixMilli(ms)
			return w, nil
		}
	}
}
