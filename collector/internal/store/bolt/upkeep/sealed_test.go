package upkeep

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bbolt "go.etcd.io/bbolt"
	"golang.org/x/mod/sumdb/note"

	"github.com/auditfleet/auditfleet/collector/internal/seal"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
	"github.com/auditfleet/auditfleet/collector/internal/store/group"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/pkg/checkpoint"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// sealedStore is a store whose log is signed.
type sealedStore struct {
	t      *testing.T
	dir    string
	signer note.Signer
	public string
	keys   note.Verifiers
	gen    *storetest.Generator
	next   uint64
	flat   bool // no roots of events are made
}

func newSealedStore(t *testing.T) *sealedStore {
	t.Helper()
	secret, public, err := checkpoint.Generate("hub1")
	must(t, err)
	s := &sealedStore{t: t, dir: filepath.Join(t.TempDir(), "store"), public: public, gen: storetest.NewGenerator(5, storetest.Templates(t), 3, storetest.Start)}
	s.signer, err = checkpoint.ReadSigner(secret)
	must(t, err)
	list, err := checkpoint.ReadVerifiers(public)
	must(t, err)
	s.keys = note.VerifierList(list...)
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func partOf(day int) store.Part {
	return store.Part{Day: store.DayOf(storetest.Start) + store.Day(day), N: 1}
}

// open has do work on the store, and returns the checkpoint that is signed then; nil where none is.
func (s *sealedStore) open(dir string, do func(st *bolt.Store)) []byte {
	s.t.Helper()
	st, err := bolt.Open(bolt.Options{Dir: dir, LockTimeout: -1})
	must(s.t, err)
	defer func() { must(s.t, st.Close()) }()
	l := s.log(dir, st)
	if do != nil {
		do(st)
	}
	text, _, err := l.Checkpoint(context.Background())
	if errors.Is(err, seal.ErrStopped) {
		return nil
	}
	must(s.t, err)
	return text
}

func (s *sealedStore) log(dir string, st *bolt.Store) *seal.Log {
	s.t.Helper()
	l, err := seal.OpenLog(seal.LogConfig{Tree: st.Seals(), Store: dir, FS: fsys.OS, Signer: s.signer, Public: s.public,
		CatchUp: func(ctx context.Context, trees bool) error { return st.CatchUp(ctx, trees && !s.flat) }})
	must(s.t, err)
	return l
}

// add stores a batch of ten events on a day.
func (s *sealedStore) add(st *bolt.Store, day int) {
	s.t.Helper()
	s.next++
	tab := store.NewTable()
	storetest.Fill(tab, s.gen, 10)
	must(s.t, st.Append(context.Background(), &store.Batch{ID: s.next, Day: partOf(day).Day, Events: tab, LSN: s.next * 10}))
}

// fill stores three days of two batches each.
func (s *sealedStore) fill(st *bolt.Store) {
	for day := range 3 {
		s.add(st, day)
		s.add(st, day)
	}
}

// copyOf copies the store as it is.
func (s *sealedStore) copyOf() string {
	s.t.Helper()
	to := filepath.Join(s.t.TempDir(), "copy")
	must(s.t, os.CopyFS(to, os.DirFS(s.dir)))
	return to
}

func (s *sealedStore) check(dir string, cp []byte) *SealedReport {
	s.t.Helper()
	rep, err := Sealed(context.Background(), SealedOptions{Dir: dir, Checkpoint: cp, Keys: s.keys})
	must(s.t, err)
	return rep
}

// edit changes a partition's file as root can, whose checksums are all right afterwards.
func edit(t *testing.T, dir string, day int, fn func(tx *bbolt.Tx) error) {
	t.Helper()
	db, err := bbolt.Open(layout.PartitionPath(dir, partOf(day)), 0o600, nil)
	must(t, err)
	must(t, errors.Join(db.Update(fn), db.Close()))
}

// regroup writes a batch's group again, with the events that change leaves of it.
func regroup(t *testing.T, tx *bbolt.Tx, batch uint64, change func(i int, ev *event.Event) bool) error {
	t.Helper()
	c, err := group.NewCodec(1)
	must(t, err)
	defer c.Close()
	key := layout.GroupKey(batch)
	bkt := tx.Bucket(layout.BucketGroups).Bucket(key)
	g, err := c.Open(bytes.Clone(bkt.Get(layout.KeyGroup)))
	must(t, err)
	tab, i := store.NewTable(), 0
	must(t, g.Each(func(host string, ev *event.Event) error {
		ev = store.CloneEvent(ev)
		if change(i, ev) {
			tab.Add(host, ev)
		}
		i++
		return nil
	}))
	blob, sum, err := c.Encode(tab)
	must(t, err)
	return errors.Join(bkt.Put(layout.KeyGroup, blob), tx.Bucket(layout.BucketCatalog).Put(key, sum.Encode()))
}

// resealAs makes the leaf of a batch fit its group again, as somebody who knows the format can.
func resealAs(t *testing.T, tx *bbolt.Tx, batch uint64, change func(l *seal.Leaf)) error {
	t.Helper()
	key := layout.GroupKey(batch)
	bkt := tx.Bucket(layout.BucketSeal)
	text, err := layout.DecodeSeal(key, bkt.Get(key))
	must(t, err)
	l, err := seal.ParseLeaf(text)
	must(t, err)
	change(l)
	return bkt.Put(key, layout.EncodeSeal(key, l.Encode()))
}

func swapByte(i int, ev *event.Event) bool {
	if i == 0 {
		raw := bytes.Clone(ev.Records[0].Raw)
		at := bytes.LastIndexAny(raw, "0123456789")
		raw[at] = '0' + (raw[at]-'0'+1)%10
		ev.Records[0].Raw = raw
	}
	return true
}

// TestDroppedIsNotCut: a day that the collector drops is said, and is no change, once a checkpoint has it.
func TestDroppedIsNotCut(t *testing.T) {
	t.Parallel()
	s := newSealedStore(t)
	cp := s.open(s.dir, s.fill)
	later := s.open(s.dir, func(st *bolt.Store) { must(t, st.Drop(context.Background(), partOf(0), "max_days = 1")) })
	for i, c := range [][]byte{cp, later} {
		rep := s.check(s.dir, c)
		if len(rep.Changed) > 0 || !strings.Contains(strings.Join(rep.Notes, "\n"), partOf(0).String()+": 2 batches, 1 to 2, with 20 events") {
			t.Errorf("checkpoint %d: %+v", i, rep)
		}
	}
}

// TestPutBack: an older copy of the store in the place of the newer one is noticed at the start, by the checkpoint
// beside the key, and nothing is signed until that is accepted; then the log says so for good.
func TestPutBack(t *testing.T) {
	t.Parallel()
	s := newSealedStore(t)
	s.open(s.dir, s.fill)
	old := s.copyOf()
	later := s.open(s.dir, func(st *bolt.Store) { s.add(st, 3) })
	beside := filepath.Join(t.TempDir(), "key.last")
	must(t, os.WriteFile(beside, later, 0o600))
	for attempt := range 3 { // over restarts
		st, err := bolt.Open(bolt.Options{Dir: old, LockTimeout: -1})
		must(t, err)
		said := 0
		l, err := seal.OpenLog(seal.LogConfig{Tree: st.Seals(), Store: old, FS: fsys.OS, Signer: s.signer, Public: s.public, CatchUp: st.CatchUp, Beside: beside,
			Record: func(string, ...any) { said++ }})
		must(t, err)
		_, _, err = l.Checkpoint(context.Background())
		if !errors.Is(err, seal.ErrStopped) || said == 0 || !strings.Contains(l.Status().Stopped, "put back") {
			t.Fatalf("start %d: %v, said %d times, %+v", attempt, err, said, l.Status())
		}
		if attempt == 2 {
			text, c, err := l.Accept(context.Background(), "restored")
			if s := l.Status(); err != nil || c.Epoch != 1 || s.Stopped != "" || s.Error != nil {
				t.Fatalf("accepted: %v, %+v, %+v", err, c, s)
			}
			if rep := s.check(old, text); len(rep.Changed) > 0 || !strings.Contains(strings.Join(rep.Notes, "\n"), "accepted: restored") {
				t.Errorf("after it was accepted: %+v", rep)
			}
		}
		must(t, st.Close())
	}
	if text := s.open(old, nil); text == nil {
		t.Error("after it was accepted nothing is signed")
	}
}

// leafIn returns the leaf that a store's log has of a batch.
func leafIn(t *testing.T, dir string, batch uint64) *seal.Leaf {
	t.Helper()
	tree := logOf(t, dir)
	_, text, err := tree.Find(batch)
	must(t, errors.Join(err, tree.Close()))
	l, err := seal.ParseLeaf(text)
	must(t, err)
	return l
}

// TestForgedRoot: who has all rights when a batch is stored, and has its leaf sealed with the root of other events, so that
// bundles of evidence would prove these, is found out by the store.
func TestForgedRoot(t *testing.T) {
	t.Parallel()
	s := newSealedStore(t)
	st, err := bolt.Open(bolt.Options{Dir: s.dir, LockTimeout: -1})
	must(t, err)
	s.add(st, 0)
	must(t, st.Close())
	var l *seal.Leaf
	edit(t, s.dir, 0, func(tx *bbolt.Tx) error {
		key := layout.GroupKey(1)
		text, err := layout.DecodeSeal(key, tx.Bucket(layout.BucketSeal).Get(key))
		must(t, err)
		l, err = seal.ParseLeaf(text)
		return err
	})
	l.EventsRoot[7]++
	appendLeaf(t, s.dir, l)
	cp := s.open(s.dir, func(st *bolt.Store) { s.add(st, 0) })
	if rep := s.check(s.dir, cp); len(rep.Changed) != 1 || !strings.Contains(rep.Changed[0], "batch 1: the log's root of its events is not theirs") || rep.Groups != 1 {
		t.Errorf("%+v", rep)
	}
}

// TestChangedBeforeItIsSealed: a group that is changed between its transaction and the log gets no root that would have
// the change proved.
func TestChangedBeforeItIsSealed(t *testing.T) {
	t.Parallel()
	s := newSealedStore(t)
	st, err := bolt.Open(bolt.Options{Dir: s.dir, LockTimeout: -1})
	must(t, err)
	s.add(st, 0)
	s.add(st, 0)
	must(t, st.Close())
	edit(t, s.dir, 0, func(tx *bbolt.Tx) error { return regroup(t, tx, 2, swapByte) })
	cp := s.open(s.dir, nil)
	if leafIn(t, s.dir, 1).EventsRoot == [32]byte{} || leafIn(t, s.dir, 2).EventsRoot != [32]byte{} {
		t.Errorf("roots %x and %x, want one and none", leafIn(t, s.dir, 1).EventsRoot, leafIn(t, s.dir, 2).EventsRoot)
	}
	if rep := s.check(s.dir, cp); len(rep.Changed) != 1 || !strings.Contains(rep.Changed[0], "batch 2: it was written again") {
		t.Errorf("%+v", rep)
	}
}

// TestTreesWithAKeyOnly: without a key no work is done for proofs that nobody could sign; from the key on it is.
func TestTreesWithAKeyOnly(t *testing.T) {
	t.Parallel()
	s := newSealedStore(t)
	st, err := bolt.Open(bolt.Options{Dir: s.dir, LockTimeout: -1})
	must(t, err)
	s.add(st, 0)
	must(t, errors.Join(st.CatchUp(context.Background(), false), st.Close()))
	cp := s.open(s.dir, func(st *bolt.Store) { s.add(st, 0) })
	if leafIn(t, s.dir, 1).EventsRoot != [32]byte{} || leafIn(t, s.dir, 2).EventsRoot == [32]byte{} {
		t.Errorf("roots %x and %x, want none and one", leafIn(t, s.dir, 1).EventsRoot, leafIn(t, s.dir, 2).EventsRoot)
	}
	if rep := s.check(s.dir, cp); len(rep.Changed) > 0 || rep.Groups != 2 {
		t.Errorf("%+v", rep)
	}
}

// TestPendingLeaves: batches that are stored and not in the log yet are no change, whether the log was cut behind what was signed, or
// nothing was signed of them.
func TestPendingLeaves(t *testing.T) {
	t.Parallel()
	s := newSealedStore(t)
	cp := s.open(s.dir, func(st *bolt.Store) {
		for range 3 {
			s.add(st, 0)
		}
	})
	cutLog(t, s.dir, 2, false)
	must(t, os.Truncate(filepath.Join(s.dir, seal.Dir, "hashes"), 32+32*3))
	if rep := s.check(s.dir, cp); len(rep.Changed) > 0 || rep.Leaves != 4 || rep.Groups != 3 {
		t.Errorf("the log's end is lost: %+v", rep)
	}
	st, err := bolt.Open(bolt.Options{Dir: s.dir, LockTimeout: -1})
	must(t, err)
	s.add(st, 0)
	must(t, st.Close())
	if rep := s.check(s.dir, cp); len(rep.Changed) > 0 || rep.Leaves != 5 || rep.Groups != 4 {
		t.Errorf("and another batch: %+v", rep)
	}
}

// TestKilledBetween: the process dies after a batch's transaction and before, or while, its leaf comes into
// the log: the next start has it there once.
func TestKilledBetween(t *testing.T) {
	t.Parallel()
	s := newSealedStore(t)
	s.open(s.dir, s.fill)
	whole := s.copyOf()
	for _, tt := range []struct {
		name string
		do   func(dir string)
		lost bool // texts that are nowhere else
	}{
		{"nothing of the last leaf", func(dir string) { cutLog(t, dir, 8, false) }, false},
		{"leaves, and no index", func(dir string) { cutFile(t, filepath.Join(dir, seal.Dir, "index"), 16) }, false},
		{"leaves, and no hashes", func(dir string) {
			cutFile(t, filepath.Join(dir, seal.Dir, "index"), 16)
			cutFile(t, filepath.Join(dir, seal.Dir, "hashes"), 32)
		}, false},
		{"a torn leaf", func(dir string) {
			cutFile(t, filepath.Join(dir, seal.Dir, "index"), 16)
			cutFile(t, filepath.Join(dir, seal.Dir, "leaves"), 5)
		}, false},
		{"hashes lost", func(dir string) { must(t, os.Remove(filepath.Join(dir, seal.Dir, "hashes"))) }, false},
		{"index lost", func(dir string) { must(t, os.Remove(filepath.Join(dir, seal.Dir, "index"))) }, false},
		{"leaves lost", func(dir string) { must(t, os.Remove(filepath.Join(dir, seal.Dir, "leaves"))) }, true},
	} {
		dir := filepath.Join(t.TempDir(), "store")
		must(t, os.CopyFS(dir, os.DirFS(whole)))
		tt.do(dir)
		cp := s.open(dir, nil)
		if cp == nil {
			t.Errorf("%s: nothing is signed any more", tt.name)
			continue
		}
		was, err := seal.ReadCheckpoints(whole)
		must(t, err)
		rep := s.check(dir, was[len(was)-1])
		if tt.lost && len(rep.Changed) == 1 && strings.Contains(rep.Changed[0], "3 leaves of the log cannot be read") { // the first, and of the days' accounts
			rep.Changed = nil
		}
		if len(rep.Changed) > 0 || rep.Leaves < 9 || rep.Groups != 6 {
			t.Errorf("%s: %+v", tt.name, rep)
		}
	}
}

// TestSealedRefuses what is no checkpoint, and that of another key; a folder mounted to be read only is enough.
func TestSealedRefuses(t *testing.T) {
	t.Parallel()
	s := newSealedStore(t)
	cp := s.open(s.dir, s.fill)
	other := newSealedStore(t)
	for want, o := range map[error]SealedOptions{
		checkpoint.ErrKey:       {Dir: s.dir, Checkpoint: cp, Keys: other.keys},
		checkpoint.ErrFormat:    {Dir: s.dir, Checkpoint: []byte("hello"), Keys: s.keys},
		checkpoint.ErrSignature: {Dir: s.dir, Checkpoint: bytes.Replace(cp, []byte("\n9\n"), []byte("\n8\n"), 1), Keys: s.keys},
		store.ErrNotOurs:        {Dir: t.TempDir(), Checkpoint: cp, Keys: s.keys},
	} {
		if rep, err := Sealed(context.Background(), o); !errors.Is(err, want) {
			t.Errorf("got %+v, %v; want %v", rep, err, want)
		}
	}
}

// TestBackupIsSealed: a backup has the log of what it has, and can be restored anywhere.
func TestBackupIsSealed(t *testing.T) {
	t.Parallel()
	s := newSealedStore(t)
	cp := s.open(s.dir, s.fill)
	target := t.TempDir()
	mustBackup(t, s.dir, target)
	dir := filepath.Join(target, "store")
	if rep := s.check(dir, cp); len(rep.Changed) > 0 || rep.Groups != 6 {
		t.Errorf("of the backup: %+v", rep)
	}
	later := s.open(s.dir, func(st *bolt.Store) { s.add(st, 3) })
	if rep := s.check(dir, later); len(rep.Changed) == 0 {
		t.Errorf("the backup is older than the checkpoint, and it says %+v", rep)
	}
	if s.open(dir, nil) == nil {
		t.Error("a backup that was restored elsewhere is not signed")
	}
}

// TestOlderStoreIsSealed: what a store had before it had a log is sealed as it is found.
func TestOlderStoreIsSealed(t *testing.T) {
	t.Parallel()
	s := newSealedStore(t)
	s.open(s.dir, s.fill)
	must(t, os.RemoveAll(filepath.Join(s.dir, seal.Dir)))
	for day := range 3 {
		edit(t, s.dir, day, func(tx *bbolt.Tx) error { return tx.DeleteBucket(layout.BucketSeal) })
	}
	must(t, layout.WriteMarker(s.dir, layout.SealedVersion-1))
	cp := s.open(s.dir, nil)
	if cp == nil {
		t.Fatal("nothing is signed")
	}
	if rep := s.check(s.dir, cp); len(rep.Changed) > 0 || rep.Groups != 6 {
		t.Errorf("%+v", rep)
	}
	edit(t, s.dir, 0, func(tx *bbolt.Tx) error { return regroup(t, tx, 2, swapByte) })
	if rep := s.check(s.dir, cp); len(rep.Changed) != 1 || !strings.Contains(fmt.Sprint(rep.Changed), "batch 2: it was written again") {
		t.Errorf("%+v", rep)
	}
}
