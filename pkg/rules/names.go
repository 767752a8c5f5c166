package rules

import (
	"strconv"
	"strings"

	"github.com/auditfleet/auditfleet/pkg/tables"
)

type named[T ~uint32] struct {
	num  T
	name string
}

func nameOf[T ~uint32](table []named[T], num T) string {
	for _, e := range table {
		if e.num == num {
			return e.name
		}
	}
	return ""
}

// numberOf looks a name up as the stock tools do, in any case.
func numberOf[T ~uint32](table []named[T], name string) (T, bool) {
	for _, e := range table {
		if strings.EqualFold(e.name, name) {
			return e.num, true
		}
	}
	return 0, false
}

func namesOf[T ~uint32](table []named[T]) []string {
	names := make([]string, len(table))
	for i, e := range table {
		names[i] = e.name
	}
	return names
}

var listNames = []named[List]{
	{ListTask, "task"}, {ListExit, "exit"}, {ListUser, "user"}, {ListExclude, "exclude"},
	{ListFilesystem, "filesystem"}, {ListIOUring, "io_uring"},
}

// String returns the list's name, or list and its number.
func (l List) String() string {
	if name := nameOf(listNames, l); name != "" {
		return name
	}
	return "list" + strconv.Itoa(int(l))
}

// listByName takes lower case only, as auditctl.
func listByName(s string) (List, bool) {
	for _, e := range listNames {
		if e.name == s {
			return e.num, true
		}
	}
	n, ok := numbered(s, "list", uint64(listMask))
	return List(n), ok && nameOf(listNames, List(n)) == ""
}

// String returns the action's name, or action and its number.
func (a Action) String() string {
	switch a {
	case Never:
		return "never"
	case Always:
		return "always"
	}
	return "action" + strconv.FormatUint(uint64(a), 10)
}

func actionByName(s string) (Action, bool) {
	switch s {
	case "never":
		return Never, true
	case "always":
		return Always, true
	}
	n, ok := numbered(s, "action", 1<<32-1)
	return Action(n), ok && n != uint64(Never) && n != uint64(Always) && n != uint64(actionUnset)
}

// numbered reads prefix and a plain decimal number, as String writes it.
func numbered(s, prefix string, limit uint64) (uint64, bool) {
	digits, ok := strings.CutPrefix(s, prefix)
	if !ok || digits == "" || len(digits) > 1 && digits[0] == '0' {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	return n, err == nil && n <= limit
}

// opNames in the order auditctl looks for them in a field.
var opNames = []named[Operator]{
	{NotEqual, "!="}, {GreaterEqual, ">="}, {LessEqual, "<="}, {BitTest, "&="},
	{Equal, "="}, {Greater, ">"}, {Less, "<"}, {BitMask, "&"},
}

// String returns the operator's sign, "" when it is none.
func (o Operator) String() string { return nameOf(opNames, o) }

var fieldNames = []named[FieldID]{
	{FieldPID, "pid"}, {FieldUID, "uid"}, {FieldEUID, "euid"}, {FieldSUID, "suid"}, {FieldFSUID, "fsuid"},
	{FieldGID, "gid"}, {FieldEGID, "egid"}, {FieldSGID, "sgid"}, {FieldFSGID, "fsgid"},
	{FieldAUID, "auid"}, {FieldAUID, "loginuid"}, {FieldPers, "pers"}, {FieldArch, "arch"}, {FieldMsgType, "msgtype"},
	{FieldSubjUser, "subj_user"}, {FieldSubjRole, "subj_role"}, {FieldSubjType, "subj_type"},
	{FieldSubjSen, "subj_sen"}, {FieldSubjClr, "subj_clr"}, {FieldPPID, "ppid"},
	{FieldObjUser, "obj_user"}, {FieldObjRole, "obj_role"}, {FieldObjType, "obj_type"},
	{FieldObjLevLow, "obj_lev_low"}, {FieldObjLevHigh, "obj_lev_high"}, {FieldSessionID, "sessionid"},
	{FieldDevMajor, "devmajor"}, {FieldDevMinor, "devminor"}, {FieldInode, "inode"}, {FieldExit, "exit"},
	{FieldSuccess, "success"}, {FieldPath, "path"}, {FieldPerm, "perm"}, {FieldDir, "dir"},
	{FieldFileType, "filetype"}, {FieldFSType, "fstype"}, {FieldObjUID, "obj_uid"}, {FieldObjGID, "obj_gid"},
	{FieldCompare, "field_compare"}, {FieldExe, "exe"}, {FieldSaddrFam, "saddr_fam"},
	{FieldA0, "a0"}, {FieldA0 + 1, "a1"}, {FieldA0 + 2, "a2"}, {FieldA3, "a3"}, {FieldKey, "key"},
}

// String returns the field's name, or f and its number.
func (id FieldID) String() string {
	if name := nameOf(fieldNames, id); name != "" {
		return name
	}
	return "f" + strconv.FormatUint(uint64(id), 10)
}

// fileTypes are S_IFMT values, as -F filetype= names them.
var fileTypes = []named[uint32]{
	{0o140000, "socket"}, {0o120000, "link"}, {0o100000, "file"}, {0o060000, "block"},
	{0o040000, "dir"}, {0o020000, "character"}, {0o010000, "fifo"},
}

// fsTypes are the magic numbers of include/uapi/linux/magic.h that auditctl
// has names for; cgroup came with audit 4.0.
var fsTypes = []named[uint32]{
	{0x74726163, "tracefs"}, {0x64626720, "debugfs"}, {0x27e0eb, "cgroup"}, {0x63677270, "cgroup2"},
}

// ioUringOps are the io_uring operations that are audited.
var ioUringOps = func() (ops []named[uint32]) {
	for _, n := range tables.URingOps() {
		name, _ := tables.URingOpName(n)
		ops = append(ops, named[uint32]{uint32(n), name})
	}
	return ops
}()

// comparisons are AUDIT_COMPARE_*: which two fields each number compares, the
// way round auditctl lists them.
var comparisons = [...]struct{ a, b FieldID }{
	1: {FieldUID, FieldObjUID}, 2: {FieldGID, FieldObjGID}, 3: {FieldEUID, FieldObjUID}, 4: {FieldEGID, FieldObjGID},
	5: {FieldAUID, FieldObjUID}, 6: {FieldSUID, FieldObjUID}, 7: {FieldSGID, FieldObjGID},
	8: {FieldFSUID, FieldObjUID}, 9: {FieldFSGID, FieldObjGID},
	10: {FieldUID, FieldAUID}, 11: {FieldUID, FieldEUID}, 12: {FieldUID, FieldFSUID}, 13: {FieldUID, FieldSUID},
	14: {FieldAUID, FieldFSUID}, 15: {FieldAUID, FieldSUID}, 16: {FieldAUID, FieldEUID},
	17: {FieldEUID, FieldSUID}, 18: {FieldEUID, FieldFSUID}, 19: {FieldSUID, FieldFSUID},
	20: {FieldGID, FieldEGID}, 21: {FieldGID, FieldFSGID}, 22: {FieldGID, FieldSGID},
	23: {FieldEGID, FieldFSGID}, 24: {FieldEGID, FieldSGID}, 25: {FieldSGID, FieldFSGID},
}

func comparison(a, b FieldID) (uint32, bool) {
	for n, c := range comparisons {
		if n > 0 && (c.a == a && c.b == b || c.a == b && c.b == a) {
			return uint32(n), true
		}
	}
	return 0, false
}

func splitKeys(s string) []string {
	var keys []string
	for k := range strings.SplitSeq(s, keySeparator) {
		if k != "" {
			keys = append(keys, k)
		}
	}
	return keys
}

// permText writes permissions in auditctl's order.
func permText(v uint32) string {
	s := ""
	for i, bit := range [...]uint32{PermRead, PermWrite, PermExec, PermAttr} {
		if v&bit != 0 {
			s += "rwxa"[i : i+1]
		}
	}
	return s
}
