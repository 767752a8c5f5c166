package query

import "github.com/auditfleet/auditfleet/pkg/tables"

// Class is the layout of a record. The record's type determines it, and it determines
// which fields can be searched and reported. The stock tools know a dozen layouts and
// ignore all other record types: no field of an EXECVE record can be searched for, for
// example.
type Class uint8

const (
	ClassNone      Class = iota
	ClassSyscall         // the task's properties and the call's
	ClassUring           // the same of an io_uring operation, which is no system call
	ClassTask            // the task's properties and a result: FEATURE_CHANGE, ANOM_LINK, DM_CTRL
	ClassCWD             // working directory
	ClassPath            // a file name and its object context
	ClassAVCPath         // path= only
	ClassUser            // what a program sent: sender's properties, then msg='…'
	ClassUserAVC         // the same around a user-space object manager's decision
	ClassSockaddr        // an address or a socket's path
	ClassLogin           // a login uid being set
	ClassObj             // obj= only
	ClassDaemon          // an audit daemon about itself
	ClassPeer            // an audit daemon about a connection
	ClassConfig          // CONFIG_CHANGE
	ClassMAC             // policy load, labels: the login uid and little else
	ClassAVC             // a kernel security module's decision
	ClassPacket          // NETFILTER_PKT
	ClassAnom            // SECCOMP, ABEND, PROMISCUOUS
	ClassIntegrity       // IMA, IPE
	ClassKernel          // NETFILTER_CFG, EVENT_LISTENER: fills only what is missing
	ClassTTY             // keystrokes
	NumClasses
)

// classes maps a record type to its Class; ClassOf reads it.
var classes = makeClasses()

func makeClasses() (c [tables.LastUserMsg2 + 1]Class) {
	set := func(to Class, low, high uint16) {
		for t := low; t <= high; t++ {
			c[t] = to
		}
	}
	set(ClassUser, tables.User, tables.User)
	set(ClassUser, tables.FirstUserMsg, tables.LastUserMsg)
	set(ClassUser, tables.FirstUserAnom, tables.LastUserMsg2)
	set(ClassMAC, tables.MACPolicyLoad, tables.MACUnlblStcDel)
	set(ClassIntegrity, tables.IntegrityData, tables.IntegrityRule)
	for to, types := range map[Class][]uint16{
		ClassSyscall: {tables.Syscall}, ClassUring: {tables.URingOp},
		ClassTask: {tables.FeatureChange, tables.AnomLink, tables.DMCtrl}, ClassCWD: {tables.CWD},
		ClassPath: {tables.Path}, ClassAVCPath: {tables.AVCPath}, ClassUserAVC: {tables.UserAVC}, ClassSockaddr: {tables.SockAddr},
		ClassLogin: {tables.Login}, ClassObj: {tables.IPC, tables.ObjPID}, ClassConfig: {tables.ConfigChange}, ClassAVC: {tables.AVC},
		ClassDaemon: {
			tables.DaemonStart, tables.DaemonEnd, tables.DaemonAbort, tables.DaemonConfig, tables.DaemonRotate, tables.DaemonResume,
		},
		ClassPeer: {tables.DaemonAccept, tables.DaemonClose}, ClassPacket: {tables.NetfilterPkt},
		ClassAnom:   {tables.Seccomp, tables.AnomPromiscuous, tables.AnomAbend},
		ClassKernel: {tables.NetfilterCfg, tables.EventListener}, ClassTTY: {tables.TTY},
	} {
		for _, t := range types {
			c[t] = to
		}
	}
	return c
}

// ClassOf returns the class of record type t, as ausearch and aureport define it: 3.0.9,
// and 4.2 for types that are newer.
func ClassOf(t uint16) Class {
	if t > tables.LastUserMsg2 {
		return ClassNone
	}
	return classes[t]
}

const allFields FieldSet = 1<<NumFields - 1

// supplies maps each class to the fields that a record of that class can set. A search
// for a key therefore need not read PATH records.
var supplies = [NumClasses]FieldSet{
	ClassSyscall: SetOf(FieldArch, FieldSyscall, FieldSuccess, FieldExit, FieldPPID, FieldPID, FieldAUID, FieldAUIDName,
		FieldUID, FieldUIDName, FieldEUID, FieldEUIDName, FieldGID, FieldGIDName, FieldEGID, FieldEGIDName, FieldTerminal, FieldSession,
		FieldComm, FieldExe, FieldSubject, FieldKey),
	ClassUring: SetOf(FieldSuccess, FieldExit, FieldPPID, FieldPID, FieldAUID, FieldAUIDName, FieldUID, FieldUIDName, FieldEUID,
		FieldEUIDName, FieldGID, FieldGIDName, FieldEGID, FieldEGIDName, FieldTerminal, FieldSession, FieldComm, FieldExe, FieldSubject, FieldKey),
	ClassTask: SetOf(FieldSuccess, FieldPPID, FieldPID, FieldAUID, FieldAUIDName, FieldUID, FieldUIDName, FieldEUID,
		FieldEUIDName, FieldGID, FieldGIDName, FieldEGID, FieldEGIDName, FieldTerminal, FieldSession, FieldComm, FieldExe, FieldSubject),
	ClassCWD:     SetOf(FieldFile),
	ClassPath:    SetOf(FieldFile, FieldObject),
	ClassAVCPath: SetOf(FieldFile),
	ClassUser: SetOf(FieldPID, FieldUID, FieldUIDName, FieldAUID, FieldAUIDName, FieldSession, FieldSubject, FieldObject, FieldGID,
		FieldGIDName, FieldVM, FieldUUID, FieldFile, FieldComm, FieldAcct, FieldHost, FieldTerminal, FieldExe, FieldSuccess),
	ClassUserAVC: SetOf(FieldPID, FieldUID, FieldUIDName, FieldAUID, FieldAUIDName, FieldSession, FieldSubject, FieldObject,
		FieldVM, FieldUUID, FieldFile, FieldComm, FieldAcct, FieldHost, FieldTerminal, FieldExe, FieldSuccess),
	ClassSockaddr: SetOf(FieldHost, FieldFile),
	ClassLogin:    SetOf(FieldPID, FieldUID, FieldUIDName, FieldSubject, FieldAUID, FieldAUIDName, FieldSuccess, FieldSession),
	ClassObj:      SetOf(FieldObject),
	ClassDaemon:   SetOf(FieldAUID, FieldAUIDName, FieldPID, FieldUID, FieldUIDName, FieldSession, FieldSubject, FieldSuccess),
	ClassPeer:     SetOf(FieldHost, FieldSuccess),
	ClassConfig:   SetOf(FieldAUID, FieldAUIDName, FieldSession, FieldSubject, FieldKey, FieldSuccess, FieldFile),
	ClassMAC:      SetOf(FieldAUID, FieldAUIDName, FieldSession, FieldSubject, FieldKey, FieldSuccess),
	ClassAVC:      SetOf(FieldSuccess, FieldPID, FieldComm, FieldFile, FieldSubject, FieldObject),
	ClassPacket:   SetOf(FieldHost, FieldObject),
	ClassAnom: SetOf(FieldAUID, FieldAUIDName, FieldUID, FieldUIDName, FieldGID, FieldGIDName, FieldSession, FieldSubject, FieldPID, FieldComm,
		FieldExe, FieldArch, FieldSyscall, FieldSuccess),
	ClassIntegrity: SetOf(FieldPID, FieldUID, FieldUIDName, FieldAUID, FieldAUIDName, FieldSession, FieldSubject, FieldComm,
		FieldFile, FieldSuccess),
	ClassKernel: SetOf(FieldPID, FieldUID, FieldUIDName, FieldAUID, FieldAUIDName, FieldTerminal, FieldSession, FieldSubject,
		FieldComm, FieldExe, FieldSuccess),
	ClassTTY: SetOf(FieldPID, FieldUID, FieldUIDName, FieldAUID, FieldAUIDName, FieldSession, FieldComm),
}
