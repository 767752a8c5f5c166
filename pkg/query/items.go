package query

import (
	"bytes"
	"strconv"

	"github.com/auditfleet/auditfleet/pkg/record"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// items holds all searchable values of one event. A number has one value, that of the
// last record that has the field, as in the stock tool; most strings do, too.
type items struct {
	set  FieldSet // which of the single values below are set
	nums [NumFields]int64
	strs [NumFields][]byte

	keys, files, subjects, objects [][]byte
	cwd                            []byte
	hasCWD                         bool
	odd                            bool // see FieldOdd
	neither                        bool // a record has said a result that is neither a success nor a failure

	// What the event has beside the values above, for an index: of fields that have one
	// value here and several in the records, and of those that are not read where they
	// stand. Kept only while all is set.
	all    bool
	others []other

	// For reports only.
	reported  []File
	decisions []Decision
}

func (it *items) reset() {
	it.set = 0
	it.keys, it.files = it.keys[:0], it.files[:0]
	it.subjects, it.objects = it.subjects[:0], it.objects[:0]
	it.cwd, it.hasCWD, it.odd, it.neither = nil, false, false, false
	it.others = it.others[:0]
}

// other is a value that an event has and its items have not: a number, unless it has text.
type other struct {
	f    Field
	n    int64
	text []byte
}

func (it *items) num(f Field, n int64) {
	if it.all && it.set.Has(f) && it.nums[f] != n {
		it.others = append(it.others, other{f: f, n: it.nums[f]})
	}
	it.nums[f] = n
	it.set |= 1 << f
}

func (it *items) str(f Field, s []byte) {
	if it.all && it.set.Has(f) && !bytes.Equal(it.strs[f], s) {
		it.others = append(it.others, other{f: f, text: it.strs[f]})
	}
	it.strs[f] = s
	it.set |= 1 << f
}

func (it *items) unset(f Field) {
	if it.all && it.set.Has(f) {
		it.others = append(it.others, other{f: f, n: it.nums[f], text: it.strs[f]})
		it.strs[f] = nil
	}
	it.set &^= 1 << f
}

// numeric is the fields whose values are numbers; FieldSuccess is 1 or 0 and
// FieldArch an AUDIT_ARCH_* number.
const numeric FieldSet = 1<<FieldPID | 1<<FieldPPID | 1<<FieldAUID | 1<<FieldUID | 1<<FieldEUID | 1<<FieldGID | 1<<FieldEGID |
	1<<FieldSession | 1<<FieldSyscall | 1<<FieldArch | 1<<FieldSuccess | 1<<FieldExit

// IsNumber reports whether the values of f that an event is searched by are numbers.
func (f Field) IsNumber() bool { return int(f) < NumFields && numeric.Has(f) }

// list returns the values of a field that can have several.
func (it *items) list(f Field) [][]byte {
	switch f {
	case FieldKey:
		return it.keys
	case FieldFile:
		return it.files
	case FieldSubject:
		return it.subjects
	case FieldObject:
		return it.objects
	}
	return nil
}

// has says whether text is a value of field f, which is no number.
func (it *items) has(f Field, text []byte) bool {
	return it.set.Has(f) && bytes.Equal(it.strs[f], text) || contains(it.list(f), text)
}

// each hands every value to add, in its normal form.
func (it *items) each(scratch []byte, add func(Field, []byte)) []byte {
	for f := range Field(NumFields) {
		switch {
		case f == FieldType:
		case it.set.Has(f) && numeric.Has(f):
			scratch = appendNumber(scratch[:0], f, it.nums[f])
			add(f, scratch)
		case it.set.Has(f):
			add(f, it.strs[f])
		default:
			for _, v := range it.list(f) {
				add(f, v)
			}
		}
	}
	if it.hasCWD {
		add(FieldFile, it.cwd)
	}
	return scratch
}

// appendNumber appends the normal form of a numeric field's value.
func appendNumber(dst []byte, f Field, n int64) []byte {
	switch f {
	case FieldSuccess:
		if n == 0 {
			return append(dst, "no"...)
		}
		return append(dst, "yes"...)
	case FieldArch:
		if name, ok := tables.ArchName(uint32(n)); ok {
			return append(dst, name...)
		}
		return strconv.AppendUint(dst, uint64(uint32(n)), 16)
	}
	return strconv.AppendInt(dst, n, 10)
}

// Number returns the normal form of a numeric field's value n.
func Number(f Field, n int64) string { return string(appendNumber(nil, f, n)) }

// parseNumber reads the normal form of a numeric field's value.
func parseNumber(f Field, s string) (int64, bool) {
	switch f {
	case FieldSuccess:
		return int64(b2i(s == "yes")), s == "yes" || s == "no"
	case FieldArch:
		if n, ok := tables.ArchByName(s); ok {
			return int64(n), true
		}
		n, err := strconv.ParseUint(s, 16, 32)
		return int64(n), err == nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// id is a user, group or session id: 32 bits, -1 being 4294967295. What is no id ("?",
// "n/a") sets none.
func (it *items) id(f Field, v record.Field) {
	if n, ok := record.ID(v.Value); ok {
		it.num(f, int64(n))
	} else if it.all {
		it.others = append(it.others, other{f: f, text: v.Value})
	}
}

func (it *items) number(f Field, v record.Field) {
	if n, ok := record.Decimal(v.Value); ok {
		it.num(f, n)
	} else if it.all {
		it.others = append(it.others, other{f: f, text: v.Value})
	}
}

// result is res=1 or res=0, as the kernel writes it; other numbers are neither.
func (it *items) result(v record.Field) {
	switch n, ok := record.Decimal(v.Value); {
	case ok && (n == 0 || n == 1):
		it.num(FieldSuccess, n)
	case ok:
		it.unset(FieldSuccess)
		it.neither = true
	default: // a word, which the stock tool reads as 0
		it.num(FieldSuccess, 0)
	}
}

// hex32 reads an arch=c000003e.
func hex32(v []byte) (n uint32, ok bool) {
	if len(v) == 0 || len(v) > 8 {
		return 0, false
	}
	for _, c := range v {
		switch {
		case c-'0' <= 9:
			n = n<<4 | uint32(c-'0')
		case (c|0x20) >= 'a' && (c|0x20) <= 'f':
			n = n<<4 | uint32((c|0x20)-'a'+10)
		default:
			return 0, false
		}
	}
	return n, true
}
