package query

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"

	"github.com/auditfleet/auditfleet/pkg/event"
)

// Op is the comparison that a Term makes. Its numbers are sent in queries: only append
// new ones.
type Op uint8

// Comparisons a Term can make.
const (
	OpEqual    Op = iota // the value is Text
	OpContains           // the value contains Text
	OpUser               // the value is Text (a user's or group's name) or Number (its id here)
	OpRegexp             // Text, a regular expression (RE2), is found in the value

	// The value and Text are decimal numbers, and the value is:
	OpLess
	OpLessEqual
	OpGreater
	OpGreaterEqual
)

// lastOp is the largest valid Op.
const lastOp = OpGreaterEqual

// compares says whether the Op compares numbers by their order.
func (op Op) compares() bool { return op >= OpLess && op <= OpGreaterEqual }

// holds says whether value n and the Term's number are as the Op wants them.
func (op Op) holds(n, number int64) bool {
	switch op {
	case OpLess:
		return n < number
	case OpLessEqual:
		return n <= number
	case OpGreater:
		return n > number
	case OpGreaterEqual:
		return n >= number
	}
	return n == number
}

// checkNumber returns an error when the Op compares numbers and text is none.
func (op Op) checkNumber(text string) error {
	if op.compares() {
		if _, err := strconv.ParseInt(text, 10, 64); err != nil {
			return fmt.Errorf("%w: %q is no number, and only numbers are more or less than others", ErrQuery, text)
		}
	}
	return nil
}

// wholeNumber reads a value that is a decimal number and nothing else.
func wholeNumber(v []byte) (int64, bool) {
	n, err := strconv.ParseInt(string(v), 10, 64)
	return n, err == nil
}

// Term is one condition on an event's values: at least one value of one of Fields must
// satisfy it. It is plain data.
type Term struct {
	Fields []Field
	Op     Op
	Text   string
	Number string // OpUser: the id that stands for Text where the record carries no name; empty when there is none
}

// Values returns a function that reports whether a value of one of the term's fields can
// satisfy the term. An event can match a query only if it has, for every Term, a value
// for which the function returns true; an index that stores all values calls the function
// for each. Several goroutines may call it.
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
	case OpLess, OpLessEqual, OpGreater, OpGreaterEqual:
		number, _ := strconv.ParseInt(t.Text, 10, 64) // Check says so
		return func(v []byte) bool {
			n, ok := wholeNumber(v)
			return ok && t.Op.holds(n, number)
		}
	default:
		return func(v []byte) bool { return string(v) == t.Text }
	}
}

// Exact returns the complete list of values that can satisfy the term, or false when
// other values might. An index looks exact values up instead of testing every value that
// it has.
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

// Query describes a search: an event is found if all conditions hold. It is plain data
// that can be sent to another process. Matching does not change it, so several goroutines
// may use one Query as long as nobody writes to it.
type Query struct {
	// StartMs and EndMs are the first and the last event time wanted, both inclusive, in
	// milliseconds since the epoch; 0 sets no bound. The stock tool compares whole
	// seconds, so EndMs normally ends in 999.
	StartMs, EndMs int64
	// Serial is the serial of the event wanted, if HasSerial is set.
	Serial    uint64
	HasSerial bool
	// Nodes are the hosts wanted, by name or by a pattern (see Like); empty selects all
	// hosts.
	Nodes []string
	// From are networks: the address that sent the event must lie in one of them. Only
	// the collector that received an event knows that address. Empty selects any sender,
	// and events of which the sender is not known.
	From []netip.Prefix
	// Mismatch selects only events that claim to be another host's than the one under which
	// a collector keeps them (event.Event.Mismatch).
	Mismatch bool
	// Origin asks the source to set each event's sender and time of receipt. Matching
	// ignores it. If it is false and From is empty, the source may leave them out.
	Origin bool
	// Batches asks for the number of each event's batch and for its Tie. AfterBatch
	// selects only events of later batches: those that the store received later, whatever
	// their times are. Matching ignores both, and only a collector's store knows batches.
	// Events that are not complete have none: either leaves them out.
	Batches    bool
	AfterBatch uint64
	// Own selects only what the collector that is asked has received itself, of several that keep their events in one place: events
	// that are not complete, too, also with AfterBatch. Others says up to which batch events of each other collector are wanted, by the ID of
	// its store: of one that is not there none; nil: all that there are. Theirs selects only what other collectors have stored. Both are not sent.
	// Matching ignores all three.
	Own    bool
	Theirs bool
	Others map[string]uint64
	// After, if not nil, asks for the part of the answer after that position. Only a Scan
	// of a collector's store has positions.
	After *Cursor
	// Names says that a Tally is for the values alone: those of events near a time's edge may count, too, where that saves reading them. Matching ignores it.
	Names bool
	// Types are the record types wanted: an event matches if one of its records has one
	// of them. Empty selects all types.
	Types []uint32
	// Terms are the conditions on values. All of them must hold.
	Terms []Term
	// Filters are the conditions that an index alone cannot decide. All of them must
	// hold.
	Filters []Filter
	// Reverse asks for the newest events first. Limit is the largest number of events to
	// return; 0 returns all. Matching ignores both.
	Reverse bool
	Limit   uint64
	// Fleet says that the events are of many hosts, as in a collector's store: conditions
	// on interpreted ids then have the names that FleetNames gives. It is not sent: a
	// collector knows.
	Fleet bool
	// Unparsable also selects what no other search finds: lines that are no records, such
	// as separators and comments, which a collector stores as they came. Logs skip them.
	Unparsable bool
	// Memory is what a Tally with fields may take for their values, and a search for trees or surroundings for
	// what it found. It is not sent: each process has its own. Matching ignores it.
	Memory *Memory
}

// WantsNode reports whether the query accepts events of the host called node.
func (q *Query) WantsNode(node string) bool {
	return len(q.Nodes) == 0 || slices.ContainsFunc(q.Nodes, func(want string) bool { return NodeIs(want, node) })
}

// NodeIs reports whether a host's name is what is wanted, which may be a pattern.
func NodeIs(want, node string) bool { return want == node || IsPattern(want) && Like(want, node) }

// IsFrom reports whether the query accepts events of sender s.
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

// Filter is a condition on an event. Exactly one of Term, Field and Expression is set, or
// Term and Field; with Not, the condition holds if that one does not. It is plain data.
//
// With both, Field has but a Name, and the Term is about the field that FieldNamed gives for
// it, or that field's Name, or both. Then every field of that name in any record counts as
// a value, whichever of them the event is otherwise searched by.
type Filter struct {
	Not        bool
	Term       *Term
	Field      *FieldTest
	Expression string // as ausearch-expression(5) has them
}

// FieldTest is a condition on the fields of records as they are written: some record has
// a field called Name ("*" stands for any name) whose value satisfies Op and Text. Values
// are compared without quotes and decoded from hex; with Words, their interpretation by
// -i is compared, too.
type FieldTest struct {
	Name  string
	Op    Op // any but OpUser
	Text  string
	Words bool
}

// ErrQuery is returned for a query that is not valid.
var ErrQuery = errors.New("not a valid query")

// Check returns an error that wraps ErrQuery if q is not valid. A query of ParseArgs is
// always valid. A Matcher of an invalid query finds nothing, so check a query that
// another process sent.
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
	return t.Op.checkNumber(t.Text)
}
