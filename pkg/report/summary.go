package report

import (
	"strconv"

	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// count is a summary of one text an event has.
func count(get func(*facts) query.Text) func(*printer, *facts) {
	return func(p *printer, f *facts) {
		if t := get(f); t.OK {
			p.tally.add(t.B)
		}
	}
}

func (p *printer) countNumber(n int64) {
	p.scratch = strconv.AppendInt(p.scratch[:0], n, 10)
	p.tally.add(p.scratch)
}

func (p *printer) countHead(f *facts) {
	if t := f.head(); t != 0 {
		p.countNumber(int64(t))
	}
}

func (p *printer) countPID(f *facts) {
	if f.pid != noID {
		p.countNumber(f.pid)
	}
}

func (p *printer) countObjects(f *facts) {
	for i := range f.avcs {
		if a := &f.avcs[i]; a.Result != query.Undecided && a.Object.OK {
			p.tally.add(a.Object.B)
		}
	}
}

func (p *printer) countFiles(f *facts) {
	for i := range f.files {
		p.tally.add(f.files[i].Name)
	}
}

func (p *printer) countKeys(f *facts) {
	for _, k := range f.keys {
		if isKey(k) {
			p.tally.add(k)
		}
	}
}

// countAuth counts by account where the program said whose it was.
func (p *printer) countAuth(f *facts) {
	p.countAccount(f, f.auid == noAUID)
}

func (p *printer) countLogin(f *facts) {
	p.countAccount(f, f.auid < 0)
}

func (p *printer) countAccount(f *facts, byName bool) {
	if byName && f.acct.OK {
		p.tally.add(f.acct.B)
		return
	}
	p.scratch = p.appendAUID(f, p.scratch[:0])
	p.tally.add(p.scratch)
}

func (p *printer) countAUID(f *facts) {
	if f.auid != noAUID {
		p.scratch = p.appendAUID(f, p.scratch[:0])
		p.tally.add(p.scratch)
	}
}

func (p *printer) countSyscall(f *facts) {
	if f.hasCall && f.call >= 0 {
		p.scratch = p.appendSyscall(f, p.scratch[:0])
		p.tally.add(p.scratch)
	}
}

// The lines of the overview. Some count events, others different values.
const (
	ovChanges = iota
	ovAccounts
	ovLogins
	ovFailedLogins
	ovAuths
	ovFailedAuths
	ovUsers
	ovTerminals
	ovHosts
	ovExes
	ovComms
	ovFiles
	ovAVCs
	ovMAC
	ovFailedCalls
	ovAnomalies
	ovResponses
	ovCrypto
	ovIntegrity
	ovVirt
	ovKeys
	ovPIDs
	ovEvents
	numLines
)

var overviewLines = [numLines]string{
	"changes in configuration", "changes to accounts, groups, or roles", "logins", "failed logins", "authentications",
	"failed authentications", "users", "terminals", "host names", "executables", "commands", "files", "AVC's", "MAC events",
	"failed syscalls", "anomaly events", "responses to anomaly events", "crypto events", "integrity events", "virt events", "keys",
	"process IDs", "events",
}

// overview holds the counts of the report Overview, the summary of all reports.
type overview struct {
	n    [numLines]uint64
	sets [numLines]map[string]struct{}
	ids  [numLines]map[int64]struct{}

	types  []uint16 // scratch
	memory *query.Memory
	full   bool // memory has no more
}

func newOverview(memory *query.Memory) *overview {
	o := &overview{memory: memory}
	for _, line := range []int{ovTerminals, ovHosts, ovExes, ovComms, ovFiles, ovKeys} {
		o.sets[line] = map[string]struct{}{}
	}
	for _, line := range []int{ovUsers, ovPIDs} {
		o.ids[line] = map[int64]struct{}{}
	}
	return o
}

func (o *overview) see(line int, v []byte) {
	if _, ok := o.sets[line][string(v)]; !ok {
		o.full = o.full || !o.memory.Take(len(v)+countBytes)
		o.sets[line][string(v)] = struct{}{}
	}
}

// seeValue is see of a value of any line that counts different ones.
func (o *overview) seeValue(line int, v string) {
	if o.sets[line] != nil {
		o.sets[line][v] = struct{}{}
		return
	}
	if n, err := strconv.ParseInt(v, 10, 64); err == nil {
		o.ids[line][n] = struct{}{}
	}
}

func (o *overview) text(line int, t query.Text) {
	if t.OK {
		o.see(line, t.B)
	}
}

// counted lists, by record type, the lines of the overview that count an event with such
// a record. Each rule counts an event at most once.
var counted = [...]struct {
	line int
	span
}{
	{ovChanges, span{tables.ConfigChange, tables.ConfigChange}},
	{ovChanges, span{tables.DaemonConfig, tables.DaemonConfig}},
	{ovChanges, span{tables.UsysConfig, tables.UsysConfig}},
	{ovChanges, span{tables.NetfilterCfg, tables.NetfilterCfg}},
	{ovChanges, span{tables.FeatureChange, tables.FeatureChange}},
	{ovChanges, span{typeMACUserConfig, typeMACUserConfig}},
	{ovChanges, span{tables.MACPolicyLoad, tables.MACUnlblStcDel}},
	{ovAccounts, span{tables.UserChauthtok, tables.UserChauthtok}},
	{ovAccounts, span{tables.AddUser, tables.DelGroup}},
	{ovAccounts, span{tables.UserMgmt, tables.UserMgmt}},
	{ovAccounts, span{tables.GrpMgmt, tables.GrpMgmt}},
	{ovAccounts, span{typeRoleAssign, typeRoleRemove}},
	{ovCrypto, span{typeKernCrypto, typeKernCryptoMax}},
	{ovCrypto, span{tables.FirstCrypto, tables.LastCrypto}},
	{ovMAC, span{tables.MACPolicyLoad, tables.MACUnlblStcDel}},
	{ovMAC, span{tables.UserRoleChange, typeLSPPMax}},
	{ovVirt, span{tables.FirstVirt, tables.LastVirt}},
	{ovIntegrity, span{tables.IntegrityData, typeIntegrityMax}},
	{ovAnomalies, span{tables.FirstUserAnom, tables.LastUserAnom}},
	{ovAnomalies, span{tables.FirstAnom, typeKernAnomMax}},
	{ovResponses, span{tables.FirstAnomResp, tables.LastAnomResp}},
}

// rulesOf has, for each type, the rules of counted as bits: most types have none.
var rulesOf = func() (of [tables.LastUserMsg2 + 1]uint32) {
	for i, c := range counted {
		for t := c.low; t <= c.high; t++ {
			of[t] |= 1 << i
		}
	}
	return of
}()

// add takes an event.
func (o *overview) add(f *facts) {
	o.types = o.types[:0]
	for i := range f.ev.Records {
		o.types = append(o.types, f.ev.Records[i].Type)
	}
	o.kind(o.types, f.outcome, f.hasCall && f.call >= 0, 1)
	o.values(f)
}

// kind counts n events with records of these types.
func (o *overview) kind(types []uint16, result outcome, call bool, n uint64) {
	o.n[ovEvents] += n
	var rules uint32
	var auth, mgmt, group, login, avc bool
	for _, t := range types {
		if t <= tables.LastUserMsg2 {
			rules |= rulesOf[t]
		}
		switch t {
		case tables.UserLogin:
			login = true
		case tables.UserAuth:
			auth = true
		case tables.UserMgmt:
			mgmt = true
		case tables.GrpAuth:
			group = true
		case tables.AVC, tables.UserAVC:
			avc = true
		}
	}
	for i := range counted {
		if rules&(1<<i) != 0 {
			o.n[counted[i].line] += n
		}
	}
	if login {
		o.result(result, n, ovLogins, ovFailedLogins)
	}
	switch {
	case auth, group && !mgmt:
		o.result(result, n, ovAuths, ovFailedAuths)
	case mgmt && result == failed:
		o.n[ovFailedAuths] += n
	}
	if avc {
		o.n[ovAVCs] += n
	}
	if result == failed && call {
		o.n[ovFailedCalls] += n
	}
}

func (o *overview) result(result outcome, n uint64, good, bad int) {
	switch result {
	case succeeded:
		o.n[good] += n
	case failed:
		o.n[bad] += n
	}
}

func (o *overview) values(f *facts) {
	if f.auid != noAUID {
		o.ids[ovUsers][f.auid] = struct{}{}
	}
	if f.pid != noID {
		o.ids[ovPIDs][f.pid] = struct{}{}
	}
	o.text(ovTerminals, f.term)
	o.text(ovHosts, f.host)
	o.text(ovExes, f.exe)
	o.text(ovComms, f.comm)
	for i := range f.files {
		o.see(ovFiles, f.files[i].Name)
	}
	for _, k := range f.keys {
		if isKey(k) {
			o.see(ovKeys, k)
		}
	}
}

// merge adds another worker's.
func (o *overview) merge(other *overview) {
	for line := range o.n {
		o.n[line] += other.n[line]
		for v := range other.sets[line] {
			o.sets[line][v] = struct{}{}
		}
		for v := range other.ids[line] {
			o.ids[line][v] = struct{}{}
		}
	}
}

// value is what a line of the overview says.
func (o *overview) value(line int) uint64 {
	switch {
	case o.sets[line] != nil:
		return uint64(len(o.sets[line]))
	case o.ids[line] != nil:
		return uint64(len(o.ids[line]))
	}
	return o.n[line]
}
