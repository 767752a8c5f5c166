package bolt

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bbolt "go.etcd.io/bbolt"
	"golang.org/x/mod/sumdb/note"

	"github.com/auditfleet/auditfleet/collector/internal/seal"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/manifest"
	"github.com/auditfleet/auditfleet/collector/internal/store/group"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// signedLog is the log of a store with a new key, signed once.
func signedLog(t *testing.T, s *Store) (*seal.Log, note.Verifiers) {
	t.Helper()
	key := filepath.Join(t.TempDir(), "key")
	_, err := seal.InitKey(key, "hub1")
	must(t, err)
	signer, public, err := seal.ReadKey(key)
	must(t, err)
	list, err := seal.ReadVerifiers(public)
	must(t, err)
	l, err := seal.OpenLog(seal.LogConfig{Tree: s.Seals(), Store: s.opts.Dir, Signer: signer, Public: public, CatchUp: s.CatchUp})
	must(t, err)
	_, _, err = l.Checkpoint(t.Context())
	must(t, err)
	return l, note.VerifierList(list...)
}

// leavesOf returns the log's leaves of some kinds.
func leavesOf(t *testing.T, s *Store, kinds ...seal.Kind) (list []*seal.Leaf) {
	t.Helper()
	for i := range s.Seals().Size() {
		text, err := s.Seals().Text(i)
		must(t, err)
		l, err := seal.ParseLeaf(text)
		must(t, err)
		for _, k := range kinds {
			if l.Kind == k {
				list = append(list, l)
			}
		}
	}
	return list
}

// The log says what became of a day that is rewritten: signed, with every event of its batches, and its account of completeness goes on under the new name.
func TestRewrittenIsSealed(t *testing.T) {
	t.Parallel()
	src := store.Part{Day: store.DayOf(storetest.Start), N: 1}
	s := open(t, Options{Dir: made(t, 6)})
	log, keys := signedLog(t, s)
	s.VouchWith(log.Vouch)
	must(t, s.replace(t.Context(), copied(t, s, src)))
	list := leavesOf(t, s, seal.Rewritten)
	if len(list) != 1 || !list[0].VouchedBy(keys) {
		t.Fatalf("leaves: %+v", list)
	}
	l := list[0]
	var events, records uint64
	for _, b := range leavesOf(t, s, seal.Batch) {
		if b.Part == src.String() {
			events, records = events+b.Events, records+b.Records
		}
	}
	was := l.Sources[0]
	if events == 0 || was.Part != src.String() || was.Events != events || was.Records != records || l.Events != events || l.Records != records {
		t.Errorf("%d events, %d records by the leaves of the batches; of %+v it says %d and %d", events, records, was, l.Events, l.Records)
	}
	for _, m := range l.Made {
		var byHost uint64
		for _, h := range m.Hosts {
			byHost += h.Events
		}
		if sum, _ := m.Counts(); sum != byHost || sum == 0 {
			t.Errorf("%s: %d events in groups, %d of hosts", m.Part, sum, byHost)
		}
	}
	accounts := map[string][32]byte{}
	for _, a := range leavesOf(t, s, seal.Account) {
		accounts[a.Part] = a.Hash
	}
	if accounts[l.Made[0].Part] != accounts[src.String()] || accounts[src.String()] == [32]byte{} {
		t.Errorf("accounts: %x", accounts)
	}
	must(t, s.asSealed(t.Context(), s.parts[:1], nil)) // what was made may be written again
	must(t, s.Close())
	s = open(t, Options{Dir: s.opts.Dir})
	if n := len(leavesOf(t, s, seal.Rewritten)); n != 1 {
		t.Errorf("%d leaves after a start", n)
	}
}

// Nothing is written again of a day that is not what the log has, or whose log cannot be signed: it stays as it is, for all to see.
func TestNotRewritten(t *testing.T) {
	t.Parallel()
	src := store.Part{Day: store.DayOf(storetest.Start), N: 1}
	for what, tt := range map[string]struct {
		change func(t *testing.T, s *Store, log *seal.Log)
		want   error
	}{
		"a group was changed": {func(t *testing.T, s *Store, _ *seal.Log) { otherGroup(t, s, src) }, ErrNotAsSealed},
		"nobody can sign":     {func(_ *testing.T, s *Store, _ *seal.Log) { s.VouchWith(nil) }, seal.ErrNoKey},
		"the log was stopped": {func(t *testing.T, s *Store, log *seal.Log) {
			must(t, seal.Stop(fsys.OS, s.opts.Dir, "a test"))
			l, err := seal.OpenLog(seal.LogConfig{Tree: s.Seals(), Store: s.opts.Dir, Signer: log.Signer(), Public: log.Verifier()})
			must(t, err)
			s.VouchWith(l.Vouch)
		}, seal.ErrNotVouched},
		"the tree was changed": {func(t *testing.T, s *Store, _ *seal.Log) {
			path := filepath.Join(s.opts.Dir, seal.Dir, "hashes")
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			must(t, err)
			_, err = f.WriteAt([]byte{1, 2, 3}, 32+2*32) // the hash over the first two leaves
			must(t, errors.Join(err, f.Close()))
		}, ErrNotAsSealed},
	} {
		t.Run(what, func(t *testing.T) {
			s := open(t, Options{Dir: made(t, 6)})
			log, _ := signedLog(t, s)
			s.VouchWith(log.Vouch)
			tt.change(t, s, log)
			if err := s.replace(t.Context(), copied(t, s, src)); !errors.Is(err, tt.want) {
				t.Errorf("%v, want %v", err, tt.want)
			}
			if n := len(leavesOf(t, s, seal.Rewritten)); n != 0 {
				t.Errorf("%d leaves of what was not written again", n)
			}
			if c := s.list.file.Content(); c.Part(src.String()) == nil {
				t.Error("the day was replaced")
			}
		})
	}
}

// otherGroup puts another group, as good as the first, in the place of a partition's first one.
func otherGroup(t *testing.T, s *Store, part store.Part) {
	t.Helper()
	p, err := s.droppable(part)
	must(t, err)
	tab := store.NewTable()
	storetest.Fill(tab, storetest.NewGenerator(99, storetest.Templates(t), 3, storetest.Start), 10)
	c, err := group.NewCodec(1)
	must(t, err)
	defer c.Close()
	blob, sum, err := c.Encode(tab)
	must(t, err)
	must(t, p.reopen(true))
	key := layout.GroupKey(p.entries[0].id)
	must(t, p.update(func(tx *bbolt.Tx) error {
		return errors.Join(tx.Bucket(layout.BucketGroups).Bucket(key).Put(layout.KeyGroup, blob), tx.Bucket(layout.BucketCatalog).Put(key, sum.Encode()))
	}))
	must(t, p.reopen(false))
	p.entries = append([]entry{{p.entries[0].id, sum}}, p.entries[1:]...)
}

// noManifest is a filesystem on which the manifest cannot be written any more, once it fails.
type noManifest struct {
	fsys.FS
	fails bool
}

func (f *noManifest) OpenFile(path string, flag int, perm os.FileMode) (fsys.File, error) {
	if f.fails && strings.HasPrefix(filepath.Base(path), manifest.Name) && flag&os.O_CREATE != 0 {
		return nil, errors.New("the disk fails")
	}
	return f.FS.OpenFile(path, flag, perm)
}

// A rewriting whose leaf is there and that does not happen is harmless: the day counts, and is rewritten later.
func TestRewrittenTwice(t *testing.T) {
	t.Parallel()
	src := store.Part{Day: store.DayOf(storetest.Start), N: 1}
	disk := &noManifest{FS: fsys.OS}
	s := open(t, Options{Dir: made(t, 6), fs: disk})
	want := whole(t, s)
	r := copied(t, s, src)
	disk.fails = true
	if err := s.replace(t.Context(), r); err == nil {
		t.Fatal("the manifest could be written")
	}
	dir := s.opts.Dir
	must(t, s.Close())
	s = open(t, Options{Dir: dir})
	if n := len(leavesOf(t, s, seal.Rewritten)); n != 1 {
		t.Errorf("%d leaves", n)
	}
	must(t, s.replace(t.Context(), copied(t, s, src)))
	if n := len(leavesOf(t, s, seal.Rewritten)); n != 2 {
		t.Errorf("%d leaves", n)
	}
	if got := whole(t, s); len(got) != len(want) {
		t.Errorf("%d lines, and there were %d", len(got), len(want))
	}
}

// Where the log is gone, what was made is sealed as it is found.
func TestMadeIsFound(t *testing.T) {
	t.Parallel()
	src := store.Part{Day: store.DayOf(storetest.Start), N: 1}
	s := open(t, Options{Dir: made(t, 6)})
	must(t, s.replace(t.Context(), copied(t, s, src)))
	was := leavesOf(t, s, seal.Rewritten)[0]
	dir := s.opts.Dir
	must(t, s.Close())
	must(t, os.RemoveAll(filepath.Join(dir, seal.Dir)))
	s = open(t, Options{Dir: dir})
	list := leavesOf(t, s, seal.Rewritten)
	if len(list) != 2 {
		t.Fatalf("%d leaves", len(list))
	}
	for _, l := range list {
		_, _, by, err := s.Seals().MadeBy(l.Made[0].Part)
		must(t, err)
		i := 0
		if was.Made[1].Part == l.Made[0].Part {
			i = 1
		}
		if by.At != l.At || l.Flags != seal.Found || l.Made[0].Groups[0] != was.Made[i].Groups[0] || l.Sources[0].Part != src.String() {
			t.Errorf("%+v, and it was made as %+v", l, was.Made[i])
		}
	}
}

// allSealed checks that the log has a word of each group, as it is, and that nothing of the log is wrong.
func allSealed(t *testing.T, s *Store, what string) {
	t.Helper()
	if err := s.asSealed(t.Context(), s.parts, nil); err != nil {
		t.Errorf("%s: %v", what, err)
	}
	if _, wrong, err := seal.Check(s.opts.Dir, func(int64, *seal.Leaf) {}); err != nil || len(wrong) > 0 {
		t.Errorf("%s: the log: %q, %v", what, wrong, err)
	}
}
