package interpret

import (
	"bytes"

	"github.com/auditfleet/auditfleet/pkg/record"
)

// walkTail reads all of the enriched tail: nearly every field of a system call is looked up
// in it.
func (in *Interpreter) walkTail(r *record.Record, c *call) {
	in.tail = in.tail[:0]
	if r.Enriched != nil {
		fields := r.EnrichedFields()
		for f, ok := fields.Next(); ok; f, ok = fields.Next() {
			in.tail = append(in.tail, f)
		}
	}
	c.tail, c.walked = in.tail, true
}

// tailValue looks name up in the enriched tail, whatever its case: what stands
// there is what the host itself said it means. An address stands in braces.
func (c *call) tailValue(r *record.Record, name []byte) (said record.Field, ok bool) {
	if !c.walked {
		said, ok = r.Meaning(name)
	} else if i := c.meaning(name); i >= 0 {
		said, ok = c.tail[i], true
	}
	return said, ok && (string(name) != "saddr" || len(said.Value) > 0 && said.Value[0] == '{')
}

// meaning returns the index of the first field of the tail that is called name, or -1.
func (c *call) meaning(name []byte) int {
	for i := range c.tail {
		has := c.tail[i].Name
		if len(has) == len(name) && mayFold(has[0], name[0]) && bytes.EqualFold(has, name) {
			return i
		}
	}
	return -1
}

// mayFold reports whether names that begin with a and b may differ in case only. Beyond ASCII
// they always may.
func mayFold(a, b byte) bool { return (a^b)&^0x20 == 0 || a|b >= 0x80 }

// unknownTo says that the host that wrote a meaning did not know one: we may know more.
func unknownTo(said record.Field) bool {
	return said.Quote == 0 && bytes.HasPrefix(said.Value, []byte("unknown-"))
}

// appendSaid appends what the tail says of a value of this kind.
func appendSaid(dst []byte, kind Kind, said record.Field) []byte {
	switch {
	case kind == UserID || kind == GroupID:
		if digits, ok := bytes.CutPrefix(said.Value, negativeID); ok {
			if id, ok := record.ID(digits); ok { // an int of C, which is what an id is to stock daemons
				return appendUnknownID(dst, -id)
			}
		}
		if said.Quote != 0 {
			return append(dst, said.Value...)
		}
		if cut, ok := bytes.CutPrefix(said.Value, []byte{'"'}); ok && bytes.IndexByte(cut, '"') < 0 { // cut off with the record
			return append(dst, cut...)
		}
		return appendUntrusted(dst, said.Value)
	case said.Quote != 0:
		return append(append(append(dst, said.Quote), said.Value...), said.Quote)
	}
	return append(dst, said.Value...)
}

var negativeID = []byte("unknown(-")
