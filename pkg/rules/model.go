package rules

import "slices"

// List is the kernel's filter list to which a rule belongs (AUDIT_FILTER_*).
type List uint32

// The lists of include/uapi/linux/audit.h.
const (
	ListUser       List = 0
	ListTask       List = 1
	ListExit       List = 4
	ListExclude    List = 5
	ListFilesystem List = 6
	ListIOUring    List = 7

	listUnset List = 0x80
	listMask  List = 0x0f
	prepend        = 0x10 // AUDIT_FILTER_PREPEND
)

// Action is what the kernel does when a rule matches.
type Action uint32

// The actions; 1 (possible) can't be loaded any more.
const (
	Never  Action = 0
	Always Action = 2

	actionUnset Action = 1<<32 - 1
)

// Operator is the comparison of a field, with the kernel's bits.
type Operator uint32

// The operators.
const (
	BitMask      Operator = 0x08000000
	Less         Operator = 0x10000000
	Greater      Operator = 0x20000000
	NotEqual     Operator = 0x30000000
	Equal        Operator = 0x40000000
	BitTest      Operator = 0x48000000
	LessEqual    Operator = 0x50000000
	GreaterEqual Operator = 0x60000000
)

// FieldID is the kernel's number of a field.
type FieldID uint32

// The fields of include/uapi/linux/audit.h.
const (
	FieldPID        FieldID = 0
	FieldUID        FieldID = 1
	FieldEUID       FieldID = 2
	FieldSUID       FieldID = 3
	FieldFSUID      FieldID = 4
	FieldGID        FieldID = 5
	FieldEGID       FieldID = 6
	FieldSGID       FieldID = 7
	FieldFSGID      FieldID = 8
	FieldAUID       FieldID = 9
	FieldPers       FieldID = 10
	FieldArch       FieldID = 11
	FieldMsgType    FieldID = 12
	FieldSubjUser   FieldID = 13
	FieldSubjRole   FieldID = 14
	FieldSubjType   FieldID = 15
	FieldSubjSen    FieldID = 16
	FieldSubjClr    FieldID = 17
	FieldPPID       FieldID = 18
	FieldObjUser    FieldID = 19
	FieldObjRole    FieldID = 20
	FieldObjType    FieldID = 21
	FieldObjLevLow  FieldID = 22
	FieldObjLevHigh FieldID = 23
	FieldSessionID  FieldID = 25
	FieldFSType     FieldID = 26
	FieldDevMajor   FieldID = 100
	FieldDevMinor   FieldID = 101
	FieldInode      FieldID = 102
	FieldExit       FieldID = 103
	FieldSuccess    FieldID = 104
	FieldPath       FieldID = 105
	FieldPerm       FieldID = 106
	FieldDir        FieldID = 107
	FieldFileType   FieldID = 108
	FieldObjUID     FieldID = 109
	FieldObjGID     FieldID = 110
	FieldCompare    FieldID = 111
	FieldExe        FieldID = 112
	FieldSaddrFam   FieldID = 113
	FieldA0         FieldID = 200
	FieldA3         FieldID = 203
	FieldKey        FieldID = 210
)

// Permissions, the value of FieldPerm.
const (
	PermExec  = 1
	PermWrite = 2
	PermRead  = 4
	PermAttr  = 8
)

// Limits of the kernel and of auditctl.
const (
	MaxFields  = 64   // AUDIT_MAX_FIELDS; the grammar takes one less, as auditctl
	MaxKey     = 256  // AUDIT_MAX_KEY_LEN: all keys of a rule with their separators
	MaxPath    = 4096 // PATH_MAX
	MaxSyscall = maskWords*32 - 1

	maskWords = 64
	nameMax   = 255 // NAME_MAX

	keySeparator = "\x01"
)

// Field is one condition of a rule. A string field (IsString) has its value in Str, any
// other in Value.
type Field struct {
	ID    FieldID
	Op    Operator
	Value uint32
	Str   string
}

// IsString reports whether the kernel expects the field's value as a string.
func (id FieldID) IsString() bool {
	switch {
	case id >= FieldSubjUser && id <= FieldSubjClr, id >= FieldObjUser && id <= FieldObjLevHigh:
		return true
	}
	return id == FieldPath || id == FieldDir || id == FieldExe || id == FieldKey
}

// Mask is a set of system calls (or io_uring operations). Number n is bit n%32 of word
// n/32, as in mask[] of struct audit_rule_data.
type Mask [maskWords]uint32

// AllSyscalls returns the mask of -S all.
func AllSyscalls() Mask {
	var m Mask
	for i := range m {
		m[i] = ^uint32(0)
	}
	return m
}

// Has reports whether n is in the mask.
func (m *Mask) Has(n int) bool {
	return n >= 0 && n <= MaxSyscall && m[n/32]&(1<<(n%32)) != 0
}

func (m *Mask) set(n int) { m[n/32] |= 1 << (n % 32) }

// All reports whether every number is in the mask. It ignores the top word: the kernel
// uses it for classes, and no system call has such a number.
func (m *Mask) All() bool {
	for _, w := range m[:maskWords-1] {
		if w != ^uint32(0) {
			return false
		}
	}
	return true
}

// Numbers returns the numbers in the mask in ascending order.
func (m *Mask) Numbers() []int {
	var list []int
	for n := range maskWords * 32 {
		if m.Has(n) {
			list = append(list, n)
		}
	}
	return list
}

func (m *Mask) equal(o *Mask) bool {
	if m.All() && o.All() {
		return true
	}
	return *m == *o
}

// Rule is one audit rule. The zero value is not a valid rule.
type Rule struct {
	List    List
	Prepend bool // -A: before the others of its list
	Action  Action
	Mask    Mask
	Fields  []Field
}

// Equal reports whether the kernel considers r and o the same rule. It ignores the place
// in the list (Prepend) and, under -S all, the unused top word of the mask.
func (r *Rule) Equal(o *Rule) bool {
	return r.List == o.List && r.Action == o.Action && slices.Equal(r.Fields, o.Fields) && r.Mask.equal(&o.Mask)
}

// Clone returns a copy that shares no memory with r.
func (r *Rule) Clone() *Rule {
	c := *r
	c.Fields = slices.Clone(r.Fields)
	return &c
}

// Keys returns the rule's keys.
func (r *Rule) Keys() []string {
	var keys []string
	for _, f := range r.Fields {
		if f.ID == FieldKey {
			keys = append(keys, splitKeys(f.Str)...)
		}
	}
	return keys
}

// Field returns the first condition on the field id; false if there is none.
func (r *Rule) Field(id FieldID) (Field, bool) {
	for _, f := range r.Fields {
		if f.ID == id {
			return f, true
		}
	}
	return Field{}, false
}

// IsWatch reports whether auditctl would list the rule as a watch (-w): its conditions
// are path or dir, permissions and keys, nothing else, and it applies to all system
// calls.
func (r *Rule) IsWatch() bool {
	perm, path := false, false
	for _, f := range r.Fields {
		switch f.ID {
		case FieldPerm:
			perm = true
		case FieldPath, FieldDir:
			path = true
		case FieldKey:
		default:
			return false
		}
	}
	return perm && path && r.List == ListExit && r.Mask.All()
}
