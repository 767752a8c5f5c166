package query

import "github.com/auditfleet/auditfleet/pkg/event"

// Task is what one event says of the process that it is of.
type Task struct {
	PID, PPID int64 // PPID, UID and AUID are -1 where the event does not say them
	UID, AUID int64
	// What the record itself calls the users, empty when it does not: those of its host.
	UIDName, AUIDName string
	Comm, Exe         string
}

// taskFields are what a Task is made of.
const taskFields FieldSet = 1<<FieldPID | 1<<FieldPPID | 1<<FieldUID | 1<<FieldAUID | 1<<FieldComm | 1<<FieldExe |
	1<<FieldUIDName | 1<<FieldAUIDName

// Task reads which process an event is of; false when it does not say.
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
