package report

import (
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/record"
)

// Fields that a report looks at. One that it does not name is as absent as in an
// event without it: the stock tool's reports of authentications, for one, know no
// login uid.
const (
	wantAUID    query.FieldSet = 1 << query.FieldAUID
	wantUID     query.FieldSet = 1 << query.FieldUID
	wantPID     query.FieldSet = 1 << query.FieldPID
	wantSession query.FieldSet = 1 << query.FieldSession
	wantHost    query.FieldSet = 1 << query.FieldHost
	wantTerm    query.FieldSet = 1 << query.FieldTerminal
	wantExe     query.FieldSet = 1 << query.FieldExe
	wantComm    query.FieldSet = 1 << query.FieldComm
	wantFile    query.FieldSet = 1 << query.FieldFile
	wantKey     query.FieldSet = 1 << query.FieldKey
	wantArch    query.FieldSet = 1 << query.FieldArch
	wantAVC     query.FieldSet = 1<<query.FieldSubject | 1<<query.FieldObject

	// wantAlways are what all reports look at.
	wantAlways query.FieldSet = 1<<query.FieldSyscall | 1<<query.FieldSuccess | 1<<query.FieldAcct
)

// outcome says whether the action that the event records succeeded.
type outcome uint8

const (
	unknown outcome = iota
	failed
	succeeded
)

func (o outcome) String() string { return [...]string{"unset", "no", "yes"}[o] }

// Ids that no record has.
const (
	noAUID  = -2 // no record has a login uid; -2 is what the stock tool prints then
	noID    = -1
	noSess  = 1<<32 - 2
	unsetID = -1 // 4294967295 as the stock tool prints it
)

// facts holds the fields of one event that the reports print or count. Each worker has
// its own facts. Its slices point into the event and into the buffers of the worker's
// Extractor: they are valid until the next event is read.
type facts struct {
	named []byte // used again, see appendCallName
	x     query.Extractor
	ev    *event.Event

	auid, uid int64 // unsetID, noAUID, noID, or the id, which is not negative
	pid       int64 // noID
	session   uint32
	call      int32
	hasCall   bool

	arch        uint32
	outcome     outcome
	host, term  query.Text
	exe, comm   query.Text
	acct        query.Text
	files       []query.File
	keys        [][]byte
	avcs        []query.Decision
	firstRecord *record.Record
	row         int // of avcs, the one a line is about
}

// read takes the facts that are wanted from ev, which must have a record.
func (x *facts) read(ev *event.Event, want query.FieldSet) {
	want |= wantAlways
	x.x.Report(ev, want)
	x.ev, x.firstRecord = ev, &ev.Records[0]
	id := func(f query.Field, none int64) int64 {
		if n, ok := x.x.Number(f); ok && want.Has(f) {
			return int64(int32(n))
		}
		return none
	}
	text := func(f query.Field) (t query.Text) {
		if want.Has(f) {
			t = x.x.Text(f)
		}
		return t
	}
	user := func(f query.Field, none int64) int64 {
		if n, ok := x.x.Number(f); ok && want.Has(f) {
			return userID(uint32(n))
		}
		return none
	}
	x.auid, x.uid, x.pid = user(query.FieldAUID, noAUID), user(query.FieldUID, noID), id(query.FieldPID, noID)
	x.session = uint32(id(query.FieldSession, noSess))
	_, x.hasCall = x.x.Number(query.FieldSyscall)
	x.call, x.arch = int32(id(query.FieldSyscall, 0)), uint32(id(query.FieldArch, 0))
	x.outcome = unknown
	if n, ok := x.x.Number(query.FieldSuccess); ok {
		x.outcome = failed + outcome(n)
	}
	x.host, x.term, x.exe, x.comm = text(query.FieldHost), text(query.FieldTerminal), text(query.FieldExe), text(query.FieldComm)
	x.acct = text(query.FieldAcct)
	x.files, x.keys, x.avcs = nil, nil, x.x.Decisions()
	if want.Has(query.FieldFile) {
		x.files = x.x.Files()
	}
	if want.Has(query.FieldKey) {
		x.keys = x.x.Keys()
	}
}

// userID returns the id of a user as the reports print it: the stock tool prints an id
// that was never set as -1. It prints every id from 2^31 on as a negative number, too,
// which would be the id of nobody.
func userID(id uint32) int64 {
	if id == query.UnsetID {
		return unsetID
	}
	return int64(id)
}

// head is the type of the event's first record, which stands for the event.
func (x *facts) head() uint16 { return x.firstRecord.Type }

// has says whether one of the event's records has a type in the range.
func (x *facts) has(low, high uint16) bool {
	for i := range x.ev.Records {
		if t := x.ev.Records[i].Type; t >= low && t <= high {
			return true
		}
	}
	return false
}
