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
	err := s.snap.(store.PieceScanner).ScanPieces(ctx, q, func(p *store.Piece) error {
		if p.Frame != nil {
			s.blocks++
		}
		return fn(p)
	})
	return errors.Join(err, s.err)
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
	uid := func(op query.Op, n string) query.Term {
		return query.Term{Fields: []query.Field{query.FieldUID}, Op: op, Text: n, Number: n}
	}
	no := query.Term{Fields: []query.Field{query.FieldSuccess}, Op: query.OpEqual, Text: "no"}
	type asking struct {
		*query.Query
		blocks bool
	}
	for _, a := range []asking{
		{&query.Query{}, true}, {&query.Query{Reverse: true}, true}, {&query.Query{Types: []uint32{uint32(tables.Syscall)}}, true},
		{&query.Query{Types: []uint32{uint32(tables.Login)}}, true}, // few events, and the index says which
		{&query.Query{Terms: []query.Term{no}}, true}, {&query.Query{Terms: []query.Term{no}, Reverse: true}, true},
		{&query.Query{Terms: []query.Term{no}, Types: []uint32{uint32(tables.Syscall)}}, false},
		{&query.Query{Terms: []query.Term{uid(query.OpEqual, "0")}}, false}, // nearly all events: the index says which blocks
		{&query.Query{Terms: []query.Term{uid(query.OpLess, "7")}}, false},
		{&query.Query{Limit: 10}, false}, {&query.Query{Nodes: []string{"no such host"}}, false},
	} {
		q := a.Query
		want := asked(t, src.ScanText, q)
		for name, c := range clients {
			src.blocks = 0
			if got := asked(t, c.ScanText, q); !slices.Equal(got, want) && q.Limit == 0 {
				t.Errorf("%s, %+v: %d events, %d in order", name, q, len(got), len(want))
			}
			if blocks := src.blocks > 0; blocks != (a.blocks && !strings.HasPrefix(name, "of ") && name != "for who knows older groups") {
				t.Errorf("%s, %+v: in blocks: %v", name, q, blocks)
			}
		}
	}
}

// Whatever error an answer ends with, all that was found comes before it; and the record of the question has as many events as came.
func TestPiecesBehind(t *testing.T) {
	src := newStored(t, 3, 1500)
	src.err = errors.New("records wait")
	for _, q := range []*query.Query{{}, {Types: []uint32{uint32(tables.Login)}}, {Types: []uint32{uint32(tables.Syscall), uint32(tables.Path)}}, {Types: []uint32{uint32(tables.Syscall)}},
		{Terms: []query.Term{{Fields: []query.Field{query.FieldSuccess}, Op: query.OpEqual, Text: "no"}}}} {
		want, n := len(asked(t, src.ScanText, q)), 0
		x := &watched{}
		p := newPieceSender(&call{ctx: t.Context()}, false, func(msg any) error { x.counts(msg); return nil })
		if err := p.finish(src.ScanPieces(t.Context(), q, p.add)); !errors.Is(err, src.err) {
			t.Error(err)
		}
		if results := x.asked.Results; results != uint64(want) {
			t.Errorf("%+v: %d events, and %d results", q, want, results)
		}
		c := dial(t, serve(t, src, Allowed{GID: -1}))
		err := c.ScanText(t.Context(), q, func(texts query.Texts) error { n += texts.Len(); return nil })
		if err == nil || !strings.Contains(err.Error(), "records wait") || n != want {
			t.Errorf("%+v: %d events of %d, %v", q, n, want, err)
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
	found, blocks := &fleet.Piece{Texts: texts, At: []uint32{0}, Places: []*fleet.Place{{}}}, []*fleet.Block{{Events: 1}}
	piece := func(p *fleet.Piece) *fleet.SearchResponse { return &fleet.SearchResponse{Pieces: []*fleet.Piece{p}} }
	for what, list := range map[string][]*fleet.SearchResponse{
		"no frame":                  {piece(&fleet.Piece{Blocks: blocks})},
		"templates too far":         {piece(&fleet.Piece{Blocks: blocks, Frame: &fleet.Frame{Version: 5, TemplatesAt: shelf + 1}})},
		"templates that never came": {piece(&fleet.Piece{Blocks: blocks, Frame: &fleet.Frame{Version: 5, TemplatesAt: 7}})},
		"a version to come":         {piece(&fleet.Piece{Blocks: blocks, Frame: &fleet.Frame{Version: order.Reads + 1}})},
		"a frame of nothing":        {piece(&fleet.Piece{Blocks: blocks, Frame: &fleet.Frame{Version: 4}})},
		"templates too large":       {piece(&fleet.Piece{Blocks: blocks, Frame: &fleet.Frame{Version: 5, TemplatesAt: 1, Templates: make([]byte, order.MaxTemplates+1)}})},
		"too many blocks":           {piece(&fleet.Piece{Blocks: slices.Repeat([]*fleet.Block{{}}, maxBlocks+1), Frame: &fleet.Frame{Version: 4}})},
		"more places than events":   {piece(&fleet.Piece{Texts: texts, At: []uint32{0}, Places: []*fleet.Place{{}, {}}})},
		"texts behind pieces":       {piece(found), {Texts: texts}},
		"pieces behind texts":       {{Texts: texts}, piece(found)},
		"no places":                 {piece(&fleet.Piece{Texts: texts})},
		"a place too far":           {piece(&fleet.Piece{Texts: texts, At: []uint32{1}, Places: []*fleet.Place{{}}})},
		"an event without a record": {piece(&fleet.Piece{Texts: &fleet.Texts{Text: []byte("\n\n"), Sizes: []uint32{2 << 1}, Host: []uint32{0}, Hosts: [][]byte{[]byte("h")}}, At: []uint32{0}, Places: []*fleet.Place{{}}})},
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
	for _, q := range []*query.Query{{}, {Types: []uint32{uint32(tables.Login)}}, {Terms: []query.Term{{Fields: []query.Field{query.FieldSuccess}, Op: query.OpEqual, Text: "no"}}}} {
		p := newPieceSender(&call{ctx: f.Context()}, false, func(msg any) error {
			if m, ok := msg.(proto.Message); ok {
				b, err := proto.Marshal(m)
				f.Add(b)
				return err
			}
			return nil
		})
		if err := p.finish(src.ScanPieces(f.Context(), q, p.add)); err != nil {
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
