package seal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// A log is made in a folder of its own, which gets the name once all of it is durable.
const (
	makingSuffix = ".tmp"      // not whole
	newSuffix    = ".new"      // whole, and about to take the place of one that is damaged
	asideSuffix  = ".corrupt-" // a number follows: set aside, never deleted
)

// Create makes a store's log with its first leaf, which is of the kind Begun, and opens it. What is there of a log is
// set aside.
func Create(o Options, first *Leaf) (*Tree, error) {
	if err := build(o, func(t *Tree) error { return t.Append(first) }); err != nil {
		return nil, fmt.Errorf("begin the log %s: %w", o.dir(), err)
	}
	return Open(o)
}

// build makes a log, has fill put its leaves in, and puts it in the place of the one that is there,
// whose checkpoints it keeps.
func build(o Options, fill func(*Tree) error) (err error) {
	dir := o.dir()
	tmp := dir + makingSuffix
	if err := errors.Join(os.RemoveAll(tmp), os.RemoveAll(dir+newSuffix), os.Mkdir(tmp, 0o700)); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.RemoveAll(tmp) // it holds nothing that its source does not
		}
	}()
	t := &Tree{fs: o.FS, dir: tmp, id: o.ID, end: headBytes}
	for _, f := range []struct {
		to          *fsys.File
		name, magic string
	}{{&t.leaves, leavesName, leavesMagic}, {&t.hashes, hashesName, hashesMagic}, {&t.index, indexName, indexMagic}} {
		file, err := o.FS.OpenFile(filepath.Join(tmp, f.name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err == nil {
			*f.to = file
			err = write(file, head(f.magic, o.ID), 0)
		}
		if err != nil {
			return errors.Join(err, t.Close())
		}
	}
	if err := errors.Join(fill(t), t.Close()); err != nil {
		return err
	}
	for _, name := range []string{checkpointsName, stoppedName} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if missing(err) {
			continue
		}
		if err == nil {
			err = fsys.ReplaceOn(o.FS, filepath.Join(tmp, name), text, 0o600)
		}
		if err != nil {
			return err
		}
	}
	if err := o.FS.SyncDir(tmp); err != nil {
		return err
	}
	return swap(o, tmp)
}

// swap gives a folder that is whole the log's name. A crash in between leaves it under the name that
// Recover knows.
func swap(o Options, tmp string) error {
	dir := o.dir()
	if _, err := os.Lstat(dir); missing(err) {
		return errors.Join(os.Rename(tmp, dir), o.FS.SyncDir(o.Store))
	}
	return errors.Join(
		os.Rename(tmp, dir+newSuffix), o.FS.SyncDir(o.Store),
		os.Rename(dir, fmt.Sprintf("%s%s%d", dir, asideSuffix, time.Now().UnixNano())),
		os.Rename(dir+newSuffix, dir), o.FS.SyncDir(o.Store))
}

// Recover ends what a process that died has begun: a log that was to take the place of another one
// does, and what is half made is removed. The store's lock is held.
func Recover(o Options) error {
	dir := o.dir()
	if err := os.RemoveAll(dir + makingSuffix); err != nil {
		return err
	}
	if _, err := os.Lstat(dir + newSuffix); missing(err) {
		return nil
	}
	if _, err := os.Lstat(dir); err == nil {
		return os.RemoveAll(dir + newSuffix) // the old one is still there, and is mended again
	}
	return errors.Join(os.Rename(dir+newSuffix, dir), o.FS.SyncDir(o.Store))
}

// Mend makes the log anew from what can be read of its files, and opens it; the damaged one is
// set aside. find returns a batch's leaf as the place that keeps the groups has it, the one with that hash where there is a hash; nil where it has none. A leaf
// whose text is in neither, but whose hash is there, keeps its place by the hash: lost says of how many that is
// so. Where not even that is there, the log ends before it: whoever has a checkpoint of more leaves can tell.
func Mend(o Options, find func(batch uint64, hash *tlog.Hash) []byte) (t *Tree, lost int64, err error) {
	old := readDamaged(o)
	defer func() { err = errors.Join(err, old.Close()) }()
	err = build(o, func(t *Tree) error {
		for i := int64(0); ; i++ {
			text, hash := old.leafOf(i, t.last, find)
			switch {
			case text != nil:
				if err := t.AppendTexts([][]byte{text}); err != nil {
					return err
				}
			case hash != nil:
				lost++
				if err := t.appendHash(*hash); err != nil {
					return err
				}
			default:
				if i == 0 {
					return fmt.Errorf("%w: nothing of it can be read", ErrDamaged)
				}
				return nil
			}
		}
	})
	if err != nil {
		return nil, 0, err
	}
	t, err = Open(o)
	return t, lost, err
}

// appendHash adds a leaf of which only the hash is known.
func (t *Tree) appendHash(h tlog.Hash) error {
	t.appending.Lock()
	defer t.appending.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	made, err := tlog.StoredHashesForRecordHash(t.size, h, tlog.HashReaderFunc(t.readHashes))
	if err != nil {
		return err
	}
	var b []byte
	for _, x := range made {
		b = append(b, x[:]...)
	}
	r := record(nil)
	err = errors.Join(
		write(t.leaves, r, t.end),
		write(t.hashes, b, headBytes+tlog.HashSize*tlog.StoredHashCount(t.size)),
		write(t.index, indexEntry(t.end, t.last), headBytes+indexBytes*t.size))
	if err == nil {
		t.size, t.end = t.size+1, t.end+int64(len(r))
	}
	return err
}
