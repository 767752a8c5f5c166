package seal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/seglog"
)

// place is where a leaf stands in the order of batches: the last batch up to it, and how often the
// store was put back before it. Places ascend with leaves, so that a batch can be searched for.
type place uint64

const batchBits = 48

func placeOf(epoch, batch uint64) place { return place(epoch<<batchBits | batch&(1<<batchBits-1)) }

func (p place) epoch() uint64 { return uint64(p) >> batchBits }
func (p place) batch() uint64 { return uint64(p) & (1<<batchBits - 1) }

// after returns the place of a leaf that follows one of p.
func (p place) after(l *Leaf) place {
	switch l.Kind {
	case Batch, Begun:
		return placeOf(p.epoch(), l.Batch)
	case Rewound:
		return placeOf(p.epoch()+1, l.First)
	}
	return p
}

// Tree is the log on the disk: leaves, the hashes of the tree over them, and where each leaf is. The first two are
// what counts; hashes and index can be made again from the leaves. One goroutine at a
// time appends, any number read.
type Tree struct {
	fs  fsys.FS
	dir string // the store's folder with the name Dir
	id  seglog.ID

	leaves, hashes, index fsys.File // closed with both locks held

	// appending is held by who appends, also while the disk takes it, and taken before mu. It guards dirty, and the
	// files beyond what counts. Who reads waits for no write.
	appending sync.Mutex
	dirty     bool // a write failed: the files may have more than is counted

	mu   sync.RWMutex // guards what counts: the three below. Only who holds appending, too, changes it
	size int64        // how many leaves there are
	end  int64        // of the leaves' file
	last place        // of the last leaf

	making sync.Mutex       // guards the two below; taken before mu
	made   map[string]int64 // by partition: the newest leaf that made it, as far as leaves were looked at
	looked int64            // how many

	walking sync.Mutex     // guards rows; taken after all others
	rows    map[int64]*Row // by number: whole rows of leaves that were read
}

// Options of Open.
type Options struct {
	FS    fsys.FS
	Store string    // the store's folder
	ID    seglog.ID // the store's
	Write bool      // to be appended to; else nothing is written
}

func (o *Options) dir() string { return filepath.Join(o.Store, Dir) }

// Open opens a store's log. Errors: fs.ErrNotExist where there is none, ErrVersion, ErrDamaged. After
// ErrDamaged, Mend may put it right.
func Open(o Options) (_ *Tree, err error) {
	t := &Tree{fs: o.FS, dir: o.dir(), id: o.ID}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("open the log %s: %w", t.dir, err), t.Close())
		}
	}()
	for _, f := range []struct {
		to          *fsys.File
		name, magic string
	}{{&t.leaves, leavesName, leavesMagic}, {&t.hashes, hashesName, hashesMagic}, {&t.index, indexName, indexMagic}} {
		file, err := openFile(o.FS, filepath.Join(t.dir, f.name), o.Write)
		if err != nil {
			if missing(err) && anyThere(o) { // one of them alone is gone
				err = fmt.Errorf("%w: %s is not there", ErrDamaged, f.name)
			}
			return nil, err
		}
		*f.to = file
		id, err := readHead(*f.to, f.magic)
		switch {
		case err != nil:
			return nil, fmt.Errorf("%s: %w", f.name, err)
		case id != o.ID && o.ID != (seglog.ID{}):
			return nil, fmt.Errorf("%w: %s is of the store %s, this is %s", ErrDamaged, f.name, id, o.ID)
		}
		t.id = id
	}
	return t, t.load(o.Write)
}

// anyThere reports whether one of the files is there.
func anyThere(o Options) bool {
	for _, name := range []string{leavesName, hashesName, indexName} {
		if _, err := o.FS.Stat(filepath.Join(o.dir(), name)); err == nil {
			return true
		}
	}
	return false
}

// load finds out how many leaves there are: as many as the index says. Whole leaves behind those were
// written by a process that died before it wrote the index: with write, they are taken in, and
// what is behind them is cut.
func (t *Tree) load(write bool) error {
	n, err := t.index.Size()
	if err != nil {
		return err
	}
	leavesEnd, err := t.leaves.Size()
	if err != nil {
		return err
	}
	hashesEnd, err := t.hashes.Size()
	if err != nil {
		return err
	}
	t.size, t.end = (n-headBytes)/indexBytes, headBytes
	if t.size > 0 {
		// The index is written and synced behind the others: what it has, they must have.
		off, last, err := t.entry(t.size - 1)
		if err != nil {
			return err
		}
		leaf, next, err := readRecord(t.leaves, off, leavesEnd)
		if err != nil {
			return err
		}
		if hashesEnd < headBytes+tlog.HashSize*tlog.StoredHashCount(t.size) {
			return fmt.Errorf("%w: %s has fewer hashes than %d leaves", ErrDamaged, hashesName, t.size)
		}
		h, err := t.recordHash(t.size - 1)
		if err != nil {
			return err
		}
		if len(leaf) > 0 && h != tlog.RecordHash(leaf) {
			return fmt.Errorf("%w: leaf %d is not what its hash was made of", ErrDamaged, t.size-1)
		}
		t.end, t.last = next, last
	}
	if !write {
		return nil
	}
	more, err := t.beyond(leavesEnd)
	if err != nil {
		return err
	}
	t.dirty = true // cuts whatever is behind what counts
	return t.appendLocked(more)
}

// beyond returns the whole leaves behind those that count.
func (t *Tree) beyond(end int64) (more [][]byte, err error) {
	for off := t.end; off < end; {
		leaf, next, err := readRecord(t.leaves, off, end)
		if err == nil {
			_, err = ParseLeaf(leaf)
		}
		if errors.Is(err, ErrDamaged) {
			return more, nil // torn
		}
		if err != nil {
			return nil, err
		}
		more, off = append(more, leaf), next
	}
	return more, nil
}

// entry reads where leaf i begins, and its place.
func (t *Tree) entry(i int64) (off int64, at place, err error) {
	var b [indexBytes]byte
	if _, err := t.index.ReadAt(b[:], headBytes+i*indexBytes); err != nil {
		return 0, 0, fmt.Errorf("read %s: %w", indexName, err)
	}
	return int64(binary.LittleEndian.Uint64(b[:])), place(binary.LittleEndian.Uint64(b[8:])), nil
}

// recordHash reads the hash of leaf i.
func (t *Tree) recordHash(i int64) (tlog.Hash, error) {
	h, err := t.readHashes([]int64{tlog.StoredHashIndex(0, i)})
	if err != nil {
		return tlog.Hash{}, err
	}
	return h[0], nil
}

// readHashes implements tlog.HashReader.
func (t *Tree) readHashes(at []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(at))
	for i, x := range at {
		if _, err := t.hashes.ReadAt(out[i][:], headBytes+x*tlog.HashSize); err != nil {
			return nil, fmt.Errorf("read %s: %w", hashesName, err)
		}
	}
	return out, nil
}

// Append adds leaves, durably, each once: after an error none is added, and the same may be tried
// again.
func (t *Tree) Append(leaves ...*Leaf) error {
	texts := make([][]byte, len(leaves))
	for i, l := range leaves {
		texts[i] = l.Encode()
	}
	return t.AppendTexts(texts)
}

// AppendTexts is Append for leaves as they were encoded.
func (t *Tree) AppendTexts(texts [][]byte) error {
	t.appending.Lock()
	defer t.appending.Unlock()
	err := t.appendLocked(texts)
	if fsys.NoRoom(err) && t.giveReserve() {
		err = t.appendLocked(texts)
	} else if err == nil && len(texts) > 0 {
		t.keepReserve()
	}
	return err
}

// appendLocked adds leaves; appending is held, mu is not.
func (t *Tree) appendLocked(texts [][]byte) (err error) {
	if err := t.cut(); err != nil || len(texts) == 0 {
		return err
	}
	var records, hashes, index []byte
	at, end := t.last, t.end
	more := map[int64]tlog.Hash{} // what hashes will have, by place
	next := tlog.StoredHashCount(t.size)
	read := tlog.HashReaderFunc(func(list []int64) ([]tlog.Hash, error) {
		var out []tlog.Hash
		for _, i := range list {
			h, ok := more[i]
			if !ok {
				old, err := t.readHashes([]int64{i})
				if err != nil {
					return nil, err
				}
				h = old[0]
			}
			out = append(out, h)
		}
		return out, nil
	})
	for i, text := range texts {
		l, err := ParseLeaf(text)
		if err != nil {
			return err
		}
		made, err := tlog.StoredHashes(t.size+int64(i), text, read)
		if err != nil {
			return err
		}
		for _, h := range made {
			more[next] = h
			next++
			hashes = append(hashes, h[:]...)
		}
		at = at.after(l)
		index = append(index, indexEntry(end, at)...)
		r := record(text)
		records = append(records, r...)
		end += int64(len(r))
	}
	t.dirty = true
	// Leaves first: the rest can be made from them. The index last: what it has is all there.
	if err := write(t.leaves, records, t.end); err != nil {
		return fmt.Errorf("write %s: %w", leavesName, err)
	}
	if err := write(t.hashes, hashes, headBytes+tlog.HashSize*tlog.StoredHashCount(t.size)); err != nil {
		return fmt.Errorf("write %s: %w", hashesName, err)
	}
	if err := write(t.index, index, headBytes+indexBytes*t.size); err != nil {
		return fmt.Errorf("write %s: %w", indexName, err)
	}
	t.dirty = false
	t.mu.Lock()
	defer t.mu.Unlock()
	t.size, t.end, t.last = t.size+int64(len(texts)), end, at
	return nil
}

func write(f fsys.File, b []byte, off int64) error {
	if _, err := f.WriteAt(b, off); err != nil {
		return err
	}
	return f.Datasync()
}

// cut takes off the files what a write that failed, or a process that died, left behind what
// counts. Where it can't, nothing is appended.
func (t *Tree) cut() error {
	if !t.dirty {
		return nil
	}
	err := errors.Join(
		cutTo(t.index, headBytes+indexBytes*t.size),
		cutTo(t.hashes, headBytes+tlog.HashSize*tlog.StoredHashCount(t.size)),
		cutTo(t.leaves, t.end))
	if err != nil {
		return fmt.Errorf("take an unfinished write off the log: %w", err)
	}
	t.dirty = false
	return nil
}

func cutTo(f fsys.File, size int64) error {
	if n, err := f.Size(); err != nil || n <= size {
		return err
	}
	if err := f.Truncate(size); err != nil {
		return err
	}
	return f.Sync()
}

// Size returns how many leaves there are.
func (t *Tree) Size() int64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.size
}

// LastBatch returns the last batch that the log has a leaf of, or began behind.
func (t *Tree) LastBatch() uint64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.last.batch()
}

// Root returns the root of the tree of the first n leaves.
func (t *Tree) Root(n int64) (tlog.Hash, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if n < 0 || n > t.size {
		return tlog.Hash{}, fmt.Errorf("the log has %d leaves, not %d", t.size, n)
	}
	return tlog.TreeHash(n, tlog.HashReaderFunc(t.readHashes))
}

// Consistency proves that the log of from leaves is the beginning of that of to; nothing is to be
// proved, and the proof is empty, where from is 0 or to.
func (t *Tree) Consistency(from, to int64) (tlog.TreeProof, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if from < 0 || from > to || to > t.size {
		return nil, fmt.Errorf("no proof from %d to %d leaves: the log has %d", from, to, t.size)
	}
	if from == 0 || from == to {
		return tlog.TreeProof{}, nil
	}
	return tlog.ProveTree(to, from, tlog.HashReaderFunc(t.readHashes))
}

// Inclusion proves that a leaf is in the log of size leaves.
func (t *Tree) Inclusion(leaf, size int64) (tlog.RecordProof, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if leaf < 0 || leaf >= size || size > t.size {
		return nil, fmt.Errorf("no proof of leaf %d among %d: the log has %d", leaf, size, t.size)
	}
	return tlog.ProveRecord(size, leaf, tlog.HashReaderFunc(t.readHashes))
}

// Text returns leaf i as it was encoded.
func (t *Tree) Text(i int64) ([]byte, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.text(i)
}

func (t *Tree) text(i int64) ([]byte, error) {
	if i < 0 || i >= t.size {
		return nil, fmt.Errorf("the log has %d leaves, not one %d", t.size, i)
	}
	off, _, err := t.entry(i)
	if err != nil {
		return nil, err
	}
	leaf, _, err := readRecord(t.leaves, off, t.end)
	if err == nil && len(leaf) == 0 {
		err = fmt.Errorf("%w: the text of leaf %d is lost, its hash is there", ErrDamaged, i)
	}
	return leaf, err
}

// Find returns the newest leaf of a batch, and which it is. Errors: ErrNoLeaf, ErrLater.
func (t *Tree) Find(batch uint64) (index int64, leaf []byte, err error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for epoch := t.last.epoch() + 1; epoch > 0; epoch-- {
		want := placeOf(epoch-1, batch)
		lo, err := t.search(want)
		if err != nil {
			return 0, nil, err
		}
		for ; lo < t.size; lo++ {
			if _, at, err := t.entry(lo); err != nil || at != want {
				break
			}
			text, err := t.text(lo)
			if err != nil {
				return 0, nil, err
			}
			if l, err := ParseLeaf(text); err == nil && l.Kind == Batch && l.Batch == batch {
				return lo, text, nil
			}
		}
	}
	if batch > t.last.batch() {
		return 0, nil, ErrLater
	}
	return 0, nil, ErrNoLeaf
}

// After calls fn with each leaf behind that of a batch, in order, until fn returns false. Those that cannot be
// read are left out.
func (t *Tree) After(batch uint64, fn func(l *Leaf) bool) error {
	t.mu.RLock()
	defer t.mu.RUnlock()
	i, err := t.search(placeOf(t.last.epoch(), batch))
	for ; err == nil && i < t.size; i++ {
		text, terr := t.text(i)
		if terr != nil && !errors.Is(terr, ErrDamaged) {
			return terr
		}
		if l, perr := ParseLeaf(text); perr == nil && !fn(l) {
			return nil
		}
	}
	return err
}

// search returns the first leaf whose place is not less.
func (t *Tree) search(want place) (int64, error) {
	lo, hi := int64(0), t.size
	for lo < hi {
		mid := (lo + hi) / 2
		_, at, err := t.entry(mid)
		if err != nil {
			return 0, err
		}
		if at < want {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo, nil
}

// Close closes the files.
func (t *Tree) Close() error {
	t.appending.Lock()
	defer t.appending.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	var errs []error
	for _, f := range []*fsys.File{&t.leaves, &t.hashes, &t.index} {
		if *f != nil {
			errs = append(errs, (*f).Close())
			*f = nil
		}
	}
	return errors.Join(errs...)
}
