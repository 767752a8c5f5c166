package interpret

import "bytes"

// A scanner splits a body into fields as the stock tool's -i does. The stock tool
// recognises less of a record's structure than package record and prints all text between
// fields.
type scanner struct {
	rest   []byte
	before []byte // what stands before the '=', the field's name at its end
	name   []byte
	value  []byte // with its quotes
	comma  bool   // ended at a comma
	isMsg  bool   // it is msg=, and what it holds comes next
	fields int
}

// next finds the next field; false when there is none.
func (s *scanner) next() bool {
	eq := bytes.IndexByte(s.rest, '=')
	if eq < 0 {
		return false
	}
	s.before, s.rest = s.rest[:eq], s.rest[eq+1:]
	s.comma, s.isMsg = false, false
	s.name = s.before[bytes.LastIndexByte(s.before, ' ')+1:]
	s.fields++
	// Only what stands right behind the field before it is taken for msg=, for the
	// start of what it holds, and for a label, which may have commas in it.
	first := s.fields > 1 && len(s.name) == len(s.before)
	if first && string(s.name) == "msg" {
		s.isMsg = true
		return true
	}
	if first && len(s.name) > 0 && s.name[0] == '\'' {
		s.name = s.name[1:]
	}
	label := first && isLabel(s.name)
	s.name = bytes.TrimLeft(s.name, "(")
	s.takeValue(label)
	return true
}

func isLabel(name []byte) bool {
	switch string(name) {
	case "subj", "obj", "scontext", "tcontext":
		return true
	}
	return false
}

// takeValue cuts the value off rest. A quoted one ends at its quote, and the byte
// behind that is not looked at; any other ends at a space or a comma.
func (s *scanner) takeValue(label bool) {
	if len(s.rest) > 0 && (s.rest[0] == '"' || s.rest[0] == '\'') {
		i := bytes.IndexByte(s.rest[1:], s.rest[0])
		if i < 0 {
			s.value, s.rest = s.rest, nil
			return
		}
		s.value, s.rest = s.rest[:i+2], s.rest[min(i+3, len(s.rest)):]
		return
	}
	for i, c := range s.rest {
		if c == ' ' || c == ',' && !label {
			s.value, s.rest, s.comma = s.rest[:i], s.rest[i+1:], c == ','
			return
		}
	}
	s.value, s.rest = s.rest, nil
}
