package upkeep

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"

	bbolt "go.etcd.io/bbolt"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/auditfleet/auditfleet/collector/internal/seal"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/manifest"
	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// What somebody with all rights can do to a log.

func groupHash(tx *bbolt.Tx, batch uint64) [32]byte {
	return sha256.Sum256(tx.Bucket(layout.BucketGroups).Bucket(layout.GroupKey(batch)).Get(layout.KeyGroup))
}

// logOf opens a store's log to be written.
func logOf(t *testing.T, dir string) *seal.Tree {
	t.Helper()
	c, err := manifest.Load(fsys.OS, dir)
	must(t, err)
	tree, err := seal.Open(seal.Options{FS: fsys.OS, Store: dir, ID: c.ID, Write: true})
	must(t, err)
	return tree
}

// appendLeaf adds a leaf to a store's log.
func appendLeaf(t *testing.T, dir string, l *seal.Leaf) {
	t.Helper()
	tree := logOf(t, dir)
	must(t, errors.Join(tree.Append(l), tree.Close()))
}

// remake makes a store's log anew, from what its partitions have.
func remake(t *testing.T, dir string, s *sealedStore) {
	t.Helper()
	must(t, os.RemoveAll(filepath.Join(dir, seal.Dir)))
	must(t, layout.WriteMarker(dir, layout.SealedVersion-1)) // so that nothing is said of it
	s.open(dir, nil)
}

// cutFile cuts n bytes off a file's end.
func cutFile(t *testing.T, path string, n int64) {
	t.Helper()
	info, err := os.Stat(path)
	must(t, err)
	must(t, os.Truncate(path, info.Size()-n))
}

// cutLog cuts the log's files to so many leaves, in good order. With an insert a leaf of another kind follows.
func cutLog(t *testing.T, dir string, leaves int64, insert bool) {
	t.Helper()
	index, err := os.ReadFile(filepath.Join(dir, seal.Dir, "index"))
	must(t, err)
	at := 32 + 16*leaves
	end := int64(binary.LittleEndian.Uint64(index[at:]))
	must(t, os.Truncate(filepath.Join(dir, seal.Dir, "index"), at))
	must(t, os.Truncate(filepath.Join(dir, seal.Dir, "leaves"), end))
	must(t, os.Truncate(filepath.Join(dir, seal.Dir, "hashes"), 32+32*tlog.StoredHashCount(leaves)))
	if insert {
		appendLeaf(t, dir, &seal.Leaf{Kind: seal.Accepted, Why: "nothing to see"})
	}
}

// editText changes a leaf in the file of leaves alone, with its checksum.
func editText(t *testing.T, dir string, leaf int64) {
	t.Helper()
	tree := logOf(t, dir)
	text, err := tree.Text(leaf)
	must(t, err)
	l, err := seal.ParseLeaf(text)
	must(t, err)
	l.Hash[5]++
	other := filepath.Join(t.TempDir(), "x")
	must(t, os.Mkdir(other, 0o700))
	made, err := seal.Create(seal.Options{FS: fsys.OS, Store: other}, l)
	must(t, errors.Join(err, tree.Close()))
	must(t, made.Close())
	record, err := os.ReadFile(filepath.Join(other, seal.Dir, "leaves"))
	must(t, err)
	index, err := os.ReadFile(filepath.Join(dir, seal.Dir, "index"))
	must(t, err)
	f, err := os.OpenFile(filepath.Join(dir, seal.Dir, "leaves"), os.O_RDWR, 0)
	must(t, err)
	_, err = f.WriteAt(record[32:], int64(binary.LittleEndian.Uint64(index[32+16*leaf:])))
	must(t, errors.Join(err, f.Close()))
}

// leafOf returns the leaf that a day's partition has of a batch.
func leafOf(t *testing.T, dir string, day int, batch uint64) (l *seal.Leaf) {
	t.Helper()
	edit(t, dir, day, func(tx *bbolt.Tx) error {
		key := layout.GroupKey(batch)
		text, err := layout.DecodeSeal(key, tx.Bucket(layout.BucketSeal).Get(key))
		must(t, err)
		l, err = seal.ParseLeaf(bytes.Clone(text))
		return err
	})
	return l
}

// leafAt is where a leaf begins in its file.
func leafAt(t *testing.T, dir string, leaf int64) int64 {
	t.Helper()
	index, err := os.ReadFile(filepath.Join(dir, seal.Dir, "index"))
	must(t, err)
	return int64(binary.LittleEndian.Uint64(index[32+16*leaf:]))
}
