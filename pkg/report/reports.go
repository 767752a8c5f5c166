package report

import (
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// Kind identifies a report.
type Kind uint8

// The reports. Overview is the one that is written when none is asked for.
const (
	Unset Kind = iota
	LogTimes
	Overview
	AVC
	MAC
	Integrity
	Virt
	Config
	Auth
	Login
	Mods
	Event
	File
	Host
	PID
	Syscall
	Terminal
	User
	Exe
	Comm
	Anomaly
	Response
	Crypto
	Key
	TTY
	numKinds
)

// span is a range of record types; low and high are both in it.
type span struct{ low, high uint16 }

// spec defines one report: which events it selects, the columns of its lines and what its
// summary counts. The headings are those of aureport 3.0.9.
type spec struct {
	names   []string // options
	title   string
	columns string
	rule    int // '=' above and below the columns
	rule2   int // below, where it differs
	needs   query.FieldSet
	types   []span // an event has a record of one of them; empty: no matter
	when    func(*facts) bool
	cells   []cell
	rows    func(f *facts, from int) int // the next of several lines, -1 behind the last; nil: one

	sumTitle, sumColumn string
	sumName             string // of the values in csv, JSON and tables, where it is not sumColumn
	sumRule             int
	sumTypes            []span // where they differ from types
	sum                 func(*printer, *facts)
	style               style
	value               bool // its option may not be followed by a word
}

// style is the layout of a summary's lines.
type style uint8

const (
	plain style = iota
	escaped
	numbers
	typeNames
)

const task = wantAUID | wantExe

// reports is the table, by Kind.
var reports = makeReports()

func makeReports() (all [numKinds]spec) {
	for k, s := range map[Kind]spec{
		LogTimes: {names: []string{"-t", "--log"}, title: "Log Time Range Report", rule: 21},
		Overview: {
			sumTitle: "Summary Report", sumRule: 22,
			needs: wantFile | wantHost | wantTerm | wantExe | wantComm | wantKey | wantAUID | wantPID,
		},
		AVC: {
			names: []string{"-a", "--avc"}, title: "AVC Report", rule: 63, needs: wantComm | wantAVC,
			columns: "comm subj syscall class permission obj result event",
			types:   []span{{tables.AVC, tables.AVC}, {tables.UserAVC, tables.UserAVC}}, rows: (*facts).nextDecision,
			cells:    []cell{commQ, subject, syscall, decided, perm, object, result, serial},
			sumTitle: "Avc Object Summary Report", sumColumn: "obj", sumName: "object", sumRule: 33, sum: (*printer).countObjects,
		},
		MAC: {
			names: []string{"-ma", "--mac"}, title: "MAC Report", rule: 35, needs: wantAUID, columns: "auid type success event",
			types:    []span{{tables.MACPolicyLoad, tables.MACUnlblStcDel}, {tables.UserRoleChange, typeLSPPMax}},
			cells:    []cell{auid, typeName, success, serial},
			sumTitle: "MAC Summary Report", sumColumn: "type", sumRule: 18, sum: (*printer).countHead, style: typeNames,
			sumTypes: []span{{tables.MACPolicyLoad, tables.MACMapDel}, {tables.UserRoleChange, typeLSPPMax}},
		},
		Integrity: byType("Integrity Report", 30, "type success event", []cell{typeName, success, serial},
			"Integrity Summary Report", 24, wantAUID, []span{{tables.IntegrityData, typeIntegrityMax}}, "--integrity"),
		Virt: byType("Virtualization Report", 30, "type success event", []cell{typeName, success, serial},
			"Virtualization Summary Report", 29, 0, []span{{tables.FirstVirt, tables.LastVirt}}, "--virt"),
		Config: byType("Config Change Report", 35, "type auid success event", []cell{typeName, auid, success, serial},
			"Config Change Summary Report", 28, wantAUID, configTypes, "-c", "--config"),
		Mods: byType("Account Modifications Report", 49, "auid addr term exe acct success event",
			[]cell{auidE, hostQ, termQ, exePlainQ, acctQ, success, serial},
			"Acct Modification Summary Report", 32, task|wantHost|wantTerm, modTypes, "-m", "--mods"),
		Event: byType("Event Report", 35, "event type auid success", []cell{serial, typeName, auidE, success},
			"Event Summary Report", 22, wantAUID, nil, "-e", "--event"),
		Crypto: byType("Crypto Report", 35, "auid type success event", []cell{auidE, typeName, success, serial},
			"Crypto Summary Report", 21, wantAUID, cryptoTypes, "-cr", "--crypto"),
		Response: byType("Response to Anomaly Report", 30, "type success event", []cell{typeName, success, serial},
			"Anomaly Response Summary Report", 31, 0, []span{{tables.FirstAnomResp, tables.LastAnomResp}}, "-r", "--response").noWord(),
		Anomaly: byType("Anomaly Report", 41, "type exe term host auid event",
			[]cell{typeName, exeOrComm, termQ, hostQ, auidE, serial},
			"Anomaly Summary Report", 22, task|wantTerm|wantHost|wantComm, append([]span{{tables.Seccomp, tables.Seccomp}}, anomTypes...),
			"-n", "--anomaly").noWord(),
		Auth: {
			names: []string{"-au", "--auth"}, title: "Authentication Report", rule: 44, needs: wantExe | wantHost | wantTerm | wantUID,
			columns: "acct host term exe success event", types: authTypes, when: isAuth,
			cells:    []cell{acctOrUID, host, term, exePlain, success, serial},
			sumTitle: "Authentication Summary Report", sumColumn: "acct", sumRule: 29, sum: (*printer).countAuth, style: escaped,
		},
		Login: {
			names: []string{"-l", "--login"}, title: "Login Report", rule: 44, needs: task | wantHost | wantTerm,
			columns: "auid host term exe success event", types: []span{{tables.UserLogin, tables.UserLogin}},
			cells:    []cell{acctOrAUID, host, term, exePlain, success, serial},
			sumTitle: "Login Summary Report", sumColumn: "auid", sumName: "acct", sumRule: 28, sum: (*printer).countLogin, style: escaped,
		},
		File: {
			names: []string{"-f", "--file"}, title: "File Report", rule: 47, needs: task | wantFile,
			columns: "file syscall success exe auid event", when: func(f *facts) bool { return len(f.files) > 0 },
			cells:    []cell{fileName, syscall, success, exeQ, auidE, serial},
			sumTitle: "File Summary Report", sumColumn: "file", sumRule: 27, sum: (*printer).countFiles, style: escaped, value: true,
		},
		Host: {
			names: []string{"-h", "--host"}, title: "Host Report", rule: 35, needs: wantHost | wantAUID,
			columns: "host syscall auid event", when: func(f *facts) bool { return f.host.OK },
			cells:    []cell{host, syscall, auidE, serial},
			sumTitle: "Host Summary Report", sumColumn: "host", sumRule: 27, sum: count(func(f *facts) query.Text { return f.host }), value: true,
		},
		PID: {
			names: []string{"-p", "--pid"}, title: "Process ID Report", rule: 38, needs: task | wantPID,
			columns: "pid exe syscall auid event", when: func(f *facts) bool { return f.pid >= 0 },
			cells:    []cell{pid, exeQ, syscall, auidE, serial},
			sumTitle: "Pid Summary Report", sumColumn: "pid", sumRule: 26, sum: (*printer).countPID, style: numbers, value: true,
		},
		Syscall: {
			names: []string{"-s", "--syscall"}, title: "Syscall Report", rule: 39, needs: wantComm | wantAUID | wantPID,
			columns: "syscall pid comm auid event", when: func(f *facts) bool { return f.hasCall },
			cells:    []cell{syscall, pid, commQ, auidE, serial},
			sumTitle: "Syscall Summary Report", sumColumn: "syscall", sumRule: 26, sum: (*printer).countSyscall, style: escaped, value: true,
		},
		Terminal: {
			names: []string{"-tm", "--terminal"}, title: "Terminal Report", rule: 36, needs: task | wantTerm | wantHost,
			columns: "term host exe auid event", when: func(f *facts) bool { return f.term.OK },
			cells:    []cell{term, host, exe, auidE, serial},
			sumTitle: "Terminal Summary Report", sumColumn: "terminal", sumRule: 31,
			sum: count(func(f *facts) query.Text { return f.term }), value: true,
		},
		User: {
			names: []string{"-u", "--user"}, title: "User ID Report", rule: 36, needs: task | wantTerm | wantHost | wantUID,
			columns: "auid term host exe event", when: func(f *facts) bool { return f.uid != noID },
			cells:    []cell{auidE, termQ, hostQ, exeQ, serial},
			sumTitle: "User Summary Report", sumColumn: "auid", sumRule: 27, sum: (*printer).countAUID, style: escaped, value: true,
		},
		Exe: {
			names: []string{"-x", "--executable"}, title: "Executable Report", rule: 36, needs: task | wantTerm | wantHost,
			columns: "exe term host auid event", when: func(f *facts) bool { return f.exe.OK },
			cells:    []cell{exeQ, termQ, hostQ, auidE, serial},
			sumTitle: "Executable Summary Report", sumColumn: "file", sumName: "exe", sumRule: 33,
			sum: count(func(f *facts) query.Text { return f.exe }), style: escaped, value: true,
		},
		Comm: {
			names: []string{"--comm"}, title: "Command Report", rule: 36, rule2: 37, needs: wantComm | wantTerm | wantHost | wantAUID,
			columns: "comm term host auid event", when: func(f *facts) bool { return f.comm.OK },
			cells:    []cell{commQ, termQ, hostQ, auidE, serial},
			sumTitle: "Command Summary Report", sumColumn: "command", sumName: "comm", sumRule: 33,
			sum: count(func(f *facts) query.Text { return f.comm }), style: escaped, value: true,
		},
		Key: {
			names: []string{"-k", "--key"}, title: "Key Report", rule: 47, needs: task | wantKey, columns: "key success exe auid event",
			when:     func(f *facts) bool { return len(f.keys) > 0 && isKey(f.keys[0]) },
			cells:    []cell{key, success, exeQ, auidE, serial},
			sumTitle: "Key Summary Report", sumColumn: "key", sumRule: 27, sum: (*printer).countKeys, style: escaped, value: true,
		},
		TTY: {
			names: []string{"--tty"}, title: "TTY Report", rule: 47, needs: wantSession | wantAUID | wantTerm | wantComm,
			columns: "event auid term sess comm data", types: []span{{tables.TTY, tables.TTY}, {tables.UserTTY, tables.UserTTY}},
			when:  func(f *facts) bool { return f.head() == tables.TTY || f.head() == tables.UserTTY },
			cells: []cell{serial, auidE, termQ, session, commQ, ttyData},
		},
	} {
		all[k] = s
	}
	return all
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

// isKey says whether a value of key= is a rule's key: (null) says that the rule has none,
// whatever stands behind it. A copied log may have lost the byte between it and the names.
func isKey[T []byte | string](v T) bool {
	const none = "(null)"
	return len(v) < len(none) || string(v[:len(none)]) != none
}

var (
	configTypes = []span{
		{tables.ConfigChange, tables.ConfigChange}, {tables.DaemonConfig, tables.DaemonConfig}, {tables.UsysConfig, tables.UsysConfig},
		{tables.NetfilterCfg, tables.NetfilterCfg}, {tables.FeatureChange, tables.FeatureChange}, {typeMACUserConfig, typeMACUserConfig},
		{tables.MACPolicyLoad, tables.MACUnlblStcDel},
	}
	modTypes = []span{
		{tables.UserChauthtok, tables.UserChauthtok}, {tables.AddUser, tables.DelGroup}, {tables.UserMgmt, tables.UserMgmt},
		{tables.GrpMgmt, tables.GrpMgmt}, {typeRoleAssign, typeRoleRemove},
	}
	cryptoTypes = []span{{typeKernCrypto, typeKernCryptoMax}, {tables.FirstCrypto, tables.LastCrypto}}
	anomTypes   = []span{{tables.FirstUserAnom, tables.LastUserAnom}, {tables.FirstAnom, typeKernAnomMax}}
	authTypes   = []span{{tables.UserAuth, tables.UserAuth}, {tables.UserMgmt, tables.UserMgmt}}
)

// byType is a report about events with records of some types, whose summary
// counts events by the type of their first record.
func byType(title string, rule int, columns string, cells []cell, sumTitle string, sumRule int, needs query.FieldSet, types []span, names ...string) spec {
	return spec{
		names: names, title: title, rule: rule, columns: columns, cells: cells, needs: needs, types: types,
		sumTitle: sumTitle, sumColumn: "type", sumRule: sumRule, sum: (*printer).countHead, style: typeNames,
	}
}

// noWord marks a report whose option may not be followed by a word: aureport once
// meant to show what is known of that one value.
func (s spec) noWord() spec {
	s.value = true
	return s
}

// isAuth is whether an event is an authentication: of the account changes only
// the failed ones are.
func isAuth(f *facts) bool {
	return f.has(tables.UserAuth, tables.UserAuth) || f.outcome == failed
}

// about says whether an event has a record of one of the types.
func about(f *facts, types []span) bool {
	for i := range f.ev.Records {
		t := f.ev.Records[i].Type
		for _, s := range types {
			if t >= s.low && t <= s.high {
				return true
			}
		}
	}
	return len(types) == 0
}
