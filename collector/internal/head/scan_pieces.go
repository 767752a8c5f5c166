package head

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/query"
)

var _ store.PieceScanner = (*Head)(nil)

// ScanPieces implements store.PieceScanner: what lies in memory comes first. Error: store.ErrNoPieces where the store gives none.
func (h *Head) ScanPieces(ctx context.Context, q *query.Query, fn func(*store.Piece) error) (err error) {
	if in, ok := h.events.(store.Pieced); !ok || q.Batches || q.After != nil || q.Origin || q.Limit > 0 || !in.InPieces(q) {
		return store.ErrNoPieces
	}
	behind, err := h.catchUp(ctx)
	if err != nil {
		return err
	}
	q = h.also(q)
	now, snap, err := h.moment(ctx, q, withOpen(q))
	if err != nil {
		return fmt.Errorf("search the store: %w", err)
	}
	defer func() { err = errors.Join(err, snap.Close()) }()
	if err := inMemory(ctx, q, now.selectFrom(q, snap), fn); err != nil {
		return err
	}
	err = snap.(store.PieceScanner).ScanPieces(ctx, q, fn)
	if err == nil || errors.Is(err, store.ErrDamaged) {
		err = errors.Join(err, errors.Join(h.damage...), behind)
	}
	return err
}

// inMemory gives those events of memory that match, each behind its equals of the store.
func inMemory(ctx context.Context, q *query.Query, refs []store.Ref, fn func(*store.Piece) error) error {
	inOrder(refs, q.Reverse)
	m, n := query.NewMatcher(q), uint64(0)
	var list []store.Found
	size := 0
	flush := func() error {
		if len(list) == 0 {
			return nil
		}
		at := store.PiecePlace{Part: math.MaxUint32, Group: n}
		if q.Reverse { // the later of equal events come first
			at.Group = math.MaxUint64 - n
		}
		p := &store.Piece{Next: math.MinInt64, Found: list, Places: []store.PiecePlace{at}, At: make([]uint32, len(list))}
		n++
		list, size = nil, 0
		return fn(p)
	}
	for i := range refs {
		ev := refs[i].Event()
		if !m.Match(ev) {
			if err := ctx.Err(); err != nil {
				return err
			}
			continue
		}
		f := refs[i].Found(ev)
		if f.Batch == 0 { // it is open, and will be of a later batch than all that are there
			f.Batch = math.MaxUint64
		}
		list = append(list, f)
		if size += len(f.Text); size >= textsBytes || len(list) == textsEvents {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}
