package search

import "bytes"

// Op is how a Term compares a value. The numbers travel in queries: only append.
type Op uint8

// Comparisons a Term can make.
const (
	OpEqual    Op = iota // the value is Text
	OpContains           // the value contains Text
	OpUser               // the value is Text (a user's name) or Number (the same user's id here)
)

// Term is one condition on an event's values: some value of one of Fields must
// satisfy it. It is plain data.
type Term struct {
	Fields []Field
	Op     Op
	Text   string
	Number string // OpUser: the id that stands for Text where the record carries no name
}

// MatchValue says whether a value of one of the term's fields can satisfy the
// term. It is a necessary condition, made for dictionaries: an event matches a
// query only if, for every Term, some extracted value of one of its Fields does.
func (t *Term) MatchValue(v []byte) bool {
	switch t.Op {
	case OpContains:
		return bytes.Contains(v, []byte(t.Text))
	case OpUser:
		return string(v) == t.Text || string(v) == t.Number
	default:
		return string(v) == t.Text
	}
}

// Exact says whether only the values it returns can satisfy the term, so that
// an index may look them up instead of walking its dictionary.
func (t *Term) Exact() ([]string, bool) {
	switch t.Op {
	case OpEqual:
		return []string{t.Text}, true
	case OpUser:
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
	// Types are the record types wanted: an event matches when one of its
	// records has one of them. Empty is all of them.
	Types []uint32
	// Terms are the conditions on values; all must hold.
	Terms []Term
	// Reverse asks for the newest first. Matching does not look at it.
	Reverse bool
}
