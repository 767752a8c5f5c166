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
	OpenFlags              // as C writes numbers
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
	URingOp     // decimal
	Trust       // 0, 1 or 2
	FanType     // decimal
	FanInfo     // hex, of what FanType says
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
	"uring_op": URingOp, "subj_trust": Trust, "obj_trust": Trust, "fan_type": FanType, "fan_info": FanInfo,
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
	case tables.MQOpen, tables.Openat2: // of what is to be made, so it has no file's type
		if string(name) == "mode" {
			return ModeShort
		}
	case tables.LandlockDomain: // a word, how the domain is enforced
		if string(name) == "mode" {
			return Plain
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

// argument returns a system call's argument as a number.
func argument(r *record.Record, name string) (uint64, bool) {
	f, ok := r.Get(name)
	if !ok {
		return 0, false
	}
	return number(f.Value, 16)
}
