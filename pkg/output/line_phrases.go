package output

import (
	"bytes"

	"github.com/auditfleet/auditfleet/pkg/record"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// phrases are what records say by themselves: what was done, what could not be ("failed to
// …"), and the rest. <a,b> is the value of the first of these fields that the record has, and
// what stands in [ ] is left out without it. Without the middle part there is no attempt to
// speak of: the sentence is the same however it went.
var phrases = map[uint16]string{
	tables.UserAuth:      "authenticated|authenticate|[ as <acct>][ by <grantors>]",
	tables.UserAcct:      "was granted access|get access|[ as <acct>][ by <grantors>]",
	tables.UserMgmt:      "changed the account|change the account|[ <acct,id>][ (<op>)]",
	tables.CredAcq:       "acquired credentials|acquire credentials|[ of <acct>]",
	tables.CredDisp:      "gave back the credentials|give back the credentials|[ of <acct>]",
	tables.CredRefr:      "refreshed credentials|refresh credentials|[ of <acct>]",
	tables.UserStart:     "started a session|start a session|[ of <acct>]",
	tables.UserEnd:       "ended a session|end a session|[ of <acct>]",
	tables.UserChauthtok: "changed the account|change the account|[ <acct,id>][ (<op>)]",
	tables.UserErr:       "met an account error|[ of <acct>][: <op>]",
	tables.UsysConfig:    "changed the system's configuration|change the system's configuration|[: <op>]",
	tables.UserLogin:     "logged in|log in|[ as <acct,id>]",
	tables.UserLogout:    "logged out|log out|[ as <acct,id>]",
	tables.AddUser:       "added the user|add the user|[ <acct,id>][ (<op>)]",
	tables.DelUser:       "deleted the user|delete the user|[ <acct,id>][ (<op>)]",
	tables.AddGroup:      "added the group|add the group|[ <grp,acct,id>][ (<op>)]",
	tables.DelGroup:      "deleted the group|delete the group|[ <grp,acct,id>][ (<op>)]",
	1118:                 "checked access|check access|[ of <acct,id>][ (<op>)]",
	1119:                 "changed the group|change the group|[ <grp,acct,id>][ (<op>)]",
	tables.UserCmd:       "ran|run| <cmd>[ in <cwd>]",
	tables.UserTTY:       "typed| <data>",
	tables.TTY:           "typed| <data>[ into <comm>]",
	tables.GrpAuth:       "authenticated to the group|authenticate to the group|[ <grp,acct,id>]",
	tables.SystemBoot:    "booted the system|boot the system|",
	1128:                 "shut the system down|shut the system down|",
	1129:                 "changed the runlevel|change the runlevel|[ from <old-level>][ to <new-level>]",
	tables.ServiceStart:  "started the service|start the service| <unit>",
	tables.ServiceStop:   "stopped the service|stop the service| <unit>",
	tables.GrpMgmt:       "changed the group|change the group|[ <grp,acct,id>][ (<op>)]",
	1133:                 "changed the password of the group|change the password of the group|[ <grp,acct,id>]",
	1135:                 "locked the account|lock the account|[ <acct,id>][ (<op>)]",
	1136:                 "unlocked the account|unlock the account|[ <acct,id>][ (<op>)]",

	tables.DaemonStart:  "started the audit daemon|start the audit daemon|[ version <ver>][ on kernel <kernel>]",
	tables.DaemonEnd:    "ended the audit daemon|end the audit daemon|[ (<op>)]",
	tables.DaemonAbort:  "the audit daemon gave up|[: <op>]",
	tables.DaemonConfig: "had the audit daemon read its configuration again|have the audit daemon read its configuration again|[: <state>]",
	1204:                "had the audit daemon read its configuration again|have the audit daemon read its configuration again|[: <state>]",
	tables.DaemonRotate: "rotated the audit logs|rotate the audit logs|",
	tables.DaemonResume: "resumed audit logging|resume audit logging|",
	tables.DaemonAccept: "the audit daemon accepted the sender|!the audit daemon refused the sender|[ <addr>][ port <port>][ (<op>)]",
	tables.DaemonClose:  "the audit daemon closed the connection of|!the audit daemon could not close the connection of|[ <addr>][ port <port>]",
	tables.DaemonErr:    "the audit daemon noted|!the audit daemon met an error|[: <op>][ cause <cause>][ host <host>][ address <addr>][ before <old-addr>][ omitted <omitted>]",

	tables.AnomAbend:     "crashed: |[<exe,comm>][ was ended by <sig>][ (<reason>)]",
	tables.AnomLink:      "used a suspicious link|use a suspicious link|[ (<op>)][ <path,name>]",
	tables.AnomCreat:     "created a suspicious file|create a suspicious file|[ (<op>)][ <path,name>]",
	tables.NetfilterPkt:  "the firewall logged a packet|[ from <saddr>][ port <sport>][ to <daddr>][ port <dport>][ by <proto>][ labelled <obj>]",
	tables.NetfilterCfg:  "changed the firewall|change the firewall|[ table <table>][ of family <family>][ (<op>)][, entries <entries>]",
	tables.FeatureChange: "changed the audit feature|change the audit feature| <feature>[ from <old>][ to <new>]",
	tables.KernModule:    "loaded the kernel module|load the kernel module| <name>",
	timeInjOffset:        "set the system's time|set the system's time|[ by <sec>][ seconds <nsec> ns]",
	timeAdjNTPVal:        "adjusted the system's clock|adjust the system's clock|[ (<op>)][ from <old>][ to <new>]",
	tables.MACPolicyLoad: "loaded the security policy|load the security policy|[ of <lsm>]",
	tables.MACStatus:     "set the enforcement of the security policy|set the enforcement of the security policy|[ to <enforcing>][ (it was <old_enforcing>)]",
	tables.MACConfigChange: "set the security policy's boolean|set the security policy's boolean|" +
		" <bool>[ to <val>][ (it was <old_val>)]",
	ipeConfigChange:   "switched IPE's policy|switch IPE's policy|[ to <new_active_pol_name>][ version <new_active_pol_version>][ (it was <old_active_pol_name>)]",
	ipePolicyLoad:     "loaded IPE's policy|load IPE's policy|[ <policy_name>][ version <policy_version>]",
	tables.SelinuxErr: "met an error of the security policy|[: <op>][ <invalid_context,seresult>][ of <scontext>][ on <tclass>][ labelled <tcontext>]",

	2100:                 "had more failed logins than are allowed|[ as <acct,id>]",
	2101:                 "tried to log in at an unusual time|[ as <acct,id>]",
	2102:                 "opened too many sessions|[ as <acct,id>]",
	2104:                 "tried to log in from an unusual place|[ as <acct,id>]",
	2402:                 "the crypto officer logged in|log in as the crypto officer|",
	2403:                 "the crypto officer logged out|log out as the crypto officer|",
	tables.VirtResource:  "assigned|assign|[ <resrc>][ (<reason>)][ from <old-disk,old-net,old-mem,old-vcpu,old-fs,old-chardev,old-rng>]" + "[ <new-disk,new-net,new-mem,new-vcpu,new-fs,new-chardev,new-rng,cgroup>][ to the virtual machine <vm>]",
	tables.VirtMachineID: "gave the virtual machine its labels|give the virtual machine its labels|[: <vm>][ <vm-ctx>]",
	2504:                 "created the image of a virtual machine|create the image of a virtual machine|[ <vm>]",
	2505:                 "deleted the image of a virtual machine|delete the image of a virtual machine|[ <vm>]",
}

// operations are what the operation of a record is done to.
var operations = map[uint16]string{
	tables.BPF:           " the BPF program[ <prog-id>]",
	tables.EventListener: "[ <nl-mcgrp>]",
	tables.CryptoKeyUser: " the cryptographic key[ <fp>][ (<kind>)]",
	2407:                 " a cryptographic session[ <direction>][, cipher <cipher>][, port <lport>]",
	tables.VirtControl:   " the virtual machine[ <vm>][ (<reason>)]",
}

// operationWords are the verbs of operations, what was done and what could not be.
var operationWords = map[string]string{
	"load": "loaded|load", "unload": "unloaded|unload", "connect": "connected to|connect to", "disconnect": "disconnected from|disconnect from",
	"start": "started|start", "stop": "stopped|stop", "destroy": "destroyed|destroy", "create": "created|create", "negotiate": "negotiated|negotiate",
}

// The types IPE_CONFIG_CHANGE and IPE_POLICY_LOAD.
const (
	ipeConfigChange uint16 = 1421
	ipePolicyLoad   uint16 = 1422
)

// isDecision says whether a record of that type is what a security module decided.
func isDecision(typ uint16) bool {
	return typ == tables.AVC || typ == tables.UserAVC || typ == tables.Fanotify || typ == tables.IPEAccess || typ == tables.LandlockAccess || typ >= tables.AppArmor && typ <= tables.LastAppArmor
}

// appendDecision appends what a security module decided: the verdict, what was asked for,
// on what, and by whom.
func (f *lineFormat) appendDecision(dst []byte, r *record.Record) []byte {
	if word, ok := f.said(r, "apparmor"); ok {
		return f.appendAppArmor(dst, r, &word)
	}
	switch r.Type {
	case tables.IPEAccess:
		return f.appendIPE(dst, r)
	case tables.LandlockAccess: // of denials only
		f.bad = true
		return f.appendPhrase(dst, r, unknownOutcome, "Landlock denied|[ <blockers>][ on <path>][ of process <opid>][ to <daddr>][ port <dest>][ from <saddr>][ port <src>][, domain <domain>]")
	case tables.Fanotify:
		resp, _ := f.own(r, "resp")
		f.bad = f.bad || string(resp.Value) == "2"
		return f.appendPhrase(dst, r, unknownOutcome, "a fanotify watcher answered|[ <resp>][, rule <fan_info>][, trust of the subject <subj_trust>][ and of the object <obj_trust>]")
	}
	verdict, perms, ok := verdictOf(r.Body)
	if !ok {
		return f.appendFields(dst, r, unknownOutcome)
	}
	permissive, _ := f.said(r, "permissive")
	denied := string(verdict) == "denied"
	f.bad = f.bad || denied && string(permissive.Value) != "1"
	dst = append(appendWords(append(dst, "SELinux "...), verdict), ' ')
	for i, p := range bytes.Fields(perms) {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendQuoted(dst, p, longestArgument)
	}
	dst = f.appendPhrase(dst, r, unknownOutcome, "|[ on <tclass>][ <path,name,dest,capability,ioctlcmd>][ labelled <tcontext>][ to <scontext>]")
	if denied && string(permissive.Value) == "1" {
		dst = append(dst, ", but let it happen: it is permissive"...)
	}
	return dst
}

// appendIPE appends what IPE decided: by a rule, or by what holds without one. It enforces, or
// only tells.
func (f *lineFormat) appendIPE(dst []byte, r *record.Record) []byte {
	rule, _ := f.own(r, "rule")
	enforcing, _ := f.own(r, "enforcing")
	denied, enforced := !bytes.Contains(rule.Value, []byte("action=ALLOW")), string(enforcing.Value) != "0"
	f.bad = f.bad || denied && enforced
	verb := "IPE allowed|"
	switch {
	case denied && enforced:
		verb = "IPE denied|"
	case denied:
		verb = "IPE would deny, but allowed|"
	}
	return f.appendPhrase(dst, r, unknownOutcome, verb+"[ <ipe_op>][ (<ipe_hook>)][ of <path>][ by <rule>]")
}

// appendLandlockDomain appends that a process has confined itself, or that nothing is left
// of what it did.
func (f *lineFormat) appendLandlockDomain(dst []byte, r *record.Record) []byte {
	if status, _ := f.own(r, "status"); string(status.Value) == "deallocated" {
		return f.appendPhrase(dst, r, unknownOutcome, "the Landlock domain| <domain> ended[ after <denials> denials]")
	}
	return f.appendPhrase(dst, r, unknownOutcome, "confined itself by the Landlock domain| <domain>[ (<mode>)]")
}

// appendWords appends words of a record within a sentence.
func appendWords(dst, words []byte) []byte { return append(dst, terminalText(words)...) }

func (f *lineFormat) appendAppArmor(dst []byte, r *record.Record, word *record.Field) []byte {
	f.value = f.appendText(f.value[:0], r, word)
	verb := "noted"
	switch string(f.value) {
	case "DENIED":
		verb, f.bad = "denied", true
	case "ALLOWED":
		verb = "would deny, but allowed"
	case "AUDIT":
		verb = "allowed"
	case "STATUS":
		verb = "did"
	case "ERROR":
		verb, f.bad = "failed at", true
	}
	dst = append(append(dst, "AppArmor "...), verb...)
	return f.appendPhrase(dst, r, unknownOutcome, "|[ <operation>][ of <name,capname,family>][ (<denied_mask,requested_mask>)][ to <profile>][: <info>]")
}

// verdictOf takes apart what SELinux says in words: "avc:  denied  { read write } for".
func verdictOf(body []byte) (verdict, perms []byte, ok bool) {
	_, rest, ok := bytes.Cut(body, []byte("avc:"))
	if !ok {
		return nil, nil, false
	}
	verdict, rest, ok = bytes.Cut(rest, []byte{'{'})
	perms, _, closed := bytes.Cut(rest, []byte{'}'})
	if !ok || !closed || bytes.IndexByte(verdict, '=') >= 0 {
		return nil, nil, false
	}
	return bytes.TrimSpace(verdict), perms, true
}
