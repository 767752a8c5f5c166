package upkeep

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/auditfleet/auditfleet/collector/internal/seal"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/raw"
)

// The leaf of a batch may have the root of its events. Compaction changes neither these nor their order within a batch, so the root can be computed of what
// it has made: then it is proved that every event is what was stored, whoever wrote it again.

// proveRewritten does that, and judges rewritings that nobody vouches for by what it finds.
func (s *sealed) proveRewritten(ctx context.Context) error {
	proved := map[string]bool{}
	there := func(p string) bool { return s.parts[p] }
	for _, part := range slices.Sorted(maps.Keys(s.again.of)) {
		w := s.again.madeOf(part, -1)
		if d := s.dropped[part]; there(part) || d != nil && d.index > w.index || w.Flags&seal.Found != 0 || s.again.maker(part, w.index) != nil {
			continue
		}
		all, err := s.proveTexts(ctx, part, w)
		if err != nil {
			return err
		}
		proved[part] = all
	}
	if n := len(proved); n > 0 {
		whole := 0
		for _, all := range proved {
			if all {
				whole++
			}
		}
		s.notef("%d partitions were written again by compaction; of %d of them all text is proved to be what was stored, of the others it is the collector's word, which it has signed (seal_proves = events would prove it)", n, whole)
	}
	for _, w := range s.unbelieved {
		if slices.ContainsFunc(s.again.origins(w), func(part string) bool { return !proved[part] }) {
			s.changed("%s: it is newer than the checkpoint, and the key does not vouch for it: whoever can write the files may have put what is there in the place of what was stored; %d events of batches %d to %d, %s",
				w.words(), w.Events, w.First, w.Last, span(w.MinMs, w.MaxMs))
		}
	}
	return nil
}

// proveTexts compares the events of a partition's batches with the roots that their leaves have. all says that each batch has one, and all are theirs.
func (s *sealed) proveTexts(ctx context.Context, part string, w *rewriting) (all bool, err error) {
	trees := map[uint64]*batchTree{}
	all = true
	for i := range s.entries {
		e := &s.entries[i]
		if e.kind != seal.Batch || e.gone || e.part != part || e.index > w.index {
			continue
		}
		if root, ok := s.sealed[e.batch]; ok {
			trees[e.batch] = &batchTree{want: root, events: e.events}
		} else {
			all = false
		}
	}
	var files []layout.PartFile
	for _, final := range s.again.finals(w, func(p string) bool { return s.parts[p] }) {
		m := s.made[final]
		if m == nil || m.broken {
			return false, nil // dropped, or said already
		}
		files = append(files, m.file)
	}
	if len(trees) == 0 {
		return false, nil
	}
	err = s.eachMade(ctx, files, trees)
	if errors.Is(err, fs.ErrNotExist) && s.used {
		s.notef("partition %s: what was made of it has been dropped or made into fewer meanwhile: its text is not compared", part)
		return false, nil
	}
	if errors.Is(err, store.ErrDamaged) {
		s.changed("partition %s, written again on %s: its events cannot be compared with what was stored: %v", part, when(w.At), err)
		return false, nil
	}
	if err != nil {
		return false, err
	}
	for _, batch := range slices.Sorted(maps.Keys(trees)) {
		t := trees[batch]
		switch {
		case uint64(t.roots.Size()) != t.events: // said already
			all = false
		case [32]byte(t.roots.Root()) != t.want && t.tied:
			all = false
			s.notef("partition %s, batch %d: whether its text is what was stored cannot be told: it has several events of one host, time and serial, of which only some are in one partition since it was written again", part, batch)
		case [32]byte(t.roots.Root()) != t.want:
			all = false
			s.changed("partition %s, batch %d: it was written again on %s, and its events are not those that were stored", part, batch, when(w.At))
		}
	}
	return all, nil
}

// batchTree is the tree over a batch's events as they come.
type batchTree struct {
	want   [32]byte
	events uint64
	roots  seal.Roots
	tied   bool // two of its events have one place in the order, and come from different partitions
}

// eachMade goes through the events of partitions in their order, and adds those of the wanted batches to their trees.
func (s *sealed) eachMade(ctx context.Context, files []layout.PartFile, trees map[uint64]*batchTree) (err error) {
	var rows []func() ([]byte, error)
	for _, f := range files {
		p, err := raw.Open(f.Path, f.Part, false)
		if p == nil {
			return err
		}
		defer func() { _ = p.Close() }() // only read
		if err != nil {
			return err
		}
		next := 0
		rows = append(rows, func() ([]byte, error) {
			if next == len(p.Groups) {
				return nil, ctx.Err()
			}
			next++
			return p.Bytes(&p.Groups[next-1])
		})
	}
	m := s.codec.NewMerger(func(batch uint64) bool { return trees[batch] != nil }, rows...)
	for {
		e, err := m.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		t := trees[e.Batch]
		t.tied = t.tied || e.Tied
		hash, _ := m.Hash()
		t.roots.Add(tlog.Hash(hash))
	}
}
