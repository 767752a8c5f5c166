package tables

import (
	"strconv"
	"strings"
	"sync"
)

// Record types that code decides by. Names and numbers are those of
// include/uapi/linux/audit.h and of libaudit's audit-records.h.
const (
	User           uint16 = 1005
	Login          uint16 = 1006
	FirstUserMsg   uint16 = 1100
	UserAuth       uint16 = 1100
	UserAcct       uint16 = 1101
	UserMgmt       uint16 = 1102
	CredAcq        uint16 = 1103
	CredDisp       uint16 = 1104
	UserStart      uint16 = 1105
	UserEnd        uint16 = 1106
	UserAVC        uint16 = 1107
	UserChauthtok  uint16 = 1108
	UserErr        uint16 = 1109
	CredRefr       uint16 = 1110
	UsysConfig     uint16 = 1111
	UserLogin      uint16 = 1112
	UserLogout     uint16 = 1113
	AddUser        uint16 = 1114
	DelUser        uint16 = 1115
	AddGroup       uint16 = 1116
	DelGroup       uint16 = 1117
	TrustedApp     uint16 = 1121
	UserCmd        uint16 = 1123
	UserTTY        uint16 = 1124
	GrpAuth        uint16 = 1126
	SystemBoot     uint16 = 1127
	SystemShutdown uint16 = 1128
	ServiceStart   uint16 = 1130
	ServiceStop    uint16 = 1131
	GrpMgmt        uint16 = 1132
	LastUserMsg    uint16 = 1199
	DaemonStart    uint16 = 1200
	DaemonEnd      uint16 = 1201
	DaemonAbort    uint16 = 1202
	DaemonConfig   uint16 = 1203
	DaemonRotate   uint16 = 1205
	DaemonResume   uint16 = 1206
	DaemonAccept   uint16 = 1207
	DaemonClose    uint16 = 1208
	DaemonErr      uint16 = 1209
	LastDaemon     uint16 = 1299

	FirstEvent    uint16 = 1300 // below: an event of one record each
	Syscall       uint16 = 1300
	Path          uint16 = 1302
	IPC           uint16 = 1303
	SocketCall    uint16 = 1304
	ConfigChange  uint16 = 1305
	SockAddr      uint16 = 1306
	CWD           uint16 = 1307
	Execve        uint16 = 1309
	IPCSetPerm    uint16 = 1311
	MQOpen        uint16 = 1312
	MQSendRecv    uint16 = 1313
	MQNotify      uint16 = 1314
	MQGetSetAttr  uint16 = 1315
	KernelOther   uint16 = 1316
	FDPair        uint16 = 1317
	ObjPID        uint16 = 1318
	TTY           uint16 = 1319
	EOE           uint16 = 1320
	BPRMFcaps     uint16 = 1321
	Capset        uint16 = 1322
	MMAP          uint16 = 1323
	NetfilterPkt  uint16 = 1324
	NetfilterCfg  uint16 = 1325
	Seccomp       uint16 = 1326
	Proctitle     uint16 = 1327
	FeatureChange uint16 = 1328
	KernModule    uint16 = 1330
	Fanotify      uint16 = 1331
	BPF           uint16 = 1334
	EventListener uint16 = 1335
	URingOp       uint16 = 1336
	Openat2       uint16 = 1337
	DMCtrl        uint16 = 1338
	DMEvent       uint16 = 1339
	LastEvent     uint16 = 1399

	AVC             uint16 = 1400
	SelinuxErr      uint16 = 1401
	AVCPath         uint16 = 1402
	MACPolicyLoad   uint16 = 1403
	MACStatus       uint16 = 1404
	MACConfigChange uint16 = 1405
	MACUnlblAllow   uint16 = 1406
	MACMapDel       uint16 = 1410
	MACUnlblStcDel  uint16 = 1417
	MACCalipsoDel   uint16 = 1419
	IPEAccess       uint16 = 1420
	LandlockAccess  uint16 = 1423
	LandlockDomain  uint16 = 1424
	MACTaskContexts uint16 = 1425
	MACObjContexts  uint16 = 1426
	LastSelinux     uint16 = 1499

	AppArmor        uint16 = 1500
	AppArmorAudit   uint16 = 1501
	AppArmorAllowed uint16 = 1502
	AppArmorDenied  uint16 = 1503
	AppArmorHint    uint16 = 1504
	AppArmorStatus  uint16 = 1505
	AppArmorError   uint16 = 1506
	LastAppArmor    uint16 = 1599

	FirstAnom       uint16 = 1700 // AUDIT_FIRST_KERN_ANOM_MSG; at or above: an event of one record each
	AnomPromiscuous uint16 = 1700
	AnomAbend       uint16 = 1701
	AnomLink        uint16 = 1702
	AnomCreat       uint16 = 1703
	IntegrityData   uint16 = 1800
	IntegrityRule   uint16 = 1805
	Kernel          uint16 = 2000
	FirstUserAnom   uint16 = 2100 // AUDIT_FIRST_ANOM_MSG
	LastUserAnom    uint16 = 2199
	FirstAnomResp   uint16 = 2200
	LastAnomResp    uint16 = 2299
	UserRoleChange  uint16 = 2300
	FirstCrypto     uint16 = 2400
	CryptoKeyUser   uint16 = 2404
	LastCrypto      uint16 = 2499
	FirstVirt       uint16 = 2500
	VirtControl     uint16 = 2500
	VirtResource    uint16 = 2501
	VirtMachineID   uint16 = 2502
	LastVirt        uint16 = 2599
	LastUserMsg2    uint16 = 2999
)

type typeTable struct {
	byName map[string]uint16
	byNum  map[uint16]string
	bytes  map[uint16][]byte
	nums   []uint16
}

var types = sync.OnceValue(func() *typeTable {
	n := strings.Count(typesText, "\n") + 1
	t := &typeTable{byName: make(map[string]uint16, n), byNum: make(map[uint16]string, n), bytes: make(map[uint16][]byte, n), nums: make([]uint16, 0, n)}
	eachLine(typesText, func(num int, name string) {
		t.byName[name] = uint16(num)
		t.byNum[uint16(num)] = name
		t.bytes[uint16(num)] = []byte(name)
		t.nums = append(t.nums, uint16(num))
	})
	return t
})

// eachLine calls fn for the lines "NUMBER NAME" of a generated table. The names
// share the table's memory.
func eachLine(text string, fn func(num int, name string)) {
	for line := range strings.SplitSeq(text, "\n") {
		num, name, _ := strings.Cut(line, " ")
		n, err := strconv.Atoi(num)
		if err != nil {
			continue // cannot happen: generated, and the tests read every line
		}
		fn(n, name)
	}
}

const unknownPrefix = "UNKNOWN["

// TypeByName returns the number of the record type called name; false if it is not known.
// It also parses "UNKNOWN[1334]", which a daemon writes for a type without a name, and
// "1334". As in the stock tools, case does not matter. It does not allocate.
func TypeByName(name []byte) (uint16, bool) {
	// Most of any log is these. The compiler makes one comparison by length and
	// contents of it, a third of a map's cost.
	switch string(name) {
	case "SYSCALL":
		return Syscall, true
	case "PATH":
		return Path, true
	case "PROCTITLE":
		return Proctitle, true
	case "CWD":
		return CWD, true
	case "EOE":
		return EOE, true
	case "EXECVE":
		return Execve, true
	case "SOCKADDR":
		return SockAddr, true
	}
	t := types()
	if n, ok := t.byName[string(name)]; ok {
		return n, true
	}
	var upper [32]byte // the longest name has 24 bytes
	if len(name) > len(upper) || len(name) == 0 {
		return 0, false
	}
	for i, c := range name {
		if 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		upper[i] = c
	}
	u := upper[:len(name)]
	if n, ok := t.byName[string(u)]; ok {
		return n, true
	}
	if len(u) > len(unknownPrefix)+1 && string(u[:len(unknownPrefix)]) == unknownPrefix && u[len(u)-1] == ']' {
		return decimal16(u[len(unknownPrefix) : len(u)-1])
	}
	return decimal16(u)
}

func decimal16(b []byte) (uint16, bool) {
	if len(b) == 0 || len(b) > 5 {
		return 0, false
	}
	n := 0
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	if n >= 1<<16 {
		return 0, false
	}
	return uint16(n), true
}

// TypeName returns the name of record type n, or "UNKNOWN[1334]" for a number without a
// name.
func TypeName(n uint16) string {
	if name, ok := types().byNum[n]; ok {
		return name
	}
	return unknownPrefix + strconv.Itoa(int(n)) + "]"
}

// TypeNameBytes returns the name of record type n, nil for a number without one. The
// caller must not change it.
func TypeNameBytes(n uint16) []byte { return types().bytes[n] }

// Types returns the numbers of all named record types in ascending order.
func Types() []uint16 {
	return append([]uint16(nil), types().nums...)
}
