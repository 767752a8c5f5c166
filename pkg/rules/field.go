package rules

import (
	"slices"
	"strconv"
	"strings"

	"github.com/auditfleet/auditfleet/pkg/tables"
)

const afMax = 46 // AF_MAX of include/linux/socket.h

// fieldOption reads -F.
func (p *parser) fieldOption(w word) error {
	if p.list() == listUnset {
		// The one field auditctl takes without a list: arch before -t.
		next := p.scan.next < len(p.args) && p.args[p.scan.next] == "-t"
		if !next || !strings.Contains(w.s, "arch=") {
			return p.fail(w, "List must be given before field", "begin the rule with -a always,exit (or another list)")
		}
	}
	if value, ok := strings.CutPrefix(w.s, "key="); ok {
		return p.key(word{value, w.arg, w.off + len("key=")})
	}
	return p.field(w)
}

// field reads NAME OP VALUE and adds it to the rule.
func (p *parser) field(w word) error {
	raw, isRaw := rawField(w.s)
	if n := len(p.rule.Fields); n >= MaxFields || n == MaxFields-1 && !isRaw {
		return p.fail(w, "Too many fields in rule: "+w.s, "a rule has at most 63 conditions: make two of it")
	}
	if isRaw {
		return p.addRaw(w, raw)
	}
	name, op, value, ok := cutField(w.s)
	if !ok {
		return p.fail(w, "-F missing operation for "+w.s, "write field, operator and value in one word, as in uid=0")
	}
	nameAt, valueAt := word{name, w.arg, w.off}, word{value, w.arg, w.off + len(w.s) - len(value)}
	switch {
	case name == "":
		return p.fail(w, "-F missing field name before operator for "+w.s, "write field, operator and value in one word, as in uid=0")
	case value == "":
		return p.fail(w, "-F missing value after operation for "+name, "write field, operator and value in one word, as in "+name+op.String()+"VALUE")
	}
	id, known := numberOf(fieldNames, name)
	if !known {
		return p.unknownField(nameAt, op)
	}
	if p.list() == ListExclude && !excludable(id) {
		return p.fail(nameAt, "Only msgtype, *uid, *gid, pid, and subj* fields can be used with exclude filter",
			"of these pid, uid, auid, gid, msgtype, subj_* and exe; at any other field the kernel stops reading the exclude list")
	}
	f := Field{ID: id, Op: op}
	if err := p.checkField(nameAt, &f); err != nil {
		return err
	}
	if err := p.value(nameAt, valueAt, &f); err != nil {
		return err
	}
	p.rule.Fields = append(p.rule.Fields, f)
	return nil
}

// cutField finds the operator as auditctl does: the first place of the first
// sign of opNames that occurs at all, so a!=b within a value comes before the =.
func cutField(s string) (name string, op Operator, value string, ok bool) {
	for _, o := range opNames {
		if name, value, ok = strings.Cut(s, o.name); ok {
			return name, o.num, value, true
		}
	}
	return "", 0, "", false
}

// rawField reads our own fN OP VALUE: the operator stands right after the
// number, and the value is everything after it. As ">" and a value that begins
// with "=" would read as ">=", fN@BITS=VALUE gives the operator by its bits.
func rawField(s string) (Field, bool) {
	end := 1
	for end < len(s) && s[end] >= '0' && s[end] <= '9' {
		end++
	}
	if end == 1 || s[0] != 'f' {
		return Field{}, false
	}
	n, err := strconv.ParseUint(s[1:end], 10, 32)
	if err != nil {
		return Field{}, false
	}
	if bits, value, found := strings.Cut(s[end:], "="); found && strings.HasPrefix(bits, "@") {
		op, err := strconv.ParseUint(bits[1:], 16, 32)
		return Field{ID: FieldID(n), Op: Operator(op), Str: value}, err == nil && Operator(op).String() != ""
	}
	for _, o := range opNames { // signs of two bytes come first
		if value, ok := strings.CutPrefix(s[end:], o.name); ok {
			return Field{ID: FieldID(n), Op: o.num, Str: value}, true
		}
	}
	return Field{}, false
}

func (p *parser) addRaw(w word, f Field) error {
	if f.ID.IsString() {
		if len(f.Str) > MaxPath {
			return p.fail(w, "String value too long", "at most 4096 bytes")
		}
	} else {
		n, err := strconv.ParseUint(f.Str, 0, 32)
		if err != nil {
			return p.fail(w, "-F value should be number for "+"f"+strconv.Itoa(int(f.ID)), "a field given by its number takes the number the kernel gets")
		}
		f.Value, f.Str = uint32(n), ""
	}
	p.note(f)
	p.rule.Fields = append(p.rule.Fields, f)
	return nil
}

// note remembers what -k and -F arch look for.
func (p *parser) note(f Field) {
	switch f.ID {
	case FieldPath, FieldDir, FieldPerm:
		p.perms = true
	case FieldExe:
		p.exe = true
	case FieldFSType:
		p.fstype = true
	}
}

func (p *parser) unknownField(w word, op Operator) error {
	names := namesOf(fieldNames)
	names = slices.DeleteFunc(names, func(s string) bool { return s == "field_compare" })
	hint := suggest(w.s, names)
	if trimmed := strings.TrimSpace(w.s); trimmed != w.s {
		hint = "write field, operator and value without spaces"
	} else if strings.ContainsAny(w.s, "=<>&") {
		hint = "a value that holds " + op.String() + " can't follow another operator: for a file use -w PATH, or give the field by number"
		if name, _, ok := strings.Cut(w.s, "="); ok {
			if id, known := numberOf(fieldNames, name); known {
				hint += ", as in f" + strconv.Itoa(int(id)) + "=VALUE"
			}
		}
	}
	return p.fail(w, "-F unknown field: "+w.s, hint, "the fields are in auditctl(8)")
}

func excludable(id FieldID) bool {
	switch id {
	case FieldPID, FieldUID, FieldGID, FieldAUID, FieldMsgType, FieldExe,
		FieldSubjUser, FieldSubjRole, FieldSubjType, FieldSubjSen, FieldSubjClr:
		return true
	}
	return false
}

// exitOnly are the fields the exit list alone knows.
func exitOnly(id FieldID) bool {
	switch id {
	case FieldExit, FieldObjUser, FieldObjRole, FieldObjType, FieldObjLevLow, FieldObjLevHigh, FieldPath, FieldDir,
		FieldPerm, FieldFileType, FieldDevMajor, FieldDevMinor, FieldInode, FieldSuccess, FieldPPID:
		return true
	}
	return false
}

// checkField checks list and operator of a known field.
func (p *parser) checkField(name word, f *Field) error {
	list := p.list()
	switch {
	case exitOnly(f.ID) && list != ListExit:
		return p.fail(name, name.s+" can only be used with exit filter list", "this rule is for the "+list.String()+" list")
	case f.ID == FieldMsgType && list != ListExclude && list != ListUser:
		return p.fail(name, "msgtype field can only be used with exclude or user filter list", "as in -a always,exclude -F msgtype=CWD")
	case f.ID == FieldFSType && list != ListFilesystem:
		return p.fail(name, name.s+" field is not valid for the filter", "it goes with the filesystem list, as in -a never,filesystem -F fstype=tracefs")
	case f.ID == FieldSessionID && list != ListExclude && list != ListUser && list != ListExit:
		return p.fail(name, name.s+" must be used with exclude, user, or exit filter", "this rule is for the "+list.String()+" list")
	case f.ID == FieldArch && p.syscalls:
		return p.fail(name, name.s+" must be before -S", "the names after -S are looked up for the architecture given before it")
	case f.ID == FieldKey && !(p.syscalls || p.perms || p.exe || p.fstype):
		return p.fail(name, "Key field needs a watch, syscall or exe path given prior to it", "add -S all before it to say that every system call is meant")
	}
	switch f.ID {
	case FieldArch, FieldExe, FieldFSType, FieldInode:
		if f.Op != Equal && f.Op != NotEqual {
			return p.fail(name, name.s+" only takes = or != operators", name.s+" has no order, and "+f.Op.String()+" needs one")
		}
	case FieldPerm:
		if f.Op != Equal {
			return p.fail(name, name.s+" only takes = operator", "name the permissions that are wanted, as in perm=wa")
		}
	}
	return nil
}

// value reads a field's value.
func (p *parser) value(name, w word, f *Field) error {
	p.note(*f)
	switch {
	case f.ID.IsString():
		limit := MaxPath
		if f.ID == FieldKey {
			limit = MaxKey
		}
		if len(w.s) > limit {
			return p.fail(w, "String value too long", "at most "+strconv.Itoa(limit)+" bytes")
		}
		f.Str = w.s
		return nil
	case isUser(f.ID):
		return p.userValue(w, f)
	case isGroup(f.ID):
		return p.groupValue(w, f)
	case f.ID >= FieldA0 && f.ID <= FieldA3:
		if !startsDigit(w.s) && !startsNegative(w.s) {
			return p.fail(w, "-F value should be number for "+name.s, "an argument is compared as a number, in digits or in hex with 0x: what a pointer points to is not read")
		}
		p.setValue(w, f)
		return nil
	}
	switch f.ID {
	case FieldExit:
		return p.exitValue(name, w, f)
	case FieldMsgType:
		return p.msgTypeValue(name, w, f)
	case FieldArch:
		return p.archValue(name, w, f)
	case FieldPerm:
		return p.permValue(w, f)
	case FieldFileType:
		n, ok := numberOf(fileTypes, w.s)
		if !ok {
			return p.fail(w, "-F unknown file type -  "+name.s, suggest(w.s, namesOf(fileTypes)), "one of "+strings.Join(namesOf(fileTypes), ", "))
		}
		f.Value = n
	case FieldFSType:
		return p.fsTypeValue(name, w, f)
	case FieldSessionID:
		p.sessionValue(w, f)
	case FieldSaddrFam:
		p.setValue(w, f)
		if f.Value >= afMax {
			return p.fail(w, "value is too large for field: "+name.s, "families are numbered up to 45; 2 is IPv4, 10 IPv6, 1 unix")
		}
	default:
		if !startsDigit(w.s) {
			hint := "write digits, or hex with 0x"
			if f.ID == FieldSuccess {
				hint = "1 for yes, 0 for no"
			}
			return p.fail(w, "-F value should be number for "+name.s, hint)
		}
		p.setValue(w, f)
	}
	return nil
}

// setValue reads a number as auditctl does and warns where that is not what is
// written.
func (p *parser) setValue(w word, f *Field) {
	n := parseNumber(w.s)
	p.number(w, n)
	f.Value = n.value
}

func (p *parser) number(w word, n cNumber) {
	rest := strings.TrimRight(w.s[n.used:], " ")
	switch {
	case n.used == 0:
		p.warn(w, "Warning - %q is no number: 0 is taken, as auditctl does", w.s)
	case rest != "":
		p.warn(w, "Warning - %q is read as %d, as auditctl does", w.s, int32(n.value))
	case n.wide:
		p.warn(w, "Warning - %q does not fit 32 bits: %d is taken, as auditctl does", w.s, int32(n.value))
		p.cmd.Warnings[len(p.cmd.Warnings)-1].Wraps = true
	}
}

func isUser(id FieldID) bool {
	return id >= FieldUID && id <= FieldFSUID || id == FieldAUID || id == FieldObjUID
}

func isGroup(id FieldID) bool {
	return id >= FieldGID && id <= FieldFSGID || id == FieldObjGID
}

const unset = ^uint32(0)

func (p *parser) userValue(w word, f *Field) error {
	switch {
	case startsDigit(w.s), startsNegative(w.s):
		p.setValue(w, f)
	case w.s == "unset":
		f.Value = unset
	default:
		n, ok := uint32(0), false
		if p.env.Accounts != nil {
			n, ok = p.env.Accounts.UserID(w.s)
		}
		if !ok {
			hint := "no such user on this machine: add it, or give its number"
			if strings.EqualFold(w.s, "unset") || strings.EqualFold(w.s, "none") {
				hint = "write unset, or -1, for no user"
			} else if strings.HasPrefix(w.s, "=") {
				hint = "write one ="
			}
			return p.fail(w, "Unknown user: "+w.s, hint)
		}
		f.Value = n
	}
	return nil
}

func (p *parser) groupValue(w word, f *Field) error {
	if startsDigit(w.s) {
		p.setValue(w, f)
		return nil
	}
	n, ok := uint32(0), false
	if p.env.Accounts != nil {
		n, ok = p.env.Accounts.GroupID(w.s)
	}
	if !ok {
		hint := "no such group on this machine: add it, or give its number"
		if w.s == "unset" || startsNegative(w.s) {
			hint = "a group is never unset: leave the condition out"
		}
		return p.fail(w, "Unknown group: "+w.s, hint)
	}
	f.Value = n
	return nil
}

func (p *parser) exitValue(name, w word, f *Field) error {
	if startsDigit(w.s) || startsNegative(w.s) {
		p.setValue(w, f)
		return nil
	}
	errno, negative := strings.CutPrefix(w.s, "-")
	n, ok := tables.ErrnoByName(errno)
	if !ok {
		var names []string
		for i := range 134 {
			if e, ok := tables.ErrnoName(i); ok {
				names = append(names, e)
			}
		}
		if negative {
			for i, e := range names {
				names[i] = "-" + e
			}
		}
		return p.fail(w, "-F unknown errno - "+name.s, suggest(w.s, names), "an error is given as -EACCES or -13")
	}
	f.Value = uint32(n)
	if negative {
		f.Value = -f.Value
	} else {
		p.warn(w, "Warning - a failed system call exits with -%s: this rule matches the positive number %d", w.s, n)
	}
	return nil
}

func (p *parser) msgTypeValue(name, w word, f *Field) error {
	if startsDigit(w.s) {
		p.setValue(w, f)
		return nil
	}
	n, ok := tables.TypeByName([]byte(w.s))
	if !ok || n == 0 {
		var names []string
		for _, t := range tables.Types() {
			names = append(names, tables.TypeName(t))
		}
		return p.fail(w, "-F unknown message type - "+name.s, suggest(w.s, names), "give a record type by name, as ausearch -m shows them, or by number")
	}
	f.Value = uint32(n)
	return nil
}

func (p *parser) permValue(w word, f *Field) error {
	if len(w.s) > 4 {
		return p.fail(w, "String value too long", "r, w, x and a, each once")
	}
	val, bad := parsePerm(w.s)
	if bad >= 0 {
		return p.fail(word{w.s[bad : bad+1], w.arg, w.off + bad}, "Permission can only contain  'rwxa'", "r is read, w write, x execute, a attribute change")
	}
	f.Value = val
	return nil
}

func (p *parser) fsTypeValue(name, w word, f *Field) error {
	if startsDigit(w.s) {
		p.setValue(w, f)
	} else if n, ok := numberOf(fsTypes, w.s); ok {
		f.Value = n
	} else {
		f.Value = unset
	}
	if f.Value == unset {
		return p.fail(w, "file system type is unknown for field: "+name.s, suggest(w.s, namesOf(fsTypes)),
			"one of "+strings.Join(namesOf(fsTypes), ", ")+", or the magic number that stat -f -c 0x%t PATH shows")
	}
	return nil
}

func (p *parser) sessionValue(w word, f *Field) {
	if w.s == "unset" {
		f.Value = unset
		return
	}
	if startsDigit(w.s) || startsNegative(w.s) {
		p.setValue(w, f)
		return
	}
	p.warn(w, "Warning - %q is no session: 0 is taken, as auditctl does", w.s)
}

// archValue reads -F arch=: b32, b64, a machine's name or an AUDIT_ARCH number.
func (p *parser) archValue(name, w word, f *Field) error {
	arch, ok := p.archNumber(w.s)
	if !ok || !p.env.knownArch(arch) {
		machine, _ := tables.ArchName(p.env.Arch)
		hint := "b64 and b32 always mean this machine (" + machine + ")"
		near := suggest(w.s, []string{"b64", "b32", "x86_64", "i386", "aarch64", "ppc64le", "s390x"})
		switch {
		case strings.EqualFold(w.s, "arm64"):
			hint = "did you mean aarch64? " + hint
		case strings.EqualFold(w.s, "amd64"), strings.EqualFold(w.s, "x86-64"):
			hint = "did you mean x86_64? " + hint
		case strings.EqualFold(w.s, "x86"), strings.EqualFold(w.s, "ia32"):
			hint = "did you mean i386? " + hint
		case strings.EqualFold(w.s, "b32"):
			hint = machine + " has no 32-bit side"
		case near != "" && !isMachine(w.s): // b46 is a typing error, though it reads as a number in hexadecimal
			hint = near
		case ok:
			hint = "such rules load on machines of that kind only; " + hint
		}
		return p.fail(w, name.s+" elf mapping not found", hint)
	}
	f.Value, p.arch = arch, arch
	return nil
}

// isMachine reports whether s names an architecture of some other machine.
func isMachine(s string) bool {
	_, ok := tables.ArchByName(s)
	return ok
}

func (p *parser) archNumber(s string) (uint32, bool) {
	switch {
	case startsDigit(s):
		n := parseNumber(s)
		return n.value, !n.overflow && !n.wide && n.used == len(s)
	case strings.EqualFold(s, "b64"):
		return p.env.Arch, p.env.Arch&tables.Arch64Bit != 0
	case strings.EqualFold(s, "b32"):
		return compat32(p.env.Arch)
	}
	if n, ok := tables.ArchByName(s); ok {
		return n, true
	}
	n, err := strconv.ParseUint(s, 16, 32)
	return uint32(n), err == nil
}

// compare reads -C.
func (p *parser) compare(w word) error {
	if len(p.rule.Fields) >= MaxFields-1 {
		return p.fail(w, "Too many fields in rule: "+w.s, "a rule has at most 63 conditions: make two of it")
	}
	op := NotEqual
	left, right, ok := strings.Cut(w.s, "!=")
	if !ok {
		op = Equal
		if left, right, ok = strings.Cut(w.s, "="); !ok {
			return p.fail(w, w.s+" only takes = or != operators", "write two fields, as in uid!=euid")
		}
	}
	leftAt, rightAt := word{left, w.arg, w.off}, word{right, w.arg, w.off + len(w.s) - len(right)}
	sides := []string{"auid", "uid", "euid", "suid", "fsuid", "obj_uid", "gid", "egid", "sgid", "fsgid", "obj_gid"}
	switch {
	case left == "":
		return p.fail(w, "-C missing field name before operator for "+w.s, "write two fields, as in uid!=euid")
	case right == "":
		return p.fail(w, "-C missing value after operation for  "+left, "write two fields, as in uid!=euid")
	}
	a, ok := numberOf(fieldNames, left)
	if !ok {
		hint := suggest(left, sides)
		if strings.TrimSpace(left) != left {
			hint = "write both fields without spaces"
		} else if strings.ContainsAny(left, "<>&") {
			hint = "two fields can be compared with = or != only"
		}
		return p.fail(leftAt, "-C unknown field: "+left, hint)
	}
	b, ok := numberOf(fieldNames, right)
	if !ok {
		return p.fail(rightAt, "-C unknown right hand value for comparison with: "+left, suggest(right, sides), "both sides are fields; a value is compared with -F")
	}
	if p.list() != ListExit {
		return p.fail(leftAt, left+" can only be used with exit filter list", "this rule is not for the exit list")
	}
	n, ok := comparison(a, b)
	if !ok {
		return p.fail(w, "-C incompatible comparison "+left, "two different fields of auid, uid, euid, suid, fsuid, obj_uid, or two of gid, egid, sgid, fsgid, obj_gid")
	}
	p.rule.Fields = append(p.rule.Fields, Field{ID: FieldCompare, Op: op, Value: n})
	return nil
}
