// Package daemonrec words the records that a daemon makes of itself (DAEMON_START,
// DAEMON_CONFIG and so on) as the stock audit daemon words its own. Forwarder and
// collector make theirs with it; it imports nothing of ours.
package daemonrec

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Records gives a daemon's records their time and serial. Not for concurrent use.
type Records struct {
	now    func() time.Time
	serial uint64
}

// New begins with a serial that an earlier run is unlikely to have had in the same
// millisecond: the stock daemon's begin anywhere, too.
func New(now func() time.Time) *Records {
	return &Records{now: now, serial: uint64(now().UnixMilli()) % 1000000}
}

// Append appends a new record's text, from "audit(" on, as the kernel gives it.
func (r *Records) Append(dst []byte, format string, args ...any) []byte {
	r.serial++
	t := r.now()
	dst = fmt.Appendf(dst, "audit(%d.%03d:%d): ", t.Unix(), t.Nanosecond()/1e6, r.serial)
	return fmt.Appendf(dst, format, args...)
}

// Serial is that of the last record.
func (r *Records) Serial() uint64 { return r.serial }

// Start is the text of a DAEMON_START; format is log_format's. subj is the daemon's
// security context, "" for none.
func Start(version, format, subj string) string {
	if subj != "" {
		subj = " subj=" + subj
	}
	return fmt.Sprintf("op=start ver=%s format=%s kernel=%s auid=%s pid=%d uid=%d ses=%s%s res=success",
		version, format, kernelRelease(), ProcessID("self", "loginuid"), os.Getpid(), os.Getuid(), ProcessID("self", "sessionid"), subj)
}

// Reconfigured is the text of a DAEMON_CONFIG: the configuration was read again because
// of a signal of auid and pid, whose context is subj, and it was taken over or has
// failed. Where the kernel does not tell who it was, auid and pid are -1, as the stock
// daemon has it.
func Reconfigured(auid, pid int64, subj string, failed bool) string {
	state, res := "changed", "success"
	if failed {
		state, res = "no-change", "failed"
	}
	if subj == "" {
		subj = "?"
	}
	return fmt.Sprintf("op=reconfigure state=%s auid=%d pid=%d subj=%s res=%s", state, auid, pid, subj, res)
}

// Unset is how records say that a process has no login uid or session.
const Unset = "4294967295"

// ProcessID is one of the numbers that the kernel keeps of a process's login (loginuid,
// sessionid); pid may be "self". It is Unset where there is none to be read.
func ProcessID(pid, name string) string {
	b, err := os.ReadFile("/proc/" + pid + "/" + name)
	if err != nil {
		return Unset
	}
	s := strings.TrimSpace(string(b))
	if _, err := strconv.ParseUint(s, 10, 32); err != nil {
		return Unset
	}
	return s
}

func kernelRelease() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "?"
	}
	return unix.ByteSliceToString(u.Release[:])
}
