package report

import (
	"bytes"
	"net/netip"
	"strconv"

	"github.com/auditfleet/auditfleet/pkg/record"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// readSyscall reads a system call and the task that made it.
func (x *facts) readSyscall(r *record.Record) {
	left := x.want&(wantPID|wantAUID|wantUID|wantTerm|wantSession|wantComm|wantExe|wantAVC|wantArch) | wantCall
	fields := r.Fields()
	for f, ok := fields.Next(); ok; f, ok = fields.Next() {
		switch string(f.Name) {
		case "arch":
			if n, ok := hex32(f.Value); ok && left.has(wantArch) {
				x.arch = n
			}
		case "syscall":
			x.hasCall = x.number32(f.Value, &x.call) || x.hasCall
		case "success":
			x.outcome = failed
			if string(f.Value) == "yes" {
				x.outcome = succeeded
			}
		case "key":
			if x.want.has(wantKey) {
				x.key(f)
			}
		default:
			x.task(f)
		}
	}
}

// readTask reads a record of a task and a result.
func (x *facts) readTask(r *record.Record) {
	fields := r.Fields()
	for f, ok := fields.Next(); ok; f, ok = fields.Next() {
		if string(f.Name) == "res" {
			x.flag(f.Value)
			continue
		}
		x.task(f)
	}
}

// task reads one property of a task.
func (x *facts) task(f record.Field) {
	switch string(f.Name) {
	case "pid":
		x.process(f.Value)
	case "auid", "loginuid":
		x.login(f.Value)
	case "uid":
		x.user(f.Value)
	case "tty":
		x.terminal(f.Value)
	case "ses":
		x.sess(f.Value)
	case "comm":
		x.command(f)
	case "exe":
		x.program(f)
	case "subj":
		x.subject(f.Value)
	}
}

func (x *facts) login(v []byte) {
	if x.want.has(wantAUID) {
		id(v, &x.auid)
	}
}

func (x *facts) user(v []byte) {
	if x.want.has(wantUID) {
		id(v, &x.uid)
		x.uidRead = true
	}
}

func (x *facts) terminal(v []byte) {
	if x.want.has(wantTerm) {
		x.term = textOf(v)
	}
}

func (x *facts) hostname(v []byte) {
	if x.want.has(wantHost) {
		x.host = textOf(v)
	}
}

func (x *facts) command(f record.Field) {
	if x.want.has(wantComm) {
		x.comm = textOf(x.decoded(f))
	}
}

func (x *facts) program(f record.Field) {
	if x.want.has(wantExe) {
		x.exe = textOf(x.decoded(f))
	}
}

// readCWD keeps the first working directory.
func (x *facts) readCWD(r *record.Record) {
	if !x.want.has(wantFile) || x.cwd.ok {
		return
	}
	if f, ok := r.Get("cwd"); ok {
		x.cwd = textOf(x.decoded(f))
	}
}

// readPath reads a file's name, whether it is that of the parent directory, and
// the file's context.
func (x *facts) readPath(r *record.Record) {
	if !x.want.has(wantFile | wantAVC) {
		return
	}
	fields := r.Fields()
	for f, ok := fields.Next(); ok; f, ok = fields.Next() {
		switch string(f.Name) {
		case "name":
			if x.want.has(wantFile) {
				x.file(f, endsInParent(r.Body))
			}
		case "obj":
			x.object(f.Value)
		}
	}
}

// endsInParent says whether nametype=PARENT, objtype=PARENT in older kernels, is
// the last of a PATH record. Newer kernels write capabilities behind it, and then
// the stock tool does not know the directory for what it is.
func endsInParent(body []byte) bool {
	return bytes.HasSuffix(body, []byte("type=PARENT"))
}

func (x *facts) readAVCPath(r *record.Record) {
	if !x.want.has(wantFile) {
		return
	}
	if f, ok := r.Get("path"); ok {
		x.file(f, false)
	}
}

func (x *facts) readObj(r *record.Record) {
	if !x.want.has(wantAVC) {
		return
	}
	if f, ok := r.Get("obj"); ok {
		x.object(f.Value)
	}
}

func (x *facts) readPacket(r *record.Record) {
	if f, ok := r.Get("saddr"); ok {
		x.hostname(f.Value)
	}
	x.readObj(r)
}

// readAnom reads the kernel's short records about a task.
func (x *facts) readAnom(r *record.Record) {
	fields := r.Fields()
	for f, ok := fields.Next(); ok; f, ok = fields.Next() {
		switch name := string(f.Name); {
		case name == "auid", name == "uid", name == "ses":
			x.task(f)
		case r.Type == tables.AnomPromiscuous:
		case name == "arch":
			if n, ok := hex32(f.Value); ok && r.Type == tables.Seccomp {
				x.arch = n
			}
		case name == "syscall":
			if r.Type == tables.Seccomp {
				x.hasCall = x.number32(f.Value, &x.call) || x.hasCall
			}
		case name == "res":
			x.flag(f.Value)
		case name == "pid", name == "comm", name == "exe", name == "subj":
			x.task(f)
		}
	}
}

// readIntegrity reads what IMA and IPE measured or refused.
func (x *facts) readIntegrity(r *record.Record) {
	fields := r.Fields()
	for f, ok := fields.Next(); ok; f, ok = fields.Next() {
		switch string(f.Name) {
		case "pid", "uid", "auid", "ses", "subj", "comm":
			x.task(f)
		case "name":
			if x.want.has(wantFile) {
				x.file(f, false)
			}
		case "res":
			x.flag(f.Value)
		}
	}
}

func (x *facts) readTTY(r *record.Record) {
	fields := r.Fields()
	for f, ok := fields.Next(); ok; f, ok = fields.Next() {
		switch string(f.Name) {
		case "pid", "uid", "auid", "ses", "comm":
			x.task(f)
		}
	}
}

// readKernel reads a record that sets only what no record before it has, and
// stands for the kernel itself where it names no task.
func (x *facts) readKernel(r *record.Record) {
	before := facts{pid: x.pid, uid: x.uid, uidRead: x.uidRead, auid: x.auid, term: x.term, session: x.session, comm: x.comm, exe: x.exe}
	hasAVC := len(x.avcs) > 0
	x.pid, x.uid, x.auid, x.session = noID, noID, noAUID, noSess
	x.term, x.comm, x.exe = text{}, text{}, text{}
	fields := r.Fields()
	for f, ok := fields.Next(); ok; f, ok = fields.Next() {
		switch string(f.Name) {
		case "res":
			x.flag(f.Value)
		case "subj":
			if !hasAVC {
				x.subject(f.Value)
			}
		default:
			x.task(f)
		}
	}
	if before.pid != noID {
		x.pid = before.pid
	}
	switch {
	case before.uidRead:
		x.uid = before.uid
	case x.uid == noID && x.want.has(wantUID):
		x.uid = 0
	}
	switch {
	case before.auid != noAUID:
		x.auid = before.auid
	case x.auid == noAUID && x.want.has(wantAUID):
		x.auid = unsetID
	}
	if before.session != noSess {
		x.session = before.session
	} else if x.session == noSess && x.want.has(wantSession) {
		x.session = 1<<32 - 1
	}
	x.term = x.orElse(before.term, x.term, wantTerm, "(none)")
	x.exe = x.orElse(before.exe, x.exe, wantExe, "(null)")
	if before.comm.ok {
		x.comm = before.comm
	}
}

// orElse is the first of two texts that is there, else a literal where wanted.
func (x *facts) orElse(a, b text, want wanted, literal string) text {
	switch {
	case a.ok:
		return a
	case b.ok || !x.want.has(want):
		return b
	}
	return textOf(x.literal(literal))
}

func (x *facts) literal(s string) []byte {
	start := len(x.text)
	x.text = append(x.text, s...)
	return x.text[start:len(x.text):len(x.text)]
}

// Address families of saddr=, as Linux numbers them, and the sizes of their
// addresses.
const (
	familyUnix    = 1
	familyInet    = 2
	familyInet6   = 10
	sockaddrInet  = 16
	sockaddrInet6 = 28
)

// readSockaddr reads a socket address: a path is a file, an IP address a host.
// Whatever it is, it takes the place of a host named before.
func (x *facts) readSockaddr(r *record.Record) {
	if !x.want.has(wantHost | wantFile) {
		return
	}
	f, ok := r.Get("saddr")
	if !ok {
		return
	}
	x.host = text{}
	start := len(x.text)
	x.text = f.AppendDecoded(x.text)
	b := x.text[start:len(x.text):len(x.text)]
	if f.Quote != 0 || len(b) < 4 || len(b) == len(f.Value) {
		return
	}
	switch family := int(b[0]) | int(b[1]); {
	case family == familyUnix && x.want.has(wantFile):
		path := b[2:]
		if path[0] == 0 {
			path = path[1:]
		}
		if i := bytes.IndexByte(path, 0); i >= 0 {
			path = path[:i:i]
		}
		x.files = append(x.files, file{name: path})
	case family == familyInet && len(b) >= sockaddrInet:
		x.address(netip.AddrFrom4([4]byte(b[4:8])), 0)
	case family == familyInet6 && len(b) >= sockaddrInet6:
		x.address(netip.AddrFrom16([16]byte(b[8:24])), uint32(b[24])|uint32(b[25])<<8|uint32(b[26])<<16|uint32(b[27])<<24)
	}
}

func (x *facts) address(a netip.Addr, scope uint32) {
	start := len(x.text)
	x.text = a.AppendTo(x.text)
	if scope != 0 && a.Is6() {
		x.text = strconv.AppendUint(append(x.text, '%'), uint64(scope), 10)
	}
	x.hostname(x.text[start:len(x.text):len(x.text)])
}
