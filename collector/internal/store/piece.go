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
	// ScanPieces calls fn with the pieces of ScanText's answer; q asks for no origin, and has no limit. fn may keep them. An error other than fn's and the
	// context's comes behind all pieces. Error: ErrNoPieces.
	ScanPieces(ctx context.Context, q *query.Query, fn func(*Piece) error) error
}

// Pieced is implemented by a store whose snapshots are PieceScanners.
type Pieced interface {
	// InPieces reports whether an answer in pieces costs less than one in order.
	InPieces(q *query.Query) bool
}

// Piece is a part of an answer: events that match, in the order of the answer, or blocks in which there are some.
type Piece struct {
	// Next says that no event that comes with a later piece is before this time, in milliseconds, negated where the newest comes first.
	Next int64
	// Found are events, with their batches. Each lies at one of Places, the one that At says.
	Found  []Found
	Places []PiecePlace
	At     []uint32
	// Blocks are all in Frame that have some of them.
	Blocks []PieceBlock
	Frame  *PieceFrame
}

// PiecePlace says where events lie: of those that are equal in time, node, serial and batch, the one of the lesser place is earlier.
type PiecePlace struct {
	Part  uint32
	Group uint64
	Index uint32
}

// PieceBlock is a block as it is stored. All of its events lie within the query's times.
type PieceBlock struct {
	MinMs, MaxMs int64
	Host         string // of all its events
	Events       uint32
	Counted      bool
	Sure         bool     // all of them match, or those that Want lists; else those with a record of a type that is asked for
	Want         []uint32 // ascending, counted from the block's first; nil: all. Only where it is sure
	Matches      uint32   // how many match
	Off, Len     uint32   // in the frame's text
	Batch        uint64   // of all its events; 0: as Batches says
	Batches      []byte   // collector/internal/store/group/FORMAT.md
	Place        PiecePlace
}

// PieceFrame is a frame as it is stored.
type PieceFrame struct {
	Version  uint16
	Raw, CRC uint32
	Bytes    []byte
	// Beside are the hosts of the frame's blocks in which nothing matches, and BesideLen these blocks' bytes.
	Beside    []string
	BesideLen uint32
	// Group names the group whose templates it needs, which ReadTemplates copies; nil: none.
	Group         any
	ReadTemplates func() ([]byte, error)
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
