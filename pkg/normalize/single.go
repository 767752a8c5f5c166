package normalize

import (
	"bytes"

	"github.com/auditfleet/auditfleet/pkg/tables"
)

// A step searches for one field, from the current place of the walk on.
type step struct {
	what  role
	field string
	// back goes to the start of the event when there is no such field.
	back bool
}

type role uint8

// What a step's field is.
const (
	start    role = iota // no field: go to the start
	subject              // who did it
	alias                // who the subject acts as; its id decides the subject's kind
	session_             // without one the walk goes to the start
	object
	result
	means // how
	attrs // no field: the subject's pid and label
)

// recipe is the list of steps that reads an event of one record of a certain type.
type recipe struct {
	steps       []step
	subjectKind string // where no id decides it
	objectKind  string
}

var (
	whoChanged = []step{{what: subject, field: "auid"}, {what: session_}, {what: attrs}}
	byUID      = step{what: alias, field: "uid", back: true}
	res        = step{what: result, field: "res"}
)

func steps(lists ...[]step) []step {
	var all []step
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}

// recipes holds the record types that are not read like a message of a program.
var recipes = map[uint16]recipe{
	tables.FeatureChange: {
		steps: steps(whoChanged, []step{
			{what: start}, byUID, {what: means, field: "exe"}, {what: object, field: "feature"}, res,
		}),
		objectKind: kindSystem,
	},
	tables.Seccomp: {
		steps: steps(whoChanged, []step{
			{what: start}, byUID, {what: means, field: "exe"}, {what: object, field: "syscall", back: true},
			{what: result, field: "code"},
		}),
		objectKind: kindProcess,
	},
	tables.AnomAbend: {
		steps: steps(whoChanged, []step{
			{what: start}, byUID, {what: object, field: "exe", back: true}, {what: means, field: "sig"}, res,
		}),
		objectKind: kindProcess,
	},
	tables.AnomPromiscuous: {
		steps: steps(whoChanged, []step{
			{what: start}, {what: object, field: "dev"}, {what: alias, field: "uid"}, res,
		}),
		objectKind: kindSocket,
	},
	tables.Login: {
		steps: []step{
			byUID, {what: attrs}, {what: subject, field: "old-auid", back: true},
			{what: object, field: "auid", back: true}, {what: session_}, res,
		},
		objectKind: kindSession,
	},
	tables.NetfilterCfg: {
		steps:       []step{{what: attrs}, {what: means, field: "comm"}, {what: start}, {what: object, field: "table"}},
		subjectKind: kindSystem, objectKind: kindFirewall,
	},
}

var daemonSteps = []step{{what: subject, field: "auid"}, byUID, {what: session_}, {what: attrs}, res}

// follow takes the steps in turn.
func (n *Normalizer) follow(list []step) {
	for i := range list {
		s := &list[i]
		switch s.what {
		case start:
			n.rewind()
			continue
		case attrs:
			n.addSubjectAttrs()
			continue
		case session_:
			n.findSession(0)
			continue
		}
		if _, ok := n.find(s.field); !ok {
			if s.back {
				n.rewind()
			}
			continue
		}
		switch s.what {
		case subject:
			n.Subject = n.in0()
		case alias:
			n.Alias = n.in0()
			n.who()
		case object:
			n.Object = n.in0()
		case result:
			n.Result = n.in0()
		case means:
			n.byMeans()
		}
	}
}

// in0 is the place the walk stands on, as one of the first record.
func (n *Normalizer) in0() Value { return n.walk.in(0) }

func (n *Normalizer) findSession(part int) {
	if _, ok := n.find("ses"); ok {
		n.Session = n.walk.in(part)
	} else {
		n.rewind()
	}
}

// addAttr notes one more of what is known of the subject or object.
func (n *Normalizer) addAttr(list *[]Value, name string, part int) bool {
	if _, ok := n.find(name); !ok {
		n.jump(part)
		return false
	}
	*list = append(*list, n.walk.in(part))
	return true
}

func (n *Normalizer) addSubjectAttrs() {
	if !n.labels {
		return
	}
	n.rewind()
	n.addAttr(&n.subjAttrs, "pid", 0)
	n.addAttr(&n.subjAttrs, "subj", 0)
}

// single reads an event of one record, but for a SYSCALL's.
func (n *Normalizer) single(typ uint16) {
	n.Kind = eventKind(typ)
	if r, ok := recipes[typ]; ok {
		n.named(actions[typ])
		n.SubjectKind, n.ObjectKind = r.subjectKind, r.objectKind
		n.follow(r.steps)
		if typ == tables.NetfilterCfg {
			n.named(firewallAction)
		}
		return
	}
	switch {
	case typ == tables.ConfigChange:
		n.configChange()
	case typ == tables.AVC:
		n.denial()
	case typ >= tables.DaemonStart && typ < tables.LastDaemon:
		n.daemon(typ)
	case typ == tables.BPF:
		n.SubjectKind, n.ObjectKind = kindSystem, kindProcess
		n.rewind()
		n.bpfAction()
		n.programObject()
	case typ == tables.EventListener:
		n.listener()
	case typ >= tables.MACUnlblAllow && typ <= tables.MACCalipsoDel:
		n.labeledNetwork(typ)
	default:
		n.message(typ)
	}
}

const firewallAction = "loaded-firewall-rule-to"

// ruleChanges are what op= says of audit rules.
var ruleChanges = [...]struct{ op, action string }{
	{"add_rule", "added-audit-rule"}, {"remove_rule", "deleted-audit-rule"},
}

func (n *Normalizer) configChange() {
	n.follow(whoChanged)
	n.first()
	n.ObjectKind = kindAudit
	if _, ok := n.find("op"); ok {
		n.scratch = n.AppendText(n.scratch[:0], n.here())
		op := bytes.TrimPrefix(n.scratch, []byte{'"'})
		for _, c := range ruleChanges {
			if bytes.HasPrefix(op, []byte(c.op)) {
				n.named(c.action)
				n.Object = n.changedSetting()
				n.rewind()
				n.follow([]step{res})
				return
			}
		}
	}
	n.named(actions[tables.ConfigChange])
	n.Object = n.changedSetting()
	n.rewind()
	n.follow([]step{res})
}

// settings are the fields that name what was changed; a rule's key comes first, its list
// last.
var settings = [...]string{"audit_enabled", "audit_pid", "audit_backlog_limit", "audit_failure", "actions", "list"}

// changedSetting finds the object of a CONFIG_CHANGE record.
func (n *Normalizer) changedSetting() Value {
	n.rewind()
	if key, ok := n.find("key"); ok && string(key) != "(null)" {
		return n.in0()
	}
	for _, name := range settings {
		n.rewind()
		if _, ok := n.find(name); ok {
			return n.in0()
		}
	}
	return Value{}
}

// denial reads an AVC record that came without its system call.
func (n *Normalizer) denial() {
	n.follow([]step{{what: means, field: "comm", back: true}, {what: subject, field: "scontext"}, {what: start}})
	n.SubjectKind = "unknown-acct"
	if n.labels {
		n.follow([]step{{what: object, field: "tcontext"}, {what: start}})
	}
	n.named(actions[tables.AVC])
	n.follow([]step{{what: result, field: "seresult"}})
}

func (n *Normalizer) daemon(typ uint16) {
	n.follow(daemonSteps)
	n.SubjectKind, n.ObjectKind = "auditd", kindService
	n.named(actions[typ])
	switch {
	case typ == tables.DaemonStart:
		n.how = append(n.how[:0], "init"...)
		n.How = n.how
	case typ < tables.DaemonAccept && typ != tables.DaemonAbort:
		n.how = append(n.how[:0], "signal"...)
		n.How = n.how
	}
}

// bpfAction names what op= says was done with a program.
func (n *Normalizer) bpfAction() {
	op, ok := n.find("op")
	switch {
	case !ok:
		n.named("bpf-program")
	case string(op) == "LOAD":
		n.named("loaded-bpf-program")
	default:
		n.named("unloaded-bpf-program")
	}
}

// listenerAction names what op= says a listener did.
func (n *Normalizer) listenerAction() {
	op, ok := n.find("op")
	switch {
	case !ok:
		n.named("connected")
	case string(op) == "connect":
		n.named("connected-to")
	default:
		n.named("disconnected-from")
	}
}

func (n *Normalizer) listener() {
	n.follow([]step{
		{what: subject, field: "auid"}, {what: start}, {what: alias, field: "uid"}, {what: start}, {what: session_},
		{what: attrs}, {what: start},
	})
	n.listenerAction()
	n.programObject()
	n.ObjectKind = kindSocket
	n.follow([]step{{what: start}, {what: means, field: "exe"}, {what: start}, res})
}

func (n *Normalizer) labeledNetwork(typ uint16) {
	n.follow([]step{{what: subject, field: "auid"}})
	n.who()
	n.findSession(0)
	n.addAttr(&n.subjAttrs, "subj", 0)
	n.ObjectKind = kindMAC
	switch typ {
	case tables.MACUnlblAllow:
		if v, ok := n.find("unlbl_accept"); !ok {
			n.rewind()
		} else if number(v) == 1 {
			n.named("is-allowing-unlabeled-network-traffic")
		} else {
			n.named("is-disallowing-unlabeled-network-traffic")
		}
	case macMapAdd, tables.MACMapDel:
		n.named(actions[typ])
		n.follow([]step{{what: object, field: "nlbl_domain", back: true}})
	}
	n.follow([]step{res})
}

// Record types that only this file decides by.
const (
	macMapAdd      uint16 = 1409
	userDevice     uint16 = 1137
	softwareUpdate uint16 = 1138
	systemShutdown uint16 = 1128
	anomExec       uint16 = 2112
	ipeAccess      uint16 = 1420
)

// message reads what a program sent, and all other records that stand alone.
func (n *Normalizer) message(typ uint16) {
	if typ == tables.UserLogin { // one who fails to log in has no login id
		if _, ok := n.find("id"); ok {
			n.Subject = n.in0()
			n.who()
		} else {
			n.rewind()
			if _, ok := n.find("acct"); ok {
				n.Subject = n.in0()
				n.who()
			}
		}
		n.rewind()
	} else {
		n.follow([]step{byUID})
		if typ == tables.TrustedApp || typ == tables.DMCtrl { // whose fields stand in another order
			n.rewind()
		}
		n.follow([]step{{what: subject, field: "auid"}})
	}
	n.findSession(0)
	n.addSubjectAttrs()
	if n.labels && (typ >= tables.FirstUserMsg && typ < tables.LastUserMsg || typ >= tables.FirstUserAnom && typ < tables.LastUserMsg2) {
		n.addAttr(&n.subjAttrs, "hostname", 0)
		n.addAttr(&n.subjAttrs, "addr", 0)
		if typ != tables.UserStart && typ != tables.UserEnd && typ != tables.UserErr {
			n.addAttr(&n.subjAttrs, "terminal", 0)
		}
	}
	n.named(actions[typ])
	if typ == tables.UserAVC {
		n.follow([]step{{what: start}, {what: result, field: "seresult"}, {what: start}, {what: subject, field: "scontext"}})
		if n.labels {
			n.follow([]step{{what: start}, {what: object, field: "tcontext"}})
		}
	} else {
		n.follow([]step{res})
		if typ == userDevice {
			n.rewind()
			if op, ok := n.find("op"); ok {
				n.action = append(n.action[:0], op...)
				n.Action = n.action
			}
		}
		n.rewind()
		n.target(typ)
	}
	n.messageMeans(typ)
}

// target finds the objects of a record by its type.
func (n *Normalizer) target(typ uint16) {
	t, ok := targets[typ]
	if ok && t.kind != "" {
		n.ObjectKind = t.kind
	}
	found := false
	if t.field != "" {
		if _, found = n.find(t.field); !found && t.orElse != "" {
			n.rewind()
			_, found = n.find(t.orElse)
		}
	}
	if found {
		n.Object = n.in0()
	}
	n.first()
	if typ == tables.UsysConfig {
		if _, ok := n.find("op"); ok {
			n.action = n.AppendText(n.action[:0], n.here())
			n.Action = n.action
		}
		n.first()
	}
	if t.detail != "" {
		if _, ok := n.find(t.detail); ok {
			n.Detail = n.in0()
		}
		n.first()
	}
	if t.second != "" {
		if _, ok := n.find(t.second); ok {
			n.Second = n.in0()
		}
	}
	switch {
	case !n.labels:
	case typ == userDevice:
		n.addAttr(&n.objAttrs, "uuid", 0)
	case typ == softwareUpdate:
		n.rewind()
		n.addAttr(&n.objAttrs, "key_enforce", 0)
		n.addAttr(&n.objAttrs, "gpg_res", 0)
	}
}

// messageMeans finds by which means: the program, as a rule.
func (n *Normalizer) messageMeans(typ uint16) {
	switch typ {
	case tables.SystemBoot, systemShutdown: // from where the walk stands
		n.follow([]step{{what: means, field: "exe"}})
	case anomExec:
		n.follow([]step{{what: start}, {what: means, field: "terminal"}})
	case tables.TTY, ipeAccess:
		n.follow([]step{{what: start}, {what: means, field: "comm"}})
	default:
		n.rewind()
		n.program()
	}
}
