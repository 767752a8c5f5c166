package bolt

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	bbolt "go.etcd.io/bbolt"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/seglog"
)

// Wreck is a partition that was set aside as damaged, to be read as far as it can be.
type Wreck struct {
	Path string
	store.Part
	Size     int64
	Groups   []WreckGroup
	Findings []Finding // about its pages
	ID       seglog.ID // of its store; zero: it does not say
	// State is the writer's place when the file was last written, without hosts; nil
	// when it cannot be read.
	State *store.State

	v *Verifier
	r *rawFile
}

// WreckGroup is a group of a wreck.
type WreckGroup struct {
	ID   uint64
	Size int64
	raw  rawGroup
}

// OpenWreck looks at a damaged partition's file, which belongs to nobody. Its day is
// in the file's name.
func (v *Verifier) OpenWreck(path string) (_ *Wreck, err error) {
	name, _, ok := strings.Cut(filepath.Base(path), suffix)
	part, perr := store.ParsePart(name)
	if !ok || perr != nil {
		return nil, fmt.Errorf("%w: %s: a partition's file has a name such as 2026-11-22%s.corrupt-1", store.ErrNotOurs, path, suffix)
	}
	r, err := openRaw(path)
	if err != nil {
		return nil, err
	}
	tree, err := r.tree(part, true)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), r.Close())
	}
	w := &Wreck{Path: path, Part: part, Size: r.size, Findings: tree.found, ID: tree.id, v: v, r: r}
	if st, err := decodeState(tree.state); err == nil && st.ID > 0 {
		w.State = st
	}
	for _, g := range tree.groups {
		w.Groups = append(w.Groups, WreckGroup{ID: g.id, Size: g.at.size, raw: g})
	}
	return w, nil
}

// Close lets go of the file.
func (w *Wreck) Close() error { return w.r.Close() }

// Bytes reads a group; nil when its bytes are not to be found.
func (w *Wreck) Bytes(g *WreckGroup) ([]byte, error) {
	if g.raw.at.size == 0 {
		return nil, nil
	}
	b := make([]byte, g.raw.at.size)
	if _, err := w.r.f.ReadAt(b, g.raw.at.off); err != nil {
		return nil, fmt.Errorf("%s: group %d: %w", w.Path, g.ID, err)
	}
	return b, nil
}

// Events gives fn the events of a group that can be read, valid during the call,
// and returns what cannot, with how many events that concerns.
func (w *Wreck) Events(g *WreckGroup, b []byte, fn func(host string, ev *event.Event)) (found []Finding, lost uint64) {
	if b == nil {
		return []Finding{{Path: w.Path, Group: g.ID, Block: -1, Events: g.raw.sum.Events, MinMs: g.raw.sum.FirstMs, MaxMs: g.raw.sum.MaxMs,
			Err: fmt.Errorf("%w: its bytes are not to be found", store.ErrDamaged)}}, g.raw.sum.Events
	}
	x := w.v.codec.Salvage(b, fn)
	for _, f := range x.Findings {
		lost += f.Events
		found = append(found, Finding{Path: w.Path, Offset: g.raw.at.off + f.Offset, Group: g.ID, Block: f.Block, Host: f.Host, Events: f.Events, MinMs: f.MinMs, MaxMs: f.MaxMs, Err: f.Err})
	}
	if said := max(g.raw.sum.Events, x.Summary.Events); said > x.Events {
		lost = max(lost, said-x.Events)
	}
	return found, lost
}

// HasGroup says whether the store has a batch's group with the very same bytes:
// then whatever can be read of the one can be read of the other.
func (s *Store) HasGroup(id uint64, b []byte) (same bool, err error) {
	s.mu.Lock()
	var p *partition
	for _, x := range s.parts {
		for i := range x.entries {
			if x.entries[i].id == id {
				p = x
			}
		}
	}
	s.mu.Unlock()
	if p == nil {
		return false, nil
	}
	err = p.view(func(tx *bbolt.Tx) error {
		if g := tx.Bucket(bktGroups).Bucket(idKey(id)); g != nil {
			same = bytes.Equal(g.Get(keyBlob), b)
		}
		return nil
	})
	return same, err
}
