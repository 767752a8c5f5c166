package output

import (
	"bytes"

	"github.com/auditfleet/auditfleet/pkg/record"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// appendTail appends by which program and from where it was done.
func (f *lineFormat) appendTail(dst []byte, r *record.Record) []byte {
	if r.Err != nil {
		return dst
	}
	dst = f.appendProgram(dst, r)
	if saysFrom(r.Type) {
		from := ""
		for _, name := range [...]string{"addr", "hostname"} {
			field, ok := f.said(r, name)
			if !ok || from != "" && string(field.Value) == from {
				continue
			}
			if from == "" {
				dst, from = append(dst, ", from "...), string(field.Value)
				dst = f.appendValue(dst, r, &field)
			} else {
				dst = append(f.appendValue(append(dst, " ("...), r, &field), ')')
			}
		}
	}
	for _, name := range [...]string{"terminal", "tty"} {
		if field, ok := f.said(r, name); ok && (name == "terminal" || r.Type != tables.TTY && r.Type != tables.UserTTY) {
			return f.appendValue(append(dst, " on "...), r, &field)
		}
	}
	return dst
}

// saysFrom says whether addr= and hostname= of that type are where somebody came from.
// A daemon's records and those of keys name an address in their sentence.
func saysFrom(typ uint16) bool {
	return typ < tables.DaemonStart || typ > tables.LastDaemon
}

// appendProgram appends the program: its file and, where that says little, its name.
func (f *lineFormat) appendProgram(dst []byte, r *record.Record) []byte {
	exe, hasExe := f.said(r, "exe")
	comm, hasComm := f.said(r, "comm")
	if !hasComm && r.Type != tables.Syscall {
		comm, hasComm = f.said(r, "ocomm")
	}
	switch {
	case r.Type == tables.AnomAbend, r.Type == tables.TTY: // the sentence names it
		return dst
	case hasExe:
		f.path = f.appendText(f.path[:0], r, &exe)
		if bytes.Equal(f.path, f.ran()) {
			return dst
		}
		dst = appendQuoted(append(dst, ", with "...), f.path, longestValue)
		if !hasComm {
			return dst
		}
		f.value = f.appendText(f.value[:0], r, &comm)
		name := f.path[bytes.LastIndexByte(f.path, '/')+1:]
		const most = 15 // of a name in the kernel
		if bytes.Equal(f.value, name[:min(len(name), most)]) || bytes.Equal(f.value, name) {
			return dst
		}
		return append(appendQuoted(append(dst, " ("...), f.value, longestValue), ')')
	case hasComm:
		return f.appendValue(append(dst, ", with "...), r, &comm)
	}
	return dst
}

// ran is the program that the sentence says was run, nil when it says none.
func (f *lineFormat) ran() []byte {
	if !isExec(f.call) || f.bad {
		return nil
	}
	return f.object
}

// appendKeys appends the keys of the rules that wanted the event.
func (f *lineFormat) appendKeys(dst []byte, r *record.Record) []byte {
	if r.Type != tables.Syscall && r.Type != tables.URingOp {
		return dst
	}
	key, ok := f.own(r, "key")
	if !ok || key.Quote == 0 && bytes.HasPrefix(key.Value, []byte("(null)")) { // a copied log may have lost the byte before the names
		return dst
	}
	dst = f.begin(append(dst, ", key "...), styleHit)
	f.value = key.AppendDecoded(f.value[:0])
	return f.end(appendKeyList(dst, f.value), styleHit)
}

// appendKeyList appends keys, between which a record has the byte 1.
func appendKeyList(dst, keys []byte) []byte {
	for i, more := 0, true; more; i++ {
		var one []byte
		one, keys, more = bytes.Cut(keys, []byte{1})
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendQuoted(dst, one, longestValue)
	}
	return dst
}
