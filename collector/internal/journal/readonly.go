package journal

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/auditfleet/auditfleet/pkg/seglog"
)

// ReadOnly reads the journal of a folder without locking or changing anything,
// also one that another process writes: what is whole in it now, in order.
// A folder that does not exist holds nothing. Of Options, Dir, FS and Logger matter.
func ReadOnly(o Options, fn func(*Batch) error) error {
	if err := o.defaults(); err != nil {
		return err
	}
	if _, err := o.FS.ReadDir(o.Dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	view, err := seglog.OpenReadOnly(seglogOptions(&o))
	if err != nil {
		return fmt.Errorf("read the journal: %w", err)
	}
	r, err := view.Reader(0)
	if err != nil {
		return fmt.Errorf("read the journal: %w", err)
	}
	defer func() { _ = r.Close() }() // only read
	if err := readBatches(r, o.Logger, func(_ uint64, b *Batch) error { return fn(b) }); err != nil {
		return fmt.Errorf("read the journal: %w", err)
	}
	return nil
}
