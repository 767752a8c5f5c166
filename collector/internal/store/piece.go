package store

import (
	"context"
	"errors"

	"github.com/auditfleet/auditfleet/pkg/query"
)

// ErrNoPieces is returned, before any piece, by who has an answer in no pieces.
var ErrNoPieces = errors.New("the answer is in no pieces")

// PieceScanner gives an answer in pieces, for who puts its events in order elsewhere (collector/internal/store/order): an answer of most of what is
// stored costs the collector little more than to read it from the disk, and goes out as small as it lies there.
type PieceScanner interface {
	// ScanPieces calls fn with the pieces of ScanText's answer; q asks for no origin, and has no limit. fn may keep them. Error: ErrNoPieces.
	ScanPieces(ctx context.Context, q *query.Query, fn func(*Piece) error) error
}

// Piece has some events of an answer, in the answer's order among themselves: those that match, or a block in which they are.
// A piece that is not early comes before any that begins later in the order of the answer.
type Piece struct {
	MinMs, MaxMs int64 // the least and the greatest time of its events, or further
	Early        bool  // it comes first, whenever its events were
	// Part, Group and Index say where it lies: of events that are equal in time, node, serial and batch, the one of the lesser place is earlier.
	Part  uint32
	Group uint64
	Index uint32
	Found []Found // with their batches
	Block *PieceBlock
}

// PieceBlock is a block as it is stored.
type PieceBlock struct {
	Host     string // of all its events
	Events   uint32
	Counted  bool
	Sure     bool   // all of them match
	Matches  uint32 // how many match; at most, where several types are asked for
	Off, Len uint32 // in the frame's text
	Batch    uint64 // of all its events; 0: as Batches says
	Batches  []byte // collector/internal/store/group/FORMAT.md
	// Frame and Templates name what they lie in, the same for the same; Templates is nil where there are none. Read copies it.
	Frame, Templates any
	Read             func(templates bool) (*PieceFrame, error)
}

// PieceFrame is a frame as it is stored, and the templates that it needs.
type PieceFrame struct {
	Version   uint16
	Raw, CRC  uint32
	Bytes     []byte
	Templates []byte // nil: none
}

// ByTypes reports whether a query asks for types, hosts and times only, of which an index decides.
func ByTypes(q *query.Query) bool {
	return len(q.Terms) == 0 && len(q.Types) > 0 && ConditionsOf(q).Decide(q)
}

// Decided is asked of an event whose block the index decides: whether it lies within the query's times and has its serial, and, where it is not sure to match
// otherwise, whether it has a record of which typed says yes to the type. It reads no more than the stamp, which it returns, and types.
func Decided(q *query.Query, text []byte, counted, sure bool, typed func(uint16) bool) (ms int64, serial uint64, ok bool) {
	var is, has bool
	if sure {
		ms, serial, is = Stamp(text, counted)
	} else if ms, serial, is, has = StampOf(text, counted, typed); !has {
		return ms, serial, false
	}
	return ms, serial, (q.Unparsable || is) && InTime(q, ms) && (!q.HasSerial || serial == q.Serial)
}
