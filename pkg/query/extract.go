package query

import (
	"bytes"
	"strconv"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/record"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// An Extractor reads the fields of events that can be searched and reported. Its zero
// value is ready for use. It reuses its buffers for each event, so one goroutine may use
// it, and a value that it returned is valid only until it reads the next event.
type Extractor struct {
	it      items
	text    []byte // decoded strings of the present event; items point into it
	scratch []byte

	report    bool // what is read is for a report, see differs
	decisions bool // and it wants them
	hasMsg    bool // a field msg='…' was not read
}

// Extract calls add with every value of ev that a Matcher compares, in the normal form
// that the Field constants describe. A value is valid only during the call of add; add
// may be called more than once with the same value.
func (x *Extractor) Extract(ev *event.Event, add func(f Field, value []byte)) {
	x.ExtractOnly(ev, allFields, add)
}

// ExtractOnly is Extract of the fields in need and of whatever else is read on the way: it
// passes over records that have none of them.
func (x *Extractor) ExtractOnly(ev *event.Event, need FieldSet, add func(f Field, value []byte)) {
	for i := range ev.Records {
		if t := ev.Records[i].Type; t != 0 {
			x.scratch = strconv.AppendUint(x.scratch[:0], uint64(t), 10)
			add(FieldType, x.scratch)
		}
	}
	x.read(ev, need)
	x.scratch = x.it.each(x.scratch, add)
}

// read fills x.it from those records that can supply a field of need, or one that the
// kernel's records (see kernel) leave a field of need out for.
func (x *Extractor) read(ev *event.Event, need FieldSet) {
	if need&nameFields != 0 {
		need |= 1<<FieldUID | 1<<FieldAUID
	}
	if need.Has(FieldSubject) {
		need |= 1 << FieldObject
	}
	x.it.reset()
	x.text = x.text[:0]
	for i := range ev.Records {
		r := &ev.Records[i]
		c := ClassOf(r.Type)
		if supplies[c]&need != 0 {
			x.record(c, r, need)
		} else if x.it.all {
			x.unreadRecord(r)
		}
		if x.hasMsg {
			x.unreadMsg(r)
		}
	}
}

const nameFields FieldSet = 1<<FieldAUIDName | 1<<FieldUIDName | 1<<FieldEUIDName | 1<<FieldGIDName | 1<<FieldEGIDName

// namesIn is which names a record can have: a program's has a group's only where
// it is about one.
func namesIn(c Class, typ uint16) FieldSet {
	names := supplies[c] & nameFields
	if c == ClassUser && !aboutGroup(typ) {
		names &^= 1 << FieldGIDName
	}
	return names
}

func (x *Extractor) record(c Class, r *record.Record, need FieldSet) {
	before, names := x.it.set&nameFields, FieldSet(0)
	if need&nameFields != 0 {
		// A name belongs to the number of the same record.
		names = namesIn(c, r.Type)
		if x.it.all {
			x.otherNames(names)
		}
		x.it.set &^= names
	}
	switch c {
	case ClassSyscall, ClassUring, ClassTask:
		x.task(c, r)
	case ClassCWD, ClassPath, ClassAVCPath, ClassSockaddr, ClassObj, ClassPacket:
		x.parts(c, r)
	case ClassUser:
		x.user(c, r)
	case ClassUserAVC:
		x.userAVC(r)
	case ClassLogin:
		x.login(r)
	case ClassDaemon, ClassPeer:
		x.daemon(c, r)
	case ClassConfig, ClassMAC:
		x.config(c, r)
	case ClassAVC:
		x.avc(r)
	case ClassAnom, ClassIntegrity, ClassTTY:
		x.anom(c, r)
	case ClassKernel:
		x.it.set |= before
		x.kernel(r, need)
		if x.it.all {
			x.names(0, r)
		}
		return
	}
	if r.Enriched != nil && (names != 0 || x.it.all) {
		x.names(names, r)
	}
}

// names reads those of users and groups from the enriched tail, the first of each.
func (x *Extractor) names(names FieldSet, r *record.Record) {
	fields := r.EnrichedFields()
	for f, ok := fields.Next(); ok; f, ok = fields.Next() {
		var field Field
		switch string(f.Name) {
		case "AUID":
			field = FieldAUIDName
		case "UID":
			field = FieldUIDName
		case "EUID":
			field = FieldEUIDName
		case "GID":
			field = FieldGIDName
		case "EGID":
			field = FieldEGIDName
		case "ID":
			if !aboutGroup(r.Type) {
				continue
			}
			field = FieldGIDName
		default:
			continue
		}
		if names.Has(field) && !x.it.set.Has(field) {
			x.it.str(field, x.bytes(f))
		} else if x.it.all {
			x.it.others = append(x.it.others, other{f: field, text: x.bytes(f)})
		}
	}
}

// decoded returns an untrusted string, for a report up to its first NUL: an index's
// values are cut there when they are counted.
func (x *Extractor) decoded(f record.Field) []byte {
	v := x.bytes(f)
	if x.report {
		v = cString(v)
	}
	return v
}

// bytes returns an untrusted string's bytes: a slice of the record, or of x.text
// where it had to be made from hex.
func (x *Extractor) bytes(f record.Field) []byte {
	if f.Quote != 0 {
		return f.Value
	}
	start := len(x.text)
	x.text = f.AppendDecoded(x.text)
	return x.text[start:len(x.text):len(x.text)]
}

// cut ends a key or a working directory at its first NUL, for a report.
func (x *Extractor) cut(v []byte) []byte {
	if i := bytes.IndexByte(v, 0); x.differs(i >= 0) {
		v = v[:i:i]
	}
	return v
}

// cString ends a value at its first NUL, as the kernel's strings do.
func cString(v []byte) []byte {
	if i := bytes.IndexByte(v, 0); i >= 0 {
		return v[:i:i]
	}
	return v
}

// key adds the keys of one key= field: several are joined by \x01, and a record
// no key rule hit says (null), which is a value like any other.
func (x *Extractor) key(f record.Field) {
	v := x.cut(x.bytes(f))
	for len(v) > 0 {
		k := v
		if i := bytes.IndexByte(v, keySeparator); i >= 0 && !x.differs(f.Quote != 0) {
			k, v = v[:i:i], v[i+1:]
		} else {
			v = nil
		}
		if len(k) > 0 {
			x.it.keys = append(x.it.keys, k)
		}
	}
}

const keySeparator = 0x01

// file adds a path. One that starts with ./ or .. is taken to be below the
// working directory, where that came before it. parent is for reports only.
func (x *Extractor) file(f record.Field, parent bool) {
	var name []byte
	if x.differs(f.Quote == 0 && bytes.HasPrefix(f.Value, abstractSocket)) && len(f.Value) > len(abstractSocket) {
		f.Value = f.Value[len(abstractSocket):]
		name = x.bytes(f)
	} else if name = x.bytes(f); f.Quote == 0 && len(name) > 0 && name[0] == 0 {
		name = name[1:]
	}
	name = cString(name)
	if x.it.hasCWD && len(name) > 1 && name[0] == '.' && (name[1] == '.' || name[1] == '/') {
		start := len(x.text)
		x.text = append(append(append(x.text, x.it.cwd...), '/'), name...)
		name = x.text[start:len(x.text):len(x.text)]
	}
	x.addFile(name, parent)
}

func (x *Extractor) addFile(name []byte, parent bool) {
	x.it.files = append(x.it.files, name)
	if x.report {
		x.it.reported = append(x.it.reported, File{name, parent})
	}
}

// abstractSocket is how the name of one begins, in hex.
var abstractSocket = []byte("00")

// parts reads the records that describe no task.
func (x *Extractor) parts(c Class, r *record.Record) {
	var seen FieldSet // those of which a report takes the record's first value only
	fields := r.Fields()
	for f, ok := fields.Next(); ok; f, ok = fields.Next() {
		switch string(f.Name) {
		case "cwd":
			if c == ClassCWD && !x.it.hasCWD {
				x.cwd(f)
			}
		case "name":
			if c == ClassPath {
				x.file(f, x.report && endsInParent(r.Body))
			}
		case "path":
			if c == ClassAVCPath && !x.differs(seen.again(FieldFile)) {
				x.file(f, false)
			}
		case "obj":
			switch {
			case c == ClassCWD, c == ClassSockaddr, c == ClassAVCPath:
				x.unread(f)
			case x.report && c != ClassPath && seen.again(FieldObject):
			default:
				x.object(f.Value)
			}
		case "saddr":
			switch {
			case c != ClassSockaddr && c != ClassPacket, x.differs(seen.again(FieldHost)):
			case c == ClassSockaddr:
				x.sockaddr(f)
			default:
				x.it.str(FieldHost, f.Value)
			}
		default:
			x.unread(f)
		}
	}
}

// task reads SYSCALL and the records that carry the same properties of a task.
func (x *Extractor) task(c Class, r *record.Record) {
	it := &x.it
	fields := r.Fields()
	for f, ok := fields.Next(); ok; f, ok = fields.Next() {
		switch string(f.Name) {
		case "arch":
			if n, ok := hex32(f.Value); ok && c == ClassSyscall {
				it.num(FieldArch, int64(n))
			} else {
				x.unread(f)
			}
		case "syscall":
			if c == ClassSyscall {
				it.number(FieldSyscall, f)
			} else {
				x.unread(f)
			}
		case "success":
			if c != ClassTask {
				it.num(FieldSuccess, int64(b2i(string(f.Value) == "yes")))
			} else {
				x.unread(f)
			}
		case "exit":
			if c != ClassTask {
				it.number(FieldExit, f)
			} else {
				x.unread(f)
			}
		case "ppid":
			it.number(FieldPPID, f)
		case "pid":
			it.number(FieldPID, f)
		case "auid":
			it.id(FieldAUID, f)
		case "uid":
			it.id(FieldUID, f)
		case "gid":
			it.id(FieldGID, f)
		case "euid":
			it.id(FieldEUID, f)
		case "egid":
			it.id(FieldEGID, f)
		case "tty":
			it.str(FieldTerminal, f.Value)
		case "ses":
			it.id(FieldSession, f)
		case "comm":
			it.str(FieldComm, x.decoded(f))
		case "exe":
			it.str(FieldExe, x.decoded(f))
		case "subj":
			x.subject(f.Value)
		case "key":
			if c != ClassTask {
				x.key(f)
			} else {
				x.unread(f)
			}
		case "res":
			if c == ClassTask {
				it.result(f)
			}
		case "loginuid":
			if x.differs(true) {
				it.id(FieldAUID, f)
			}
		default:
			x.unread(f)
		}
	}
}

// anom reads the kernel's short records about a task: SECCOMP, ABEND,
// PROMISCUOUS, integrity and TTY.
func (x *Extractor) anom(c Class, r *record.Record) {
	it := &x.it
	idsOnly := x.differs(r.Type == tables.AnomPromiscuous)
	fields := r.Fields()
	for f, ok := fields.Next(); ok; f, ok = fields.Next() {
		switch string(f.Name) {
		case "auid":
			it.id(FieldAUID, f)
			continue
		case "uid":
			it.id(FieldUID, f)
			continue
		case "ses":
			it.id(FieldSession, f)
			continue
		}
		if idsOnly {
			continue
		}
		read := c == ClassAnom
		switch string(f.Name) {
		case "pid":
			it.number(FieldPID, f)
			continue
		case "comm":
			it.str(FieldComm, x.decoded(f))
			continue
		case "gid":
			if read {
				it.id(FieldGID, f)
			}
		case "exe":
			if read {
				it.str(FieldExe, x.decoded(f))
			}
		case "arch":
			n, ok := hex32(f.Value)
			if read = ok && read && !x.differs(r.Type != tables.Seccomp); read {
				it.num(FieldArch, int64(n))
			}
		case "syscall":
			if read && !x.differs(r.Type != tables.Seccomp) {
				it.number(FieldSyscall, f)
			}
		case "subj":
			if read = c != ClassTTY; read {
				x.subject(f.Value)
			}
		case "name":
			if c == ClassIntegrity {
				x.file(f, false)
			}
		case "res":
			if c != ClassTTY {
				it.result(f)
			}
		default:
			read = false
		}
		if !read {
			x.unread(f)
		}
	}
}
