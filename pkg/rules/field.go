package rules

import (
	"slices"
	"strconv"
	"strings"
)

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
	p.allowKey(f)
	p.rule.Fields = append(p.rule.Fields, f)
	return nil
}

// allowKey records that the rule has a field after which auditctl takes a key.
func (p *parser) allowKey(f Field) {
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
