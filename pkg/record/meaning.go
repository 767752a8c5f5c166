package record

import "bytes"

// Meaning returns the field of the enriched tail that is called name, whatever the case
// of its letters, or false. It finds what a walk with EnrichedFields finds first, but
// walks over what stands before only where that may hide names in a value.
func (r *Record) Meaning(name []byte) (Field, bool) {
	at := nameAt(r.Enriched, name)
	if at == len(r.Enriched) {
		return Field{}, false
	}
	fields := r.EnrichedFields()
	if hidesNothing(r.Enriched, at) {
		fields.pos = at
	}
	for {
		f, ok := fields.Next()
		if !ok || len(f.Name) == len(name) && bytes.EqualFold(f.Name, name) {
			return f, ok
		}
	}
}

// nameAt returns where "NAME=" first stands in tail at a place where a field may begin,
// which is the beginning, behind a space or behind a brace; the length of tail without one.
func nameAt(tail, name []byte) int {
	for eq := nextByte(tail, 0, '='); eq < len(tail); eq = nextByte(tail, eq+1, '=') {
		start := eq - len(name)
		if start < 0 || start > 0 && tail[start-1] != ' ' && tail[start-1] != '}' {
			continue
		}
		if bytes.EqualFold(tail[start:eq], name) {
			return start
		}
	}
	return len(tail)
}

// hidesNothing reports whether a field begins at a place with "NAME=" for sure: before it
// there is no brace, and quotes open behind a '=' and close before a name, in turn.
func hidesNothing(tail []byte, at int) bool {
	before := tail[:at]
	if at > 0 && !endsMeaning(tail, at-1) { // a name in lower case ends no value
		return false
	}
	for _, c := range [...]byte{'{', '}', '\''} {
		if bytes.IndexByte(before, c) >= 0 {
			return false
		}
	}
	open := false
	for pos := nextByte(before, 0, '"'); pos < at; pos = nextByte(before, pos+1, '"') {
		if open && !endsMeaning(tail, pos+1) || !open && (pos == 0 || before[pos-1] != '=') {
			return false
		}
		open = !open
	}
	return !open
}

// plainMeaning reads the field at pos of an enriched tail, and returns where it ends, if the
// field is written as daemons do: a name in upper case, and a value in double quotes or
// without a space. ok is false for any other field, and at the end of the tail; Fields.Next
// reads those as well.
func plainMeaning(b []byte, pos int) (f Field, end int, ok bool) {
	for pos < len(b) && b[pos] == ' ' {
		pos++
	}
	eq := pos
	for eq < len(b) && inMeaningName(b[eq], eq == pos) {
		eq++
	}
	if eq == pos || eq+1 >= len(b) || b[eq] != '=' {
		return f, 0, false
	}
	from := eq + 1
	switch b[from] {
	case ' ', '\'', '{':
		return f, 0, false
	case '"':
		i := bytes.IndexByte(b[from+1:], '"')
		end = from + 1 + i
		if i < 0 || b[end-1] == '=' || !endsMeaning(b, end+1) {
			return f, 0, false
		}
		return Field{Name: b[pos:eq:eq], Value: b[from+1 : end : end], Quote: '"'}, end + 1, true
	}
	end = from + 1
	for end < len(b) && b[end] != ' ' {
		end++
	}
	if !endsMeaning(b, end) {
		return f, 0, false
	}
	return Field{Name: b[pos:eq:eq], Value: b[from:end:end]}, end, true
}
