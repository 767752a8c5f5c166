package search

import "github.com/auditfleet/auditfleet/pkg/tables"

// class is how a record's type decides which of its fields are searched. The
// stock tool looks at a dozen layouts and ignores all other types: an EXECVE
// record, for one, has nothing to search for.
type class uint8

const (
	classNone      class = iota
	classSyscall         // the task's properties and the call's
	classTask            // the task's properties and a result: FEATURE_CHANGE, ANOM_LINK
	classCWD             // working directory
	classPath            // a file name and its object context
	classAVCPath         // path= only
	classUser            // what a program sent: sender's properties, then msg='…'
	classUserAVC         // the same around a user-space object manager's decision
	classSockaddr        // an address or a socket's path
	classLogin           // a login uid being set
	classObj             // obj= only
	classDaemon          // an audit daemon about itself
	classPeer            // an audit daemon about a connection
	classConfig          // CONFIG_CHANGE
	classMAC             // policy load, labels: the login uid and little else
	classAVC             // a kernel security module's decision
	classPacket          // NETFILTER_PKT
	classAnom            // SECCOMP, ABEND, PROMISCUOUS
	classIntegrity       // IMA, IPE
	classKernel          // NETFILTER_CFG, EVENT_LISTENER: fills only what is missing
	classTTY             // keystrokes
	numClasses
)

// classOf follows ausearch 3.0.9's choice for each type.
func classOf(t uint16) class {
	switch {
	case t == tables.User,
		t >= tables.FirstUserMsg && t <= tables.LastUserMsg && t != tables.UserAVC,
		t >= tables.FirstUserAnom && t <= lastUserMsg2:
		return classUser
	case t >= tables.MACPolicyLoad && t <= lastStaticLabel:
		return classMAC
	case t >= tables.IntegrityData && t <= tables.IntegrityRule:
		return classIntegrity
	}
	switch t {
	case tables.Syscall:
		return classSyscall
	case tables.FeatureChange, tables.AnomLink:
		return classTask
	case tables.CWD:
		return classCWD
	case tables.Path:
		return classPath
	case tables.AVCPath:
		return classAVCPath
	case tables.UserAVC:
		return classUserAVC
	case tables.SockAddr:
		return classSockaddr
	case tables.Login:
		return classLogin
	case tables.IPC, tables.ObjPID:
		return classObj
	case tables.DaemonStart, tables.DaemonEnd, tables.DaemonAbort, tables.DaemonConfig, tables.DaemonRotate, tables.DaemonResume:
		return classDaemon
	case tables.DaemonAccept, tables.DaemonClose:
		return classPeer
	case tables.ConfigChange:
		return classConfig
	case tables.AVC:
		return classAVC
	case tables.NetfilterPkt:
		return classPacket
	case tables.Seccomp, tables.AnomPromiscuous, tables.AnomAbend:
		return classAnom
	case tables.NetfilterCfg, tables.EventListener:
		return classKernel
	case tables.TTY:
		return classTTY
	}
	return classNone
}

const (
	lastStaticLabel uint16 = 1417 // AUDIT_MAC_UNLBL_STCDEL
	lastUserMsg2    uint16 = 2999 // AUDIT_LAST_USER_MSG2
)

// fieldSet is a set of Fields.
type fieldSet uint32

func setOf(fields ...Field) fieldSet {
	var s fieldSet
	for _, f := range fields {
		s |= 1 << f
	}
	return s
}

func (s fieldSet) has(f Field) bool { return s&(1<<f) != 0 }

const allFields fieldSet = 1<<NumFields - 1

// supplies says which fields a class of record can set, so that a search for a
// key need not read PATH records.
var supplies = [numClasses]fieldSet{
	classSyscall: setOf(FieldArch, FieldSyscall, FieldSuccess, FieldExit, FieldPPID, FieldPID, FieldAUID, FieldAUIDName,
		FieldUID, FieldUIDName, FieldEUID, FieldEUIDName, FieldGID, FieldGIDName, FieldEGID, FieldEGIDName, FieldTerminal, FieldSession,
		FieldComm, FieldExe, FieldSubject, FieldKey),
	classTask: setOf(FieldSuccess, FieldPPID, FieldPID, FieldAUID, FieldAUIDName, FieldUID, FieldUIDName, FieldEUID,
		FieldEUIDName, FieldGID, FieldGIDName, FieldEGID, FieldEGIDName, FieldTerminal, FieldSession, FieldComm, FieldExe, FieldSubject),
	classCWD:     setOf(FieldFile),
	classPath:    setOf(FieldFile, FieldObject),
	classAVCPath: setOf(FieldFile),
	classUser: setOf(FieldPID, FieldUID, FieldUIDName, FieldAUID, FieldAUIDName, FieldSession, FieldSubject, FieldObject, FieldGID,
		FieldGIDName, FieldVM, FieldUUID, FieldFile, FieldComm, FieldAcct, FieldHost, FieldTerminal, FieldExe, FieldSuccess),
	classUserAVC: setOf(FieldPID, FieldUID, FieldUIDName, FieldAUID, FieldAUIDName, FieldSession, FieldSubject, FieldObject,
		FieldVM, FieldUUID, FieldFile, FieldComm, FieldAcct, FieldHost, FieldTerminal, FieldExe, FieldSuccess),
	classSockaddr: setOf(FieldHost, FieldFile),
	classLogin:    setOf(FieldPID, FieldUID, FieldUIDName, FieldSubject, FieldAUID, FieldAUIDName, FieldSuccess, FieldSession),
	classObj:      setOf(FieldObject),
	classDaemon:   setOf(FieldAUID, FieldAUIDName, FieldPID, FieldUID, FieldUIDName, FieldSession, FieldSubject, FieldSuccess),
	classPeer:     setOf(FieldHost, FieldSuccess),
	classConfig:   setOf(FieldAUID, FieldAUIDName, FieldSession, FieldSubject, FieldKey, FieldSuccess, FieldFile),
	classMAC:      setOf(FieldAUID, FieldAUIDName, FieldSession, FieldSubject, FieldKey, FieldSuccess),
	classAVC:      setOf(FieldSuccess, FieldPID, FieldComm, FieldFile, FieldSubject, FieldObject),
	classPacket:   setOf(FieldHost, FieldObject),
	classAnom: setOf(FieldAUID, FieldAUIDName, FieldUID, FieldUIDName, FieldGID, FieldGIDName, FieldSession, FieldSubject, FieldPID, FieldComm,
		FieldExe, FieldArch, FieldSyscall, FieldSuccess),
	classIntegrity: setOf(FieldPID, FieldUID, FieldUIDName, FieldAUID, FieldAUIDName, FieldSession, FieldSubject, FieldComm,
		FieldFile, FieldSuccess),
	classKernel: setOf(FieldPID, FieldUID, FieldUIDName, FieldAUID, FieldAUIDName, FieldTerminal, FieldSession, FieldSubject,
		FieldComm, FieldExe, FieldSuccess),
	classTTY: setOf(FieldPID, FieldUID, FieldUIDName, FieldAUID, FieldAUIDName, FieldSession, FieldComm),
}
