package agent

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/forwarder/internal/kernel"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// unsetID is how the kernel says "no login uid" and "no session".
const unsetID = "4294967295"

// own makes the daemon's own records, as the stock daemon words them.
type own struct {
	serial  uint64
	version string
	now     func() time.Time
}

func newOwn(version string, now func() time.Time) *own {
	// The stock daemon's own serials start anywhere too; they only must differ
	// between records of one millisecond.
	return &own{serial: uint64(now().UnixNano()/1e6) % 10000, version: version, now: now}
}

// record returns a record of ours as the kernel's would come from the queue.
func (o *own) record(typ uint16, format string, args ...any) kernel.Record {
	o.serial++
	t := o.now()
	text := fmt.Appendf(nil, "audit(%d.%03d:%d): ", t.Unix(), t.Nanosecond()/1e6, o.serial)
	return kernel.Record{Type: typ, Text: fmt.Appendf(text, format, args...)}
}

func (o *own) start(enriched bool) kernel.Record {
	format := "raw"
	if enriched {
		format = "enriched"
	}
	subj := ""
	if ctx := securityContext("self"); ctx != "" {
		subj = " subj=" + ctx
	}
	return o.record(tables.DaemonStart, "op=start ver=%s format=%s kernel=%s auid=%s pid=%d uid=%d ses=%s%s res=success",
		o.version, format, release(), procID("self", "loginuid"), os.Getpid(), os.Getuid(), procID("self", "sessionid"), subj)
}

// bySignal is a record of something an administrator's signal asked for.
func (o *own) bySignal(typ uint16, op string, s kernel.SignalInfo) kernel.Record {
	pid := strconv.FormatUint(uint64(s.PID), 10)
	subj := ""
	if s.Ctx != "" {
		subj = " subj=" + s.Ctx
	}
	return o.record(typ, "op=%s auid=%d uid=%d ses=%s pid=%s%s res=success", op, s.UID, ownerOf(pid), procID(pid, "sessionid"), pid, subj)
}

// configured says that a signal had the configuration read again, and whether it
// was taken over.
func (o *own) configured(s kernel.SignalInfo, failed error) kernel.Record {
	state, res := "changed", "success"
	if failed != nil {
		state, res = "no-change", "failed"
	}
	subj := s.Ctx
	if subj == "" {
		subj = "?"
	}
	return o.record(tables.DaemonConfig, "op=reconfigure state=%s auid=%d pid=%d subj=%s res=%s", state, s.UID, s.PID, subj, res)
}

// abort says that the daemon ends because it failed at something.
func (o *own) abort(op string) kernel.Record {
	return o.record(tables.DaemonAbort, "op=%s auid=%s pid=%d uid=%d ses=%s res=failed", op, procID("self", "loginuid"), os.Getpid(), os.Getuid(), procID("self", "sessionid"))
}

// lost says what could not be had: how many records, by what cause, between
// which times.
func (o *own) lost(cause string, n uint64, first, last time.Time) kernel.Record {
	return o.record(tables.DaemonErr, "op=lost-records cause=%s records=%d first=%d.%03d last=%d.%03d auid=%s pid=%d res=failed",
		cause, n, first.Unix(), first.Nanosecond()/1e6, last.Unix(), last.Nanosecond()/1e6, procID("self", "loginuid"), os.Getpid())
}

// logRemoved says how many records went into a local log that another program had
// removed. Who ships them has them at the collector.
func (o *own) logRemoved(n uint64) kernel.Record {
	return o.record(tables.DaemonErr, "op=log-removed cause=local-log records=%d auid=%s pid=%d res=failed", n, procID("self", "loginuid"), os.Getpid())
}

// spoolRemoved says that another program has removed, renamed or replaced the spool or
// files in it, and whether it was put back. By itself that loses no record.
func (o *own) spoolRemoved(back bool) kernel.Record {
	res := "success"
	if !back {
		res = "failed"
	}
	return o.record(tables.DaemonErr, "op=spool-removed auid=%s pid=%d res=%s", procID("self", "loginuid"), os.Getpid(), res)
}

// serialGaps says which of the kernel's event serials never came. It is informative:
// nothing failed, and no loss is counted by it.
func (o *own) serialGaps(g kernel.SerialGaps) kernel.Record {
	return o.record(tables.DaemonErr, "op=serial-gaps informative=yes serials=%d first-serial=%d last-serial=%d first=%d.%03d last=%d.%03d auid=%s pid=%d res=success",
		g.Count, g.First, g.Last, g.Since.Unix(), g.Since.Nanosecond()/1e6, g.Before.Unix(), g.Before.Nanosecond()/1e6, procID("self", "loginuid"), os.Getpid())
}

func release() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "?"
	}
	return unix.ByteSliceToString(u.Release[:])
}

// procID reads one of the kernel's numbers about a process.
func procID(pid, name string) string {
	b, err := os.ReadFile("/proc/" + pid + "/" + name)
	if err != nil {
		return unsetID
	}
	s := strings.TrimSpace(string(b))
	if _, err := strconv.ParseUint(s, 10, 32); err != nil {
		return unsetID
	}
	return s
}

// ownerOf is a process' uid, -1 as the stock daemon has it when it is gone.
func ownerOf(pid string) uint32 {
	var st unix.Stat_t
	if err := unix.Stat("/proc/"+pid, &st); err != nil {
		return ^uint32(0)
	}
	return st.Uid
}

// securityContext is a process' security context, "" without a security module.
func securityContext(pid string) string {
	b, err := os.ReadFile("/proc/" + pid + "/attr/current")
	if err != nil {
		return ""
	}
	return strings.TrimRight(string(b), "\x00\n ")
}
