package query

import (
	"bytes"

	"github.com/auditfleet/auditfleet/pkg/record"
)

// A search for --field comm=cron is about a field of any record of an event. Most fields
// that are searched by an option have one value an event, though, that of a certain record,
// and are read in records of certain types only. The index has the other values, too, in
// fields of its own (Field.Other).

// fieldNames are the names of records' fields that a Field stands for.
var fieldNames = [NumFields]string{
	FieldKey: "key", FieldPID: "pid", FieldPPID: "ppid", FieldAUID: "auid", FieldUID: "uid", FieldEUID: "euid", FieldGID: "gid",
	FieldEGID: "egid", FieldSession: "ses", FieldSyscall: "syscall", FieldArch: "arch", FieldSuccess: "success", FieldExit: "exit",
	FieldComm: "comm", FieldExe: "exe", FieldFile: "file", FieldHost: "host", FieldTerminal: "terminal", FieldSubject: "subj",
	FieldObject: "obj", FieldAcct: "acct", FieldUUID: "uuid", FieldVM: "vm",
}

// FieldNames returns the names that FieldNamed knows.
func FieldNames() (names []string) {
	for _, name := range fieldNames {
		if name != "" {
			names = append(names, name)
		}
	}
	return names
}

// FieldNamed returns the field that an event is searched by for records' fields called
// name; false when there is none.
func FieldNamed(name string) (Field, bool) { return namedField([]byte(name)) }

// namedField is FieldNamed, for each field of each record that is indexed: the first two
// letters and the length tell almost all names apart.
func namedField(name []byte) (Field, bool) {
	if len(name) < 2 || len(name) > 8 {
		return 0, false
	}
	f := fieldsByStart[startOf(name)]
	return f, f != 0 && string(name) == fieldNames[f]
}

// fieldsByStart has each Field of fieldNames at startOf its name; TestFieldNames sees that
// no two names are at one place.
var fieldsByStart = func() (fields [128]Field) {
	for f, name := range fieldNames {
		if name != "" {
			fields[startOf([]byte(name))] = Field(f)
		}
	}
	return fields
}()

func startOf(name []byte) int {
	return (int(name[0]) + 2*int(name[1]) + 4*len(name)) & 127
}

// appendNormal appends the normal form of field f as it stands in a record, or the value
// itself where it is no number and ought to be one.
func appendNormal(dst []byte, f Field, v record.Field) []byte {
	switch f {
	case FieldKey, FieldComm, FieldExe, FieldFile, FieldAcct, FieldVM:
		return v.AppendDecoded(dst)
	case FieldUUID:
		if i := bytes.IndexByte(v.Value, ':'); i >= 0 {
			v.Value = v.Value[:i]
		}
	case FieldAUID, FieldUID, FieldEUID, FieldGID, FieldEGID, FieldSession:
		if n, ok := record.ID(v.Value); ok {
			return appendNumber(dst, f, int64(n))
		}
	case FieldPID, FieldPPID, FieldSyscall, FieldExit:
		if n, ok := record.Decimal(v.Value); ok {
			return appendNumber(dst, f, n)
		}
	case FieldArch:
		if n, ok := hex32(v.Value); ok {
			return appendNumber(dst, f, int64(n))
		}
	}
	return append(dst, v.Value...)
}

// cutValue cuts the first value off the normal form of field f: a key= has one or several
// keys.
func cutValue(f Field, text []byte) (one, rest []byte, more bool) {
	if f == FieldKey {
		return bytes.Cut(text, keySeparators)
	}
	return text, nil, false
}

var keySeparators = []byte{keySeparator}

// unread notes a field that nothing is read from where it stands.
func (x *Extractor) unread(v record.Field) {
	if !x.it.all {
		return
	}
	if f, ok := namedField(v.Name); ok {
		from := len(x.text)
		x.text = appendNormal(x.text, f, v)
		for one, rest, more := cutValue(f, x.text[from:len(x.text):len(x.text)]); ; one, rest, more = cutValue(f, rest) {
			x.it.others = append(x.it.others, other{f: f, text: one})
			if !more {
				break
			}
		}
	} else if string(v.Name) == "msg" && v.Quote != '"' {
		x.hasMsg = true
	}
}

// otherNames notes those names, which those of another record take the place of.
func (x *Extractor) otherNames(names FieldSet) {
	for f := FieldAUIDName; f <= FieldEGIDName; f++ {
		if names.Has(f) && x.it.set.Has(f) {
			x.it.others = append(x.it.others, other{f: f, text: x.it.strs[f]})
		}
	}
}

// unreadRecord notes the fields of a record that nothing is read from.
func (x *Extractor) unreadRecord(r *record.Record) {
	if r.Enriched != nil {
		x.names(0, r)
	}
	fields := r.Fields()
	for f, ok := fields.Next(); ok; f, ok = fields.Next() {
		x.unread(f)
	}
}

// unreadMsg notes the fields nested in a record that is no program's.
func (x *Extractor) unreadMsg(r *record.Record) {
	x.hasMsg = false
	switch ClassOf(r.Type) {
	case ClassUser, ClassUserAVC: // read, or noted
		return
	}
	fields := r.MsgFields()
	for f, ok := fields.Next(); ok; f, ok = fields.Next() {
		x.unread(f)
	}
}

// addOthers hands the values of an event to add that Extract did not.
func (x *Extractor) addOthers(add func(Field, []byte)) {
	it := &x.it
	for i := range it.others {
		o := &it.others[i]
		value := o.text
		if value == nil && numeric.Has(o.f) {
			x.scratch = appendNumber(x.scratch[:0], o.f, o.n)
			value = x.scratch
			if it.set.Has(o.f) && it.nums[o.f] == o.n {
				continue
			}
		} else if !numeric.Has(o.f) && it.has(o.f, value) {
			continue
		}
		add(o.f.Other(), value)
	}
}
