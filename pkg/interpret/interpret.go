package interpret

import (
	"bytes"
	"strconv"

	"github.com/auditfleet/auditfleet/pkg/record"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// Config holds what the interpretation depends on besides the record.
type Config struct {
	Names  Names // translates ids; nil leaves them as numbers
	Escape Escape
}

// An Interpreter interprets records. It keeps buffers between records, so only one
// goroutine may use it.
type Interpreter struct {
	names   Names
	fleet   fleet  // chooses the names by host, nil when there is one host
	refresh func() // looks for changed accounts, nil when there is none
	escape  Escape
	machine uint32 // AUDIT_ARCH_* of records that do not say
	bodies  uint
	path    []byte         // scratch of AppendPath
	tail    []record.Field // fields of the enriched tail of the record that AppendBody writes
}

// refreshEvery is the number of printed records after which the Interpreter checks again
// whether the accounts have changed. Unlike the writer of a log, a reader does not have
// to check for each record.
const refreshEvery = 256

// New returns an Interpreter for cfg.
func New(cfg Config) *Interpreter {
	in := &Interpreter{names: cfg.Names, escape: cfg.Escape, machine: tables.MachineArch()}
	in.fleet, _ = cfg.Names.(fleet)
	if r, ok := cfg.Names.(interface{ Refresh() }); ok {
		in.refresh = r.Refresh
	}
	return in
}

// fleet is a Names that has names for each host.
type fleet interface {
	Of(node []byte) Names
}

// Host has the ids of the records that follow named as those of the host called node. A
// caller whose Names are a Fleet must call it for every event. It returns the names.
func (in *Interpreter) Host(node []byte) Names {
	if in.fleet != nil {
		in.names = in.fleet.Of(node)
	}
	return in.names
}

// call holds what the preceding fields of a record said about its system call, and the
// record's enriched tail where that was read for all of its fields at once.
type call struct {
	arch   uint32
	known  bool // the record is of a system call
	walked bool // tail has all of the enriched tail's fields
	nr     int
	name   string         // "" until its number was seen
	tail   []record.Field // in the Interpreter's room, until the next record
}

// AppendBody appends the interpreted body of r to dst, in the form that a line of
// ausearch -i has after "msg=audit(…) : ": the value of every field, followed by one
// space. Text after the last field is omitted, except after a comma and where the body
// has no field at all; then the appended text ends in a newline.
func (in *Interpreter) AppendBody(dst []byte, r *record.Record) []byte {
	in.Refresh()
	s := scanner{rest: r.Body}
	c := in.callOf(r)
	in.walkTail(r, &c)
	for s.next() {
		dst = append(append(dst, s.before...), '=')
		if s.isMsg {
			continue
		}
		dst = in.appendField(dst, r, &c, &s)
	}
	if s.fields == 0 || s.comma {
		from := len(dst)
		return append(escapeFrom(append(dst, s.rest...), from, in.escape, false), '\n')
	}
	return dst
}

func (in *Interpreter) callOf(r *record.Record) call {
	return call{arch: in.machine, known: r.Type == tables.Syscall || r.Type == tables.Seccomp, nr: -1}
}

// appendField appends one value and what stands behind it.
func (in *Interpreter) appendField(dst []byte, r *record.Record, c *call, s *scanner) []byte {
	kind := KindOf(r.Type, s.name)
	if r.Type == tables.TrustedApp {
		kind = kindOfValue(r.Type, s.name, s.value)
	}
	if kind == Account && r.Type != tables.Execve && !isHexOrQuoted(s.value) {
		kind, s.value = Plain, bytes.TrimSuffix(s.value, []byte(":"))
	}
	if kind == Plain {
		dst = append(dst, s.value...)
		if s.comma {
			return append(dst, ',')
		}
		return append(dst, ' ')
	}
	from := len(dst)
	dst = in.appendValue(dst, r, c, kind, s.name, s.value)
	switch kind {
	case Key:
		return appendKeys(dst, from)
	case TTYData:
		return dst
	}
	return append(dst, ' ')
}

// appendKeys turns the \x01 between keys that were appended since from into
// " key=", and ends them with a space.
func appendKeys(dst []byte, from int) []byte {
	const between = " key="
	n := bytes.Count(dst[from:], []byte{1})
	read := len(dst) - 1
	for range n * (len(between) - 1) {
		dst = append(dst, 0)
	}
	for write := len(dst) - 1; write > read; read-- {
		if dst[read] != 1 {
			dst[write] = dst[read]
			write--
			continue
		}
		write -= len(between)
		copy(dst[write+1:], between)
	}
	return append(dst, ' ')
}

// Refresh checks from time to time whether the accounts have changed. A caller that uses
// AppendRaw must call it for every event.
func (in *Interpreter) Refresh() {
	if in.refresh != nil && in.bodies%refreshEvery == 0 {
		in.refresh()
	}
	in.bodies++
}

// AppendRaw appends to dst the interpretation of a field of r. name is the field's name,
// v its value with the quotes that it has in r. Several keys are separated by \x01.
func (in *Interpreter) AppendRaw(dst []byte, r *record.Record, name, v []byte) []byte {
	kind := kindOfValue(r.Type, name, v)
	if kind == Plain {
		if r.Enriched != nil {
			var c call
			if said, ok := c.tailValue(r, name); ok && !unknownTo(said) {
				return appendSaid(dst, kind, said)
			}
		}
		from := len(dst)
		return escapeFrom(append(dst, v...), from, in.escape, false)
	}
	c := in.callOf(r)
	switch kind {
	case SyscallNr, Arg0, Arg1, Arg2, Arg3:
		if c.known {
			in.learn(r, &c)
		}
	}
	return in.appendValue(dst, r, &c, kind, name, v)
}

// kindOfValue is KindOf where the value has a say.
func kindOfValue(typ uint16, name, v []byte) Kind {
	kind := KindOf(typ, name)
	switch {
	case kind == Account && !isHexOrQuoted(v):
		return Plain
	case typ == tables.TrustedApp && kind == Plain && (len(v) > 0 && v[0] == '"' || isHexOrQuoted(v) && !isDecimal(v)):
		return Escaped
	}
	return kind
}

func isDecimal(v []byte) bool {
	for _, c := range v {
		if c-'0' > 9 {
			return false
		}
	}
	return true
}

// AppendValue appends to dst the interpretation of one field of r, own or nested. Several
// keys are separated by \x01, as in the record.
func (in *Interpreter) AppendValue(dst []byte, r *record.Record, f record.Field) []byte {
	c := in.callOf(r)
	kind := KindOf(r.Type, f.Name)
	if f.Quote != 0 {
		switch kind {
		case Escaped, Account, Key, Proctitle:
			from := len(dst)
			return escapeFrom(append(dst, f.Value...), from, in.escape, kind == Key)
		}
	}
	if kind == Plain || kind == Account && !isHexOrQuoted(f.Value) {
		return append(dst, f.Value...)
	}
	if c.known && kind != Arch {
		in.learn(r, &c)
	}
	return in.appendValue(dst, r, &c, kind, f.Name, f.Value)
}

// learn sets c to what all of r says.
func (in *Interpreter) learn(r *record.Record, c *call) {
	if f, ok := r.Get("arch"); ok {
		if n, ok := number(f.Value, 16); ok {
			c.arch = uint32(n)
		}
	}
	if f, ok := r.Get("syscall"); ok {
		if n, ok := number(f.Value, 10); ok {
			c.nr = int(int32(n))
			c.name, _ = tables.SyscallName(c.arch, c.nr)
		}
	}
}

// appendValue appends v, escaped; what the enriched tail says comes first.
func (in *Interpreter) appendValue(dst []byte, r *record.Record, c *call, kind Kind, name, v []byte) []byte {
	from := len(dst)
	if c.known {
		in.note(c, kind, v)
	}
	if r.Enriched != nil {
		if said, ok := c.tailValue(r, name); ok && !unknownTo(said) {
			return appendSaid(dst, kind, said)
		}
	}
	dst = in.appendKind(dst, r, c, kind, v)
	if kind == TTYData && string(dst[from:]) == noData {
		return dst
	}
	return escapeFrom(dst, from, in.escape, kind == Key)
}

// note keeps what later fields depend on.
func (in *Interpreter) note(c *call, kind Kind, v []byte) {
	switch kind {
	case Arch:
		if n, ok := number(v, 16); ok {
			c.arch = uint32(n)
		}
	case SyscallNr:
		if n, ok := number(v, 10); ok && c.nr < 0 {
			c.nr = int(int32(n))
			c.name, _ = tables.SyscallName(c.arch, c.nr)
		}
	}
}

// appendKind appends what v means.
func (in *Interpreter) appendKind(dst []byte, r *record.Record, c *call, kind Kind, v []byte) []byte {
	switch kind {
	case Escaped, Key:
		return appendUntrusted(dst, v)
	case Account:
		return appendUntrusted(dst, bytes.TrimSuffix(v, []byte(":")))
	case Proctitle:
		return appendProctitle(dst, v)
	case SockAddr:
		return appendSockAddr(dst, v)
	case TTYData:
		return appendTTY(dst, v)
	case Exit:
		return appendExit(dst, v)
	case SyscallNr:
		return in.appendSyscall(dst, r, c, v)
	case Arg0, Arg1, Arg2, Arg3:
		return in.appendArg(dst, r, c, int(kind-Arg0), v)
	case Session:
		if string(v) == "4294967295" {
			return append(dst, "unset"...)
		}
		return append(dst, v...)
	case Addr, Label:
		return append(dst, v...)
	case URingOp:
		if n, ok := number(v, 10); ok {
			if name, ok := tables.URingOpName(int(int32(n))); ok {
				return append(dst, name...)
			}
		}
		return append(dst, v...)
	case Trust:
		return append(dst, trusts.nameOf(v)...)
	case FanType:
		return append(dst, fanTypes.nameOf(v)...)
	case FanInfo:
		return appendFanInfo(dst, r, v)
	case OpenFlags:
		if n, ok := cNumber(v); ok {
			return appendOpenFlags(dst, n)
		}
		return appendConversion(dst, v)
	case Success, FanResponse:
		if len(v) == 0 || v[0]-'0' > 9 {
			return append(dst, v...)
		}
	}
	n, ok := number(v, bases[kind])
	if !ok {
		dst = appendConversion(dst, v)
		if kind == Arch {
			dst = append(dst, ' ')
		}
		return dst
	}
	return in.appendNumber(dst, kind, n, v)
}

// bases are those in which the kinds that are numbers are written.
var bases = [...]uint64{
	UserID: 10, GroupID: 10, Arch: 16, Perm: 10, Mode: 8, ModeShort: 8, MmapFlags: 16, PathFlags: 16, Promisc: 10,
	Capability: 10, CapMask: 16, Success: 10, Signal: 10, List: 10, NFProto: 10, ICMPType: 10, Protocol: 10,
	Personality: 16, SeccompCode: 16, NFHook: 16, NFAction: 16, MACProto: 16, IoctlReq: 16, NetlinkGrp: 16,
	Resolve: 16, FanResponse: 10,
}

// appendNumber appends the meaning of n, which was written v.
func (in *Interpreter) appendNumber(dst []byte, kind Kind, n uint64, v []byte) []byte {
	switch kind {
	case UserID, GroupID:
		return in.appendID(dst, kind, v)
	case Arch:
		if name, ok := tables.ArchName(uint32(n)); ok {
			return append(dst, name...)
		}
		return appendUnknown(dst, "elf-type", "", v)
	case Perm:
		return appendPerm(dst, n)
	case Mode:
		return appendMode(dst, n)
	case ModeShort:
		return appendModeShort(dst, n)
	case MmapFlags:
		return appendMmapFlags(dst, n, v)
	case PathFlags:
		return appendPathFlags(dst, n, v)
	case Promisc:
		return append(dst, yesNo(n != 0)...)
	case CapMask:
		return appendCapMask(dst, n)
	case Success:
		if n > 1 {
			return append(dst, "unset"...)
		}
		return append(dst, yesNo(n == 1)...)
	case Protocol:
		if name, ok := in.protocol(n); ok {
			return append(dst, name...)
		}
		return append(dst, "undefined protocol"...)
	case Personality:
		return appendPersonality(dst, n, v)
	case SeccompCode:
		return seccompActions.appendName(dst, n&0xffff0000, "seccomp-code", "", v)
	case MACProto:
		return append(dst, etherTypes.nameOr(n, "UNKNOWN")...)
	case IoctlReq:
		return appendIoctl(dst, n)
	case NetlinkGrp:
		return append(dst, netlinkGroups.nameOr(n, "audit-none")...)
	case Resolve:
		return appendFlagsOr(dst, resolveFlags, n, "", bytes.TrimPrefix(v, []byte("0x")))
	case FanResponse:
		return append(dst, fanResponses.nameOr(n, "unknown")...)
	}
	if t, ok := fieldTables[kind]; ok {
		return t.names.appendName(dst, n, t.what, "", v)
	}
	return append(dst, v...)
}

func yesNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}

// appendSyscall appends a system call's name, with the name of what it
// multiplexes.
func (in *Interpreter) appendSyscall(dst []byte, r *record.Record, c *call, v []byte) []byte {
	nr, name := c.nr, c.name
	if !c.known {
		n, ok := number(v, 10)
		if !ok {
			return append(dst, v...)
		}
		nr = int(int32(n))
		name, _ = tables.SyscallName(c.arch, nr)
	} else if _, ok := number(v, 10); !ok {
		return appendConversion(append(dst, "syscall "...), v)
	}
	if name == "" {
		dst = append(dst, "unknown-syscall("...)
		return append(strconv.AppendInt(dst, int64(nr), 10), ')')
	}
	dst = append(dst, name...)
	t := ipcCalls
	switch name {
	case "socketcall":
		t = socketCalls
	case "ipc":
	default:
		return dst
	}
	if a0, ok := argument(r, "a0"); ok {
		if sub, ok := t.lookup(a0); ok {
			dst = append(append(append(dst, '('), sub...), ')')
		}
	}
	return dst
}

// appendID appends a user or a group. What is no id is as it stands: it is nobody's.
func (in *Interpreter) appendID(dst []byte, kind Kind, v []byte) []byte {
	if n := len(v); n > 1 && v[0] == '"' && v[n-1] == '"' {
		v = v[1 : n-1]
	}
	id, ok := record.ID(v)
	switch {
	case !ok:
		return append(dst, v...)
	case kind == UserID:
		return in.appendUser(dst, id)
	}
	return in.appendGroup(dst, id)
}

func (in *Interpreter) appendUser(dst []byte, uid uint32) []byte {
	if in.names != nil {
		if name, ok := in.names.User(uid); ok && uid != unset {
			return append(dst, name...)
		}
	}
	return appendUnknownID(dst, uid)
}

func (in *Interpreter) appendGroup(dst []byte, gid uint32) []byte {
	if in.names != nil {
		if name, ok := in.names.Group(gid); ok && gid != unset {
			return append(dst, name...)
		}
	}
	return appendUnknownID(dst, gid)
}

const unset = 1<<32 - 1

func appendUnknownID(dst []byte, id uint32) []byte {
	switch id {
	case unset:
		return append(dst, "unset"...)
	case 0:
		return append(dst, "root"...)
	}
	dst = append(dst, "unknown("...)
	return append(strconv.AppendUint(dst, uint64(id), 10), ')')
}

func (in *Interpreter) protocol(n uint64) (string, bool) {
	if n = uint64(uint32(n)); in.names == nil || n > 1<<16-1 {
		return "", false
	}
	return in.names.Protocol(uint16(n))
}
