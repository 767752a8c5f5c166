package bolt

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bbolt "go.etcd.io/bbolt"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/manifest"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// copied makes of a partition two others with its groups as they are: all but the last go to the next part of its
// day, that one to the day before.
func copied(t *testing.T, s *Store, part store.Part) *replacement {
	t.Helper()
	src, err := s.droppable(part)
	must(t, err)
	r := &replacement{sources: []*partition{src}, entries: [][]entry{src.entries}, places: []uint64{src.place}, parts: []store.Part{s.nextPart(part.Day), s.nextPart(part.Day - 1)}}
	for i, to := range r.parts {
		list := src.entries[:len(src.entries)-1]
		if i == 1 {
			list = src.entries[len(src.entries)-1:]
		}
		c := &layout.Compacted{First: list[0].id, Last: list[len(list)-1].id, Parts: r.parts,
			Sources: []layout.Source{{Part: part, First: src.entries[0].id, Last: src.place}}}
		must(t, createBolt(strings.TrimSuffix(s.tmpPath(to), ".tmp"), func(tx *bbolt.Tx) error {
			must(t, layout.NewPartition(tx, to, s.list.id))
			must(t, layout.PutCompacted(tx, c))
			for _, e := range list {
				var blob []byte
				must(t, src.view(func(tx *bbolt.Tx) error {
					blob = bytes.Clone(tx.Bucket(layout.BucketGroups).Bucket(layout.GroupKey(e.id)).Get(layout.KeyGroup))
					return nil
				}))
				bkt, err := tx.Bucket(layout.BucketGroups).CreateBucket(layout.GroupKey(e.id))
				must(t, err)
				must(t, bkt.Put(layout.KeyGroup, blob))
				must(t, tx.Bucket(layout.BucketCatalog).Put(layout.GroupKey(e.id), e.sum.Encode()))
			}
			return nil
		}))
		must(t, os.Rename(strings.TrimSuffix(s.tmpPath(to), ".tmp"), s.tmpPath(to)))
	}
	return r
}

// whole is the answer to a question for everything, with senders and batches.
func whole(t *testing.T, s store.Events) []string {
	t.Helper()
	return storetest.Collect(t, s, &query.Query{Origin: true, Batches: true})
}

// clone copies a store that is closed.
func clone(t *testing.T, dir string) string {
	t.Helper()
	to := t.TempDir()
	must(t, os.CopyFS(to, os.DirFS(dir)))
	return to
}

// A day is rewritten while a search reads it, and while the disk has files of both before and after: as a crash leaves them
// at each step, or hands. Every answer is the same.
func TestReplace(t *testing.T) {
	t.Parallel()
	dir := made(t, 6)
	before := clone(t, dir)
	day := store.DayOf(storetest.Start)
	src := store.Part{Day: day, N: 1}
	s := open(t, Options{Dir: dir})
	want := whole(t, s)
	st, err := s.State(context.Background())
	must(t, err)
	sn, err := s.Snapshot(context.Background())
	must(t, err)
	must(t, s.replace(context.Background(), copied(t, s, src)))
	if d := cmp.Diff(want, whole(t, s)); d != "" {
		t.Errorf("rewritten (-before +after):\n%.1000s", d)
	}
	var old []string
	q := &query.Query{Origin: true, Batches: true}
	must(t, sn.Scan(context.Background(), q, func(ev *event.Event) error {
		old = append(old, storetest.TextFor(q, ev))
		return nil
	}))
	if d := cmp.Diff(want, old); d != "" {
		t.Errorf("a search that had begun (-before +after):\n%.1000s", d)
	}
	stats, err := s.Stats(context.Background())
	must(t, err)
	var names []string
	for _, p := range stats.Parts {
		if p.Compacted {
			names = append(names, p.Part.String())
		}
	}
	if d := cmp.Diff([]string{(day - 1).String(), day.String() + ".2"}, names); d != "" || stats.Lingering == 0 {
		t.Errorf("what was made, %d bytes linger (-want +got):\n%s", stats.Lingering, d)
	}
	must(t, sn.Close())
	must(t, s.Close())
	if v, err := layout.ReadMarker(dir, true); v != layout.CompactedVersion || err != nil {
		t.Errorf("version %d, %v", v, err)
	}

	file := func(d string, n int) string {
		return filepath.Join(layout.Partitions, d+map[bool]string{true: "", false: ".2"}[n == 1]+layout.Suffix)
	}
	put := func(t *testing.T, from, to string, names ...string) {
		for _, name := range names {
			copyTo(t, filepath.Join(from, name), filepath.Join(to, name))
		}
	}
	source, main, late := file(day.String(), 1), file(day.String(), 2), file((day-1).String(), 1)
	for _, c := range []struct {
		name string
		dir  string
		do   func(t *testing.T, dir string)
		left []string // files with other names than partitions have
	}{
		{"nothing", dir, func(*testing.T, string) {}, nil},
		{"a file that was being made", before, func(t *testing.T, to string) { copyTo(t, filepath.Join(dir, main), filepath.Join(to, main)+".tmp") }, nil},
		{"one file has its name", before, func(t *testing.T, to string) { put(t, dir, to, late) }, nil},
		{"all have", before, func(t *testing.T, to string) { put(t, dir, to, main, late) }, nil},
		{"all have, and the folder its version", before, func(t *testing.T, to string) { put(t, dir, to, main, late, layout.Marker) }, nil},
		{"the manifest says it", dir, func(t *testing.T, to string) { put(t, before, to, source) }, nil},
		{"the source came back without a part of it", dir, func(t *testing.T, to string) {
			put(t, before, to, source)
			must(t, os.Truncate(filepath.Join(to, source), 4096))
		}, []string{source + layout.ReplacedMark}},
		{"the manifest is lost, and the source came back", dir, func(t *testing.T, to string) {
			put(t, before, to, source)
			must(t, os.Remove(filepath.Join(to, manifest.Name)))
		}, []string{source + layout.ReplacedMark}},
		{"the manifest is lost, the source came back, and one is missing", dir, func(t *testing.T, to string) {
			put(t, before, to, source)
			must(t, os.Remove(filepath.Join(to, manifest.Name)))
			must(t, os.Remove(filepath.Join(to, late)))
		}, []string{main + layout.ReplacedMark}},
	} {
		t.Run(c.name, func(t *testing.T) {
			to := clone(t, c.dir)
			c.do(t, to)
			for _, ro := range []bool{true, false, false, true} {
				s, err := Open(Options{Dir: to, LockTimeout: -1, ReadOnly: ro})
				must(t, err)
				var got []string
				_ = store.Scan(context.Background(), s, q, func(ev *event.Event) error { // what is said of a manifest that is lost is no error here
					got = append(got, storetest.TextFor(q, ev))
					return nil
				})
				if d := cmp.Diff(want, got); d != "" {
					t.Errorf("read-only %v (-before +after):\n%.1000s", ro, d)
				}
				now, err := s.State(context.Background())
				if d := cmp.Diff(st, now); d != "" || err != nil {
					t.Errorf("read-only %v: state %v (-before +after):\n%s", ro, err, d)
				}
				must(t, s.Close())
			}
			files, err := layout.List(to)
			must(t, err)
			if len(files.Replaced) != len(c.left) || len(files.Aside) > 1 || len(files.Unfinished) > 0 {
				t.Errorf("what was left: %+v", files)
			}
			for i, name := range files.Replaced {
				if !strings.HasPrefix(name, c.left[i]) {
					t.Errorf("%s, want %s", name, c.left[i])
				}
			}
		})
	}
}

// A batch for a day that was rewritten goes to a part of its own, whose number was never used; and one that came while
// the day was being rewritten is not lost.
func TestReplaceAndAppend(t *testing.T) {
	t.Parallel()
	dir := made(t, 6)
	s := open(t, Options{Dir: dir})
	day := store.DayOf(storetest.Start)
	late := copied(t, s, store.Part{Day: day, N: 1})
	must(t, s.putRest(late))
	fill(t, s, 7, 1) // the clock went back to it
	want := whole(t, s)
	if err := s.replace(context.Background(), late); err == nil {
		t.Error("a day that was written meanwhile is replaced")
	}
	if d := cmp.Diff(want, whole(t, s)); d != "" {
		t.Errorf("after that (-before +after):\n%.1000s", d)
	}
	must(t, s.replace(context.Background(), copied(t, s, store.Part{Day: day + 1, N: 1})))
	for i, reopen := range []bool{false, true} {
		if reopen {
			must(t, s.Close())
			s = open(t, Options{Dir: dir})
		}
		g := storetest.NewGenerator(9, storetest.Templates(t), 3, storetest.Start)
		tab := store.NewTable()
		storetest.Fill(tab, g, 10)
		must(t, s.Append(context.Background(), &store.Batch{ID: uint64(8 + i), Day: day + 1, Events: tab, LSN: uint64(800 + 100*i)}))
		if s.cur.part != (store.Part{Day: day + 1, N: 3}) {
			t.Errorf("batch %d went to %s", 8+i, s.cur.part)
		}
	}
	must(t, s.Drop(context.Background(), store.Part{Day: day + 1, N: 2}, "max_days = 1"))
	must(t, s.Drop(context.Background(), store.Part{Day: day, N: 1}, "max_days = 1"))
	must(t, s.Drop(context.Background(), store.Part{Day: day, N: 2}, "max_days = 1"))
	if c := s.list.file.Content(); len(c.Replaced) != 0 || c.Numbers[(day+1).String()] != 2 {
		t.Errorf("notes of what is gone: %+v, %v", c.Replaced, c.Numbers)
	}
}
