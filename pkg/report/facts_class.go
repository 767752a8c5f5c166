package report

import (
	"github.com/auditfleet/auditfleet/pkg/record"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// class is how a record's type decides what is read of it. The stock tool knows a
// dozen layouts and reads nothing of all other types.
type class uint8

const (
	classNone class = iota
	classSyscall
	classTask      // FEATURE_CHANGE, ANOM_LINK: the task's properties and a result
	classCWD       // working directory
	classPath      // a file's name and its context
	classAVCPath   // path= only
	classUser      // what a program sent
	classUserAVC   // the decision of an object manager in user space
	classSockaddr  // an address or a socket's path
	classLogin     // a login uid being set
	classObj       // obj= only
	classDaemon    // an audit daemon about itself
	classPeer      // an audit daemon about a connection
	classConfig    // CONFIG_CHANGE
	classMAC       // policy load, labels
	classAVC       // a kernel security module's decision
	classPacket    // NETFILTER_PKT
	classAnom      // SECCOMP, ABEND, PROMISCUOUS
	classIntegrity // IMA, IPE
	classKernel    // NETFILTER_CFG, EVENT_LISTENER: only what is missing
	classTTY       // keystrokes
	numClasses
)

// readers has what reads a record of each class. It is set in init since the
// readers use methods that use classes.
var readers = [numClasses]func(*facts, *record.Record){
	classSyscall: (*facts).readSyscall, classTask: (*facts).readTask, classCWD: (*facts).readCWD, classPath: (*facts).readPath,
	classAVCPath: (*facts).readAVCPath, classUser: (*facts).readUser, classUserAVC: (*facts).readUserAVC,
	classSockaddr: (*facts).readSockaddr, classLogin: (*facts).readLogin, classObj: (*facts).readObj,
	classDaemon: (*facts).readDaemon, classPeer: (*facts).readPeer, classConfig: (*facts).readConfig, classMAC: (*facts).readConfig,
	classAVC: (*facts).readAVC, classPacket: (*facts).readPacket, classAnom: (*facts).readAnom,
	classIntegrity: (*facts).readIntegrity, classKernel: (*facts).readKernel, classTTY: (*facts).readTTY,
}

// Types that pkg/tables has no constant for.
const (
	typeAddUser       uint16 = 1114
	typeDelUser       uint16 = 1115
	typeAddGroup      uint16 = 1116
	typeDelGroup      uint16 = 1117
	typeGrpAuth       uint16 = 1126
	typeGrpMgmt       uint16 = 1132
	typeMACMapDel     uint16 = 1410
	typeMACStcDel     uint16 = 1417 // MAC_UNLBL_STCDEL
	typeKernCrypto    uint16 = 1600
	typeKernCryptoMax uint16 = 1699
	typeKernAnomMax   uint16 = 1799
	typeIntegrityMax  uint16 = 1899
	typeRoleAssign    uint16 = 2301
	typeRoleRemove    uint16 = 2302
	typeMACUserConfig uint16 = 2312 // USER_MAC_CONFIG_CHANGE
	typeLSPPMax       uint16 = 2399
	typeUserMax       uint16 = 2999 // AUDIT_LAST_USER_MSG2
)

// classes is classOf for the types that have one.
var classes = makeClasses()

func makeClasses() (c [typeUserMax + 1]class) {
	set := func(to class, low, high uint16) {
		for t := low; t <= high; t++ {
			c[t] = to
		}
	}
	set(classUser, tables.User, tables.User)
	set(classUser, tables.FirstUserMsg, tables.LastUserMsg)
	set(classUser, tables.FirstUserAnom, typeUserMax)
	set(classMAC, tables.MACPolicyLoad, typeMACStcDel)
	set(classIntegrity, tables.IntegrityData, tables.IntegrityRule)
	for to, types := range map[class][]uint16{
		classSyscall: {tables.Syscall}, classTask: {tables.FeatureChange, tables.AnomLink}, classCWD: {tables.CWD},
		classPath: {tables.Path}, classAVCPath: {tables.AVCPath}, classUserAVC: {tables.UserAVC}, classSockaddr: {tables.SockAddr},
		classLogin: {tables.Login}, classObj: {tables.IPC, tables.ObjPID}, classConfig: {tables.ConfigChange}, classAVC: {tables.AVC},
		classDaemon: {
			tables.DaemonStart, tables.DaemonEnd, tables.DaemonAbort, tables.DaemonConfig, tables.DaemonRotate, tables.DaemonResume,
		},
		classPeer: {tables.DaemonAccept, tables.DaemonClose}, classPacket: {tables.NetfilterPkt},
		classAnom:   {tables.Seccomp, tables.AnomPromiscuous, tables.AnomAbend},
		classKernel: {tables.NetfilterCfg, tables.EventListener}, classTTY: {tables.TTY},
	} {
		for _, t := range types {
			c[t] = to
		}
	}
	return c
}

func classOf(t uint16) class {
	if t > typeUserMax {
		return classNone
	}
	return classes[t]
}
