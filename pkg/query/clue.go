package query

import "strconv"

// minClue is the length of the shortest text that is worth searching for, in bytes:
// shorter texts occur everywhere.
const minClue = 3

// Clues returns conditions that a search for bytes can test, so that a reader can skip
// most of a log without parsing it. Every event that the query finds has a record of one
// of types and a record that contains one of texts. A nil result means that there is no
// such condition. The caller must not change types.
func (m *Matcher) Clues() (types map[uint32]bool, texts [][]byte) {
	// The longest text is likely to be the rarest.
	longest := minClue - 1
	for i := range m.skim {
		if l := &m.skim[i]; len(l.plain) > longest {
			longest = len(l.plain)
			texts = [][]byte{l.plain, l.hex}
		}
	}
	number := func(t *matchTerm) {
		if text, ok := numberText(t); ok && len(text) > longest {
			longest = len(text)
			texts = [][]byte{text}
		}
	}
	for i := range m.terms {
		number(&m.terms[i])
	}
	for i := range m.filters {
		if f := &m.filters[i]; f.term != nil && !f.not {
			number(f.term)
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
