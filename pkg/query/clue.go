package query

import "strconv"

// minClue is the shortest text worth looking for: shorter ones are everywhere.
const minClue = 3

// Clues are what a search of a log for bytes can look for, to pass over most of it
// without parsing it: an event that the query finds has a record of one of types,
// and a record with one of texts in it. Either is nil where there is no such
// condition. The caller must not change types.
func (m *Matcher) Clues() (types map[uint32]bool, texts [][]byte) {
	// The longest text is likely to be the rarest.
	longest := minClue - 1
	for i := range m.skim {
		if l := &m.skim[i]; len(l.plain) > longest {
			longest = len(l.plain)
			texts = [][]byte{l.plain, l.hex}
		}
	}
	for i := range m.terms {
		if text, ok := numberText(&m.terms[i]); ok && len(text) > longest {
			longest = len(text)
			texts = [][]byte{text}
		}
	}
	return m.types, texts
}

// numberText is the digits that a record must have in it for a term about a
// number to hold. It is for fields that are read as they are; those that are cut
// to 32 bits can be written in other digits.
func numberText(t *matchTerm) ([]byte, bool) {
	if t.Op != OpEqual || len(t.Fields) != 1 {
		return nil, false
	}
	f := t.Fields[0]
	if f != FieldPID && f != FieldPPID && f != FieldExit || !t.numbers.Has(f) {
		return nil, false
	}
	n := t.number[f]
	if n < 0 {
		n = -n
	}
	return strconv.AppendInt(nil, n, 10), n >= 0
}
