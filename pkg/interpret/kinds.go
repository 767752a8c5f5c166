package interpret

import (
	"bytes"

	"github.com/auditfleet/auditfleet/pkg/record"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// A Kind is the meaning of a field's value.
type Kind uint8

// The kinds of values.
const (
	Plain      Kind = iota // printed as it is
	UserID                 // decimal
	GroupID                // decimal
	SyscallNr              // decimal, of the record's architecture
	Arch                   // AUDIT_ARCH_*, hex
	Exit                   // decimal, an errno when negative
	Escaped                // quoted, or hex
	Account                // the same, or bare
	Key                    // the same, several with \x01 between them
	Proctitle              // the same, arguments with NUL between them
	Perm                   // of a watch, a decimal mask
	Mode                   // octal
	ModeShort              // octal, without the file's type
	SockAddr               // a struct sockaddr in hex
	PathFlags              // hex
	MmapFlags              // hex
	OpenFlags              // hex
	Promisc                // decimal
	Capability             // decimal
	CapMask                // hex
	Success                // 0, 1 or a word
	Arg0                   // of a system call, hex
	Arg1
	Arg2
	Arg3
	Signal      // decimal
	List        // of rules, decimal
	TTYData     // hex
	Session     // decimal
	NFProto     // decimal
	ICMPType    // decimal
	Protocol    // of IP, decimal
	Addr        // text
	Personality // hex
	SeccompCode // hex
	Label       // of a security module
	NFHook      // hex
	NFAction    // hex
	MACProto    // an EtherType, hex
	IoctlReq    // hex
	NetlinkGrp  // hex
	Resolve     // openat2's flags, hex
	FanResponse // decimal
)

var kinds = map[string]Kind{
	"auid": UserID, "uid": UserID, "euid": UserID, "suid": UserID, "fsuid": UserID, "ouid": UserID, "oauid": UserID,
	"old-auid": UserID, "iuid": UserID, "id": UserID, "inode_uid": UserID, "sauid": UserID, "obj_uid": UserID,
	"gid": GroupID, "egid": GroupID, "sgid": GroupID, "fsgid": GroupID, "ogid": GroupID, "igid": GroupID,
	"inode_gid": GroupID, "obj_gid": GroupID, "new_gid": GroupID,
	"syscall": SyscallNr, "arch": Arch, "exit": Exit,
	"apparmor": Escaped, "cgroup": Escaped, "cmd": Escaped, "comm": Escaped, "cwd": Escaped,
	"denied_mask": Escaped, "device": Escaped, "dir": Escaped, "exe": Escaped, "file": Escaped, "grp": Escaped,
	"info": Escaped, "invalid_context": Escaped, "name": Escaped, "new-chardev": Escaped, "new-disk": Escaped,
	"new-fs": Escaped, "new-net": Escaped, "new-rng": Escaped, "new_group": Escaped, "ocomm": Escaped,
	"old-chardev": Escaped, "old-disk": Escaped, "old-fs": Escaped, "old-net": Escaped, "old-rng": Escaped,
	"operation": Escaped, "path": Escaped, "profile": Escaped, "requested_mask": Escaped, "root_dir": Escaped,
	"sw": Escaped, "vm": Escaped, "watch": Escaped,
	"key": Key, "proctitle": Proctitle,
	"perm": Perm, "perm_mask": Perm, "mode": Mode, "saddr": SockAddr, "flags": MmapFlags, "oflag": OpenFlags,
	"prom": Promisc, "old_prom": Promisc, "capability": Capability,
	"cap_fi": CapMask, "cap_fp": CapMask, "cap_pa": CapMask, "cap_pe": CapMask, "cap_pi": CapMask, "cap_pp": CapMask,
	"fi": CapMask, "fp": CapMask, "pa": CapMask, "pe": CapMask, "pi": CapMask, "pp": CapMask,
	"new_pe": CapMask, "new_pi": CapMask, "new_pp": CapMask,
	"old_pa": CapMask, "old_pe": CapMask, "old_pi": CapMask, "old_pp": CapMask,
	"res": Success, "result": Success, "a0": Arg0, "a1": Arg1, "a2": Arg2, "a3": Arg3,
	"sig": Signal, "sigev_signo": Signal, "list": List, "data": TTYData, "ses": Session,
	"family": NFProto, "icmptype": ICMPType, "proto": Protocol, "addr": Addr, "per": Personality,
	"code": SeccompCode, "subj": Label, "obj": Label, "scontext": Label, "tcontext": Label,
	"hook": NFHook, "action": NFAction, "macproto": MACProto, "ioctlcmd": IoctlReq,
	"nl-mcgrp": NetlinkGrp, "resolve": Resolve, "resp": FanResponse,
}

// KindOf returns the meaning of the field called name in a record of type typ.
func KindOf(typ uint16, name []byte) Kind {
	if string(name) == "acct" && typ != tables.TrustedApp {
		return Account
	}
	switch typ {
	case tables.TrustedApp: // its fields are its program's own
		return Plain
	case tables.Execve:
		if len(name) > 0 && name[0] == 'a' && string(name) != "argc" && !bytes.Contains(name, lenSuffix) {
			return Escaped
		}
	case tables.Path:
		if string(name) == "flags" {
			return PathFlags
		}
	case tables.AVC:
		if string(name) == "saddr" {
			return Plain
		}
	case tables.NetfilterPkt:
		if string(name) == "saddr" {
			return Addr
		}
	case tables.MQOpen:
		if string(name) == "mode" {
			return ModeShort
		}
	case tables.CryptoKeyUser:
		if string(name) == "fp" {
			return Plain
		}
	case tables.AddGroup, tables.DelGroup, tables.GrpMgmt:
		if string(name) == "id" {
			return GroupID
		}
	}
	return kindsByName.of(name)
}

var lenSuffix = []byte("_len")

// isHexOrQuoted says whether an account's name is quoted or all hex digits; old PAM
// wrote a colon behind it.
func isHexOrQuoted(v []byte) bool {
	if len(v) > 0 && v[0] == '"' {
		return true
	}
	v = bytes.TrimSuffix(v, []byte(":"))
	for _, c := range v {
		if nibble(c) > 15 {
			return false
		}
	}
	return true
}

// tailValue looks name up in the enriched tail, whatever its case: what stands
// there is what the host itself said it means. An address, which has spaces, is
// alone in its tail, or the one in braces.
func tailValue(tail, name []byte) ([]byte, bool) {
	if rest, ok := bytes.CutPrefix(tail, saddrPrefix); ok {
		i := bytes.IndexByte(rest, '{')
		if i < 0 || bytes.IndexByte(rest, '}') < 0 || string(name) != "saddr" {
			return nil, false
		}
		return rest[i:], true
	}
	for len(tail) > 0 {
		word, rest := tail, []byte(nil)
		if i := bytes.IndexByte(tail, ' '); i >= 0 {
			word, rest = tail[:i], tail[i+1:]
		}
		eq := bytes.IndexByte(word, '=')
		if eq == len(name) && equalFold(word[:eq], name) {
			if value := tail[eq+1:]; len(value) > 0 && value[0] == '{' && string(name) == "saddr" && bytes.IndexByte(value, '}') > 0 {
				return inBraces(value), true
			}
			return word[eq+1:], true
		}
		tail = rest
	}
	return nil, false
}

var saddrPrefix = []byte("SADDR=")

// inBraces cuts v behind its first closing brace.
func inBraces(v []byte) []byte {
	if i := bytes.IndexByte(v, '}'); i >= 0 {
		return v[:i+1]
	}
	return v
}

func equalFold(a, b []byte) bool {
	for i := range a {
		x, y := a[i], b[i]
		if x-'A' <= 'Z'-'A' {
			x |= 0x20
		}
		if y-'A' <= 'Z'-'A' {
			y |= 0x20
		}
		if x != y {
			return false
		}
	}
	return true
}

// argument returns a system call's argument as a number.
func argument(r *record.Record, name string) (uint64, bool) {
	f, ok := r.Get(name)
	if !ok {
		return 0, false
	}
	return number(f.Value, 16)
}
