package report

import (
	"bytes"
	"strconv"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/record"
)

// wanted is which facts a report looks at. One that it does not name is not read,
// and then is as absent as in an event without it: the stock tool's reports of
// authentications, for one, know no login uid.
type wanted uint16

const (
	wantAUID wanted = 1 << iota
	wantUID
	wantPID
	wantSession
	wantHost
	wantTerm
	wantExe
	wantComm
	wantFile
	wantKey
	wantAVC
	wantArch
	wantCall // the system call's number
)

func (n wanted) has(f wanted) bool { return n&f != 0 }

// text is a string that may be absent, which is not the same as empty.
type text struct {
	b  []byte
	ok bool
}

func textOf(b []byte) text { return text{b, true} }

// file is a file's name and whether its record says that it is the directory the
// file is in, and nothing behind that.
type file struct {
	name   []byte
	parent bool
}

// avc is a security module's decision, or what another record contributes to the
// list the stock tool keeps them in.
type avc struct {
	subject, object, class, perm text
	result                       decision
}

type decision uint8

const (
	undecided decision = iota
	denied
	granted
)

func (d decision) String() string { return [...]string{"unset", "denied", "granted"}[d] }

// outcome is whether what the event is about succeeded.
type outcome uint8

const (
	unknown outcome = iota
	failed
	succeeded
)

func (o outcome) String() string { return [...]string{"unset", "no", "yes"}[o] }

// Ids that no record has.
const (
	noAUID  = -2
	noID    = -1
	noSess  = 1<<32 - 2
	unsetID = -1 // 4294967295 as the stock tool prints it
)

// facts is what the reports say about one event. Its slices point into the event
// or into text and are valid until the next read.
type facts struct {
	ev   *event.Event
	want wanted

	auid, uid int64 // as signed 32 bits; noAUID, noID
	uidRead   bool  // a record had a uid, be it unset
	pid       int64
	session   uint32
	call      int32
	hasCall   bool

	arch        uint32
	outcome     outcome
	host, term  text
	exe, comm   text
	acct, cwd   text
	files       []file
	keys        [][]byte
	avcs        []avc
	firstRecord *record.Record
	row         int    // of avcs, the one a line is about
	text        []byte // decoded strings
}

// read fills x from ev, which must have a record.
func (x *facts) read(ev *event.Event, want wanted) {
	*x = facts{
		ev: ev, want: want, auid: noAUID, uid: noID, pid: noID, session: noSess, firstRecord: &ev.Records[0],
		files: x.files[:0], keys: x.keys[:0], avcs: x.avcs[:0], text: x.text[:0],
	}
	for i := range ev.Records {
		r := &ev.Records[i]
		if c := query.ClassOf(r.Type); c != query.ClassNone {
			readers[c](x, r)
		}
	}
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

// decoded returns an untrusted string up to its first NUL: a slice of the record,
// or of x.text where it had to be made from hex.
func (x *facts) decoded(f record.Field) []byte {
	v := f.Value
	if f.Quote == 0 {
		start := len(x.text)
		x.text = f.AppendDecoded(x.text)
		v = x.text[start:len(x.text):len(x.text)]
	}
	if i := bytes.IndexByte(v, 0); i >= 0 {
		return v[:i:i]
	}
	return v
}

// file adds a path. One that starts with ./ or .. is taken to be below the
// working directory, where that came before it.
func (x *facts) file(f record.Field, parent bool) {
	v := f
	if f.Quote == 0 && len(f.Value) > 2 && f.Value[0] == '0' && f.Value[1] == '0' {
		v.Value = f.Value[2:] // an abstract socket
	}
	name := x.decoded(v)
	if x.cwd.ok && len(name) > 1 && name[0] == '.' && (name[1] == '.' || name[1] == '/') {
		start := len(x.text)
		x.text = append(append(append(x.text, x.cwd.b...), '/'), name...)
		name = x.text[start:len(x.text):len(x.text)]
	}
	x.files = append(x.files, file{name, parent})
}

// key adds the keys of one key= field, which \x01 joins. A record that no rule
// with a key hit says (null).
func (x *facts) key(f record.Field) {
	v := x.decoded(f)
	for len(v) > 0 {
		k := v
		if i := bytes.IndexByte(v, 1); i >= 0 && f.Quote == 0 {
			k, v = v[:i:i], v[i+1:]
		} else {
			v = nil
		}
		if len(k) > 0 {
			x.keys = append(x.keys, k)
		}
	}
}

func (x *facts) subject(v []byte) {
	if x.want.has(wantAVC) {
		x.avcs = append(x.avcs, avc{subject: textOf(v)})
	}
}

func (x *facts) object(v []byte) {
	if x.want.has(wantAVC) {
		x.avcs = append(x.avcs, avc{object: textOf(v)})
	}
}

// id is a user's id as the stock tool prints it: signed, so that the id of
// nobody in particular (4294967295) is -1.
func id(v []byte, to *int64) {
	if n, ok := record.Decimal(v); ok {
		*to = int64(int32(uint32(n)))
	}
}

func (x *facts) sess(v []byte) {
	if n, ok := record.Decimal(v); ok {
		x.session = uint32(n)
	}
}

func (x *facts) process(v []byte) {
	if n, ok := record.Decimal(v); ok {
		x.pid = int64(int32(n))
	}
}

func (x *facts) number32(v []byte, to *int32) bool {
	n, ok := record.Decimal(v)
	if ok {
		*to = int32(n)
	}
	return ok
}

// flag is res=1 or res=0, as the kernel writes it. Other numbers are neither, and
// a word is read as 0.
func (x *facts) flag(v []byte) {
	switch n, ok := record.Decimal(v); {
	case !ok || n == 0:
		x.outcome = failed
	case n == 1:
		x.outcome = succeeded
	default:
		x.outcome = unknown
	}
}

// word is res=failed or res=success, as programs write it: what does not start
// with failed has not.
func (x *facts) word(v []byte) {
	x.outcome = succeeded
	if bytes.HasPrefix(v, []byte("failed")) {
		x.outcome = failed
	}
}

func hex32(v []byte) (uint32, bool) {
	n, err := strconv.ParseUint(string(v), 16, 32)
	return uint32(n), err == nil
}
