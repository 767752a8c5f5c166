package query

import (
	"bytes"
	"strconv"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/record"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// Extractor finds what can be searched in an event. It keeps its buffers from
// one event to the next and is for one goroutine; the zero value is ready.
type Extractor struct {
	it      items
	text    []byte // decoded strings of the present event; items point into it
	scratch []byte
}

// Extract calls add with every value of ev that a Matcher would look at, in its
// normal form (see the Field constants). A value is valid only during the call;
// the same value may come more than once.
func (x *Extractor) Extract(ev *event.Event, add func(f Field, value []byte)) {
	for i := range ev.Records {
		if t := ev.Records[i].Type; t != 0 {
			x.scratch = strconv.AppendUint(x.scratch[:0], uint64(t), 10)
			add(FieldType, x.scratch)
		}
	}
	x.read(ev, allFields)
	x.scratch = x.it.each(x.scratch, add)
}

// read fills x.it from those records that can supply a field of need.
func (x *Extractor) read(ev *event.Event, need fieldSet) {
	x.it.reset()
	x.text = x.text[:0]
	for i := range ev.Records {
		r := &ev.Records[i]
		c := ClassOf(r.Type)
		if supplies[c]&need == 0 {
			continue
		}
		x.record(c, r, need)
	}
}

const nameFields fieldSet = 1<<FieldAUIDName | 1<<FieldUIDName | 1<<FieldEUIDName | 1<<FieldGIDName | 1<<FieldEGIDName

// namesIn is which names a record can have: a program's has a group's only where
// it is about one.
func namesIn(c Class, typ uint16) fieldSet {
	names := supplies[c] & nameFields
	if c == ClassUser && !aboutGroup(typ) {
		names &^= 1 << FieldGIDName
	}
	return names
}

func (x *Extractor) record(c Class, r *record.Record, need fieldSet) {
	before, names := x.it.set&nameFields, fieldSet(0)
	if need&nameFields != 0 {
		// A name belongs to the number of the same record.
		names = namesIn(c, r.Type)
		x.it.set &^= names
	}
	switch c {
	case ClassSyscall, ClassTask:
		x.task(c, r)
	case ClassCWD, ClassPath, ClassAVCPath, ClassSockaddr, ClassObj, ClassPacket:
		x.parts(c, r)
	case ClassUser, ClassUserAVC:
		x.user(c, r)
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
		return
	}
	if names != 0 && r.Enriched != nil {
		x.names(names, r)
	}
}

// names reads those of users and groups from the enriched tail, the first of each.
func (x *Extractor) names(names fieldSet, r *record.Record) {
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
		if names.has(field) && !x.it.set.has(field) {
			x.it.str(field, f.Value)
		}
	}
}

// decoded returns an untrusted string's bytes: a slice of the record, or of
// x.text where it had to be made from hex.
func (x *Extractor) decoded(f record.Field) []byte {
	if f.Quote != 0 {
		return f.Value
	}
	start := len(x.text)
	x.text = f.AppendDecoded(x.text)
	return x.text[start:len(x.text):len(x.text)]
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
	v := x.decoded(f)
	for len(v) > 0 {
		k := v
		if i := bytes.IndexByte(v, keySeparator); i >= 0 {
			x.it.oddIf(f.Quote != 0)
			k, v = v[:i:i], v[i+1:]
		} else {
			v = nil
		}
		if len(k) > 0 {
			x.it.oddIf(bytes.IndexByte(k, 0) >= 0)
			x.it.keys = append(x.it.keys, k)
		}
	}
}

const keySeparator = 0x01

// file adds a path. One that starts with ./ or .. is taken to be below the
// working directory, where that came before it.
func (x *Extractor) file(f record.Field) {
	name := x.decoded(f)
	if f.Quote == 0 && len(name) > 0 && name[0] == 0 {
		name = name[1:] // an abstract socket
	}
	x.it.oddIf(f.Quote == 0 && bytes.HasPrefix(f.Value, abstractSocket))
	name = cString(name)
	if x.it.hasCWD && len(name) > 1 && name[0] == '.' && (name[1] == '.' || name[1] == '/') {
		start := len(x.text)
		x.text = append(append(append(x.text, x.it.cwd...), '/'), name...)
		name = x.text[start:len(x.text):len(x.text)]
	}
	x.it.files = append(x.it.files, name)
}

// abstractSocket is how the name of one begins, in hex.
var abstractSocket = []byte("00")

// parts reads the records that describe no task.
func (x *Extractor) parts(c Class, r *record.Record) {
	seen := false // a value of which the reports take the first only
	first := func() {
		x.it.oddIf(seen)
		seen = true
	}
	fields := r.Fields()
	for f, ok := fields.Next(); ok; f, ok = fields.Next() {
		switch string(f.Name) {
		case "cwd":
			if c == ClassCWD && !x.it.hasCWD {
				x.cwd(f)
			}
		case "name":
			if c == ClassPath {
				x.file(f)
			}
		case "path":
			if c == ClassAVCPath {
				first()
				x.file(f)
			}
		case "obj":
			if c != ClassCWD && c != ClassSockaddr && c != ClassAVCPath {
				x.it.objects = append(x.it.objects, f.Value)
			}
		case "saddr":
			switch c {
			case ClassSockaddr:
				first()
				x.sockaddr(f)
			case ClassPacket:
				first()
				x.it.str(FieldHost, f.Value)
			}
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
			}
		case "syscall":
			if c == ClassSyscall {
				it.number(FieldSyscall, f)
			}
		case "success":
			if c == ClassSyscall {
				it.num(FieldSuccess, int64(b2i(string(f.Value) == "yes")))
			}
		case "exit":
			if c == ClassSyscall {
				it.number(FieldExit, f)
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
			it.subjects = append(it.subjects, f.Value)
		case "key":
			if c == ClassSyscall {
				x.key(f)
			}
		case "res":
			if c == ClassTask {
				it.result(f)
			}
		case "loginuid":
			it.odd = true
		}
	}
}

// anom reads the kernel's short records about a task: SECCOMP, ABEND,
// PROMISCUOUS, integrity and TTY.
func (x *Extractor) anom(c Class, r *record.Record) {
	it := &x.it
	it.oddIf(r.Type == tables.AnomPromiscuous)
	fields := r.Fields()
	for f, ok := fields.Next(); ok; f, ok = fields.Next() {
		switch string(f.Name) {
		case "pid":
			it.number(FieldPID, f)
		case "auid":
			it.id(FieldAUID, f)
		case "uid":
			it.id(FieldUID, f)
		case "ses":
			it.id(FieldSession, f)
		case "comm":
			it.str(FieldComm, x.decoded(f))
		case "gid":
			if c == ClassAnom {
				it.id(FieldGID, f)
			}
		case "exe":
			if c == ClassAnom {
				it.str(FieldExe, x.decoded(f))
			}
		case "arch":
			if n, ok := hex32(f.Value); ok && c == ClassAnom {
				it.num(FieldArch, int64(n))
			}
		case "syscall":
			if c == ClassAnom {
				it.number(FieldSyscall, f)
				it.oddIf(r.Type != tables.Seccomp)
			}
		case "subj":
			if c != ClassTTY {
				it.subjects = append(it.subjects, f.Value)
			}
		case "name":
			if c == ClassIntegrity {
				x.file(f)
			}
		case "res":
			if c != ClassTTY {
				it.result(f)
			}
		}
	}
}
