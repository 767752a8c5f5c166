package report

import (
	"github.com/auditfleet/auditfleet/pkg/record"
	"github.com/auditfleet/auditfleet/pkg/search"
)

// readers has what reads a record of each class.
var readers = [search.NumClasses]func(*facts, *record.Record){
	search.ClassSyscall: (*facts).readSyscall, search.ClassTask: (*facts).readTask, search.ClassCWD: (*facts).readCWD, search.ClassPath: (*facts).readPath,
	search.ClassAVCPath: (*facts).readAVCPath, search.ClassUser: (*facts).readUser, search.ClassUserAVC: (*facts).readUserAVC,
	search.ClassSockaddr: (*facts).readSockaddr, search.ClassLogin: (*facts).readLogin, search.ClassObj: (*facts).readObj,
	search.ClassDaemon: (*facts).readDaemon, search.ClassPeer: (*facts).readPeer, search.ClassConfig: (*facts).readConfig, search.ClassMAC: (*facts).readConfig,
	search.ClassAVC: (*facts).readAVC, search.ClassPacket: (*facts).readPacket, search.ClassAnom: (*facts).readAnom,
	search.ClassIntegrity: (*facts).readIntegrity, search.ClassKernel: (*facts).readKernel, search.ClassTTY: (*facts).readTTY,
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
