package api

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt"
	"github.com/auditfleet/auditfleet/collector/internal/store/order"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/tables"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// stored is a source of what is stored, with the pieces that were asked for.
type stored struct {
	fakeSource
	snap   store.Snapshot
	blocks int
}

func (s *stored) Scan(ctx context.Context, q *query.Query, fn func(*event.Event) error) error {
	return s.snap.Scan(ctx, q, fn)
}

func (s *stored) ScanText(ctx context.Context, q *query.Query, fn func(query.Texts) error) error {
	return storetest.ScanText(ctx, s.snap.Scan, q, fn)
}

func (s *stored) ScanPieces(ctx context.Context, q *query.Query, fn func(*store.Piece) error) error {
	return s.snap.(store.PieceScanner).ScanPieces(ctx, q, func(p *store.Piece) error {
		if p.Block != nil {
			s.blocks++
		}
		return fn(p)
	})
}

// newStored is a source of so many batches.
func newStored(t testing.TB, batches, events int) *stored {
	t.Helper()
	s, err := bolt.Open(bolt.Options{Dir: t.TempDir(), LockTimeout: -1})
	if err != nil {
		t.Fatal(err)
	}
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
		if err := errors.Join(snap.Close(), s.Close()); err != nil {
			t.Error(err)
		}
	})
	return &stored{snap: snap}
}

// asked is an answer as text.
func asked(t *testing.T, scan func(context.Context, *query.Query, func(query.Texts) error) error, q *query.Query) (out []string) {
	t.Helper()
	err := scan(t.Context(), q, func(texts query.Texts) error {
		defer texts.Done()
		if err := texts.Open(); err != nil {
			return err
		}
		var ev event.Event
		for i := range texts.Len() {
			texts.Event(i, &ev)
			out = append(out, storetest.Text(&ev))
		}
		return nil
	})
	if err != nil {
		t.Errorf("%+v: %v", q, err)
	}
	return out
}

// An answer in pieces is the answer in order, whoever of both sides is the older one.
func TestPieces(t *testing.T) {
	src := newStored(t, 3, 1500)
	socket := func(before func(*fleet.SearchRequest)) *Client {
		return dial(t, serveAs(t, &olderService{Service{Source: src}, before}, Allowed{GID: -1}))
	}
	same := func(*fleet.SearchRequest) {}
	packed := socket(same)
	packed.local = false
	clients := map[string]*Client{
		"by the socket":                    socket(same),
		"packed":                           packed,
		"of a collector that has none":     socket(func(r *fleet.SearchRequest) { r.Frames = 0 }),
		"for who knows older groups":       socket(func(r *fleet.SearchRequest) { r.Frames = order.Reads - 1 }),
		"for who knows groups to come":     socket(func(r *fleet.SearchRequest) { r.Frames = order.Reads + 1 }),
		"of a collector that has no texts": socket(func(r *fleet.SearchRequest) { r.Texts = false }),
	}
	uid := &query.Query{Terms: []query.Term{{Fields: []query.Field{query.FieldUID}, Op: query.OpEqual, Text: "0", Number: "0"}}}
	for _, q := range []*query.Query{{}, {Reverse: true}, {Types: []uint32{uint32(tables.Syscall)}}, {Types: []uint32{uint32(tables.Login)}}, uid, {Limit: 10}, {Nodes: []string{"no such host"}}} {
		want := asked(t, src.ScanText, q)
		for name, c := range clients {
			src.blocks = 0
			if got := asked(t, c.ScanText, q); !slices.Equal(got, want) && q.Limit == 0 {
				t.Errorf("%s, %+v: %d events, %d in order", name, q, len(got), len(want))
			}
			if blocks := src.blocks > 0; blocks != (len(want) > 0 && q.Limit == 0 && !strings.HasPrefix(name, "of ") && name != "for who knows older groups") {
				t.Errorf("%s, %+v: in blocks: %v", name, q, blocks)
			}
		}
	}
}

// piecesService answers with these.
type piecesService struct {
	Service
	list []*fleet.SearchResponse
}

func (p *piecesService) Search(_ *fleet.SearchRequest, stream grpc.ServerStreamingServer[fleet.SearchResponse]) error {
	for _, r := range p.list {
		if err := stream.Send(r); err != nil {
			return err
		}
	}
	return nil
}

// A collector that says what cannot be is refused.
func TestWrongPieces(t *testing.T) {
	texts := &fleet.Texts{Text: []byte("x\n\n"), Sizes: []uint32{3 << 1}, Host: []uint32{0}, Hosts: [][]byte{[]byte("h")}}
	piece := func(p *fleet.Piece) *fleet.SearchResponse { return &fleet.SearchResponse{Pieces: []*fleet.Piece{p}} }
	for what, list := range map[string][]*fleet.SearchResponse{
		"a place too far":            {piece(&fleet.Piece{Block: &fleet.Block{Place: places, Frame: &fleet.Frame{Version: 4}}})},
		"nothing there":              {piece(&fleet.Piece{Block: &fleet.Block{Place: 3}})},
		"templates too far":          {piece(&fleet.Piece{Block: &fleet.Block{Frame: &fleet.Frame{Version: 5, Place: places + 1}}})},
		"a version to come":          {piece(&fleet.Piece{Block: &fleet.Block{Frame: &fleet.Frame{Version: order.Reads + 1}}})},
		"texts behind pieces":        {piece(&fleet.Piece{Texts: texts}), {Texts: texts}},
		"pieces behind texts":        {{Texts: texts}, piece(&fleet.Piece{Texts: texts})},
		"an event without a record":  {piece(&fleet.Piece{Texts: &fleet.Texts{Text: []byte("\n\n"), Sizes: []uint32{2 << 1}, Host: []uint32{0}, Hosts: [][]byte{[]byte("h")}}})},
		"a piece earlier than it is": {piece(&fleet.Piece{MinMs: 5, MaxMs: 5, Texts: texts}), piece(&fleet.Piece{MinMs: 1, MaxMs: 9, Texts: texts})},
	} {
		c := dial(t, serveAs(t, &piecesService{list: list}, Allowed{GID: -1}))
		if err := c.ScanText(t.Context(), &query.Query{}, func(query.Texts) error { return nil }); err == nil {
			t.Errorf("%s: no error", what)
		}
	}
}

// FuzzPieces: whatever a collector sends is an error or events, and never a panic.
func FuzzPieces(f *testing.F) {
	src := newStored(f, 1, 60)
	for _, q := range []*query.Query{{}, {Types: []uint32{uint32(tables.Login)}}} {
		p := &pieceSender{call: &call{ctx: f.Context()}, out: func(msg any) error {
			if m, ok := msg.(proto.Message); ok {
				b, err := proto.Marshal(m)
				f.Add(b)
				return err
			}
			return nil
		}}
		if err := flushed(p, src.ScanPieces(f.Context(), q, p.add)); err != nil {
			f.Fatal(err)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var msg fleet.SearchResponse
		if proto.Unmarshal(b, &msg) != nil {
			return
		}
		q := &query.Query{}
		_ = order.Run(t.Context(), q, func(_ context.Context, add func(order.Piece) error) error {
			return new(pieceReader).response(&msg, add)
		}, func(texts query.Texts) error {
			var ev event.Event
			for i := range texts.Len() {
				texts.Event(i, &ev)
				_ = texts.AppendRaw(nil, i)
			}
			texts.Done()
			return nil
		})
	})
}
