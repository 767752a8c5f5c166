package normalize

import "github.com/auditfleet/auditfleet/pkg/tables"

// kindRange maps a range of record types to a kind of event.
type kindRange struct {
	from, to uint16
	kind     string
}

// eventKinds is sorted by record type. A type in none of the ranges is of an unknown
// kind.
var eventKinds = [...]kindRange{
	{1006, 1006, "user-login"}, {1100, 1101, "user-login"}, {1102, 1102, "user-account"}, {1103, 1106, "user-login"},
	{1107, 1107, "mac-decision"}, {1108, 1110, "user-login"}, {1111, 1111, "configuration"}, {1112, 1113, "user-login"},
	{1114, 1117, "user-account"}, {1119, 1119, "group-change"}, {1120, 1121, "user-space"}, {1122, 1122, "mac-decision"},
	{1123, 1123, "user-space"}, {1124, 1124, "TTY"}, {1125, 1125, "user-space"}, {1126, 1126, "group-change"},
	{1127, 1131, "system-services"}, {1132, 1133, "user-account"}, {1135, 1136, "user-account"},
	{1137, 1138, "configuration"}, {1200, 1299, "audit-daemon"}, {1300, 1304, "audit-rule"},
	{1305, 1305, "configuration"}, {1306, 1315, "audit-rule"}, {1317, 1318, "audit-rule"}, {1319, 1319, "TTY"},
	{1321, 1324, "audit-rule"}, {1325, 1325, "configuration"}, {1326, 1326, "dac-decision"},
	{1328, 1328, "configuration"}, {1331, 1331, "av-decision"}, {1332, 1333, "configuration"},
	{1334, 1334, "bpf-program"}, {1335, 1335, "audit-daemon"}, {1336, 1336, "audit-rule"}, {1400, 1402, "mac-decision"}, {1403, 1501, "mac"},
	{1502, 1503, "mac-decision"}, {1504, 1505, "mac"}, {1506, 1506, "mac-decision"}, {1600, 1699, "crypto"},
	{1700, 1799, "anomaly"}, {1800, 1899, "integrity"}, {2000, 2000, "system-services"}, {2100, 2108, "anomaly"},
	{2109, 2109, "integrity"}, {2110, 2199, "anomaly"}, {2200, 2299, "anomaly-response"}, {2300, 2399, "mac"},
	{2400, 2499, "crypto"}, {2500, 2599, "virt"},
}

func eventKind(typ uint16) string {
	lo, hi := 0, len(eventKinds)
	for lo < hi {
		mid := (lo + hi) / 2
		if eventKinds[mid].to < typ {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo < len(eventKinds) && eventKinds[lo].from <= typ {
		return eventKinds[lo].kind
	}
	return unknown
}

const unknown = "unknown"

// actions maps a record type to the action that it reports. An event with a system call
// uses it only where the call does not give a more exact action.
var actions = map[uint16]string{
	1005: "sent-message", 1006: "changed-login-id-to",
	1100: "authenticated", 1101: "was-authorized", 1102: "modified-user-account", 1103: "acquired-credentials",
	1104: "disposed-credentials", 1105: "started-session", 1106: "ended-session",
	1107: "accessed-mac-policy-controlled-object", 1108: "changed-password", 1109: "caused-account-error",
	1110: "refreshed-credentials", 1111: "changed-configuration", 1112: "logged-in", 1113: "logged-out",
	1114: "added-user-account", 1115: "deleted-user-account", 1116: "added-group-account-to",
	1117: "deleted-group-account-from", 1118: "access-result", 1119: "changed-group", 1120: "sent-test",
	1121: "unknown", 1122: "access-error", 1123: "ran-command", 1124: "typed", 1125: "changed-user-id",
	1126: "authenticated-to-group", 1127: "booted-system", 1128: "shutdown-system", 1129: "changed-to-runlevel",
	1130: "started-service", 1131: "stopped-service", 1132: "modified-group-account", 1133: "changed-group-password",
	1134: "mac-permission", 1135: "locked-account", 1136: "unlocked-account", 1137: "configured-device",
	1138: "installed-software",
	1200: "started-audit", 1201: "shutdown-audit", 1202: "aborted-auditd-startup",
	1203: "changed-auditd-configuration", 1204: "reconfigured-auditd", 1205: "rotated-audit-logs",
	1206: "resumed-audit-logging", 1207: "remote-audit-connected", 1208: "remote-audit-disconnected",
	1209: "audit-error",
	1305: "changed-audit-configuration", 1319: "typed", 1326: "called-seccomp-controlled-syscall",
	1328: "changed-audit-feature", 1330: "loaded-kernel-module", 1331: "accessed-policy-controlled-file",
	1336: "io_uring-operation", 1338: "changed-device-mapping", 1339: "reported-device-mapper-event",
	1400: "accessed-mac-policy-controlled-object", 1403: "loaded-selinux-policy",
	1404: "changed-selinux-enforcement-to", 1405: "changed-selinux-boolean",
	1420: "accessed-mac-policy-controlled-object", 1421: "changed-mac-configuration", 1422: "loaded-mac-policy",
	1423: "accessed-mac-policy-controlled-object", 1424: "changed-landlock-domain",
	1409: "added-mac-network-domain-mapping-to", 1410: "deleted-mac-network-domain-mapping-from",
	1700: "changed-socket-promiscuous-mode", 1701: "crashed-program", 1702: "used-suspcious-link",
	1703: "created-suspicious-file", 2000: "initialized-audit-subsystem",
	2100: "failed-log-in-too-many-times-to", 2101: "attempted-log-in-during-unusual-hour-to",
	2102: "opened-too-many-sessions-to", 2104: "attempted-log-in-from-unusual-place-to",
	2109: "tested-file-system-integrity-of", 2112: "attempted-execution-of-forbidden-program",
	2300: "changed-role-to", 2301: "assigned-user-role-to", 2302: "removed-use-role-from", 2303: "overrode-label-of",
	2304: "modified-level-of", 2309: "relabeled-filesystem", 2310: "loaded-mac-policy", 2311: "modified-role",
	2312: "changed-mac-configuration", 2313: "changed-selinux-enforcement-to",
	2402: "crypto-officer-logged-in", 2403: "crypto-officer-logged-out", 2404: "negotiated-crypto-key",
	2407: "started-crypto-session",
	2500: "issued-vm-control", 2501: "assigned-vm-resource", 2502: "assigned-vm-id", 2503: "checked-integrity-of",
	2504: "created-vm-image", 2505: "deleted-vm-image", 2506: "migrated-vm-from", 2507: "migrated-vm-to",
}

// Kinds of objects.
const (
	kindFile       = "file"
	kindFilesystem = "file-system"
	kindSocket     = "socket"
	kindProcess    = "process"
	kindProcesses  = "process-group"
	kindFirewall   = "firewall"
	kindService    = "service"
	kindAccount    = "account"
	kindSession    = "user-session"
	kindVM         = "virtual-machine"
	kindPrinter    = "printer"
	kindSystem     = "system"
	kindRule       = "admin-defined-rule"
	kindAudit      = "audit-config"
	kindMAC        = "mac-config"
	kindMemory     = "memory"
	kindKeystrokes = "keystrokes"
	kindSoftware   = "software"
	kindChar       = "character-device"
	kindBlock      = "block-device"
)

// modeKinds is the kind of a file by the type in its mode.
var modeKinds = [16]string{
	1: "fifo", 2: kindChar, 4: "directory", 6: kindBlock, 8: kindFile, 10: "symlink", 12: kindSocket,
}

// target says in which fields a record type names its object: the object is the first
// field of the list that the record has. A second object may follow.
type target struct {
	field, orElse string
	kind          string
	detail        string // of the object
	second        string
}

var session = target{field: "terminal", kind: kindSession}

var (
	byAccount = target{field: "acct", kind: kindSession}
	account   = target{field: "id", orElse: "acct", kind: kindAccount}
	macConfig = target{kind: kindMAC}
)

var targets = map[uint16]target{
	tables.User: {field: "addr"}, 1130: {field: "unit", kind: kindService}, 1131: {field: "unit", kind: kindService},
	1129: {field: "new-level", kind: kindSystem}, 2300: {field: "selected-context", kind: kindSession},
	2301: account, 2302: account, 1102: account, 1135: account, 1136: account, 1114: account, 1115: account,
	1116: account, 1117: account, 1132: account,
	1105: session, 1106: session, 1109: session, 1112: session, 1113: session,
	1100: byAccount, 1101: byAccount, 1103: byAccount, 1110: byAccount, 1104: byAccount, 1108: byAccount, 1133: byAccount,
	2100: byAccount, 2101: byAccount, 2102: byAccount, 2104: byAccount,
	2112: {field: "cmd", kind: kindProcess}, 1123: {field: "cmd", kind: kindProcess},
	1124: {field: "data", kind: kindKeystrokes}, 1319: {field: "data", kind: kindKeystrokes},
	1137: {field: "device", kind: kindKeystrokes},
	1138: {field: "sw", kind: kindSoftware, detail: "sw_type", second: "root_dir"},
	2502: {field: "vm", kind: kindVM}, 2501: {field: "resrc", kind: kindVM, second: "vm"},
	2500: {field: "op", kind: kindVM, second: "vm"}, 2304: {field: "printer", kind: kindPrinter},
	1405: {field: "bool", kind: kindMAC}, 1404: {field: "enforcing", kind: kindMAC},
	1403: macConfig, 2303: macConfig, 2307: macConfig, 2308: macConfig, 2309: macConfig, 2310: macConfig,
	2311: macConfig, 2312: macConfig,
	1111: {kind: kindSystem}, 1127: {kind: kindSystem}, 1128: {kind: kindService},
	2404: {field: "fp", kind: kindSession}, 2407: {field: "addr", kind: kindSession, detail: "rport"},
	2109: {field: "hostname", kind: kindFilesystem},
	1338: {field: "dev", kind: kindBlock, second: "module"}, 1339: {field: "dev", kind: kindBlock},
	1420: {field: "path", kind: kindFile}, 1421: {field: "new_active_pol_name", kind: kindMAC}, 1422: {field: "policy_name", kind: kindMAC},
	1423: {field: "path", kind: kindFile}, 1424: {field: "domain", kind: kindMAC},
}
