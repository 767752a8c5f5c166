package order_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"go.uber.org/goleak"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt"
	"github.com/auditfleet/auditfleet/collector/internal/store/group"
	"github.com/auditfleet/auditfleet/collector/internal/store/order"
	"github.com/auditfleet/auditfleet/collector/internal/store/order/ordertest"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// filled is a store with some batches, of which one is of the same times as another one.
func filled(t *testing.T, batches, events int) store.Snapshot {
	t.Helper()
	s, err := bolt.Open(bolt.Options{Dir: t.TempDir(), LockTimeout: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	for id := range uint64(batches) {
		table := store.NewTable()
		storetest.Fill(table, storetest.NewGenerator(1+id/2, storetest.Templates(t), 7, storetest.Start), events)
		if err := s.Append(t.Context(), &store.Batch{ID: id + 1, Day: 20000, Events: table}); err != nil {
			t.Fatal(err)
		}
	}
	snap, err := s.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := snap.Close(); err != nil {
			t.Error(err)
		}
	})
	return snap
}

// scanned is the answer in order.
func scanned(t *testing.T, snap store.Snapshot, q *query.Query) (out []string) {
	t.Helper()
	err := snap.Scan(t.Context(), q, func(ev *event.Event) error {
		out = append(out, storetest.Text(ev))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// run is the answer of pieces.
func run(t *testing.T, q *query.Query, most int64, receive func(context.Context, func(order.Piece) error) error) (out []string, err error) {
	t.Helper()
	err = order.RunHolding(t.Context(), q, most, receive, func(texts query.Texts) error {
		if err := texts.Open(); err != nil {
			return err
		}
		var ev event.Event
		for i := range texts.Len() {
			texts.Event(i, &ev)
			out = append(out, storetest.Text(&ev))
		}
		texts.Done()
		return nil
	})
	return out, err
}

// The answer is the same however few texts may wait for others.
func TestHolds(t *testing.T) {
	snap := filled(t, 6, 2000)
	for _, q := range []*query.Query{{}, {Reverse: true}, {Types: []uint32{uint32(tables.Syscall)}}, {Types: []uint32{uint32(tables.Path)}, Reverse: true}, {Unparsable: true}} {
		want := scanned(t, snap, q)
		for _, most := range []int64{-1, 100_000, 1 << 40} {
			got, err := run(t, q, most, ordertest.Receive(snap.(store.PieceScanner), q))
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("%+v, %d held: %d events, and %d in order: %v", q, most, len(got), len(want), err)
			}
		}
	}
}

// changed has one block of the answer changed.
func changed(snap store.Snapshot, q *query.Query, change func(*order.Piece)) func(context.Context, func(order.Piece) error) error {
	return func(ctx context.Context, add func(order.Piece) error) error {
		n := 0
		return ordertest.Receive(snap.(store.PieceScanner), q)(ctx, func(p order.Piece) error {
			if p.Block == nil {
				return add(p)
			}
			if n++; n == 3 {
				stored := p.Frame.Stored
				stored.Bytes = slices.Clone(stored.Bytes)
				p.Frame = &order.Frame{Stored: stored, Templates: p.Frame.Templates}
				piece, block := *p.Piece, *p.Block
				p.Piece, piece.Block = &piece, &block
				change(&p)
			}
			return add(p)
		})
	}
}

// Whatever is wrong with a block, the others' events are given, and the error says which it was.
func TestDamagedBlocks(t *testing.T) {
	snap := filled(t, 4, 2000)
	q := &query.Query{}
	all := scanned(t, snap, q)
	for what, change := range map[string]func(*order.Piece){
		"a byte":         func(p *order.Piece) { p.Frame.Stored.Bytes[len(p.Frame.Stored.Bytes)/2] ^= 1 },
		"another sum":    func(p *order.Piece) { p.Frame.Stored.CRC++ },
		"more text":      func(p *order.Piece) { p.Frame.Stored.Raw += 10 },
		"far more text":  func(p *order.Piece) { p.Frame.Stored.Raw = 1<<32 - 1 },
		"no bytes":       func(p *order.Piece) { p.Frame.Stored.Bytes = nil },
		"a version more": func(p *order.Piece) { p.Frame.Stored.Version = group.Version + 1 },
		"no version":     func(p *order.Piece) { p.Frame.Stored.Version = 0 },
		"no templates":   func(p *order.Piece) { p.Frame.Stored.Version, p.Frame.Templates = group.Version, nil },
		"odd templates": func(p *order.Piece) {
			p.Frame.Stored.Version, p.Frame.Templates = group.Version, &order.Templates{Bytes: []byte{1, 2, 3, 4, 5, 6}}
		},
		"beyond the frame": func(p *order.Piece) { p.Block.Off = 1 << 31 },
		"longer":           func(p *order.Piece) { p.Block.Len = 1<<32 - 1 },
		"an event more":    func(p *order.Piece) { p.Block.Events++ },
		"many events":      func(p *order.Piece) { p.Block.Events = 1<<32 - 1 },
		"another form":     func(p *order.Piece) { p.Block.Counted = !p.Block.Counted },
	} {
		t.Run(what, func(t *testing.T) {
			got, err := run(t, q, 1<<40, changed(snap, q, change))
			if !errors.Is(err, store.ErrDamaged) {
				t.Errorf("%v", err)
			}
			if len(got) >= len(all) && what != "an event more" || len(got) < len(all)/2 {
				t.Errorf("%d events of %d", len(got), len(all))
			}
		})
	}
	if _, err := run(t, q, 1<<40, changed(snap, q, func(p *order.Piece) { p.MinMs = -1 << 62 })); !errors.Is(err, order.ErrOrder) {
		t.Errorf("a piece too late: %v", err)
	}
	if _, err := run(t, q, 1<<40, changed(snap, q, func(p *order.Piece) { p.Block.Batches = []byte{0xff} })); err != nil {
		t.Errorf("odd batches: %v", err)
	}
}

// Who gets the events ends the answer, and so do what it is received by and its context; nothing goes on then.
func TestEnds(t *testing.T) {
	snap := filled(t, 4, 2000)
	q := &query.Query{}
	receive := ordertest.Receive(snap.(store.PieceScanner), q)
	mine := errors.New("mine")
	if err := order.Run(t.Context(), q, receive, func(query.Texts) error { return mine }); !errors.Is(err, mine) {
		t.Error(err)
	}
	if err := order.Run(t.Context(), q, receive, func(query.Texts) error { return query.ErrStop }); err != nil {
		t.Error(err)
	}
	n := 0
	err := order.Run(t.Context(), q, func(ctx context.Context, add func(order.Piece) error) error {
		return errors.Join(receive(ctx, add), mine, store.ErrDamaged)
	}, func(texts query.Texts) error { n += texts.Len(); return nil })
	if !errors.Is(err, mine) || n != len(scanned(t, snap, q)) {
		t.Errorf("%d events, %v", n, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := order.Run(ctx, q, receive, func(query.Texts) error { cancel(); return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
