package seal

import (
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/note"

	"github.com/auditfleet/auditfleet/pkg/checkpoint"
)

// Signer returns the key that signs checkpoints, for bundles of evidence; nil where there is none, or the newest
// checkpoint is another key's.
func (l *Log) Signer() note.Signer {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.latest != nil && !l.mine {
		return nil
	}
	return l.cfg.Signer
}

// At returns a checkpoint that the log has gone on from, and the last batch that it has. It tells no word of
// another log from one of this: the error says why it is none.
func (l *Log) At(text []byte) (c checkpoint.Checkpoint, lastBatch uint64, err error) {
	if l.cfg.Tree == nil {
		return c, 0, ErrNoLog
	}
	if c, err = checkpoint.Parse(text); err != nil {
		return c, 0, err
	}
	if l.cfg.Public != "" && !l.isMine(text) {
		return c, 0, errors.New("the checkpoint is not signed by the present key")
	}
	why, err := l.differs(c)
	if err != nil {
		return c, 0, err
	}
	if why != "" {
		return c, 0, fmt.Errorf("the checkpoint is none of this log: %s", why)
	}
	for i := c.Size - 1; i >= 0; i-- {
		leaf, err := l.cfg.Tree.Text(i)
		if err != nil {
			return c, 0, err
		}
		if p, err := ParseLeaf(leaf); err == nil && p.Kind == Batch {
			return c, p.Batch, nil
		}
	}
	return c, 0, nil
}
