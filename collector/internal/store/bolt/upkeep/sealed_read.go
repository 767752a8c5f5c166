package upkeep

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/auditfleet/auditfleet/collector/internal/seal"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/raw"
	"github.com/auditfleet/auditfleet/pkg/checkpoint"
	"github.com/auditfleet/auditfleet/pkg/seglog"
)

// partLeaf is a leaf as a partition has it.
type partLeaf struct {
	part  string
	batch uint64
	text  []byte
}

// partitions reads each partition: the hash of each group, and the leaves. What a start would not read is passed over. A collector may put others in the place of
// some meanwhile: these are read then.
func (s *sealed) partitions(ctx context.Context) error {
	s.parts, s.rows = map[string]bool{}, map[string]*layout.RowSum{}
	read := map[string]bool{}
	done := int64(0)
	list, err := raw.LoadList(s.o.Dir)
	if err != nil {
		return err
	}
	for pass := 1; ; pass++ {
		verdicts, err := raw.Judge(list, s.files.Partitions)
		if err != nil {
			return err
		}
		for _, f := range s.files.Partitions {
			if read[f.Path] {
				continue
			}
			if v := verdicts[f.Part]; v != layout.Counts {
				if v == layout.Doubtful && pass == 1 {
					s.notef("partition %s: its file is passed over: compaction has put its events into others", f.Part)
				}
				continue
			}
			read[f.Path] = true
			err := s.partition(ctx, f)
			if errors.Is(err, fs.ErrNotExist) && s.used {
				continue // dropped meanwhile, or written again: the log says so
			}
			if err != nil {
				return err
			}
			done += f.Size
			if s.o.Progress != nil {
				s.o.Progress(done, s.files.Bytes())
			}
		}
		if !s.used || pass == mostPasses {
			return nil
		}
		now, err := raw.LoadList(s.o.Dir)
		if err != nil || list == nil || now == nil || !compactedSince(list, now) {
			return err
		}
		files, err := layout.List(s.o.Dir)
		if files == nil {
			return err
		}
		for _, f := range s.files.Partitions { // read before they were written again: they are not what answers are made of any more
			if now.Part(f.Part.String()) == nil && now.ReplacedBy(f.Part.String()) != nil {
				s.forget(f.Part.String())
			}
		}
		list, s.files = now, files
	}
}

// forget undoes what was read of a partition.
func (s *sealed) forget(part string) {
	delete(s.parts, part)
	delete(s.rows, part)
	delete(s.made, part)
	maps.DeleteFunc(s.found, func(_ uint64, x found) bool { return x.part == part })
	s.leaves = slices.DeleteFunc(s.leaves, func(l partLeaf) bool { return l.part == part })
}

func (s *sealed) partition(ctx context.Context, f layout.PartFile) (err error) {
	name := f.Part.String()
	p, err := raw.Open(f.Path, f.Part, false)
	if p == nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	s.parts[name] = true
	if err != nil {
		if !errors.Is(err, store.ErrDamaged) {
			return err
		}
		s.changed("partition %s: it cannot be read: %v", name, err)
		return nil
	}
	s.ids = append(s.ids, p.ID)
	if want := s.rep.Checkpoint.Store; p.ID != (seglog.ID{}) && p.ID.String() != want {
		s.changed("partition %s: it says that it is of the store %s, so no collector of this one takes it for its own", name, p.ID)
	}
	if err := p.CheckPart(); err != nil {
		s.changed("partition %s: it is another one under this name: %v", name, err)
	}
	if st, err := layout.DecodeState(p.State); err == nil {
		s.lastID = max(s.lastID, st.ID)
	}
	if p.Import != "" {
		s.lastID = max(s.lastID, p.LastImported())
	}
	leaves := map[uint64][]byte{}
	for _, kv := range p.Seals {
		if text, err := layout.DecodeSeal(kv.Key, kv.Value); err == nil {
			leaves[binary.BigEndian.Uint64(kv.Key)] = text
		}
	}
	if p.Compacted != nil {
		if err := s.madePartition(ctx, f, p); err != nil {
			return err
		}
		for _, text := range leaves { // of what it was made of
			s.texts[tlog.RecordHash(text)] = text
		}
	}
	for i := range p.Groups {
		g := &p.Groups[i]
		if err := ctx.Err(); err != nil {
			return err
		}
		if p.Compacted != nil {
			break
		}
		x := found{part: name, events: g.Sum.Events, minMs: g.Sum.MinMs, maxMs: g.Sum.MaxMs}
		b, err := p.Bytes(g)
		if err == nil && b == nil {
			err = errors.New("its bytes are not to be found")
		}
		if x.err = err; err == nil {
			k, known := s.kinds[g.ID]
			x.sum = s.codec.Sum(b, k.flat || !known || s.blind, k.tree || !known || s.blind)
			x.forged = s.forged(g.ID, b)
			x.hidden = s.hides(g, b)
		}
		if text := leaves[g.ID]; text != nil && err == nil && (s.blind || g.ID > s.logged) {
			s.texts[tlog.RecordHash(text)] = text
			if with, err := bolt.WithRoot(s.codec, text, b); err == nil { // as it comes into the log
				s.texts[tlog.RecordHash(with)] = with
				if g.ID > s.logged {
					leaves[g.ID] = with
				}
			}
		}
		if was, ok := s.found[g.ID]; ok {
			s.twice = append(s.twice, fmt.Sprintf("batch %d is in two partitions, %s and %s", g.ID, was.part, name))
		}
		s.found[g.ID] = x
	}
	for _, batch := range slices.Sorted(maps.Keys(leaves)) {
		s.leaves = append(s.leaves, partLeaf{name, batch, leaves[batch]})
	}
	sum := layout.NewRowSum()
	for _, kv := range p.Ledger {
		sum.Add(kv.Key, kv.Value)
	}
	s.rows[name] = sum
	for i := range p.Findings {
		s.notef("%v", &p.Findings[i])
	}
	return nil
}

// readRoots reads what the log says before the partitions are read.
func (s *sealed) readRoots(ctx context.Context) (err error) {
	s.sealed, s.kinds, s.texts = map[uint64][32]byte{}, map[uint64]hashKinds{}, map[tlog.Hash][]byte{}
	s.settled, _, err = seal.Scan(s.o.Dir, func(x *seal.Scanned) error {
		s.blind = s.blind || x.Text == nil
		if l, err := seal.ParseLeaf(x.Text); err == nil {
			switch l.Kind {
			case seal.Batch:
				k := s.kinds[l.Batch]
				s.kinds[l.Batch] = hashKinds{k.flat || l.Pieces == 0, k.tree || l.Pieces > 0}
				s.logged = l.Batch
				if s.sealed[l.Batch] = l.EventsRoot; l.EventsRoot == [32]byte{} {
					delete(s.sealed, l.Batch)
				}
			case seal.Begun:
				s.logged = l.Batch
			case seal.Rewound:
				s.logged = l.First
			}
		}
		return ctx.Err()
	})
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return err
}

// forged reports whether the log has another root of a group's events than the group.
func (s *sealed) forged(batch uint64, blob []byte) bool {
	want, ok := s.sealed[batch]
	if !ok {
		return false
	}
	g, err := s.codec.Open(blob)
	if err != nil {
		return true
	}
	root, err := g.EventsRoot()
	return err != nil || root != want
}

// hides says why searches pass over a group, or may: they go by the catalogue, which is a copy of what the
// group says of itself. "" where they do not.
func (s *sealed) hides(g *raw.Group, b []byte) string {
	switch x, err := s.codec.Open(b); {
	case err != nil: // then its leaf says something else, too
	case !g.Listed:
		return "searches do not find them: the partition's catalogue has been changed, and does not have the group"
	case x.Summary != g.Sum:
		return "searches may not find them: the partition's catalogue has been changed, and says something else of the group"
	}
	return ""
}

// log reads the log, and adds the leaves that the partitions have and it has not yet, as the collector would.
func (s *sealed) log(ctx context.Context) error {
	if err := s.readKept(); err != nil {
		return err
	}
	s.meet()
	n, id, err := seal.Scan(s.o.Dir, func(x *seal.Scanned) error {
		if x.Text == nil {
			x.Text = s.texts[x.Hash]
		}
		if x.Text != nil && x.Stored != nil && x.Hash != *x.Stored {
			s.edited = append(s.edited, x.Index)
		}
		s.add(x.Text, x.Hash)
		return ctx.Err()
	})
	switch {
	case errors.Is(err, fs.ErrNotExist):
		s.changed("the store has no log: its folder %s was taken away, or it is of a version that had none", seal.Dir)
	case err != nil:
		return err
	}
	s.ids = append(s.ids, id)
	last := uint64(0)
	for i := range s.entries {
		if e := &s.entries[i]; e.kind == seal.Rewound {
			last = e.first
		} else if e.kind == seal.Batch || e.kind == seal.Begun {
			last = e.batch
		}
	}
	slices.SortFunc(s.leaves, func(a, b partLeaf) int { return int(int64(a.batch) - int64(b.batch)) })
	if n > 0 {
		for _, l := range s.leaves {
			if l.batch > last {
				s.add(l.text, tlog.RecordHash(l.text))
				last = l.batch
			}
		}
	}
	s.rep.Leaves = s.root.Size()
	return nil
}

// readKept reads the checkpoints that the log keeps, as far as the keys given have signed them.
func (s *sealed) readKept() error {
	list, err := seal.ReadCheckpoints(s.o.Dir)
	if err != nil {
		return err
	}
	for _, text := range append(list, s.o.Checkpoint) {
		if c, err := checkpoint.Open(text, s.o.Keys); err == nil && c.Store == s.rep.Checkpoint.Store {
			s.kept = append(s.kept, keptRoot{Checkpoint: c})
		}
	}
	slices.SortStableFunc(s.kept, func(a, b keptRoot) int { return int(a.Size - b.Size) })
	return nil
}

// meet compares the root of the leaves so far with those checkpoints that have as many.
func (s *sealed) meet() {
	n := s.root.Size()
	i, _ := slices.BinarySearchFunc(s.kept, n, func(c keptRoot, n int64) int { return int(c.Size - n) })
	if i == len(s.kept) || s.kept[i].Size != n {
		return
	}
	root := s.root.Root()
	for ; i < len(s.kept) && s.kept[i].Size == n; i++ {
		s.kept[i].seen, s.kept[i].holds = true, s.kept[i].Root == root
	}
	if c := &s.rep.Checkpoint; c.Size == n {
		s.atRoot = c.Root == root
	}
}

// add adds a leaf.
func (s *sealed) add(text []byte, hash tlog.Hash) {
	e := entry{index: s.root.Size(), unread: true}
	l, err := seal.ParseLeaf(text)
	if err != nil {
		s.again.unread()
	} else {
		s.again.add(e.index, l)
		e = entry{index: e.index, kind: l.Kind, at: l.At, part: l.Part, batch: l.Batch, first: l.First, last: l.Last, groups: l.Groups, flags: l.Flags,
			hash: l.Hash, pieces: l.Pieces, before: l.EventsRoot, minMs: l.MinMs, maxMs: l.MaxMs, events: l.Events, why: l.Why, hosts: hostsOf(l)}
	}
	s.root.Add(hash)
	s.entries = append(s.entries, e)
	s.meet()
}

// mostHosts is how many hosts of a batch are named.
const mostHosts = 8

// hostsOf names the hosts of a leaf.
func hostsOf(l *seal.Leaf) string {
	if l.Kind != seal.Batch {
		return ""
	}
	var names []string
	for i, h := range l.Hosts {
		if i == mostHosts {
			break
		}
		names = append(names, fmt.Sprintf("%.80q", h.Name))
	}
	if n := uint64(len(names)); l.AllHosts > n {
		names = append(names, fmt.Sprintf("and %d more", l.AllHosts-n))
	}
	return strings.Join(names, ", ")
}
