package seal

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

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

// Began returns the last batch before the log was begun: of each later one that has events there is a leaf. Errors: ErrNoLog, ErrDamaged.
func (l *Log) Began() (uint64, error) {
	if l.cfg.Tree == nil {
		return 0, ErrNoLog
	}
	text, err := l.cfg.Tree.Text(0)
	if err != nil {
		return 0, err
	}
	first, err := ParseLeaf(text)
	if err != nil || first.Kind != Begun {
		return 0, errors.Join(ErrDamaged, err)
	}
	return first.Batch, nil
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

// ClusterPart begins the name of an engine's part in a leaf: the store's own partitions have the same names without it.
const ClusterPart = "cluster "

// ClusterWord begins the reason of a leaf that says what another engine has dropped, where that is the engine's word and not the collector's own.
const ClusterWord = "by the collector of the store "

// classWord begins what a leaf says of a drop that was one of a class.
const classWord = "class "

// clusterSays stands before the reason that a cluster gives.
const clusterSays = ", as the cluster says: "

// WhyDropped says why a part of an engine was dropped, with the class of retention that its events were of, unless that is empty.
func WhyDropped(class, why string) string {
	if class == "" {
		return why
	}
	return classWord + strconv.Quote(class) + ": " + why
}

// WhyByCluster is that of what is the cluster's word.
func WhyByCluster(by, at, class, why string) string {
	return ClusterWord + by + " on " + at + clusterSays + WhyDropped(class, why)
}

// DroppedClass returns the class that WhyDropped or WhyByCluster has put into a reason; "" where it has none.
func DroppedClass(why string) string {
	if strings.HasPrefix(why, ClusterWord) {
		_, why, _ = strings.Cut(why, clusterSays)
	}
	rest, ok := strings.CutPrefix(why, classWord)
	if !ok {
		return ""
	}
	quoted, err := strconv.QuotedPrefix(rest)
	if err != nil {
		return ""
	}
	class, _ := strconv.Unquote(quoted)
	return class
}
