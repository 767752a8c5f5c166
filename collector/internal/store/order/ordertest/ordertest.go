// Package ordertest compares answers in pieces with answers in order, in tests of stores.
package ordertest

import (
	"context"
	"slices"
	"testing"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/group"
	"github.com/auditfleet/auditfleet/collector/internal/store/order"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// Same wants the events of an answer, as storetest.Collect has them, of the pieces that a snapshot has of it, where it has pieces.
func Same(t testing.TB, snap store.Snapshot, q *query.Query, answer []string) {
	t.Helper()
	s, ok := snap.(store.PieceScanner)
	if !ok || q.Origin || q.Limit > 0 || q.Batches || q.After != nil || len(q.From) > 0 {
		return
	}
	var out []string
	err := order.Run(t.Context(), q, Receive(s, q), func(texts query.Texts) error {
		var ev event.Event
		for i := range texts.Len() {
			texts.Event(i, &ev)
			out = append(out, storetest.Text(&ev))
		}
		texts.Done()
		return nil
	})
	if err != nil {
		t.Errorf("scan for pieces: %v", err)
	}
	if !slices.Equal(answer, out) {
		t.Errorf("%+v: %d events, %d in pieces, and they differ", q, len(answer), len(out))
	}
}

// Receive is what order.Run receives of a store by.
func Receive(s store.PieceScanner, q *query.Query) func(context.Context, func(order.Piece) error) error {
	return func(ctx context.Context, add func(order.Piece) error) error {
		frames := map[any]*order.Frame{}
		return s.ScanPieces(ctx, q, func(p *store.Piece) error {
			b := p.Block
			if b == nil {
				return add(order.Piece{Piece: p})
			}
			if frames[b.Frame] == nil {
				f, err := b.Read(b.Templates != nil)
				if err != nil {
					return err
				}
				frames[b.Frame] = &order.Frame{Stored: group.Stored{Version: f.Version, Raw: f.Raw, CRC: f.CRC, Bytes: f.Bytes}}
				if f.Templates != nil {
					frames[b.Frame].Templates = &order.Templates{Bytes: f.Templates}
				}
			}
			return add(order.Piece{Piece: p, Frame: frames[b.Frame]})
		})
	}
}
