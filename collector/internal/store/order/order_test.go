package order_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

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

// An answer of which more has to wait than any collector sends ends with an error, and the same one with a little more room does not.
func TestHolds(t *testing.T) {
	snap := filled(t, 6, 2000)
	for _, q := range []*query.Query{{}, {Reverse: true}, {Types: []uint32{uint32(tables.Syscall)}}, {Types: []uint32{uint32(tables.Path)}, Reverse: true}, {Unparsable: true}} {
		want := scanned(t, snap, q)
		receive := ordertest.Receive(snap.(store.PieceScanner), q)
		if got, err := run(t, q, 1<<30, receive); err != nil || !slices.Equal(got, want) {
			t.Errorf("%+v: %d events, and %d in order: %v", q, len(got), len(want), err)
		}
		got, err := run(t, q, 300_000, receive)
		if !errors.Is(err, order.ErrHeld) || len(got) >= len(want) || !slices.Equal(got, want[:len(got)]) {
			t.Errorf("%+v, with little room: %d events: %v", q, len(got), err)
		}
	}
}

// Who takes the answer slowly has the collector wait, however much there is: what is not needed yet is no answer out of its order.
func TestSlowReader(t *testing.T) {
	s, err := bolt.Open(bolt.Options{Dir: t.TempDir(), LockTimeout: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	for id := range uint64(40) { // one after the other
		table := store.NewTable()
		storetest.Fill(table, storetest.NewGenerator(1+id, storetest.Templates(t), 1, storetest.Start.Add(time.Duration(id)*24*time.Hour)), 300)
		if err := s.Append(t.Context(), &store.Batch{ID: id + 1, Day: 20000, Events: table}); err != nil {
			t.Fatal(err)
		}
	}
	snap, err := s.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = snap.Close() }()
	q := &query.Query{}
	want, got := scanned(t, snap, q), 0
	err = order.RunHolding(t.Context(), q, 1200<<10, ordertest.Receive(snap.(store.PieceScanner), q), func(texts query.Texts) error {
		got += texts.Len()
		time.Sleep(20 * time.Millisecond) // meanwhile as much is received as may be
		texts.Done()
		return nil
	})
	if err != nil || got != len(want) {
		t.Errorf("%d events of %d: %v", got, len(want), err)
	}
}

// changed has the third frame of the answer changed.
func changed(snap store.Snapshot, q *query.Query, change func(*order.Piece)) func(context.Context, func(order.Piece) error) error {
	return func(ctx context.Context, add func(order.Piece) error) error {
		n := 0
		return ordertest.Receive(snap.(store.PieceScanner), q)(ctx, func(p order.Piece) error {
			if p.Frame == nil {
				return add(p)
			}
			if n++; n == 3 {
				p.Frame = &order.Frame{Stored: p.Frame.Stored, Templates: p.Frame.Templates}
				p.Frame.Bytes = slices.Clone(p.Frame.Bytes)
				piece := *p.Piece
				piece.Blocks = slices.Clone(piece.Blocks)
				p.Piece = &piece
				change(&p)
			}
			return add(p)
		})
	}
}

// Whatever is wrong with a frame, the others' events are given, and the error says which it was.
func TestDamagedFrames(t *testing.T) {
	snap := filled(t, 4, 3000)
	q := &query.Query{}
	all := scanned(t, snap, q)
	for what, change := range map[string]func(*order.Piece){
		"a byte":         func(p *order.Piece) { p.Frame.Bytes[len(p.Frame.Bytes)/2] ^= 1 },
		"another sum":    func(p *order.Piece) { p.Frame.CRC++ },
		"more text":      func(p *order.Piece) { p.Frame.Raw += 10 },
		"no bytes":       func(p *order.Piece) { p.Frame.Bytes = nil },
		"a version more": func(p *order.Piece) { p.Frame.Version = group.Version + 1 },
		"no version":     func(p *order.Piece) { p.Frame.Version = 0 },
		"no templates":   func(p *order.Piece) { p.Frame.Version, p.Frame.Templates = group.Version, nil },
		"odd templates": func(p *order.Piece) {
			p.Frame.Version, p.Frame.Templates = group.Version, &order.Templates{Bytes: []byte{1, 2, 3, 4, 5, 6}}
		},
		"beyond the frame":       func(p *order.Piece) { p.Blocks[0].Off = 1 << 31 },
		"longer":                 func(p *order.Piece) { p.Blocks[0].Len = 1<<32 - 1 },
		"many events":            func(p *order.Piece) { p.Blocks[0].Events = 1<<32 - 1 },
		"a wanted event too far": func(p *order.Piece) { p.Blocks[0].Want = []uint32{0, p.Blocks[0].Events} },
		"wanted backwards":       func(p *order.Piece) { p.Blocks[0].Want = []uint32{1, 0} },
		"another form":           func(p *order.Piece) { p.Blocks[0].Counted = !p.Blocks[0].Counted },
	} {
		t.Run(what, func(t *testing.T) {
			got, err := run(t, q, 1<<40, changed(snap, q, change))
			if !errors.Is(err, store.ErrDamaged) {
				t.Errorf("%v", err)
			}
			if len(got) >= len(all) || len(got) < len(all)/2 {
				t.Errorf("%d events of %d", len(got), len(all))
			}
		})
	}
	for what, change := range map[string]func(*order.Piece){
		"far more text": func(p *order.Piece) { p.Frame.Raw = 1<<32 - 1 },
		"more to wait":  func(p *order.Piece) { p.Frame.Raw = 1 << 30; p.Next = -1 << 62 },
	} {
		if _, err := run(t, q, 1<<29, changed(snap, q, change)); !errors.Is(err, order.ErrHeld) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := run(t, q, 1<<40, changed(snap, q, func(p *order.Piece) { p.Blocks[0].Batches = []byte{0xff} })); err != nil {
		t.Errorf("odd batches: %v", err)
	}
}

// Of an answer that is cut off anywhere, what is given is what it begins with.
func TestCutOff(t *testing.T) {
	snap := filled(t, 4, 2000)
	lost := errors.New("the connection was lost")
	for _, q := range []*query.Query{{}, {Reverse: true}} {
		all := scanned(t, snap, q)
		for _, most := range []int{0, 1, 5, 10, 20} {
			n := 0
			got, err := run(t, q, 1<<40, func(ctx context.Context, add func(order.Piece) error) error {
				return ordertest.Receive(snap.(store.PieceScanner), q)(ctx, func(p order.Piece) error {
					if n++; n > most {
						return lost
					}
					return add(p)
				})
			})
			if !errors.Is(err, lost) || len(got) >= len(all) || !slices.Equal(got, all[:len(got)]) {
				t.Errorf("behind %d pieces: %d events: %v", most, len(got), err)
			}
		}
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
		return errors.Join(receive(ctx, add), add(order.Piece{Piece: &store.Piece{}, Last: true}), mine)
	}, func(texts query.Texts) error { n += texts.Len(); return nil })
	if !errors.Is(err, mine) || n != len(scanned(t, snap, q)) {
		t.Errorf("%d events, %v", n, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := order.Run(ctx, q, receive, func(query.Texts) error { cancel(); return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// An event is given once it is known that none before it comes, however long the next piece takes.
func TestAtOnce(t *testing.T) {
	f := store.FoundOf(storetest.Parse("h", "type=USER msg=audit(1700000000.000:1): pid=1"))
	given := make(chan struct{})
	err := order.Run(t.Context(), &query.Query{}, func(ctx context.Context, add func(order.Piece) error) error {
		if err := add(order.Piece{Piece: &store.Piece{Next: f.Ms + 1, Found: []store.Found{f}, Places: make([]store.PiecePlace, 1), At: []uint32{0}}}); err != nil {
			return err
		}
		select {
		case <-given:
			return nil
		case <-time.After(time.Minute):
			return errors.New("it is held back")
		}
	}, func(query.Texts) error { close(given); return nil })
	if err != nil {
		t.Error(err)
	}
}

// Events of one block that are equal in all by which they are put in order stay as they came, also where they came in several pieces.
func TestEqualsStay(t *testing.T) {
	for _, reverse := range []bool{false, true} {
		var want []string
		got, err := run(t, &query.Query{Reverse: reverse}, 1<<30, func(_ context.Context, add func(order.Piece) error) error {
			for n := range 20 {
				ev := storetest.Parse("h", fmt.Sprintf("type=USER msg=audit(1700000000.000:1): pid=%d", n))
				f := store.FoundOf(ev)
				next := f.Ms
				if reverse {
					next = -f.Ms
				}
				want = append(want, storetest.Text(ev))
				if err := add(order.Piece{Piece: &store.Piece{Next: next, Found: []store.Found{f}, Places: make([]store.PiecePlace, 1), At: []uint32{0}}}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("reverse %v: %v, %q", reverse, err, got)
		}
	}
}
