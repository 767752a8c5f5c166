package seal

import (
	"errors"
	"fmt"
	"time"
)

// ErrNotVouched says that nothing may be written again now: what was signed of the log could not be held against what is written then.
var ErrNotVouched = errors.New("nothing is written again")

// Vouch signs a leaf of the kind Rewritten, where there is a key. Errors: ErrNotVouched with why: nothing is signed any more (ErrStopped), the
// log does not go on from the last checkpoint, or it was signed once and there is no key now (ErrNoKey). Nobody could tell then what is
// written again by this collector from what somebody else has put there.
func (l *Log) Vouch(leaf *Leaf) error {
	l.mu.Lock()
	latest, last, stopped, signer := l.latest, l.last, l.stopped, l.cfg.Signer
	l.mu.Unlock()
	switch {
	case l.cfg.Tree == nil:
		return fmt.Errorf("%w: %w", ErrNotVouched, ErrNoLog)
	case stopped != "":
		return fmt.Errorf("%w: %w", ErrNotVouched, ErrStopped)
	case latest != nil && signer == nil:
		return fmt.Errorf("%w: the log was signed on %s, and there is %w", ErrNotVouched, last.Time.Format(time.RFC3339), ErrNoKey)
	case latest != nil:
		why, err := l.differs(last)
		if err != nil {
			return fmt.Errorf("compare the log with the last checkpoint: %w", err)
		}
		if why != "" { // the next signature says so, and stops
			return fmt.Errorf("%w: the last checkpoint does not hold: %s", ErrNotVouched, why)
		}
	}
	if signer == nil {
		return nil
	}
	return leaf.Vouch(signer)
}
