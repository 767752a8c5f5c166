package rules

import (
	"fmt"
	"strings"
)

// Refusal returns the reason for which the kernel would refuse the rule with EINVAL, as
// far as the rule alone shows it; otherwise "". The facts come from audit_field_valid and
// its callers in kernel/auditfilter.c, Linux 6.x.
func (r *Rule) Refusal() string {
	var exe, key, file, inode int
	for _, f := range r.Fields {
		if s := f.refusal(r.List); s != "" {
			return s
		}
		switch f.ID {
		case FieldExe:
			exe++
		case FieldKey:
			key++
		case FieldPath, FieldDir:
			file++
		case FieldInode:
			inode++
		}
	}
	switch {
	case len(r.Fields) > MaxFields:
		return fmt.Sprintf("the rule has %d fields, the kernel takes %d", len(r.Fields), MaxFields)
	case r.Action == 1:
		return "the action possible is gone"
	case exe > 1:
		return "only one exe goes in a rule: make one rule for each"
	case key > 1:
		return "only one key field goes in a rule: give several keys with -k each"
	case file > 1:
		return "only one path or dir goes in a rule: make one rule for each"
	case file+inode > 1:
		return "inode does not go with path or dir"
	}
	return ""
}

func (f Field) refusal(list List) string {
	name := f.ID.String()
	if list == ListFilesystem && f.ID != FieldFSType && f.ID != FieldKey {
		return "the filesystem list knows fstype and key only, not " + name
	}
	if s := f.opRefusal(); s != "" {
		return s
	}
	onExit := list == ListExit || list == ListIOUring
	switch {
	case f.ID == FieldPerm && list == ListIOUring:
		return "perm does not go with the io_uring list"
	case (f.ID == FieldMsgType) && list != ListExclude && list != ListUser:
		return "msgtype goes with the exclude and user lists only"
	case f.ID == FieldFSType && list != ListFilesystem:
		return "fstype goes with the filesystem list only"
	case f.ID == FieldPath && (!strings.HasPrefix(f.Str, "/") || strings.HasSuffix(f.Str, "/")):
		return "a path must be full and not end in a slash: " + f.Str
	case f.ID == FieldDir && !strings.HasPrefix(f.Str, "/"):
		return "a dir must be full, from / on: " + f.Str
	case f.ID == FieldExe && (!strings.HasPrefix(f.Str, "/") || strings.HasSuffix(f.Str, "/")):
		return "exe must be a full path: " + f.Str
	case (f.ID == FieldPath || f.ID == FieldDir || f.ID == FieldInode) && !onExit:
		return name + " goes with the exit list only"
	case (f.ID == FieldPath || f.ID == FieldDir) && f.Op != Equal:
		return name + " takes = only"
	case f.ID.IsString() && f.Str == "":
		return "the value of " + name + " is empty"
	case f.ID == FieldKey && len(f.Str) > MaxKey:
		return fmt.Sprintf("the keys have %d bytes, at most %d go", len(f.Str), MaxKey)
	case (isUser(f.ID) && f.ID != FieldAUID || isGroup(f.ID)) && f.Value == unset:
		return name + " can't be -1: only auid is ever unset"
	case f.ID == FieldPerm && f.Value&^(PermRead|PermWrite|PermExec|PermAttr) != 0:
		return fmt.Sprintf("perm 0x%x has unknown bits", f.Value)
	case f.ID == FieldFileType && f.Value&^0o170000 != 0:
		return fmt.Sprintf("filetype 0%o is no file type", f.Value)
	case f.ID == FieldCompare && f.Value >= uint32(len(comparisons)):
		return fmt.Sprintf("there is no comparison %d", f.Value)
	case f.ID == FieldSaddrFam && f.Value >= afMax:
		return fmt.Sprintf("there is no address family %d", f.Value)
	}
	return ""
}

// opRefusal checks the operators a field knows.
func (f Field) opRefusal() string {
	name := f.ID.String()
	switch {
	case f.ID >= FieldA0 && f.ID <= FieldA3, f.ID == FieldPers, f.ID == FieldDevMinor:
		return ""
	case nameOf(fieldNames, f.ID) == "":
		return "field " + name + " is unknown"
	}
	switch f.ID {
	case FieldSubjUser, FieldSubjRole, FieldSubjType, FieldObjUser, FieldObjRole, FieldObjType, FieldPath, FieldDir,
		FieldKey, FieldArch, FieldFSType, FieldPerm, FieldFileType, FieldCompare, FieldExe:
		if f.Op != Equal && f.Op != NotEqual {
			return name + " takes = and != only, not " + f.Op.String()
		}
		return ""
	}
	if f.Op == BitMask || f.Op == BitTest {
		return name + " takes no " + f.Op.String() + ": bits can be tested in a0 to a3, pers and devminor only"
	}
	return ""
}
