package api

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/group"
	"github.com/auditfleet/auditfleet/collector/internal/store/order"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// inPieces reports whether an answer may come in pieces: of one of which the first events are enough, or of which more is asked than texts, that makes no sense. Where the
// index does not decide, it is of events that the collector has to find: to have them merged twice costs both more than it saves.
func inPieces(q *query.Query) bool {
	return q.Limit == 0 && !q.Origin && !q.Batches && q.After == nil && store.ConditionsOf(q).Decide(q)
}

// shelf is how many groups' templates who is sent pieces keeps: those that come again are not sent again.
const shelf = 64

// maxBlocks bounds the blocks of a frame that is sent: a collector sends a few.
const maxBlocks = 64

// pieceSender sends an answer's pieces, some at a time. It is for one goroutine.
type pieceSender struct {
	*call
	out       func(msg any) error
	packer    textPacker
	templates map[any]uint32 // where on the shelf they lie, from 1
	keys      [shelf]any
	next      uint32         // where on it the next ones are put
	list      []*fleet.Piece // that wait
	size      int            // of them
	last      time.Time      // when some were sent last
	failed    bool           // a piece could not be
}

// sendPieces answers q in pieces. Error: store.ErrNoPieces, before anything is sent, where that cannot be done.
func (s *Service) sendPieces(c *call, req *fleet.SearchRequest, q *query.Query, out func(msg any) error) error {
	src, ok := s.Source.(store.PieceScanner)
	if !ok || req.GetFrames() < order.Reads || !inPieces(q) {
		return store.ErrNoPieces
	}
	p := newPieceSender(c, req.GetPacked(), out)
	return p.finish(src.ScanPieces(c.ctx, q, p.add))
}

func newPieceSender(c *call, packed bool, out func(msg any) error) *pieceSender {
	return &pieceSender{call: c, out: out, packer: textPacker{packed: packed}, templates: map[any]uint32{}, last: time.Now()}
}

// finish says that all has been sent, whatever else is to be said of the answer.
func (p *pieceSender) finish(err error) error {
	if p.failed || p.ctx.Err() != nil || err == store.ErrNoPieces { //nolint:errorlint // it is no other's
		return err
	}
	p.list = append(p.list, &fleet.Piece{Next: math.MaxInt64, Last: true})
	if sent := p.flush(); sent != nil {
		return sent
	}
	return err
}

// add sends a piece, or has it wait for others. Behind an error the answer lacks that piece and all that come.
func (p *pieceSender) add(x *store.Piece) error {
	err := p.piece(x)
	p.failed = p.failed || err != nil
	return err
}

func (p *pieceSender) piece(x *store.Piece) error {
	out := &fleet.Piece{Next: x.Next}
	switch {
	case x.Frame != nil:
		if err := p.frame(out, x); err != nil {
			return err
		}
	case len(x.Found) > 0:
		if sent, err := p.found(out, x); sent || err != nil {
			return err
		}
	}
	p.list = append(p.list, out)
	if p.size < packBytes && len(p.list) < packEvents && time.Since(p.last) < packDelay {
		return nil
	}
	return p.flush()
}

// found makes the message of events. Those of a long text are sent at once, on a way on which it is not copied.
func (p *pieceSender) found(out *fleet.Piece, x *store.Piece) (sent bool, err error) {
	size := 0
	for i := range x.Found {
		size += len(x.Found[i].Text)
	}
	out.Batches, out.At = appendRuns(nil, x.Found), x.At
	for i := range x.Places {
		out.Places = append(out.Places, toPlace(&x.Places[i]))
	}
	msg := p.packer.message(x.Found, size)
	if size >= fleet.LargeText && msg.Texts.Packed == nil {
		if err := p.flush(); err != nil {
			return true, err
		}
		msg.Of, p.last = out, time.Now()
		return true, p.sends(msg)
	}
	if out.Texts = msg.Texts; msg.Texts.Packed == nil {
		out.Texts.Text = bytes.Join(msg.Pieces, nil)
	}
	p.size += len(out.Texts.GetText()) + len(out.Texts.GetPacked())
	return false, nil
}

func toPlace(at *store.PiecePlace) *fleet.Place {
	return &fleet.Place{Part: at.Part, Group: at.Group, Index: at.Index}
}

// frame makes the message of a frame with its blocks, and with its group's templates where who gets it does not have these.
func (p *pieceSender) frame(out *fleet.Piece, x *store.Piece) error {
	f := x.Frame
	out.Frame = &fleet.Frame{Version: uint32(f.Version), Raw: f.Raw, Crc: f.CRC, Bytes: f.Bytes}
	if f.Group != nil {
		at := p.templates[f.Group]
		if at == 0 {
			b, err := f.ReadTemplates()
			if err != nil {
				return err
			}
			at = p.next + 1
			delete(p.templates, p.keys[p.next])
			p.keys[p.next], p.templates[f.Group] = f.Group, at
			p.next = at % shelf
			out.Frame.Templates = b
		}
		out.Frame.TemplatesAt = at
	}
	for i := range x.Blocks {
		b := &x.Blocks[i]
		out.Blocks = append(out.Blocks, &fleet.Block{Host: []byte(b.Host), Events: b.Events, Counted: b.Counted, Sure: b.Sure, Matches: b.Matches, Gaps: gapsOf(b.Want), Off: b.Off, Size: b.Len,
			MinMs: b.MinMs, MaxMs: b.MaxMs, Batch: b.Batch, Batches: b.Batches, Place: toPlace(&b.Place)})
	}
	p.size += len(f.Bytes) + len(out.Frame.Templates)
	return nil
}

// flush sends the pieces that wait.
func (p *pieceSender) flush() error {
	list := p.list
	p.list, p.size, p.last = nil, 0, time.Now()
	if len(list) == 0 {
		return nil
	}
	return p.sends(&fleet.SearchResponse{Pieces: list})
}

func (p *pieceSender) sends(msg any) error {
	return p.send(func() error { return p.out(msg) })
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
	templates [shelf]*order.Templates
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
		if n := len(p.GetBlocks()); n > maxBlocks {
			return fmt.Errorf("%w: a frame of %d blocks", errResponse, n)
		}
		out := order.Piece{Piece: &store.Piece{Next: p.GetNext()}, Last: p.GetLast()}
		texts := p.GetTexts()
		if texts == nil && len(resp.GetPieces()) == 1 {
			texts = resp.GetTexts()
		}
		var err error
		switch {
		case len(p.GetBlocks()) > 0:
			out.Blocks = blocksOf(p.GetBlocks())
			out.Frame, err = r.frame(p.GetFrame())
		case texts != nil:
			err = foundIn(texts, p, out.Piece)
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

func fromPlace(at *fleet.Place) store.PiecePlace {
	return store.PiecePlace{Part: at.GetPart(), Group: at.GetGroup(), Index: at.GetIndex()}
}

// foundIn fills in the events of texts, in memory of their own.
func foundIn(t *fleet.Texts, p *fleet.Piece, out *store.Piece) error {
	list, err := (&textMemory{}).open(t)
	if err != nil {
		return err
	}
	if len(p.GetAt()) != len(list) || len(p.GetPlaces()) > len(list) {
		return fmt.Errorf("%w: %d texts at %d of %d places", errResponse, len(list), len(p.GetAt()), len(p.GetPlaces()))
	}
	batches := group.NewBatchReader(p.GetBatches(), 0, uint32(len(list)))
	for i := range list {
		f := &list[i]
		f.Ms, f.Serial, _ = store.Stamp(f.Text, f.Counted)
		f.Batch = batches.Next()
		if at := p.GetAt()[i]; uint64(at) >= uint64(len(p.GetPlaces())) {
			return fmt.Errorf("%w: place %d of %d", errResponse, at, len(p.GetPlaces()))
		}
	}
	out.Found, out.At = list, p.GetAt()
	for _, at := range p.GetPlaces() {
		out.Places = append(out.Places, fromPlace(at))
	}
	return nil
}

// frame makes a frame of a message.
func (r *pieceReader) frame(f *fleet.Frame) (*order.Frame, error) {
	at := f.GetTemplatesAt()
	switch {
	case f == nil:
		return nil, fmt.Errorf("%w: blocks of no frame", errResponse)
	case f.GetVersion() > order.Reads || at > shelf || len(f.GetTemplates()) > order.MaxTemplates:
		return nil, fmt.Errorf("%w: a frame of version %d, with templates %d of %d, of %d bytes", errResponse, f.GetVersion(), at, shelf, len(f.GetTemplates()))
	}
	out := &order.Frame{Stored: group.Stored{Version: uint16(f.GetVersion()), Raw: f.GetRaw(), CRC: f.GetCrc(), Bytes: f.GetBytes()}}
	if at == 0 {
		return out, nil
	}
	if len(f.GetTemplates()) > 0 {
		r.templates[at-1] = &order.Templates{Bytes: f.GetTemplates()}
	}
	if out.Templates = r.templates[at-1]; out.Templates == nil {
		return nil, fmt.Errorf("%w: templates %d never came", errResponse, at)
	}
	return out, nil
}

// gapsOf makes a block's list of events as it is sent of one that ascends.
func gapsOf(want []uint32) []uint32 {
	if want == nil {
		return nil
	}
	out, next := make([]uint32, len(want)), uint32(0)
	for i, n := range want {
		out[i], next = n-next, n+1
	}
	return out
}

// wanted is the reverse of gapsOf. What does not lie in the block is found by who reads it.
func wanted(gaps []uint32) []uint32 {
	if len(gaps) == 0 {
		return nil
	}
	out, next := make([]uint32, len(gaps)), uint32(0)
	for i, n := range gaps {
		out[i] = next + n
		next = out[i] + 1
	}
	return out
}

func blocksOf(list []*fleet.Block) []store.PieceBlock {
	out := make([]store.PieceBlock, len(list))
	for i, b := range list {
		out[i] = store.PieceBlock{MinMs: b.GetMinMs(), MaxMs: b.GetMaxMs(), Host: string(b.GetHost()), Events: b.GetEvents(), Counted: b.GetCounted(), Sure: b.GetSure(), Matches: b.GetMatches(),
			Want: wanted(b.GetGaps()), Off: b.GetOff(), Len: b.GetSize(), Batch: b.GetBatch(), Batches: b.GetBatches(), Place: fromPlace(b.GetPlace())}
	}
	return out
}
