package output

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/auditfleet/auditfleet/pkg/interpret"
	"github.com/auditfleet/auditfleet/pkg/record"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// outcome is how something went.
type outcome uint8

const (
	unknownOutcome outcome = iota
	failed
	succeeded
)

// outcomeOf is what r says of its result.
func (f *lineFormat) outcomeOf(r *record.Record) outcome {
	for _, name := range [...]string{"success", "res", "result"} {
		field, ok := f.said(r, name)
		if !ok {
			continue
		}
		switch strings.ToLower(string(field.Value)) {
		case "yes", "success", "1":
			return succeeded
		case "no", "failed", "fail", "failure", "0":
			return failed
		}
	}
	return unknownOutcome
}

// verb appends what was done, or what could not be.
func (f *lineFormat) verb(dst []byte, o outcome, done, try string) []byte {
	if o != failed {
		return append(dst, done...)
	}
	f.bad = true
	return append(append(dst, "failed to "...), try...)
}

// appendCall appends what a system call did, and what other records say of it.
func (f *lineFormat) appendCall(dst []byte, r *record.Record) []byte {
	o := f.outcomeOf(r)
	f.call, f.object = "", f.object[:0]
	if r.Type == tables.Syscall {
		if nr, ok := f.own(r, "syscall"); ok {
			f.value = f.appendText(f.value[:0], r, &nr)
			f.call = string(f.value)
		}
	}
	more := f.tellsMore()
	if more != nil && !isDecision(more.Type) { // the record says what the call was for
		for i, n := range f.records {
			if auxiliary(n.Type) || &f.records[i] == r {
				continue
			}
			if &f.records[i] != more {
				dst = append(dst, "; "...)
			}
			dst = f.appendRecord(dst, &f.records[i], o)
		}
		if o == failed {
			dst = f.appendError(dst, r)
		}
		return dst
	}
	if exit, ok := f.own(r, "exit"); ok && f.call == "connect" && string(exit.Value) == "-115" { // EINPROGRESS: it goes on
		dst = f.appendSocket(append(dst, "began to connect to "...))
	} else {
		dst = f.appendAct(dst, r, o)
		if o == failed {
			dst = f.appendError(dst, r)
		}
	}
	for i := range f.records {
		if isDecision(f.records[i].Type) {
			dst = append(f.appendDecision(append(dst, " ("...), &f.records[i]), ')')
		}
	}
	return dst
}

// tellsMore is the first record that says more than the system call's own ones.
func (f *lineFormat) tellsMore() *record.Record {
	for i := range f.records {
		if t := f.records[i].Type; !auxiliary(t) && t != tables.Syscall && t != tables.URingOp {
			return &f.records[i]
		}
	}
	return nil
}

// auxiliary says whether a record of that type only gives details of a system call.
func auxiliary(typ uint16) bool {
	switch typ {
	case tables.KernModule, tables.Fanotify, tables.BPF, tables.EventListener, tables.NetfilterCfg, tables.FeatureChange, tables.ConfigChange,
		tables.TTY, tables.Seccomp, tables.NetfilterPkt, tables.URingOp, timeInjOffset, timeAdjNTPVal, dmCtrl, dmEvent, dmEvent + 1:
		return false
	}
	return typ > tables.FirstEvent && typ <= tables.LastEvent
}

const (
	timeInjOffset uint16 = 1332
	timeAdjNTPVal uint16 = 1333
	dmCtrl        uint16 = 1338
	dmEvent       uint16 = 1339
)

// appendError appends why a system call failed.
func (f *lineFormat) appendError(dst []byte, r *record.Record) []byte {
	exit, ok := f.own(r, "exit")
	if !ok {
		return dst
	}
	f.value = f.in.AppendValue(f.value[:0], r, exit)
	text := f.value
	if _, in, ok := bytes.Cut(text, []byte{'('}); ok {
		text = bytes.TrimSuffix(in, []byte{')'})
	}
	return appendWords(append(dst, ": "...), text)
}

// appendAct appends the call itself and its object.
func (f *lineFormat) appendAct(dst []byte, r *record.Record, o outcome) []byte {
	w, known := callWords[f.call]
	if !known {
		return f.appendOtherCall(dst, r, o)
	}
	if w.object == onOpen {
		return f.appendOpen(dst, r, o)
	}
	dst = f.verb(dst, o, w.done, w.try)
	switch w.object {
	case onFile:
		dst = f.appendFile(append(dst, ' '), r)
	case onMode, onOwner:
		dst = f.appendFile(append(dst, ' '), r)
		dst = f.appendChange(append(dst, " to "...), r, &w)
	case onPair:
		dst = f.appendPair(append(dst, ' '), r, w.between)
	case onSocket:
		dst = f.appendSocket(append(dst, ' '))
	case onProcess:
		dst = f.appendSignal(append(dst, ' '), r, w.arg)
	case onIDs:
		dst = f.appendIDs(append(dst, ' '), r, w.ids)
	case onProgram:
		dst = f.appendCommand(append(dst, ' '), r)
	}
	return dst
}

// appendOtherCall appends the name of a call that has no words of its own, those of its
// arguments that mean something, and the files.
func (f *lineFormat) appendOtherCall(dst []byte, r *record.Record, o outcome) []byte {
	f.bad = o == failed
	switch {
	case r.Type == tables.URingOp:
		dst = append(dst, "did io_uring operation "...)
		if op, ok := f.own(r, "uring_op"); ok {
			dst = f.appendValue(dst, r, &op)
		}
	case f.call == "":
		dst = append(dst, "made a system call"...)
	default:
		dst = appendQuoted(append(dst, "called "...), []byte(f.call), longestValue)
		n := 0
		for _, name := range [...]string{"a0", "a1", "a2", "a3"} {
			arg, ok := f.own(r, name)
			if !ok {
				continue
			}
			f.value = f.in.AppendValue(f.value[:0], r, arg)
			if bytes.HasPrefix(f.value, []byte("0x")) || string(f.value) == "AT_FDCWD" {
				continue
			}
			before := "("
			if n > 0 {
				before = ", "
			}
			dst = appendWords(append(dst, before...), f.value)
			n++
		}
		if n > 0 {
			dst = append(dst, ')')
		}
	}
	before := " on "
	for i := range f.records {
		p := &f.records[i]
		if kind, ok := p.Get("nametype"); p.Type == tables.Path && (!ok || string(kind.Value) != "PARENT") {
			dst = f.appendPath(append(dst, before...), p, "")
			before = ", "
		}
	}
	if f.find(tables.SockAddr) != nil {
		dst = f.appendSocket(append(dst, before...))
	}
	if o == failed {
		dst = append(dst, ", which failed"...)
	}
	return dst
}

// appendOpen appends what a call opened or made, and for what.
func (f *lineFormat) appendOpen(dst []byte, r *record.Record, o outcome) []byte {
	done, try := "opened", "open"
	if f.pathOf("CREATE") != nil {
		done, try = "created", "create"
	}
	dst = f.appendFile(append(f.verb(dst, o, done, try), ' '), r)
	flags, ok := f.openFlags(r)
	const path = 0o10000000 // O_PATH: neither
	if !ok || flags&path != 0 {
		return dst
	}
	return append(dst, [...]string{" for reading", " for writing", " for reading and writing", ""}[flags&3]...)
}

func (f *lineFormat) openFlags(r *record.Record) (flags uint64, ok bool) {
	name, base := "a1", 16
	switch f.call {
	case "openat":
		name = "a2"
	case "openat2":
		how := f.find(tables.Openat2)
		if how == nil {
			return 0, false
		}
		r, name, base = how, "oflag", 8
	}
	field, ok := r.Get(name)
	if !ok {
		return 0, false
	}
	flags, err := strconv.ParseUint(string(field.Value), base, 64)
	return flags, err == nil
}

// argument is a system call's argument.
func (*lineFormat) argument(r *record.Record, name string) (uint64, bool) {
	field, ok := r.Get(name)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(string(field.Value), 16, 64)
	return n, err == nil
}

// appendChange appends the mode or the owner that a file was given.
func (f *lineFormat) appendChange(dst []byte, r *record.Record, w *callWord) []byte {
	if w.object == onMode {
		mode, _ := f.argument(r, w.arg)
		text := strconv.FormatUint(mode&0o7777, 8)
		return append(append(dst, "0000"[:max(0, 4-len(text))]...), text...)
	}
	next := string([]byte{'a', w.arg[1] + 1})
	n := 0
	for i, name := range [...]string{w.arg, next} {
		id, ok := f.argument(r, name)
		if !ok || uint32(id) == unsetID {
			continue
		}
		if n++; n > 1 {
			dst = append(dst, ", "...)
		}
		dst = append(dst, [...]string{"user ", "group "}[i]...)
		dst = strconv.AppendUint(dst, uint64(uint32(id)), 10)
	}
	if n == 0 {
		dst = append(dst, "the same"...)
	}
	return dst
}

const unsetID = 1<<32 - 1

// appendIDs appends the ids that a process was given.
func (f *lineFormat) appendIDs(dst []byte, r *record.Record, names []string) []byte {
	for i, what := range names {
		id, ok := f.argument(r, "a"+strconv.Itoa(i))
		if !ok {
			break
		}
		if i > 0 {
			dst = append(dst, ", "...)
		}
		dst = append(dst, what...)
		if uint32(id) == unsetID {
			dst = append(dst, "unchanged"...)
		} else {
			dst = strconv.AppendUint(dst, uint64(uint32(id)), 10)
		}
	}
	return dst
}

// appendSignal appends a signal and the processes that it goes to.
func (f *lineFormat) appendSignal(dst []byte, r *record.Record, arg string) []byte {
	n, _ := f.argument(r, arg)
	if field, ok := r.Get(arg); ok && n != 0 {
		f.value = f.in.AppendValue(f.value[:0], r, field)
		dst = appendWords(dst, f.value)
	} else {
		dst = append(dst, "signal 0, which only asks whether it is there,"...)
	}
	before := " to process "
	for i := range f.records {
		p := &f.records[i]
		if p.Type != tables.ObjPID {
			continue
		}
		if id, ok := p.Get("opid"); ok {
			dst = f.appendValue(append(dst, before...), p, &id)
			before = ", "
		}
		if comm, ok := f.own(p, "ocomm"); ok {
			dst = append(f.appendValue(append(dst, " ("...), p, &comm), ')')
		}
	}
	if before != ", " {
		pid, _ := f.argument(r, "a0")
		dst = strconv.AppendInt(append(dst, before...), int64(int32(pid)), 10)
	}
	return dst
}

// appendSocket appends the address of the call.
func (f *lineFormat) appendSocket(dst []byte) []byte {
	if r := f.find(tables.SockAddr); r != nil {
		if saddr, ok := r.Get("saddr"); ok {
			if addr, ok := interpret.ParseSocket(saddr.Value); ok && addr.IsInternet() {
				return addr.Append(dst) // no byte of it needs quotes
			}
			return f.appendValue(dst, r, &saddr)
		}
	}
	return append(dst, "a peer (not recorded)"...)
}
