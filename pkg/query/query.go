package query

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"regexp"

	"github.com/auditfleet/auditfleet/pkg/event"
)

// Op is how a Term compares a value. The numbers travel in queries: only append.
type Op uint8

// Comparisons a Term can make.
const (
	OpEqual    Op = iota // the value is Text
	OpContains           // the value contains Text
	OpUser               // the value is Text (a user's or group's name) or Number (its id here)
	OpRegexp             // Text, a regular expression (RE2), is found in the value
)

// lastOp is the last comparison there is.
const lastOp = OpRegexp

// Term is one condition on an event's values: some value of one of Fields must
// satisfy it. It is plain data.
type Term struct {
	Fields []Field
	Op     Op
	Text   string
	Number string // OpUser: the id that stands for Text where the record carries no name; empty when there is none
}

// Values returns a function that says whether a value of one of the term's fields
// can satisfy the term. An event matches a query only if, for every Term, it has such
// a value; an index that knows all values asks the function of each. Several goroutines
// may call it.
func (t *Term) Values() func(v []byte) bool {
	switch t.Op {
	case OpContains:
		text := []byte(t.Text)
		return func(v []byte) bool { return bytes.Contains(v, text) }
	case OpUser:
		return func(v []byte) bool { return string(v) == t.Text || t.Number != "" && string(v) == t.Number }
	case OpRegexp:
		re, err := regexp.Compile(t.Text)
		if err != nil { // Check says so
			return func([]byte) bool { return false }
		}
		return re.Match
	default:
		return func(v []byte) bool { return string(v) == t.Text }
	}
}

// Exact returns the only values that can satisfy the term, and false when any other
// might. An index looks exact values up instead of asking for every value it has.
func (t *Term) Exact() ([]string, bool) {
	switch t.Op {
	case OpEqual:
		return []string{t.Text}, true
	case OpUser:
		if t.Number == "" {
			return []string{t.Text}, true
		}
		return []string{t.Text, t.Number}, true
	default:
		return nil, false
	}
}

// Query is what is searched for: all of its conditions must hold. It is plain
// data that can be sent to another process; it is not changed by matching.
type Query struct {
	// StartMs and EndMs bound the event's time, both inclusive, in
	// milliseconds since the epoch; 0 is open. The stock tool compares whole
	// seconds, so EndMs normally ends in 999.
	StartMs, EndMs int64
	// Serial is the event id wanted, when HasSerial.
	Serial    uint64
	HasSerial bool
	// Nodes are the machines wanted; empty is all of them.
	Nodes []string
	// From are the networks of which an address must have sent it, as the collector
	// that received it knows; empty is any, and events of which that is not known.
	From []netip.Prefix
	// Origin asks for who sent an event and when it was received. Matching does not
	// look at it; where it is false, and From is empty, they may be missing.
	Origin bool
	// Batches asks for the number of each event's batch and for its Tie, and AfterBatch
	// only for events of later batches: those that a store got later, whatever their
	// times. Matching does not look at them, and only a store knows them.
	Batches    bool
	AfterBatch uint64
	// After, where it is not nil, asks for what lies behind that place in the answer. Only
	// a Scan of a collector's store has places.
	After *Cursor
	// Types are the record types wanted: an event matches when one of its
	// records has one of them. Empty is all of them.
	Types []uint32
	// Terms are the conditions on values; all must hold.
	Terms []Term
	// Filters are the conditions that take more than an index; all must hold.
	Filters []Filter
	// Reverse asks for the newest first, and Limit for so many events at most; 0 is all.
	// Matching does not look at them.
	Reverse bool
	Limit   uint64
}

// IsFrom says whether a sender is one of those wanted.
func (q *Query) IsFrom(s *event.Sender) bool {
	if len(q.From) == 0 {
		return true
	}
	if s == nil {
		return false
	}
	for _, p := range q.From {
		if p.Contains(s.Addr) {
			return true
		}
	}
	return false
}

// Filter is a condition on an event that is one of the things below, or, with
// Not, that it does not hold. It is plain data.
type Filter struct {
	Not        bool
	Term       *Term
	Field      *FieldTest
	Expression string // as ausearch-expression(5) has them
}

// FieldTest is a condition on the fields of records as they stand there: some
// record has a field called Name ("*": any) with a value that satisfies it.
// Values are compared without their quotes and hex, and with Words also as -i
// prints them.
type FieldTest struct {
	Name  string
	Op    Op // OpEqual, OpContains or OpRegexp
	Text  string
	Words bool
}

// ErrQuery is returned for a query that cannot be followed.
var ErrQuery = errors.New("search: not a query")

// Check says whether the query can be followed. One that ParseArgs made can be; of
// one that came from elsewhere, Matchers find nothing where it cannot.
func (q *Query) Check() error {
	for i := range q.Terms {
		if err := q.Terms[i].check(); err != nil {
			return err
		}
	}
	for i := range q.Filters {
		if _, err := q.Filters[i].compile(); err != nil {
			return err
		}
	}
	return nil
}

func (t *Term) check() error {
	if t.Op > lastOp {
		return fmt.Errorf("%w: comparison %d", ErrQuery, t.Op)
	}
	if len(t.Fields) == 0 || len(t.Fields) > NumFields {
		return fmt.Errorf("%w: a term of %d fields", ErrQuery, len(t.Fields))
	}
	for _, f := range t.Fields {
		if int(f) >= NumFields {
			return fmt.Errorf("%w: field %d", ErrQuery, f)
		}
	}
	if t.Op == OpRegexp {
		if _, err := regexp.Compile(t.Text); err != nil {
			return fmt.Errorf("%w: %w", ErrQuery, err)
		}
	}
	return nil
}
