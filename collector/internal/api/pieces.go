package api

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/group"
	"github.com/auditfleet/auditfleet/collector/internal/store/order"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// inPieces reports whether an answer may come in pieces: one of which the first events are enough, or of which more is asked than texts, comes in order.
func inPieces(q *query.Query) bool { return q.Limit == 0 && !q.Origin && !q.Batches && q.After == nil }

// places is how many frames, and how many groups' templates, who is sent pieces keeps: what comes again is not sent again.
const places = 64

// shelf has what was put at each place last.
type shelf struct {
	at   map[any]uint32
	keys [places]any
	next uint32
}

// put returns the place of a key, and whether it was there.
func (s *shelf) put(key any) (place uint32, had bool) {
	if place, had = s.at[key]; had {
		return place, true
	}
	if s.at == nil {
		s.at = map[any]uint32{}
	}
	place, s.next = s.next, (s.next+1)%places
	delete(s.at, s.keys[place])
	s.keys[place], s.at[key] = key, place
	return place, false
}

// pieceSender sends an answer's pieces, some at a time. It is for one goroutine.
type pieceSender struct {
	*call
	out               func(msg any) error
	packer            textPacker
	frames, templates shelf
	list              []*fleet.Piece // that wait
	size              int            // of them
	last              time.Time      // when some were sent last
}

// sendPieces answers q in pieces. Error: store.ErrNoPieces, before anything is sent, where that cannot be done.
func (s *Service) sendPieces(c *call, req *fleet.SearchRequest, q *query.Query, out func(msg any) error) error {
	src, ok := s.Source.(store.PieceScanner)
	if !ok || req.GetFrames() < order.Reads || !inPieces(q) {
		return store.ErrNoPieces
	}
	p := &pieceSender{call: c, out: out, packer: textPacker{packed: req.GetPacked()}, last: time.Now()}
	return flushed(p, src.ScanPieces(c.ctx, q, p.add))
}

// add sends a piece, or has it wait for others.
func (p *pieceSender) add(x *store.Piece) error {
	out := &fleet.Piece{MinMs: x.MinMs, MaxMs: x.MaxMs, Early: x.Early, Part: x.Part, Group: x.Group, Index: x.Index}
	if x.Block != nil {
		if err := p.block(out, x.Block); err != nil {
			return err
		}
		p.size += len(out.Block.GetFrame().GetBytes()) + len(out.Block.GetFrame().GetTemplates())
	} else {
		size := 0
		for i := range x.Found {
			size += len(x.Found[i].Text)
		}
		out.Batches = appendRuns(nil, x.Found)
		msg := p.packer.message(x.Found, size)
		if size >= fleet.LargeText && msg.Texts.Packed == nil { // it goes a way on which it is not copied
			if err := p.flush(); err != nil {
				return err
			}
			msg.Of = out
			return p.send(func() error { return p.out(msg) })
		}
		if out.Texts = msg.Texts; msg.Texts.Packed == nil {
			out.Texts.Text = bytes.Join(msg.Pieces, nil)
		}
		p.size += len(out.Texts.GetText()) + len(out.Texts.GetPacked())
	}
	p.list = append(p.list, out)
	if p.size < packBytes && len(p.list) < packEvents && time.Since(p.last) < packDelay {
		return nil
	}
	return p.flush()
}

// block makes a block's message, with its frame where who gets it does not have that.
func (p *pieceSender) block(out *fleet.Piece, b *store.PieceBlock) error {
	out.Batch, out.Batches = b.Batch, b.Batches
	out.Block = &fleet.Block{Host: []byte(b.Host), Events: b.Events, Counted: b.Counted, Sure: b.Sure, Matches: b.Matches, Off: b.Off, Size: b.Len}
	place, had := p.frames.put(b.Frame)
	if out.Block.Place = place; had {
		return nil
	}
	f := &fleet.Frame{}
	had = true
	if b.Templates != nil {
		place, had = p.templates.put(b.Templates)
		f.Place = place + 1
	}
	stored, err := b.Read(!had)
	if err != nil { // the places have nothing now
		p.frames, p.templates = shelf{}, shelf{}
		return err
	}
	f.Version, f.Raw, f.Crc, f.Bytes, f.Templates = uint32(stored.Version), stored.Raw, stored.CRC, stored.Bytes, stored.Templates
	out.Block.Frame = f
	return nil
}

// flush sends the pieces that wait.
func (p *pieceSender) flush() error {
	list := p.list
	p.list, p.size, p.last = nil, 0, time.Now()
	if len(list) == 0 {
		return nil
	}
	return p.send(func() error { return p.out(&fleet.SearchResponse{Pieces: list}) })
}

// appendRuns appends which batches events are of, as a group has it.
func appendRuns(dst []byte, list []store.Found) []byte {
	last := uint64(0)
	for i := 0; i < len(list); {
		n := 1
		for i+n < len(list) && list[i+n].Batch == list[i].Batch {
			n++
		}
		dst = binary.AppendVarint(dst, int64(list[i].Batch-last))
		dst = binary.AppendUvarint(dst, uint64(n))
		last = list[i].Batch
		i += n
	}
	return dst
}

// pieceReader makes pieces of what a collector has sent. It trusts nothing, and is for one goroutine.
type pieceReader struct {
	frames    [places]*order.Frame
	templates [places]*order.Templates
}

// scanPieces asks for an answer in pieces, and puts it in order. A collector that has none sends it in order.
func (c *Client) scanPieces(ctx context.Context, req *fleet.SearchRequest, q *query.Query, fn func(query.Texts) error) error {
	return order.Run(ctx, q, func(ctx context.Context, add func(order.Piece) error) error {
		var r pieceReader
		pieces, texts := false, false
		return stream(ctx, c, req, c.q.Search, func(resp *fleet.SearchResponse) error {
			if pieces, texts = pieces || len(resp.GetPieces()) > 0, texts || len(resp.GetPieces()) == 0; !pieces {
				return given(resp, fn)
			}
			if texts {
				return fmt.Errorf("%w: it is in pieces, and in order", errResponse)
			}
			return r.response(resp, add)
		})
	}, fn)
}

// response reads a response's pieces.
func (r *pieceReader) response(resp *fleet.SearchResponse, add func(order.Piece) error) error {
	for _, p := range resp.GetPieces() {
		out := order.Piece{Piece: &store.Piece{MinMs: p.GetMinMs(), MaxMs: p.GetMaxMs(), Early: p.GetEarly(), Part: p.GetPart(), Group: p.GetGroup(), Index: p.GetIndex()}}
		var err error
		switch texts := p.GetTexts(); {
		case p.GetBlock() != nil:
			out.Block, out.Frame, err = r.block(p)
		case texts == nil && len(resp.GetPieces()) == 1:
			out.Found, err = foundIn(resp.GetTexts(), p.GetBatches())
		default:
			out.Found, err = foundIn(texts, p.GetBatches())
		}
		if err != nil {
			return err
		}
		if err := add(out); err != nil {
			return err
		}
	}
	return nil
}

// foundIn returns the events of texts, in memory of their own.
func foundIn(t *fleet.Texts, runs []byte) ([]store.Found, error) {
	list, err := (&textMemory{}).open(t)
	if err != nil {
		return nil, err
	}
	batches := group.NewBatchReader(runs, 0, uint32(len(list)))
	for i := range list {
		f := &list[i]
		f.Ms, f.Serial, _ = store.Stamp(f.Text, f.Counted)
		f.Batch = batches.Next()
	}
	return list, nil
}

// block returns a piece's block and its frame.
func (r *pieceReader) block(p *fleet.Piece) (*store.PieceBlock, *order.Frame, error) {
	b := p.GetBlock()
	if b.GetPlace() >= places {
		return nil, nil, fmt.Errorf("%w: a frame at place %d", errResponse, b.GetPlace())
	}
	if f := b.GetFrame(); f != nil {
		if f.GetPlace() > places || f.GetVersion() > order.Reads {
			return nil, nil, fmt.Errorf("%w: a frame of version %d, with templates at place %d", errResponse, f.GetVersion(), f.GetPlace())
		}
		frame := &order.Frame{Stored: group.Stored{Version: uint16(f.GetVersion()), Raw: f.GetRaw(), CRC: f.GetCrc(), Bytes: f.GetBytes()}}
		if n := f.GetPlace(); n > 0 {
			if len(f.GetTemplates()) > 0 {
				r.templates[n-1] = &order.Templates{Bytes: f.GetTemplates()}
			}
			frame.Templates = r.templates[n-1]
		}
		r.frames[b.GetPlace()] = frame
	}
	frame := r.frames[b.GetPlace()]
	if frame == nil {
		return nil, nil, fmt.Errorf("%w: nothing is at place %d", errResponse, b.GetPlace())
	}
	return &store.PieceBlock{Host: string(b.GetHost()), Events: b.GetEvents(), Counted: b.GetCounted(), Sure: b.GetSure(), Off: b.GetOff(), Len: b.GetSize(),
		Batch: p.GetBatch(), Batches: p.GetBatches()}, frame, nil
}
