package rows

import (
	"bytes"
	"hash/maphash"
	"slices"
)

// Which parts of a line are values is for the Encoder alone to say: any split comes back as the same line. A value is what stands behind
// a =, up to a space or the begin of the enriched part, in quotes if it has some; and a record's stamp.

// seed is of this process: which template has which number does not depend on it.
var seed = maphash.MakeSeed()

// literal are the keys whose values tell templates apart.
var literal = [][]byte{[]byte("type"), []byte("item"), []byte("nametype"), []byte("syscall"), []byte("op")}

// valueEnd returns where the value that begins at v ends.
func valueEnd(line []byte, v int, stamp bool) int {
	if stamp {
		if i := bytes.IndexByte(line[v:], ')'); i >= 0 {
			return v + i
		}
		return len(line)
	}
	if v < len(line) && line[v] == '"' {
		if i := bytes.IndexByte(line[v+1:], '"'); i >= 0 {
			return v + i + 2
		}
	}
	for i := v; i < len(line); i++ {
		if c := line[i]; c == ' ' || c == 0x1d || c == '\'' {
			return i
		}
	}
	return len(line)
}

// fits splits a line as a template says, where it is of that template.
func (e *Encoder) fits(t *template, from, to int) bool {
	line := e.text[from:to]
	if len(t.lits) == 2 && len(t.lits[0]) == 0 { // template 0
		return false
	}
	at, last := 0, len(t.lits)-1
	for i, l := range t.lits[:last] {
		if len(line)-at < len(l) || string(line[at:at+len(l)]) != string(l) {
			return false
		}
		at += len(l)
		end := valueEnd(line, at, t.stamp&(1<<i) != 0)
		if end == at {
			return false
		}
		e.spans[i] = span{uint32(from + at), uint32(end - at)}
		at = end
	}
	return string(line[at:]) == string(t.lits[last])
}

// search splits a line and returns its template: one of those that came behind the template of the line before lately, else as find does.
func (e *Encoder) search(from, to int) int32 {
	for int(e.s.prev) >= len(e.often) {
		e.often = append(e.often, [likely]int32{})
	}
	list := &e.often[e.s.prev]
	for i, id := range list {
		if id > 0 && e.fits(&e.s.t.temps[id], from, to) {
			copy(list[1:i+1], list[:i])
			list[0] = id
			return id
		}
	}
	id := e.find(from, to)
	if id > 0 {
		copy(list[1:], list[:likely-1])
		list[0] = id
	}
	return id
}

// find splits a line and returns its template, a new one where there is room.
func (e *Encoder) find(from, to int) int32 {
	if line := e.text[from:to]; len(line) <= maxLine {
		lits, values := e.split(line)
		var h maphash.Hash
		h.SetSeed(seed)
		for _, l := range lits {
			h.Write(l)
			h.WriteByte(0)
		}
		sum := h.Sum64()
		t := e.s.t
		for _, id := range t.byLit[sum] {
			if slices.EqualFunc(t.temps[id].lits, lits, bytes.Equal) {
				e.place(from, line, lits, values)
				return id
			}
		}
		if !t.full() {
			id := t.add(lits, values)
			t.byLit[sum] = append(t.byLit[sum], id)
			e.place(from, line, lits, values)
			return id
		}
	}
	e.spans[0] = span{uint32(from), uint32(to - from)}
	return 0
}

// place says where the values lie.
func (e *Encoder) place(from int, line []byte, lits, values [][]byte) {
	at := from
	for i, v := range values {
		at += len(lits[i])
		e.spans[i] = span{uint32(at), uint32(len(v))}
		at += len(v)
	}
}

// split takes a line apart. The results are valid until it is called again.
func (e *Encoder) split(line []byte) (lits, values [][]byte) {
	lits, values = e.lits[:0], e.values[:0]
	lit, word := 0, 0 // where the present literal and the present word begin
	for i := 0; i < len(line) && len(values) < maxSlots; i++ {
		stamp := false
		switch c := line[i]; {
		case c == ' ' || c == 0x1d || c == '\'':
			word = i + 1
			continue
		case c == '(' && bytes.HasSuffix(line[lit:i+1], litStamp):
			stamp = true
		case c != '=':
			continue
		}
		if !stamp && (i+1 < len(line) && line[i+1] == '\'' || bytes.HasPrefix(line[i+1:], litStamp)) {
			continue
		}
		end := valueEnd(line, i+1, stamp)
		if end == i+1 {
			continue
		}
		if !stamp && slices.ContainsFunc(literal, func(k []byte) bool { return bytes.Equal(k, line[word:i]) }) {
			i = end - 1
			continue
		}
		lits = append(lits, line[lit:i+1])
		values = append(values, line[i+1:end])
		lit, i = end, end-1
	}
	if len(values) == maxSlots { // what is left is part of the last value
		last := values[maxSlots-1]
		begin := len(line) - len(line[lit:]) - len(last)
		values[maxSlots-1] = line[begin:]
		lit = len(line)
	}
	return append(lits, line[lit:]), values
}
