package query

import (
	"bytes"
	"net/netip"
	"strconv"

	"github.com/auditfleet/auditfleet/pkg/record"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// user reads what a program sent: the kernel's words about the sender, then the
// program's own. The program's uid= stands for the sender's: the stock tool
// takes it to be the user that a login is about.
func (x *Extractor) user(c Class, r *record.Record) {
	it := &x.it
	var seen FieldSet // of claims
	fields := r.Fields()
	for f, ok := fields.Next(); ok; f, ok = fields.Next() {
		switch string(f.Name) {
		case "pid", "uid", "auid", "loginuid", "ses", "subj":
			x.sender(f)
		default:
			x.claim(c, r.Type, f, &seen)
		}
	}
	fields = r.MsgFields()
	var host, addr []byte
	for f, ok := fields.Next(); ok; f, ok = fields.Next() {
		switch string(f.Name) {
		case "hostname":
			it.odd = it.odd || len(f.Value) == 0 // no other value, but stores have the mark
			if host == nil {
				host = f.Value
			}
		case "addr":
			it.odd = it.odd || len(f.Value) == 0
			if addr == nil {
				addr = f.Value
			}
		default:
			x.claim(c, r.Type, f, &seen)
		}
	}
	if host != nil {
		if string(host) == "?" && addr != nil {
			host = addr
		}
		it.str(FieldHost, host)
	}
}

// sender reads a field of the kernel's words about who sent a record.
func (x *Extractor) sender(f record.Field) {
	it := &x.it
	switch string(f.Name) {
	case "pid":
		it.number(FieldPID, f)
	case "uid":
		it.id(FieldUID, f)
	case "auid", "loginuid":
		it.id(FieldAUID, f)
	case "ses":
		it.id(FieldSession, f)
	case "subj":
		x.subject(f.Value)
	default:
		x.unread(f)
	}
}

// claim reads a field of a program's own words. seen are those of the record so
// far of which the reports take the first.
func (x *Extractor) claim(c Class, typ uint16, f record.Field, seen *FieldSet) {
	it := &x.it
	switch string(f.Name) {
	case "uid":
		it.id(FieldUID, f)
	case "id":
		if aboutGroup(typ) {
			it.id(FieldGID, f)
		}
	case "gid":
		if typ == tables.GrpMgmt && !it.set.Has(FieldGID) {
			it.id(FieldGID, f)
		} else {
			x.unread(f)
		}
	case "acct":
		if !x.report || !seen.again(FieldAcct) {
			it.str(FieldAcct, x.decoded(f))
		}
	case "comm":
		if !x.differs(seen.again(FieldComm)) {
			it.str(FieldComm, x.decoded(f))
		}
	case "exe":
		if !x.differs(seen.again(FieldExe)) {
			it.str(FieldExe, x.decoded(f))
		}
	case "terminal":
		if !x.differs(seen.again(FieldTerminal)) {
			it.str(FieldTerminal, f.Value)
		}
	case "cwd":
		if !x.differs(seen.again(FieldFile)) {
			x.cwd(f)
		}
	case "vm":
		it.str(FieldVM, x.decoded(f))
	case "uuid":
		v := f.Value
		if i := bytes.IndexByte(v, ':'); i >= 0 {
			v = v[:i]
		}
		it.str(FieldUUID, v)
	case "vm-ctx":
		if typ == tables.VirtMachineID {
			x.subject(f.Value)
		}
	case "img-ctx":
		if typ == tables.VirtMachineID {
			x.object(f.Value)
		}
	case "path", "new-disk":
		if typ == tables.VirtResource {
			x.file(f, false)
		}
	case "tcontext":
		if c == ClassUserAVC {
			it.objects = append(it.objects, f.Value)
		}
	case "res":
		// Programs write failed or success. The stock tool takes all else for
		// success, 0 included.
		if !x.differs(seen.again(FieldSuccess)) {
			it.num(FieldSuccess, int64(b2i(!bytes.HasPrefix(f.Value, []byte("failed")))))
		}
	case "result":
		if !x.differs(seen.again(FieldSuccess)) {
			it.num(FieldSuccess, int64(b2i(bytes.EqualFold(f.Value, []byte("success")))))
		}
	default:
		x.unread(f)
	}
}

// aboutGroup says whether id= of a program's record is a group's.
func aboutGroup(typ uint16) bool {
	return typ == tables.AddGroup || typ == tables.DelGroup || typ == tables.GrpMgmt
}

// avc reads a kernel security module's decision.
func (x *Extractor) avc(r *record.Record) {
	it := &x.it
	var d Decision
	x.decide(&d, r.Body)
	files := len(it.files)
	var name record.Field
	hasName, hasPath := false, false
	fields := r.Fields()
	for f, ok := fields.Next(); ok; f, ok = fields.Next() {
		switch string(f.Name) {
		case "pid":
			it.number(FieldPID, f)
		case "comm":
			if !it.set.Has(FieldComm) {
				it.str(FieldComm, x.decoded(f))
			} else {
				x.unread(f)
			}
		case "path":
			if !hasPath {
				x.file(f, false)
				hasPath = true
			}
		case "name":
			if !hasName {
				name, hasName = f, true
			}
		case "scontext":
			it.subjects = append(it.subjects, f.Value)
			d.Subject = textOf(f.Value)
		case "tcontext":
			it.objects = append(it.objects, f.Value)
			d.Object = textOf(f.Value)
		case "tclass":
			d.Class = textOf(f.Value)
		default:
			x.apparmor(&d, f)
			x.unread(f)
		}
	}
	if hasName && len(it.files) == files {
		x.file(name, false)
	}
	if x.decisions {
		it.decisions = append(it.decisions, d)
	}
}

// login reads LOGIN: "old auid=… new auid=…" until Linux 3.13, "old-auid=…
// auid=…" since.
func (x *Extractor) login(r *record.Record) {
	it := &x.it
	it.num(FieldSuccess, 1) // old kernels say nothing: it was always set
	fields := r.Fields()
	for f, ok := fields.Next(); ok; f, ok = fields.Next() {
		switch string(f.Name) {
		case "res":
			it.result(f)
		default: // of the login uids the new one comes last
			x.sender(f)
		}
	}
}

// daemon reads an audit daemon's records about itself and its clients.
func (x *Extractor) daemon(c Class, r *record.Record) {
	it := &x.it
	fields := r.Fields()
	for f, ok := fields.Next(); ok; f, ok = fields.Next() {
		switch string(f.Name) {
		case "res":
			it.num(FieldSuccess, int64(b2i(!bytes.HasPrefix(f.Value, []byte("failed")))))
		case "addr":
			if c == ClassPeer {
				it.str(FieldHost, withoutPort(f.Value))
			}
		case "pid", "uid", "auid", "ses", "subj":
			if c != ClassPeer {
				x.sender(f)
			} else {
				x.unread(f)
			}
		default:
			x.unread(f)
		}
	}
}

// withoutPort cuts the port off 192.0.2.1:60; an IPv6 address stays whole.
func withoutPort(v []byte) []byte {
	if i := bytes.IndexByte(v, ':'); i >= 0 && bytes.IndexByte(v[i+1:], ':') < 0 {
		return v[:i]
	}
	return v
}

// config reads CONFIG_CHANGE and the records of label and policy changes.
func (x *Extractor) config(c Class, r *record.Record) {
	it := &x.it
	if c == ClassConfig {
		it.num(FieldSuccess, 1) // unless res= says otherwise
	}
	fields := r.Fields()
	for f, ok := fields.Next(); ok; f, ok = fields.Next() {
		switch string(f.Name) {
		case "auid", "ses", "subj":
			x.sender(f)
		case "key":
			x.key(f)
		case "path":
			if c == ClassConfig {
				x.file(f, false)
			}
		case "res":
			it.result(f)
		default:
			x.unread(f)
		}
	}
}

// kernel reads NETFILTER_CFG and EVENT_LISTENER, which set only what no record
// before them has, and stand for the kernel itself where they name no task.
func (x *Extractor) kernel(r *record.Record, need FieldSet) {
	it := &x.it
	had, noUID := it.set, false
	subject := len(it.subjects)+len(it.objects) == 0
	if x.report {
		had &^= it.noIDs(SetOf(FieldPID, FieldAUID, FieldSession))
		subject = len(it.decisions) == 0
	}
	fields := r.Fields()
	for f, ok := fields.Next(); ok; f, ok = fields.Next() {
		switch string(f.Name) {
		case "pid":
			if !had.Has(FieldPID) {
				it.number(FieldPID, f)
				continue
			}
		case "uid":
			if !had.Has(FieldUID) {
				it.id(FieldUID, f)
				noUID = !it.set.Has(FieldUID) // it says that it does not know: not root
				continue
			}
		case "auid":
			if !had.Has(FieldAUID) {
				it.id(FieldAUID, f)
				continue
			}
		case "ses":
			if !had.Has(FieldSession) {
				it.id(FieldSession, f)
				continue
			}
		case "tty":
			if !had.Has(FieldTerminal) {
				it.str(FieldTerminal, f.Value)
			}
		case "comm":
			if !had.Has(FieldComm) {
				it.str(FieldComm, x.decoded(f))
				continue
			}
		case "exe":
			if !had.Has(FieldExe) {
				it.str(FieldExe, x.decoded(f))
				continue
			}
		case "subj":
			if subject {
				x.subject(f.Value)
				continue
			}
		case "res":
			it.result(f)
		case "loginuid":
			if x.differs(true) && !had.Has(FieldAUID) {
				it.id(FieldAUID, f)
			}
		}
		x.unread(f)
	}
	if x.differs(it.noIDs(SetOf(FieldPID, FieldAUID)) != 0) {
		it.set &^= it.noIDs(SetOf(FieldAUID))
	}
	if x.report {
		it.set &^= it.noIDs(SetOf(FieldSession) | SetOf(FieldUID)&^had)
	}
	x.kernelDefaults(noUID)
	if need&nameFields != 0 && had&(1<<FieldUID|1<<FieldAUID) == 0 {
		x.names(supplies[ClassKernel]&nameFields, r)
	}
}

func (x *Extractor) kernelDefaults(noUID bool) {
	it := &x.it
	if !it.set.Has(FieldUID) && !noUID {
		it.num(FieldUID, 0)
	}
	for _, f := range [...]Field{FieldAUID, FieldSession} {
		if !it.set.Has(f) {
			it.num(f, UnsetID)
		}
	}
	if !it.set.Has(FieldTerminal) {
		it.str(FieldTerminal, x.literal("(none)"))
	}
	if !it.set.Has(FieldExe) {
		it.str(FieldExe, x.literal(noExe))
	}
}

func (x *Extractor) literal(s string) []byte {
	start := len(x.text)
	x.text = append(x.text, s...)
	return x.text[start:len(x.text):len(x.text)]
}

// UnsetID is the value of a login uid or a session that was never set: -1 as an unsigned
// number of 32 bits.
const UnsetID = 4294967295

const noExe = "(null)"

// Address families of saddr=, as Linux numbers them.
const (
	familyUnix  = 1
	familyInet  = 2
	familyInet6 = 10
)

// sockaddr reads a socket address: a path is a file name, an IP address a host.
// The family is in the byte order of the machine that wrote it; 16 bits with one
// zero byte are read either way.
func (x *Extractor) sockaddr(f record.Field) {
	it := &x.it
	it.unset(FieldHost)
	b := x.bytes(f)
	if f.Quote != 0 || len(b) < 4 || 2*len(b) != len(f.Value) {
		return
	}
	switch int(b[0]) | int(b[1]) {
	case familyUnix:
		path := b[2:]
		if path[0] == 0 {
			path = path[1:]
		}
		x.addFile(cString(path), false)
	case familyInet:
		if len(b) >= 8 && !x.differs(len(b) < 16) {
			x.address(netip.AddrFrom4([4]byte(b[4:8])), 0)
		}
	case familyInet6:
		if len(b) >= 24 && !x.differs(len(b) < 28) {
			var scope uint32
			if len(b) >= 28 {
				scope = uint32(b[24]) | uint32(b[25])<<8 | uint32(b[26])<<16 | uint32(b[27])<<24
			}
			x.address(netip.AddrFrom16([16]byte(b[8:24])), scope)
		}
	}
}

func (x *Extractor) address(a netip.Addr, scope uint32) {
	start := len(x.text)
	x.text = a.AppendTo(x.text)
	if scope != 0 && a.Is6() {
		x.text = strconv.AppendUint(append(x.text, '%'), uint64(scope), 10)
	}
	x.it.str(FieldHost, x.text[start:len(x.text):len(x.text)])
}
