package query

import (
	"bytes"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/record"
)

// aureport and ausearch read a few events differently: where a program's message has
// comm= twice, say, ausearch finds the last value and aureport shows the first. The
// Extractor reads for both. The index holds what a search reads, and summaries of
// reports are added up from the index; so an event for which the index would give a
// summary another value than aureport's is marked as odd (FieldOdd), and a summary
// reads that event instead.

// differs is called wherever aureport reads something else than ausearch when the
// condition odd holds. It marks the event as odd and returns whether the present
// reading is for a report. As there is no other way to learn that, a report cannot get
// a value that differs from the index's without the mark. Only values that no summary
// counts (an account) look at x.report directly and leave no mark.
func (x *Extractor) differs(odd bool) bool {
	x.it.odd = x.it.odd || odd
	return odd && x.report
}

// Report reads an event as aureport does. Until the next event is read, Text, Number,
// Keys, Files and Decisions return its values. Only the fields in need are certain to be
// read.
func (x *Extractor) Report(ev *event.Event, need FieldSet) {
	x.report, x.decisions = true, need.Has(FieldSubject)
	x.it.reported, x.it.decisions = x.it.reported[:0], x.it.decisions[:0]
	x.read(ev, need)
	x.report, x.decisions = false, false
}

// Text is a string that may be absent; an absent string differs from an empty one.
type Text struct {
	B  []byte
	OK bool
}

func textOf(b []byte) Text { return Text{b, true} }

// Text returns the value of a field that is one string, such as FieldHost or FieldExe.
func (x *Extractor) Text(f Field) Text {
	if !x.it.set.Has(f) {
		return Text{}
	}
	return textOf(x.it.strs[f])
}

// Number returns the value of a numeric field, and whether there is one. FieldSuccess
// is 1 or 0, FieldArch an AUDIT_ARCH_* number.
func (x *Extractor) Number(f Field) (n int64, ok bool) { return x.it.nums[f], x.it.set.Has(f) }

// Keys returns the keys of the rules that logged the event, in order.
func (x *Extractor) Keys() [][]byte { return x.it.keys }

// File is a file that an event names.
type File struct {
	Name   []byte
	Parent bool // its record ends in nametype=PARENT: it is the directory of another
}

// Files returns the files that Report read, in the order of the records.
func (x *Extractor) Files() []File { return x.it.reported }

// A Decision is a row of aureport's list of decisions: the decision of a security module,
// or the one security context that another record of the event adds to the list.
type Decision struct {
	Subject, Object, Class, Perm Text
	Result                       Result
}

// Result is the result of a decision.
type Result uint8

// Results.
const (
	Undecided Result = iota
	Denied
	Granted
)

// String returns the result in the words of the reports.
func (r Result) String() string { return [...]string{"unset", "denied", "granted"}[r] }

// Decisions returns the rows that Report read, in the order of the records. need must
// have contained FieldSubject.
func (x *Extractor) Decisions() []Decision { return x.it.decisions }

// subject adds the security context of who did something.
func (x *Extractor) subject(v []byte) {
	x.it.subjects = append(x.it.subjects, v)
	if x.decisions {
		x.it.decisions = append(x.it.decisions, Decision{Subject: textOf(v)})
	}
}

// object adds the security context of what it was done to.
func (x *Extractor) object(v []byte) {
	x.it.objects = append(x.it.objects, v)
	if x.decisions {
		x.it.decisions = append(x.it.decisions, Decision{Object: textOf(v)})
	}
}

// userAVC reads the decision of an object manager in user space. Its subject is the
// manager.
func (x *Extractor) userAVC(r *record.Record) {
	var d Decision
	x.decide(&d, r.Body)
	before := len(x.it.decisions)
	x.user(ClassUserAVC, r)
	if !x.decisions {
		return
	}
	if f, ok := r.Get("subj"); ok {
		d.Subject = textOf(f.Value)
	}
	fields := r.MsgFields()
	for f, ok := fields.Next(); ok; f, ok = fields.Next() {
		switch {
		case string(f.Name) == "tcontext" && !d.Object.OK:
			d.Object = textOf(f.Value)
		case string(f.Name) == "tclass" && !d.Class.OK:
			d.Class = textOf(f.Value)
		}
	}
	x.it.decisions = append(x.it.decisions[:before], d) // its subject is not one apart
}

// decide reads "avc:  denied  { read } for …", which has no name.
func (x *Extractor) decide(d *Decision, body []byte) {
	i := bytes.Index(body, []byte("avc: "))
	if i < 0 {
		return
	}
	body = body[i:]
	brace := bytes.IndexByte(body, '{')
	if brace < 0 {
		return
	}
	x.decided(d, bytes.Contains(body[:brace], []byte("denied")))
	perm := bytes.TrimLeft(body[brace+1:], " ")
	if end := bytes.IndexByte(perm, '}'); end >= 0 {
		d.Perm = textOf(bytes.TrimRight(perm[:end], " "))
	}
}

// decided notes a decision. It is the event's result, too, where no record before has said
// one, and until a record behind it says one: whether a call succeeded is the call's to say,
// and of several decisions the first counts.
func (x *Extractor) decided(d *Decision, denied bool) {
	d.Result = Granted
	if denied {
		d.Result = Denied
	}
	if !x.it.set.Has(FieldSuccess) && !x.it.neither {
		x.it.num(FieldSuccess, int64(b2i(!denied)))
	}
}

// apparmor reads what stands for SELinux's words in a record of AppArmor. A search
// takes the result only.
func (x *Extractor) apparmor(d *Decision, f record.Field) {
	switch string(f.Name) {
	case "apparmor":
		switch string(f.Value) {
		case "DENIED":
			x.decided(d, true)
		case "ALLOWED", "AUDIT":
			x.decided(d, false)
		}
	case "profile":
		d.Subject = textOf(f.Value)
	case "class":
		d.Class = textOf(f.Value)
	case "denied_mask", "requested_mask":
		if !d.Perm.OK || string(f.Name) == "denied_mask" {
			d.Perm = textOf(f.Value)
		}
	}
}

// endsInParent says whether nametype=PARENT, objtype=PARENT in older kernels, is
// the last of a PATH record. Newer kernels write capabilities behind it, and then
// the stock tool does not know the directory for what it is.
func endsInParent(body []byte) bool { return bytes.HasSuffix(body, []byte("type=PARENT")) }

// noIDs are those of some ids that are set to what aureport takes for none.
func (it *items) noIDs(of FieldSet) (none FieldSet) {
	for _, id := range [...]struct {
		f Field
		n int32
	}{{FieldPID, -1}, {FieldUID, -1}, {FieldAUID, -2}, {FieldSession, -2}} {
		if of.Has(id.f) && it.set.Has(id.f) && int32(it.nums[id.f]) == id.n {
			none |= 1 << id.f
		}
	}
	return none
}
