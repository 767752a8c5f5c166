package checkpoint

import (
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

// Errors of Consistent: what is wrong with the log that the two checkpoints are of.
var (
	// ErrOther: they are of two logs, or of two stores, and nothing follows of that.
	ErrOther = errors.New("checkpoints of two logs")
	// ErrRewind: the later one has fewer leaves: the log was put back, or cut.
	ErrRewind = errors.New("the log has been put back")
	// ErrFork: what the earlier one says does not stand in the later one: the log was written again,
	// or two are shown.
	ErrFork = errors.New("the log has been changed")
	// ErrAccepted: the later one is of a later epoch: whoever has the key has said that the log does not go
	// on from the earlier one. That is to be told, once, and the later one to be kept.
	ErrAccepted = errors.New("a break of the log has been accepted")
)

// Consistent returns nil when the leaves of the log that old is of are the first leaves of the log
// that new is of, which the proof shows. old must be what was known before. Of equal sizes, and of an
// old one without leaves, no proof is needed. Errors: ErrOther, ErrRewind, ErrFork, ErrAccepted; a proof
// that is wrong or of other sizes is ErrFork, too.
func Consistent(proof tlog.TreeProof, old, new Checkpoint) error {
	switch {
	case old.Origin != new.Origin:
		return fmt.Errorf("%w: %q and %q", ErrOther, old.Origin, new.Origin)
	case old.Store != new.Store:
		return fmt.Errorf("%w: of the stores %s and %s", ErrOther, old.Store, new.Store)
	case new.Epoch < old.Epoch:
		return fmt.Errorf("%w: it is of epoch %d, and was of %d on %s", ErrRewind, new.Epoch, old.Epoch, stamp(old))
	case new.Epoch > old.Epoch:
		return fmt.Errorf("%w: from epoch %d to %d: somebody has accepted that its leaves are others", ErrAccepted, old.Epoch, new.Epoch)
	case new.Size < old.Size:
		return fmt.Errorf("%w: it has %d leaves, and had %d on %s", ErrRewind, new.Size, old.Size, stamp(old))
	case new.Size == old.Size:
		if new.Root != old.Root {
			return fmt.Errorf("%w: two roots of the same %d leaves, %s and %s", ErrFork, old.Size, old.Root, new.Root)
		}
		return nil
	case old.Size == 0:
		return nil
	}
	if err := tlog.CheckTree(proof, new.Size, new.Root, old.Size, old.Root); err != nil {
		return fmt.Errorf("%w: its first %d leaves are not those of %s", ErrFork, old.Size, stamp(old))
	}
	return nil
}

func stamp(c Checkpoint) string { return c.Time.UTC().Format("2006-01-02T15:04:05Z") }
