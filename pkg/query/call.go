package query

import (
	"bytes"
	"strconv"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/record"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// Call is what a report by the names of system calls needs to know of an event. FieldCall stores it.
type Call struct {
	Arch   uint32 // an AUDIT_ARCH_* number; 0: the event has none
	Number int32  // 0 or greater
	Named  []byte // what its host calls it; valid if Told
	Told   bool
}

// TailOf is the enriched tail that speaks for an event, nil for none: the stock tools read that
// of the first record, and only where it is the only one or a system call.
func TailOf(ev *event.Event) *record.Record {
	if r := &ev.Records[0]; r.Enriched != nil && (len(ev.Records) == 1 || r.Type == tables.Syscall) {
		return r
	}
	return nil
}

var tailCall = []byte("SYSCALL")

// appendCall appends the value of FieldCall: architecture, hexadecimal, a space and the number, and where the host names the call a space and that name.
// False: the event has no call.
func (x *Extractor) appendCall(dst []byte, ev *event.Event) ([]byte, bool) {
	it := &x.it
	number := int32(it.nums[FieldSyscall])
	if !it.set.Has(FieldSyscall) || number < 0 || len(ev.Records) == 0 {
		return dst, false
	}
	arch := uint32(0)
	if it.set.Has(FieldArch) {
		arch = uint32(it.nums[FieldArch])
	}
	dst = strconv.AppendUint(dst, uint64(arch), 16)
	dst = strconv.AppendInt(append(dst, ' '), int64(number), 10)
	if f, ok := tailField(ev, tailCall); ok {
		dst = f.AppendDecoded(append(dst, ' '))
	}
	return dst, true
}

// ParseCall parses a value of FieldCall; ok is false when v is not one. The name is a part of v.
func ParseCall(v []byte) (c Call, ok bool) {
	head, rest, ok := bytes.Cut(v, []byte{' '})
	number, name, told := bytes.Cut(rest, []byte{' '})
	arch, err := strconv.ParseUint(string(head), 16, 32)
	n, bad := strconv.ParseInt(string(number), 10, 32)
	return Call{Arch: uint32(arch), Number: int32(n), Named: name, Told: told}, ok && err == nil && bad == nil && n >= 0
}
