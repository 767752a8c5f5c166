package seal

import (
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// mostWrong bounds what Check says of one log.
const mostWrong = 20

// Check reads a store's log as a whole and says what of its files does not fit together, also while a collector
// writes them; it needs no key and writes nothing. fn is called with each leaf whose text is there, and which it is; n is how many
// leaves there are. Error: fs.ErrNotExist where there is no log, and others of the filesystem.
func Check(store string, fn func(index int64, l *Leaf)) (n int64, wrong []string, err error) {
	c := &checker{fn: fn}
	list, err := ReadCheckpoints(store) // first: a collector adds leaves before it signs them
	if err != nil {
		return 0, nil, err
	}
	t, err := Open(Options{FS: fsys.OS, Store: store})
	switch {
	case errors.Is(err, ErrDamaged):
		c.say("%v", err)
		return 0, c.wrong, nil
	case err != nil:
		return 0, nil, err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	if err := c.leaves(t); err != nil {
		return 0, nil, err
	}
	if len(c.wrong) == 0 { // else it is said already that they don't hold
		c.checkpoints(t, list)
	}
	if c.more > 0 {
		c.wrong = append(c.wrong, fmt.Sprintf("and %d more", c.more))
	}
	return t.size, c.wrong, nil
}

// checker is one run of Check.
type checker struct {
	fn    func(index int64, l *Leaf)
	wrong []string
	more  int
}

func (c *checker) say(format string, args ...any) {
	if len(c.wrong) == mostWrong {
		c.more++
		return
	}
	c.wrong = append(c.wrong, fmt.Sprintf(format, args...))
}

// leaves compares the three files with each other.
func (c *checker) leaves(t *Tree) error {
	off, at := int64(headBytes), place(0)
	for i := range t.size {
		is, wasAt, err := t.entry(i)
		if err != nil {
			return err
		}
		if is != off {
			c.say("%s: leaf %d is said to begin at %d, and begins at %d", indexName, i, is, off)
			return nil // what follows is a consequence
		}
		leaf, next, err := readRecord(t.leaves, off, t.end)
		if errors.Is(err, ErrDamaged) {
			c.say("%s: %v", leavesName, err)
			return nil
		}
		if err != nil {
			return err
		}
		off = next
		hash, err := t.recordHash(i)
		if err != nil {
			return err
		}
		l, perr := ParseLeaf(leaf)
		switch {
		case len(leaf) == 0:
			at = wasAt
			c.say("%s: the text of leaf %d is lost, its hash is there", leavesName, i)
		case perr != nil:
			c.say("%s: leaf %d: %v", leavesName, i, perr)
		default:
			c.fn(i, l)
			if at = at.after(l); at != wasAt {
				c.say("%s: leaf %d is said to be up to batch %d, and is up to %d", indexName, i, wasAt.batch(), at.batch())
				at = wasAt
			}
			if hash != tlog.RecordHash(leaf) {
				c.say("leaf %d is not what its hash was made of: %s", i, l.Kind)
			}
		}
		if err := c.subtrees(t, i, hash); err != nil {
			return err
		}
	}
	return nil
}

// subtrees compares the hashes of the subtrees that a leaf completes with those that are there.
func (c *checker) subtrees(t *Tree, i int64, hash tlog.Hash) error {
	want, err := tlog.StoredHashesForRecordHash(i, hash, tlog.HashReaderFunc(t.readHashes))
	if err != nil {
		return err
	}
	first := tlog.StoredHashIndex(0, i)
	for k := 1; k < len(want); k++ {
		is, err := t.readHashes([]int64{first + int64(k)})
		if err != nil {
			return err
		}
		if is[0] != want[k] {
			c.say("%s: the hash of the subtree of height %d that ends with leaf %d is wrong", hashesName, k, i)
		}
	}
	return nil
}

// checkpoints compares the log with what was signed of it, whoever signed. Those of an epoch that is over need not hold.
func (c *checker) checkpoints(t *Tree, list [][]byte) {
	epoch := int64(0)
	for _, text := range list {
		if p, err := parseKept(text); err == nil {
			epoch = max(epoch, p.Epoch)
		}
	}
	for i, text := range list {
		p, err := parseKept(text)
		switch {
		case err != nil:
			c.say("%s: number %d: %v", checkpointsName, i+1, err)
			continue
		case p.Epoch < epoch:
			continue
		case p.Store != t.id.String():
			c.say("%s: number %d is of the store %s, this is %s", checkpointsName, i+1, p.Store, t.id)
			continue
		case p.Size > t.size:
			c.say("the log has %d leaves, and had %d when it was signed on %s", t.size, p.Size, p.Time.Format("2006-01-02T15:04:05Z"))
			return
		}
		root, err := t.Root(p.Size)
		if err != nil {
			c.say("%s: %v", hashesName, err)
			return
		}
		if root != p.Root {
			c.say("the first %d leaves are not those that were signed on %s", p.Size, p.Time.Format("2006-01-02T15:04:05Z"))
			return
		}
	}
}
