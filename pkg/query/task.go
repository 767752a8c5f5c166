package query

import "github.com/auditfleet/auditfleet/pkg/event"

// Task holds what one event tells about the process that caused it.
type Task struct {
	PID, PPID int64 // PPID, UID and AUID are -1 where the event does not say them
	UID, AUID int64
	// UIDName and AUIDName are the names in the record's enriched tail, which its own
	// host wrote; empty when the record has none.
	UIDName, AUIDName string
	Comm, Exe         string
}

// taskFields are what a Task is made of.
const taskFields FieldSet = 1<<FieldPID | 1<<FieldPPID | 1<<FieldUID | 1<<FieldAUID | 1<<FieldComm | 1<<FieldExe |
	1<<FieldUIDName | 1<<FieldAUIDName

// Task reads the process that caused an event; it returns false when the event does not
// name one.
func (x *Extractor) Task(ev *event.Event) (Task, bool) {
	x.read(ev, taskFields)
	it := &x.it
	number := func(f Field) int64 {
		if it.set.Has(f) {
			return it.nums[f]
		}
		return -1
	}
	text := func(f Field) string {
		if it.set.Has(f) {
			return string(it.strs[f])
		}
		return ""
	}
	return Task{
		PID: it.nums[FieldPID], PPID: number(FieldPPID), UID: number(FieldUID), AUID: number(FieldAUID),
		UIDName: text(FieldUIDName), AUIDName: text(FieldAUIDName), Comm: text(FieldComm), Exe: text(FieldExe),
	}, it.set.Has(FieldPID)
}
