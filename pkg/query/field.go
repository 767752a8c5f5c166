package query

// Field is one searchable property of an event. Its numbers are stored in partitions and
// sent in queries: never renumber them, only append new ones.
type Field uint8

// The fields an event can be searched by. Values are normalised: strings are
// decoded from the kernel's hex, numbers are decimal.
const (
	FieldType     Field = iota // record type, decimal ("1300"); one value a record
	FieldKey                   // one value a key
	FieldPID                   // decimal
	FieldPPID                  // decimal
	FieldAUID                  // login uid, unsigned decimal ("4294967295" when unset)
	FieldUID                   // unsigned decimal
	FieldEUID                  // unsigned decimal
	FieldGID                   // unsigned decimal
	FieldEGID                  // unsigned decimal
	FieldSession               // unsigned decimal ("4294967295" when unset)
	FieldSyscall               // decimal number; its name depends on FieldArch
	FieldArch                  // machine name as tables.ArchName says it ("x86_64"), hex when unnamed
	FieldSuccess               // "yes" or "no"
	FieldExit                  // signed decimal
	FieldComm                  // decoded
	FieldExe                   // decoded
	FieldFile                  // decoded: names of PATH records, cwd, socket paths, and the like
	FieldHost                  // hostname or address
	FieldTerminal              // tty or terminal
	FieldSubject               // security context of the subject
	FieldObject                // security context of the object
	FieldAcct                  // account name
	FieldUUID                  // of a virtual machine
	FieldVM                    // name of a virtual machine
	FieldAUIDName              // the enriched tail's name of the login uid
	FieldUIDName               // the enriched tail's name of the uid
	FieldEUIDName              // the enriched tail's name of the effective uid
	FieldGIDName               // the enriched tail's name of the gid
	FieldEGIDName              // the enriched tail's name of the effective gid

	NumFields = int(FieldEGIDName) + 1
)

// String returns the field's name as the index and messages use it.
func (f Field) String() string {
	names := [...]string{
		"type", "key", "pid", "ppid", "auid", "uid", "euid", "gid", "egid", "ses", "syscall", "arch",
		"success", "exit", "comm", "exe", "file", "host", "terminal", "subject", "object", "acct",
		"uuid", "vm", "auid-name", "uid-name", "euid-name", "gid-name", "egid-name",
	}
	if int(f) < len(names) {
		return names[f]
	}
	return indexName(f)
}

// Name returns the field that holds the name for an id of a user or group: FieldUIDName
// for FieldUID, for example.
func (f Field) Name() Field {
	switch f {
	case FieldAUID:
		return FieldAUIDName
	case FieldEUID:
		return FieldEUIDName
	case FieldGID:
		return FieldGIDName
	case FieldEGID:
		return FieldEGIDName
	default:
		return FieldUIDName
	}
}

// FieldSet is a set of the fields that an event can be searched by. Bit 1<<f stands for
// the Field f.
type FieldSet uint32

// SetOf returns the set of the given fields.
func SetOf(fields ...Field) FieldSet {
	var s FieldSet
	for _, f := range fields {
		s |= 1 << f
	}
	return s
}

// again adds a field and says whether it was in the set.
func (s *FieldSet) again(f Field) bool {
	was := s.Has(f)
	*s |= 1 << f
	return was
}

// Has reports whether f is in the set.
func (s FieldSet) Has(f Field) bool { return s&(1<<f) != 0 }
