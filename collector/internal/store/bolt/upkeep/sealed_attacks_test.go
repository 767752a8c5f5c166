package upkeep

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bbolt "go.etcd.io/bbolt"

	"github.com/auditfleet/auditfleet/collector/internal/seal"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/manifest"
	"github.com/auditfleet/auditfleet/collector/internal/store/group"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/seglog"
)

// TestAttacks changes a store as somebody with all rights on its machine can, but for the key, and has it
// compared with a checkpoint that was taken elsewhere before.
func TestAttacks(t *testing.T) {
	t.Parallel()
	s := newSealedStore(t)
	cp := s.open(s.dir, s.fill)
	old := s.copyOf()
	s.open(s.dir, func(st *bolt.Store) { s.add(st, 2) })
	later := s.open(s.dir, func(st *bolt.Store) { s.add(st, 3) })
	if rep := s.check(s.dir, cp); len(rep.Changed) > 0 || rep.Groups != 8 || !strings.Contains(strings.Join(rep.Notes, "\n"), "after the checkpoint: 2 batches") {
		t.Fatalf("nothing was changed, and it says %+v", rep)
	}
	file := func(dir string, day int) string { return layout.PartitionPath(dir, partOf(day)) }
	forget := func(dir string, day int) { // the manifest's line
		c, err := manifest.Load(fsys.OS, dir)
		must(t, err)
		c.Remove(partOf(day).String())
		must(t, manifest.Save(fsys.OS, dir, c))
	}
	day1 := partOf(0).String()
	for _, tt := range []struct {
		name   string
		cp     []byte
		attack func(dir string)
		want   []string // a line of what was changed has all of these
	}{
		{"a record written again", cp, func(dir string) {
			edit(t, dir, 0, func(tx *bbolt.Tx) error { return regroup(t, tx, 2, swapByte) })
		}, []string{"partition " + day1 + ", batch 2: it was written again", "of hosts"}},
		{"a record removed", cp, func(dir string) {
			edit(t, dir, 0, func(tx *bbolt.Tx) error {
				return regroup(t, tx, 2, func(i int, _ *event.Event) bool { return i != 3 })
			})
		}, []string{"batch 2: it was written again"}},
		{"a sender's proved name alone", cp, func(dir string) {
			edit(t, dir, 0, func(tx *bbolt.Tx) error {
				return regroup(t, tx, 2, func(i int, ev *event.Event) bool {
					ev.From = &event.Sender{Host: "proved", Transport: event.TransportTLS}
					return true
				})
			})
		}, []string{"batch 2: it was written again"}},
		{"the times of receipt alone", cp, func(dir string) {
			edit(t, dir, 0, func(tx *bbolt.Tx) error {
				return regroup(t, tx, 2, func(i int, ev *event.Event) bool {
					for i := range ev.Records {
						ev.Records[i].Received += 1000
					}
					return true
				})
			})
		}, []string{"batch 2: it was written again"}},
		{"two batches in each other's place", cp, func(dir string) {
			edit(t, dir, 0, func(tx *bbolt.Tx) error {
				one, two := tx.Bucket(layout.BucketGroups).Bucket(layout.GroupKey(1)), tx.Bucket(layout.BucketGroups).Bucket(layout.GroupKey(2))
				x, y := bytes.Clone(one.Get(layout.KeyGroup)), bytes.Clone(two.Get(layout.KeyGroup))
				return errors.Join(one.Put(layout.KeyGroup, y), two.Put(layout.KeyGroup, x))
			})
		}, []string{"batch 1: it was written again", "batch 2: it was written again"}},
		{"a batch removed", cp, func(dir string) {
			edit(t, dir, 0, func(tx *bbolt.Tx) error {
				return errors.Join(tx.Bucket(layout.BucketGroups).DeleteBucket(layout.GroupKey(2)), tx.Bucket(layout.BucketCatalog).Delete(layout.GroupKey(2)),
					tx.Bucket(layout.BucketSeal).Delete(layout.GroupKey(2)))
			})
		}, []string{"partition " + day1 + ": removed: batch 2 with 10 events"}},
		{"a batch put in", cp, func(dir string) {
			edit(t, dir, 0, func(tx *bbolt.Tx) error { return insert(t, tx, 1, 70) })
		}, []string{"batch 70: inserted"}},
		{"a batch put in with a leaf of its own", cp, func(dir string) {
			edit(t, dir, 0, func(tx *bbolt.Tx) error {
				must(t, insert(t, tx, 1, 3))
				key := layout.GroupKey(3)
				return tx.Bucket(layout.BucketSeal).Put(key, layout.EncodeSeal(key, (&seal.Leaf{Kind: seal.Batch, Batch: 3}).Encode()))
			})
		}, []string{"batch 3 is in two partitions"}},
		{"a leaf alone", cp, func(dir string) {
			edit(t, dir, 0, func(tx *bbolt.Tx) error {
				return resealAs(t, tx, 2, func(l *seal.Leaf) { l.Events = 1 })
			})
		}, []string{"its leaf of batch 2 is another one"}},
		{"a record and its leaf", cp, func(dir string) {
			edit(t, dir, 0, func(tx *bbolt.Tx) error {
				return errors.Join(regroup(t, tx, 2, swapByte), resealAs(t, tx, 2, func(l *seal.Leaf) { l.Hash[0]++ }))
			})
		}, []string{"batch 2: it was written again"}},
		{"a day cut away", cp, func(dir string) {
			must(t, os.Remove(file(dir, 1)))
			forget(dir, 1)
		}, []string{"partition " + partOf(1).String() + ": cut away", "2 batches, 3 to 4 with 20 events"}},
		{"a day cut away, and a word of its being dropped", cp, func(dir string) {
			appendLeaf(t, dir, &seal.Leaf{Kind: seal.Dropped, Part: partOf(1).String(), First: 3, Last: 4, Groups: 2})
			must(t, os.Remove(file(dir, 1)))
			forget(dir, 1)
		}, []string{"no checkpoint has signed that it was dropped"}},
		{"a batch removed, and its leaf's text with it", cp, func(dir string) {
			edit(t, dir, 0, func(tx *bbolt.Tx) error {
				return errors.Join(tx.Bucket(layout.BucketGroups).DeleteBucket(layout.GroupKey(2)), tx.Bucket(layout.BucketCatalog).Delete(layout.GroupKey(2)),
					tx.Bucket(layout.BucketSeal).Delete(layout.GroupKey(2)))
			})
			flip(t, filepath.Join(dir, seal.Dir, "leaves"), leafAt(t, dir, 2)+20, 1)
		}, []string{"1 leaves of the log cannot be read, the first is number 2"}},
		{"a day cut away, and a word of its being dropped with nothing in it", cp, func(dir string) {
			appendLeaf(t, dir, &seal.Leaf{Kind: seal.Dropped, Part: partOf(1).String()})
			must(t, os.Remove(file(dir, 1)))
			forget(dir, 1)
		}, []string{"no checkpoint has signed that it was dropped"}},
		{"a batch removed, and a word of its day's being dropped", cp, func(dir string) {
			appendLeaf(t, dir, &seal.Leaf{Kind: seal.Dropped, Part: partOf(0).String(), First: 1, Last: 2, Groups: 2})
			edit(t, dir, 0, func(tx *bbolt.Tx) error {
				return errors.Join(tx.Bucket(layout.BucketGroups).DeleteBucket(layout.GroupKey(2)), tx.Bucket(layout.BucketCatalog).Delete(layout.GroupKey(2)),
					tx.Bucket(layout.BucketSeal).Delete(layout.GroupKey(2)))
			})
		}, []string{"partition " + day1 + ": batch 2", "no checkpoint has signed that it was dropped"}},
		{"days cut away, and a word of an older store that was put back and accepted", cp, func(dir string) {
			appendLeaf(t, dir, &seal.Leaf{Kind: seal.Rewound, First: 2, Batch: 8, Why: "a restore"})
			appendLeaf(t, dir, &seal.Leaf{Kind: seal.Accepted, Why: "all is well"})
			for day := 1; day < 4; day++ {
				must(t, os.Remove(file(dir, day)))
				forget(dir, day)
			}
		}, []string{"the store was found behind its log: batches 3 to 8"}},
		{"a batch hidden from searches", cp, func(dir string) {
			edit(t, dir, 0, func(tx *bbolt.Tx) error { return tx.Bucket(layout.BucketCatalog).Delete(layout.GroupKey(2)) })
		}, []string{"batch 2: its events are as they were stored", "searches do not find them"}},
		{"a batch hidden from searches of its time", cp, func(dir string) {
			edit(t, dir, 0, func(tx *bbolt.Tx) error {
				c := tx.Bucket(layout.BucketCatalog)
				sum, err := group.DecodeSummary(c.Get(layout.GroupKey(2)))
				must(t, err)
				sum.MinMs, sum.MaxMs, sum.FirstMs = 1000, 2000, 1000
				return c.Put(layout.GroupKey(2), sum.Encode())
			})
		}, []string{"batch 2: its events are as they were stored", "searches may not find them"}},
		{"a day's file made another store's", cp, func(dir string) {
			edit(t, dir, 1, func(tx *bbolt.Tx) error { return layout.PutID(tx.Bucket(layout.BucketMarks), seglog.ID{7}) })
		}, []string{"partition " + partOf(1).String() + ": it says that it is of the store"}},
		{"what came after an old checkpoint cut, and the log with it", cp, func(dir string) {
			must(t, os.Remove(file(dir, 3)))
			forget(dir, 3)
			cutLog(t, dir, 10, false)
		}, []string{"an older store was put back, or the log's end was cut away"}},
		{"what came after an old checkpoint written again, and the log with it", cp, func(dir string) {
			edit(t, dir, 3, func(tx *bbolt.Tx) error {
				return errors.Join(regroup(t, tx, 8, swapByte), resealAs(t, tx, 8, func(l *seal.Leaf) { l.Hash = groupHash(tx, 8) }))
			})
			cutLog(t, dir, 10, false)
			tree := logOf(t, dir)
			must(t, tree.Append(leafOf(t, dir, 3, 8), &seal.Leaf{Kind: seal.Account, Part: partOf(2).String()}))
			must(t, tree.Close())
		}, []string{"behind those of the checkpoint, are not those that were signed"}},
		{"two days swapped", cp, func(dir string) {
			must(t, os.Rename(file(dir, 0), file(dir, 0)+".x"))
			must(t, os.Rename(file(dir, 1), file(dir, 0)))
			must(t, os.Rename(file(dir, 0)+".x", file(dir, 1)))
		}, []string{"it is another one under this name"}},
		{"the log cut", later, func(dir string) { cutLog(t, dir, 3, true) }, []string{"the log's end was cut away"}},
		{"the log taken away", cp, func(dir string) { must(t, os.RemoveAll(filepath.Join(dir, seal.Dir))) }, []string{"the store has no log"}},
		{"a record, its leaf, and the whole log made anew", cp, func(dir string) {
			edit(t, dir, 0, func(tx *bbolt.Tx) error {
				return errors.Join(regroup(t, tx, 2, swapByte), resealAs(t, tx, 2, func(l *seal.Leaf) {
					l.Hash = groupHash(tx, 2)
				}))
			})
			remake(t, dir, s)
		}, []string{"are not those that were signed"}},
		{"a leaf's text", cp, func(dir string) { editText(t, dir, 2) }, []string{"leaf 2 of the log is not what its hash was made of"}},
		{"another store", cp, func(dir string) {
			other := newSealedStore(t)
			other.open(other.dir, other.fill)
			must(t, os.RemoveAll(dir))
			must(t, os.CopyFS(dir, os.DirFS(other.dir)))
		}, []string{"another store"}},
		{"yesterday's copy", later, func(dir string) {
			must(t, os.RemoveAll(dir))
			must(t, os.CopyFS(dir, os.DirFS(old)))
		}, []string{"an older store was put back"}},
	} {
		dir := s.copyOf()
		tt.attack(dir)
		got := strings.Join(s.check(dir, tt.cp).Changed, "\n")
		for _, w := range tt.want {
			if !strings.Contains(got, w) {
				t.Errorf("%s: it says\n%s\nwithout %q", tt.name, got, w)
			}
		}
	}
}

// insert puts a copy of a group in under another batch.
func insert(t *testing.T, tx *bbolt.Tx, from, as uint64) error {
	t.Helper()
	blob := bytes.Clone(tx.Bucket(layout.BucketGroups).Bucket(layout.GroupKey(from)).Get(layout.KeyGroup))
	sum := bytes.Clone(tx.Bucket(layout.BucketCatalog).Get(layout.GroupKey(from)))
	bkt, err := tx.Bucket(layout.BucketGroups).CreateBucket(layout.GroupKey(as))
	must(t, err)
	return errors.Join(bkt.Put(layout.KeyGroup, blob), tx.Bucket(layout.BucketCatalog).Put(layout.GroupKey(as), sum))
}
