package doctor

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/forwarder/internal/spool"
	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// spool looks at the records that wait. It takes no lock and writes nothing.
func (e *exam) spool() {
	entries, err := os.ReadDir(e.path(e.Spool))
	if errors.Is(err, fs.ErrNotExist) {
		e.ok("spool", "%s is not there yet", e.Spool)
		return
	}
	if err != nil {
		e.unknown("spool", err)
		return
	}
	var size int64
	var oldest time.Time
	var aside []string
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil || !info.Mode().IsRegular() {
			continue // gone since, or none of ours
		}
		switch name := entry.Name(); {
		case strings.HasSuffix(name, ".corrupt"):
			aside = append(aside, name)
			continue
		case name == "lock" || name == "state" || name == "source" || strings.HasPrefix(name, "acknowledged"):
			continue
		}
		size += info.Size()
		if oldest.IsZero() || info.ModTime().Before(oldest) {
			oldest = info.ModTime()
		}
	}
	// Segments have space set aside, and what is acknowledged goes with its segment: where
	// the spool can be read, that says what waits, and not the files' sizes and times.
	waits := bytesText(size) + " are not acknowledged"
	late := !oldest.IsZero() && e.Now().Sub(oldest) > time.Hour && size > 8<<20 // a segment that can still be written to is not old
	if w, err := spool.Peek(fsys.OS, e.path(e.Spool)); err == nil {
		size, oldest = w.Bytes, w.Since
		late = w.Records > 0 && e.Now().Sub(oldest) > time.Hour
		waits = fmt.Sprintf("%d are not acknowledged", w.Records)
	}
	wrong := false
	if len(aside) > 0 {
		wrong = true
		e.found("spool", Warn, 66, "look at the disk (dmesg, smartctl); the files are kept for you and may be removed", "damaged files set aside in %s: %d, the first is %s", e.Spool, len(aside), aside[0])
	}
	if e.SpoolSize > 0 && size > e.SpoolSize/10*9 {
		wrong = true
		e.found("spool", Fail, 83, "have the collector take records again, or give more room: --spool-size", "it holds %s of %s: when it is full the oldest records are dropped (or the source waits, with --spool-full refuse)", bytesText(size), bytesText(e.SpoolSize))
	}
	if late {
		wrong = true
		e.found("spool", Warn, 56, "see the check collector, and the forwarder's log", "records have waited for %s: %s", e.Now().Sub(oldest).Round(time.Minute), waits)
	}
	holder := e.lockedBy(path.Join(e.Spool, "lock"))
	if !wrong {
		e.ok("spool", "%s%s", bytesText(size), holder)
	}
}

// mostTurns is how many of the latest turns of collectors are told.
const mostTurns = 8

// acknowledged tells which collectors have acknowledged what.
func (e *exam) acknowledged() {
	if e.Acknowledged == nil {
		return
	}
	list, err := e.Acknowledged(e.path(e.Spool))
	switch {
	case err != nil:
		e.unknown("acknowledged", err)
	case len(list) == 0:
		e.ok("acknowledged", "nothing is known to be")
	case len(list) > mostTurns:
		e.ok("acknowledged", "%s\nand %d turns of collectors before", strings.Join(list[:mostTurns], "\n"), len(list)-mostTurns)
	default:
		e.ok("acknowledged", "%s", strings.Join(list, "\n"))
	}
}

// weightWitness is beside that of records which are lost.
const weightWitness = 70

// witness says what collectors have signed of their logs, and what is wrong with that.
func (e *exam) witness() {
	if e.Witness == nil {
		return
	}
	held, wrong, err := e.Witness(e.path(e.Spool))
	switch {
	case err != nil:
		e.unknown("witness", err)
	case len(wrong) > 0:
		more := ""
		if n := len(wrong) - mostTurns; n > 0 {
			wrong, more = wrong[n:], fmt.Sprintf("\nand %d before", n)
		}
		e.found("witness", Fail, weightWitness, "see forwarder-witness(8): look at the collector first; `forwarder witness accept` once that is explained", "%s%s", strings.Join(wrong, "\n"), more)
	case len(held) == 0:
		e.ok("witness", "no collector has signed anything (only by grpc, and where it has a key)")
	default:
		e.ok("witness", "%s", strings.Join(held, "\n"))
	}
}

// lockedBy says which process holds a file's lock.
func (e *exam) lockedBy(p string) string {
	var st unix.Stat_t
	if unix.Stat(e.path(p), &st) != nil {
		return ""
	}
	b, err := e.read("/proc/locks")
	if err != nil {
		return ""
	}
	id := fmt.Sprintf("%02x:%02x:%d", unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino)
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 5 && f[5] == id {
			name, _ := e.read("/proc/" + f[4] + "/comm") // it may have ended
			return fmt.Sprintf(", in use by process %s (%s)", f[4], strconv.QuoteToASCII(string(bytes.TrimSpace(name))))
		}
	}
	return ", in use by no process"
}

// logSpace compares the filesystem of the local log with what auditd.conf wants left.
func (e *exam) logSpace() {
	if e.unread {
		e.unknown("log_space", errUnread)
		return
	}
	folder := path.Dir(e.auditd.LogFile)
	free, total, err := e.Space(e.path(folder))
	if errors.Is(err, fs.ErrNotExist) {
		e.found("log_space", Warn, 32, "mkdir -m 0700 "+folder, "%s is not there", folder)
		return
	}
	if err != nil {
		e.unknown("log_space", err)
		return
	}
	low, admin := e.auditd.SpaceLeft.Of(total), e.auditd.AdminSpaceLeft.Of(total)
	const fix = "make room, or lower max_log_file and num_logs"
	logs := e.auditd.MaxLogFile << 20 * uint64(max(e.auditd.NumLogs, 1))
	switch {
	case admin > 0 && free < admin:
		e.found("log_space", Fail, 86, fix, "%s are free for %s, less than admin_space_left: its action is %s", bytesText(int64(free)), folder, e.auditd.AdminSpaceLeftAction.Do)
	case low > 0 && free < low:
		e.found("log_space", Warn, 57, fix, "%s are free for %s, less than space_left", bytesText(int64(free)), folder)
	case total > 0 && low >= total:
		e.found("log_space", Warn, 57, "lower space_left", "space_left is more than the whole filesystem of %s", folder)
	case logs > total && total > 0:
		e.found("log_space", Warn, 33, "lower max_log_file or num_logs", "the logs may grow to %s, and the filesystem of %s has %s", bytesText(int64(logs)), folder, bytesText(int64(total)))
	default:
		e.ok("log_space", "%s are free for %s", bytesText(int64(free)), folder)
	}
}

// permissions looks at who may read and write what is ours.
func (e *exam) permissions() {
	wrong := 0
	var hidden error
	for _, c := range []struct {
		path string
		none fs.FileMode // bits that nobody may have
		fix  string
	}{
		{e.Config, 0o022, "chmod 0640"},
		{e.RemoteConfig, 0o022, "chmod 0640"},
		{e.RulesDir, 0o022, "chmod 0750"},
		{path.Dir(e.auditd.LogFile), 0o027, "chmod 0700"},
		{e.auditd.LogFile, 0o037, "chmod 0600"},
		{e.Spool, 0o077, "chmod 0700"},
	} {
		info, err := os.Lstat(e.path(c.path))
		if errors.Is(err, fs.ErrPermission) {
			hidden = err
		}
		if err == nil && info.Mode()&fs.ModeSymlink != 0 { // a link's own mode says nothing
			info, err = os.Stat(e.path(c.path))
		}
		if err != nil {
			continue // not there, or said by another check
		}
		if mode := info.Mode().Perm() & c.none; mode != 0 {
			wrong++
			e.found("permissions", Warn, 62, c.fix+" "+c.path, "%s has mode %04o: others may %s it", c.path, info.Mode().Perm(), may(mode))
		}
	}
	switch {
	case hidden != nil:
		e.unknown("permissions", hidden)
	case wrong == 0:
		e.ok("permissions", "nobody else may write the configuration or read the records")
	}
}

func may(mode fs.FileMode) string {
	if mode&0o022 != 0 {
		return "write"
	}
	return "read"
}

func bytesText(n int64) string {
	for _, u := range []struct {
		size int64
		name string
	}{{1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if n >= u.size {
			return fmt.Sprintf("%.1f %s", float64(n)/float64(u.size), u.name)
		}
	}
	return fmt.Sprintf("%d B", n)
}
