package raw

import (
	"fmt"
	"strings"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/store"
)

// Finding is one thing in a file of the store that is not as it should be.
type Finding struct {
	Path   string
	Offset int64  // in the file
	Group  uint64 // 0: of no group
	Block  int    // -1: of no block
	Host   string // of the block
	Events uint64 // stored events that cannot be read because of it
	MinMs  int64  // of these events, where that is known
	MaxMs  int64
	Err    error
}

// Error is a line for people: file, offset, group, block, what is wrong, and what that
// costs.
func (f *Finding) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: offset %d: ", f.Path, f.Offset)
	if f.Group > 0 {
		fmt.Fprintf(&b, "group %d: ", f.Group)
	}
	if f.Block >= 0 {
		fmt.Fprintf(&b, "block %d of host %.80q: ", f.Block, f.Host)
	}
	fmt.Fprint(&b, strings.TrimPrefix(f.Err.Error(), store.ErrDamaged.Error()+": "))
	if f.Events > 0 {
		fmt.Fprintf(&b, "; %d events cannot be read", f.Events)
		if f.MaxMs > 0 {
			fmt.Fprintf(&b, ", of %s to %s", utc(f.MinMs), utc(f.MaxMs))
		}
	}
	return b.String()
}

// Unwrap returns Err.
func (f *Finding) Unwrap() error { return f.Err }

func utc(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z") }
