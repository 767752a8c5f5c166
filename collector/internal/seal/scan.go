package seal

import (
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/seglog"
)

// Scanned is a leaf as the log's files have it.
type Scanned struct {
	Index int64
	Text  []byte // nil: it cannot be read
	// Hash is that of the text, or where that cannot be read, what the file of hashes says.
	Hash tlog.Hash
	// Stored is what the file of hashes says; nil where it ends before.
	Stored *tlog.Hash
}

// Scan calls fn with each leaf of a store's log, whatever state its files are in; it writes nothing. It returns how
// many there are, and which store the files say they are of. Error: fs.ErrNotExist where there is no log.
func Scan(store string, fn func(s *Scanned) error) (n int64, id seglog.ID, err error) {
	o := Options{FS: fsys.OS, Store: store}
	if _, err := o.FS.Stat(o.dir()); err != nil {
		return 0, id, err
	}
	d := readDamaged(o)
	defer func() { err = errors.Join(err, d.Close()) }()
	none := func(uint64, *tlog.Hash) []byte { return nil }
	for {
		s := &Scanned{Index: n, Stored: d.hashOf(n)}
		text, hash := d.leafOf(n, 0, none)
		switch {
		case text != nil:
			s.Text, s.Hash = text, tlog.RecordHash(text)
		case hash != nil:
			s.Hash = *hash
		default:
			return n, d.id, nil
		}
		if err := fn(s); err != nil {
			return n, d.id, err
		}
		n++
	}
}

// Roots computes the root of a log as leaf after leaf is added.
type Roots struct {
	n     int64
	stack []tlog.Hash // of the whole subtrees, the largest first
}

// Add adds a leaf by its hash.
func (r *Roots) Add(h tlog.Hash) {
	for k := r.n; k&1 == 1; k >>= 1 {
		last := len(r.stack) - 1
		h = tlog.NodeHash(r.stack[last], h)
		r.stack = r.stack[:last]
	}
	r.stack = append(r.stack, h)
	r.n++
}

// Size returns how many leaves were added.
func (r *Roots) Size() int64 { return r.n }

// Root returns the root of the leaves so far.
func (r *Roots) Root() tlog.Hash {
	if r.n == 0 {
		h, _ := tlog.TreeHash(0, nil) // of no leaves: it reads none
		return h
	}
	h := r.stack[len(r.stack)-1]
	for i := len(r.stack) - 2; i >= 0; i-- {
		h = tlog.NodeHash(r.stack[i], h)
	}
	return h
}

// Copy makes a copy of a store's log in another folder, for a backup: all up to the first leaf of a batch
// beyond batch, and the checkpoints of no more than that. A store without a log has none in its copy.
func Copy(from, to string, id seglog.ID, batch uint64) (err error) {
	src, err := Open(Options{FS: fsys.OS, Store: from, ID: id})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	size := int64(0)
	err = build(Options{FS: fsys.OS, Store: to, ID: id}, func(t *Tree) error {
		var texts [][]byte
		bytes := 0
		for i := range src.Size() {
			text, err := src.Text(i)
			if errors.Is(err, ErrDamaged) { // only its hash is known
				h, herr := src.recordHash(i)
				if err := errors.Join(herr, t.AppendTexts(texts)); err != nil {
					return err
				}
				texts, bytes = nil, 0
				if err := t.appendHash(h); err != nil {
					return err
				}
				continue
			}
			if err != nil {
				return err
			}
			if l, err := ParseLeaf(text); err != nil || l.Kind == Batch && l.Batch > batch {
				if err != nil {
					return err
				}
				break
			}
			if texts, bytes = append(texts, text), bytes+len(text); bytes > 1<<20 {
				if err := t.AppendTexts(texts); err != nil {
					return err
				}
				texts, bytes = nil, 0
			}
		}
		err := t.AppendTexts(texts)
		size = t.Size()
		return err
	})
	if err != nil {
		return fmt.Errorf("copy the log: %w", err)
	}
	return copyCheckpoints(from, to, size)
}

// copyCheckpoints copies those of at most size leaves.
func copyCheckpoints(from, to string, size int64) error {
	list, err := ReadCheckpoints(from)
	if err != nil {
		return err
	}
	var all []byte
	for _, text := range list {
		if c, err := parseKept(text); err == nil && c.Size <= size {
			all = append(append(all, text...), '\n')
		}
	}
	if all == nil {
		return nil
	}
	return fsys.ReplaceOn(fsys.OS, filepath.Join(to, Dir, checkpointsName), all, 0o600)
}
