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
	said := 0
	receive := Receive(s, q)
	err := order.Run(t.Context(), q, func(ctx context.Context, add func(order.Piece) error) error {
		return receive(ctx, func(p order.Piece) error {
			said += len(p.Found)
			size := uint32(0)
			for i := range p.Blocks {
				b := &p.Blocks[i]
				size += b.Len
				if said += int(b.Matches); !q.WantsNode(b.Host) || !store.InTime(q, b.MinMs) || !store.InTime(q, b.MaxMs) {
					t.Errorf("%+v: a block of %q, %d to %d, goes out", q, b.Host, b.MinMs, b.MaxMs)
				}
			}
			if p.Frame != nil {
				f := p.Piece.Frame
				if size += f.BesideLen; size != p.Frame.Raw {
					t.Errorf("%+v: blocks of %d bytes go out in a frame of %d", q, size, p.Frame.Raw)
				}
				if slices.ContainsFunc(f.Beside, func(host string) bool { return host == "" || !q.WantsNode(host) }) {
					t.Errorf("%+v: blocks of %q go out beside others", q, f.Beside)
				}
			}
			return add(p)
		})
	}, func(texts query.Texts) error {
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
	if said != len(answer) {
		t.Errorf("%+v: %d events, and %d are said to match", q, len(answer), said)
	}
	if !slices.Equal(answer, out) {
		t.Errorf("%+v: %d events, %d in pieces, and they differ", q, len(answer), len(out))
	}
}

// Receive is what order.Run receives of a store by.
func Receive(s store.PieceScanner, q *query.Query) func(context.Context, func(order.Piece) error) error {
	return func(ctx context.Context, add func(order.Piece) error) error {
		templates := map[any]*order.Templates{}
		return s.ScanPieces(ctx, q, func(p *store.Piece) error {
			f := p.Frame
			if f == nil {
				return add(order.Piece{Piece: p})
			}
			frame := &order.Frame{Stored: group.Stored{Version: f.Version, Raw: f.Raw, CRC: f.CRC, Bytes: f.Bytes}}
			if f.Group != nil {
				if templates[f.Group] == nil {
					b, err := f.ReadTemplates()
					if err != nil {
						return err
					}
					templates[f.Group] = &order.Templates{Bytes: b}
				}
				frame.Templates = templates[f.Group]
			}
			return add(order.Piece{Piece: p, Frame: frame})
		})
	}
}
