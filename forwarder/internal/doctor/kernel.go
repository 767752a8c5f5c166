package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/forwarder/internal/boot"
	"github.com/auditfleet/auditfleet/pkg/rules"
	"github.com/auditfleet/auditfleet/pkg/rules/ruleset"
)

// cmdlineFix is what has every process audited from the first on.
const cmdlineFix = "put audit=1 audit_backlog_limit=8192 on the kernel's command line (GRUB_CMDLINE_LINUX) and boot again"

// audit connects to the kernel and reads its status.
func (e *exam) audit() {
	conn, err := e.Dial()
	if err != nil {
		if errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EAFNOSUPPORT) {
			e.found("audit", Fail, 100, cmdlineFix, "%s", boot.NoAudit(e.Root))
			return
		}
		e.unknown("audit", err)
		return
	}
	e.conn = conn
	s, err := conn.Status()
	switch {
	case errors.Is(err, unix.ECONNREFUSED):
		e.found("audit", Unknown, 1, "run it on the host", "%s", boot.Refused(e.Root))
	case err != nil:
		e.unknown("audit", permission(unwrapped(err)))
	default:
		e.status = &s
		e.ok("audit", "the kernel has audit and answers")
	}
}

// unwrapped leaves the words about a request out of a refusal.
func unwrapped(err error) error {
	if errno := unix.Errno(0); errors.As(err, &errno) {
		return errno
	}
	return err
}

func (e *exam) enabled() {
	if e.status == nil {
		return
	}
	switch e.status.Enabled {
	case 0:
		e.found("enabled", Fail, 95, "forwarder ctl -e 1 now; "+cmdlineFix, "auditing is off: the kernel makes no records")
	case 2:
		e.found("enabled", Warn, 20, "nothing, if -e 2 in the rule files is wanted; changed rules count after the next boot", "the configuration is locked until the machine boots again")
	default:
		e.ok("enabled", "auditing is on")
	}
}

// boot says whether all processes can be audited.
func (e *exam) boot() {
	cmdline, err := boot.Cmdline(e.Root)
	if err != nil {
		e.unknown("boot", err)
		return
	}
	switch boot.ParamOf(cmdline) {
	case boot.Off:
		if e.status != nil { // a kernel made for a test, or one that read another line
			e.found("boot", Warn, 60, cmdlineFix, "the kernel's command line says audit=0")
		}
		return
	case boot.On:
		if !strings.Contains(cmdline, "audit_backlog_limit=") {
			e.found("boot", Warn, 25, cmdlineFix, "booted with audit=1 and without audit_backlog_limit: 64 records have room until the rules are loaded")
			return
		}
		e.ok("boot", "booted with audit=1: every process can be audited")
		return
	case boot.Unset:
	}
	e.found("boot", Warn, 60, cmdlineFix, "booted without audit=1: processes older than auditing are never audited")
	list, err := boot.Processes(e.Root)
	if err != nil {
		e.unknown("processes", err)
		return
	}
	note, err := boot.Notes{Root: e.Root, Path: e.Note}.Read()
	if err != nil {
		e.unknown("processes", err)
		return
	}
	const fix, shown = "restart these services (the first process: boot with audit=1)", 6
	switch older := boot.Older(list, note.Since); {
	case note.Enabling == boot.Switched && len(older) == 0:
		e.ok("processes", "every process is younger than auditing")
	case note.Enabling == boot.Switched:
		e.found("processes", Warn, 70, fix, "%d processes are older than auditing (on since %s after the boot) and are not audited: %s", len(older), note.Since.Round(time.Second), boot.Names(older, shown))
	case note.Enabling == boot.Found:
		e.found("processes", Warn, 55, fix, "up to %d processes are older than auditing, which was on when it was first looked at, %s after the boot: %s", len(older), note.Since.Round(time.Second), boot.Names(older, shown))
	case e.status == nil:
		e.found("processes", Unknown, 1, "", "when auditing was first on in this boot is not known")
	case e.status.Enabled == 0:
		e.found("processes", Warn, 70, "boot with audit=1, or restart these services once auditing is on", "%d processes run that won't be audited when auditing is switched on now: %s", len(list), boot.Names(list, shown))
	default:
		e.found("processes", Warn, 50, fix, "when auditing was first on in this boot is not known: those of %d processes that are older are not audited, at least: %s", len(list), boot.Names(list[:min(1, len(list))], 1))
	}
}

func (e *exam) backlog() {
	if e.status == nil {
		return
	}
	s, wrong := e.status, false
	if s.Lost > 0 {
		wrong = true
		e.found("lost", Warn, 65, "forwarder ctl -b 8192 (or more) and a line -b 8192 in rules.d; forwarder ctl --reset-lost counts from 0", "the kernel has lost %d records since the boot or the last reset", s.Lost)
	}
	if s.BacklogLimit > 0 && s.Backlog > s.BacklogLimit/4*3 {
		wrong = true
		e.found("backlog", Fail, 80, "see why the audit daemon does not take them (its log, its disk); forwarder ctl -b 8192", "%d records wait in the kernel, %d have room: audited programs stop when it is full", s.Backlog, s.BacklogLimit)
	}
	if s.BacklogLimit > 0 && s.BacklogLimit < 1024 {
		wrong = true
		e.found("backlog", Warn, 50, "forwarder ctl -b 8192 and a line -b 8192 in rules.d", "backlog_limit is %d: a burst of more is lost or has programs wait", s.BacklogLimit)
	}
	if s.BacklogWaitTimeActual > 0 {
		wrong = true
		e.found("backlog_wait", Warn, 40, "forwarder ctl -b 8192 or more, or fewer rules (forwarder rules stats)", "programs have waited %d clock ticks for room in the kernel's backlog", s.BacklogWaitTimeActual)
	}
	if !wrong {
		e.ok("backlog", "%d of %d records wait, none were lost", s.Backlog, s.BacklogLimit)
	}
}

// daemon says who takes the kernel's records.
func (e *exam) daemon() {
	if e.status == nil {
		return
	}
	if e.status.PID == 0 {
		if e.status.Enabled > 0 {
			e.found("daemon", Fail, 85, "systemctl start auditfleet-forwarder (or auditd)", "no audit daemon is registered: records go to the kernel's log, and are lost when they come fast")
		} else {
			e.found("daemon", Warn, 30, "systemctl start auditfleet-forwarder (or auditd)", "no audit daemon is registered")
		}
		return
	}
	name := "?"
	if b, err := e.read(fmt.Sprintf("/proc/%d/comm", e.status.PID)); err == nil {
		name = boot.Names([]boot.Process{{Name: strings.TrimSpace(string(b))}}, 1)
	}
	if strings.HasPrefix(name, "forwarder") {
		e.ok("daemon", "the forwarder is the audit daemon: process %d", e.status.PID)
		return
	}
	e.found("daemon", Warn, 15, "leave it and run beside it (--source multicast) or as its plugin (au-fleet.conf), or: systemctl disable auditd, service auditd stop",
		"%s, process %d, is the audit daemon: --source kernel can't be", name, e.status.PID)
}

// rules compares what the kernel holds with the rule files.
func (e *exam) rules() {
	if e.status == nil {
		return
	}
	held, err := e.held()
	if err != nil {
		e.unknown("rules", err)
		return
	}
	for _, h := range held {
		if h.Rule.List == rules.ListTask && h.Rule.Action == rules.Never && len(h.Rule.Fields) == 0 {
			e.found("rules", Fail, 77, "forwarder ctl -d never,task, take the line out of rules.d, and restart what is to be audited", "the rule never,task has every process started since not audited")
		}
	}
	list := make([]*rules.Rule, len(held))
	for i, h := range held {
		list[i] = h.Rule
	}
	e.ok("rules_hash", "sha256 %x of the kernel's rules, as the collector has it", rules.Digest(list))
	merged, err := ruleset.Merge(e.path(e.RulesDir))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if len(held) == 0 {
			e.found("rules", Warn, 48, "put rules into "+e.RulesDir+" and load them: forwarder rules load", "no rules, neither in the kernel nor in %s: only logins and the like are recorded", e.RulesDir)
		} else {
			e.found("rules", Warn, 45, "write them to "+e.RulesDir+"/: forwarder ctl -l", "%s in the kernel, and no %s: they are gone after the next boot", counted(len(held), "rule"), e.RulesDir)
		}
		return
	case err != nil:
		e.unknown("rules", err)
		return
	}
	for _, w := range merged.Warnings {
		if file := strings.TrimPrefix(w.File, e.Root); w.Unread {
			e.found("rules", Warn, 61, "put a regular file there, or take it away", "%s: %s: its rules are missing", file, w.Msg)
		}
	}
	e.compare(held, ruleset.Resolve(nil, merged.File(e.RulesDir, rules.SystemEnv())))
}

func (e *exam) compare(held []ruleset.Held, target *ruleset.Target) {
	if n := len(target.Failures); n > 0 {
		e.found("rules", Fail, 75, "forwarder rules lint", "%s of %s can't be loaded", counted(n, "line"), e.RulesDir)
		return
	}
	var want []*rules.Rule
	for _, p := range target.Rules {
		want = append(want, p.Rule)
	}
	plan, err := ruleset.NewPlan(held, want)
	switch {
	case err != nil:
		e.unknown("rules", err)
	case plan.Empty() && len(held) == 0:
		e.found("rules", Warn, 48, "put rules into "+e.RulesDir+" and load them: forwarder rules load", "no rules: only logins and the like are recorded")
	case plan.Empty():
		e.ok("rules", "the kernel holds the %s of %s", counted(len(held), "rule"), e.RulesDir)
	case len(held) == 0:
		e.found("rules", Fail, 78, "forwarder rules load", "%s in %s, none in the kernel", counted(len(want), "rule"), e.RulesDir)
	default:
		e.found("rules", Warn, 45, "forwarder rules diff shows how, forwarder rules load loads them",
			"the kernel's rules are not those of %s: %d missing, %d more, %d at another place", e.RulesDir, len(plan.Added), len(plan.Deleted), len(plan.Moved))
	}
}

func (e *exam) held() ([]ruleset.Held, error) {
	raw, err := e.conn.Rules()
	if err != nil {
		return nil, permission(unwrapped(err))
	}
	return ruleset.Unmarshal(raw)
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
