package agent

import (
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/forwarder/internal/kernel"
	"github.com/auditfleet/auditfleet/pkg/daemonrec"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// own makes the daemon's own records, as they come from the kernel's queue.
type own struct {
	text    *daemonrec.Records
	version string
}

func newOwn(version string, now func() time.Time) *own {
	return &own{text: daemonrec.New(now), version: version}
}

func (o *own) record(typ uint16, format string, args ...any) kernel.Record {
	return kernel.Record{Type: typ, Text: o.text.Append(nil, format, args...)}
}

func (o *own) start(enriched bool) kernel.Record {
	format := "raw"
	if enriched {
		format = "enriched"
	}
	return o.record(tables.DaemonStart, "%s", daemonrec.Start(o.version, format, securityContext("self")))
}

// bySignal is a record of something an administrator's signal asked for.
func (o *own) bySignal(typ uint16, op string, s kernel.SignalInfo) kernel.Record {
	pid := strconv.FormatUint(uint64(s.PID), 10)
	subj := ""
	if s.Ctx != "" {
		subj = " subj=" + s.Ctx
	}
	return o.record(typ, "op=%s auid=%d uid=%d ses=%s pid=%s%s res=success", op, s.UID, ownerOf(pid), daemonrec.ProcessID(pid, "sessionid"), pid, subj)
}

// configured says that a signal had the configuration read again, and whether it
// was taken over.
func (o *own) configured(s kernel.SignalInfo, failed error) kernel.Record {
	return o.record(tables.DaemonConfig, "%s", daemonrec.Reconfigured(int64(s.UID), int64(s.PID), s.Ctx, failed != nil))
}

// abort says that the daemon ends because it failed at something.
func (o *own) abort(op string) kernel.Record {
	return o.record(tables.DaemonAbort, "op=%s auid=%s pid=%d uid=%d ses=%s res=failed", op, daemonrec.ProcessID("self", "loginuid"), os.Getpid(), os.Getuid(), daemonrec.ProcessID("self", "sessionid"))
}

// lost says what could not be had: how many records, by what cause, between
// which times.
func (o *own) lost(cause string, n uint64, first, last time.Time) kernel.Record {
	return o.record(tables.DaemonErr, "op=lost-records cause=%s records=%d first=%s last=%s auid=%s pid=%d res=failed",
		cause, n, stamp(first), stamp(last), daemonrec.ProcessID("self", "loginuid"), os.Getpid())
}

// logRemoved says how many records went into a local log that another program had
// removed. Who ships them has them at the collector.
func (o *own) logRemoved(n uint64) kernel.Record {
	return o.record(tables.DaemonErr, "op=log-removed cause=local-log records=%d auid=%s pid=%d res=failed", n, daemonrec.ProcessID("self", "loginuid"), os.Getpid())
}

// spoolRemoved says that another program has removed, renamed or replaced the spool or
// files in it, and whether it was put back. By itself that loses no record.
func (o *own) spoolRemoved(back bool) kernel.Record {
	res := "success"
	if !back {
		res = "failed"
	}
	return o.record(tables.DaemonErr, "op=spool-removed auid=%s pid=%d res=%s", daemonrec.ProcessID("self", "loginuid"), os.Getpid(), res)
}

// serialGaps says which of the kernel's event serials never came. It is informative:
// nothing failed, and no loss is counted by it.
func (o *own) serialGaps(g kernel.SerialGaps) kernel.Record {
	return o.record(tables.DaemonErr, "op=serial-gaps informative=yes serials=%d first-serial=%d last-serial=%d first=%s last=%s auid=%s pid=%d res=success",
		g.Count, g.First, g.Last, stamp(g.Since), stamp(g.Before), daemonrec.ProcessID("self", "loginuid"), os.Getpid())
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
