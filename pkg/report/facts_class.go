package report

import (
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/record"
)

// readers has what reads a record of each class.
var readers = [query.NumClasses]func(*facts, *record.Record){
	query.ClassSyscall: (*facts).readSyscall, query.ClassTask: (*facts).readTask, query.ClassCWD: (*facts).readCWD, query.ClassPath: (*facts).readPath,
	query.ClassAVCPath: (*facts).readAVCPath, query.ClassUser: (*facts).readUser, query.ClassUserAVC: (*facts).readUserAVC,
	query.ClassSockaddr: (*facts).readSockaddr, query.ClassLogin: (*facts).readLogin, query.ClassObj: (*facts).readObj,
	query.ClassDaemon: (*facts).readDaemon, query.ClassPeer: (*facts).readPeer, query.ClassConfig: (*facts).readConfig, query.ClassMAC: (*facts).readConfig,
	query.ClassAVC: (*facts).readAVC, query.ClassPacket: (*facts).readPacket, query.ClassAnom: (*facts).readAnom,
	query.ClassIntegrity: (*facts).readIntegrity, query.ClassKernel: (*facts).readKernel, query.ClassTTY: (*facts).readTTY,
}

// Types that pkg/tables has no constant for.
const (
	typeKernCrypto    uint16 = 1600
	typeKernCryptoMax uint16 = 1699
	typeKernAnomMax   uint16 = 1799
	typeIntegrityMax  uint16 = 1899
	typeRoleAssign    uint16 = 2301
	typeRoleRemove    uint16 = 2302
	typeMACUserConfig uint16 = 2312 // USER_MAC_CONFIG_CHANGE
	typeLSPPMax       uint16 = 2399
)
