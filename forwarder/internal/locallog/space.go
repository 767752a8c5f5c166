package locallog

import (
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/pkg/action"
	"github.com/auditfleet/auditfleet/pkg/conf"
	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/syslog"
)

// Actor carries out actions.
type Actor interface {
	// Do carries out a, of which m says why, without waiting for its end.
	Do(a conf.Action, m action.Message)
}

// ErrSuspended is returned by Rotate while the log is suspended.
var ErrSuspended = errors.New("writing the local log is suspended")

// spaceEvery is after how many bytes written the free space is looked at, besides
// Tick.
const spaceEvery = 1 << 20

// space is what is known of the filesystem.
type space struct {
	written    int64 // since the last look
	low, admin bool  // below SpaceLeft, AdminSpaceLeft: the action was taken
	failed     bool  // it could not be asked
	free       uint64
}

// State describes the log for the state report.
type State struct {
	Path             string
	Size, MaxSize    int64
	Rotated          int // number of older files at the last rotation
	Free             uint64
	SpaceLeft, Admin uint64 // thresholds in bytes
	Suspended        bool
	Low, LowAdmin    bool // below the thresholds: the actions were taken
	Failing          bool
}

// State returns the present state. Only the log's own goroutine may call it.
func (l *Log) State() State {
	free, total, err := l.cfg.FS.Space(filepath.Dir(l.cfg.Path))
	if err != nil {
		free = l.space.free
	}
	return State{
		Path: l.cfg.Path, Size: l.size, MaxSize: l.cfg.MaxSize, Rotated: l.rotated, Free: free,
		SpaceLeft: l.cfg.SpaceLeft.Of(total), Admin: l.cfg.AdminSpaceLeft.Of(total),
		Suspended: l.suspended.Load(), Low: l.space.low, LowAdmin: l.space.admin, Failing: l.errored,
	}
}

// Tick checks whether the file still has the log's name, and how much space is free. The
// owner calls it about once a second.
func (l *Log) Tick() {
	if !l.failing || !l.cfg.Now().Before(l.retry) {
		if err := l.keepName(); err != nil {
			l.fail(0, err)
		}
	}
	l.checkSpace()
}

// checkSpace takes the actions for low space: once until there is enough again,
// but for rotate, which may help more than once.
func (l *Log) checkSpace() {
	l.space.written = 0
	free, total, err := l.cfg.FS.Space(filepath.Dir(l.cfg.Path))
	if err != nil {
		if !l.space.failed {
			l.space.failed = true
			l.cfg.Logger.Error("the free space of the log's filesystem can't be read", "error", err)
		}
		return
	}
	l.space.failed, l.space.free = false, free
	for _, c := range []struct {
		key     string
		limit   conf.Space
		action  conf.Action
		taken   *bool
		subject string
	}{
		{"admin_space_left", l.cfg.AdminSpaceLeft, l.cfg.AdminSpaceLeftAction, &l.space.admin, "Audit Admin Space Alert"},
		{"space_left", l.cfg.SpaceLeft, l.cfg.SpaceLeftAction, &l.space.low, "Audit Disk Space Alert"},
	} {
		limit := c.limit.Of(total)
		switch {
		case free >= limit:
			*c.taken = false
		case !*c.taken || c.action.Do == conf.DoRotate && l.size > 0 && !l.suspended.Load():
			first := !*c.taken
			*c.taken = true
			l.take(c.action, first, action.Message{
				Condition: c.key + "_action", Subject: c.subject, Level: syslog.Alert,
				Text: fmt.Sprintf("audit: the volume of the log %s has %d MiB left, below %s (%d MiB)", l.cfg.Path, free>>20, c.key, limit>>20),
			})
		}
	}
}

// isFull says whether a write found no room; the limit of a file's size
// (RLIMIT_FSIZE), which rotating helps against, is as good as a full disk.
func isFull(err error) bool { return fsys.NoRoom(err) || errors.Is(err, unix.EFBIG) }

// makeRoom rotates after a write found the disk full, if that is what to do: the
// oldest log goes, once the files after it have moved up.
func (l *Log) makeRoom(err error, try int) bool {
	if !isFull(err) || l.cfg.DiskFullAction.Do != conf.DoRotate || l.cfg.NumLogs < 2 || l.cfg.Action == ActionKeepLogs || try > l.cfg.NumLogs {
		return false
	}
	l.writeErrors.Add(1)
	if try == 0 && !l.failing {
		l.say(l.cfg.DiskFullAction, l.full(err))
	}
	if err := l.Rotate(); err != nil {
		l.cfg.Logger.Error("the local log could not be rotated", "file", l.cfg.Path, "error", err)
		return false
	}
	return true
}

func (l *Log) full(err error) action.Message {
	return action.Message{
		Condition: "disk_full_action", Subject: "Audit Disk Full", Level: syslog.Alert,
		Text: fmt.Sprintf("audit: no space left for the log %s: %v", l.cfg.Path, err),
	}
}

// writeFailed takes the action for a failed write.
func (l *Log) writeFailed(err error) {
	switch {
	case !isFull(err):
		l.diskError(err)
	case l.cfg.DiskFullAction.Do != conf.DoRotate: // makeRoom has done what it can
		l.take(l.cfg.DiskFullAction, true, l.full(err))
	}
}

func (l *Log) diskError(err error) {
	l.errored = true
	l.take(l.cfg.DiskErrorAction, true, action.Message{
		Condition: "disk_error_action", Subject: "Audit Disk Error", Level: syslog.Alert,
		Text: fmt.Sprintf("audit: the log %s can't be written: %v", l.cfg.Path, err),
	})
}

// take does what an action says. say is false when it was said already.
func (l *Log) take(a conf.Action, say bool, m action.Message) {
	if a.Do == "" {
		a.Do = conf.DoIgnore
	}
	if a.Do == conf.DoIgnore && m.Condition == "disk_full_action" {
		a.Do = conf.DoSyslog // as stock: nothing is done, but it is said
	}
	if say {
		l.say(a, m)
	}
	switch a.Do {
	case conf.DoRotate:
		if err := l.Rotate(); err != nil {
			l.cfg.Logger.Error("the local log could not be rotated", "file", l.cfg.Path, "error", err)
		}
	case conf.DoSuspend, conf.DoExec:
		// The program may compress or move the files: they are let go of. It resumes
		// the log (SIGUSR2) when it is done, as auditd.conf(5) has it.
		l.suspend(m.Condition)
	}
}

func (l *Log) say(a conf.Action, m action.Message) {
	if l.cfg.Actor != nil {
		l.cfg.Actor.Do(a, m)
		return
	}
	l.cfg.Logger.Warn(m.Text, "action", a.String(), "key", m.Condition)
}

// suspend ends writing until Resume. The file is closed, so that its space can be
// had.
func (l *Log) suspend(why string) {
	if l.suspended.Swap(true) {
		return
	}
	if !l.failing {
		l.since = l.dropped.Load()
	}
	l.packer.configure(l.packing()) // the files are let go of
	l.cfg.Logger.Error("writing the local log is suspended until resumed (SIGUSR2)", "file", l.cfg.Path, "key", why)
	if l.file == nil {
		return
	}
	l.lastLook()
	if l.syncer != nil {
		l.syncer.wait()
	}
	if l.cfg.Flush != FlushNone && l.unsync > 0 {
		l.noteSync(l.file.Datasync())
	}
	l.unsync = 0
	if l.torn {
		if err := l.file.Truncate(l.size); err == nil {
			l.torn = false
		}
	}
	if err := l.file.Close(); err != nil {
		l.cfg.Logger.Warn("the suspended log could not be closed well", "error", err)
	}
	l.file = nil
}

// Suspended reports whether writing is suspended; any goroutine may call it.
func (l *Log) Suspended() bool { return l.suspended.Load() }

// Resume ends a suspension. An action that was taken for low space, or for the
// file's size, is not taken again before there was enough, or another file:
// resuming must not suspend at once.
func (l *Log) Resume() error {
	l.retry = l.cfg.Now()
	l.errored = false
	if !l.suspended.Load() {
		return nil
	}
	if l.file == nil {
		if err := l.openFile(); err != nil {
			return err
		}
		l.torn, l.name.sound = false, l.records.Load()
		if err := l.cutTorn(); err != nil {
			err = errors.Join(err, l.file.Close())
			l.file = nil
			return err
		}
	}
	l.suspended.Store(false)
	l.packer.configure(l.packing())
	l.failing, l.warned = false, l.cfg.MaxSize > 0 && l.size >= l.cfg.MaxSize
	l.cfg.Logger.Warn("the local log is written again", "file", l.cfg.Path, "not_written", l.dropped.Load()-l.since)
	return nil
}

// checkSize takes max_log_file_action.
func (l *Log) checkSize() {
	if l.cfg.MaxSize <= 0 || l.size < l.cfg.MaxSize {
		return
	}
	m := action.Message{
		Condition: "max_log_file_action", Level: syslog.Warning,
		Text: fmt.Sprintf("audit: the log %s exceeds max_log_file: %d bytes", l.cfg.Path, l.size),
	}
	switch l.cfg.Action {
	case ActionIgnore:
	case ActionSyslog:
		if !l.warned {
			l.warned = true
			l.take(conf.Action{Do: conf.DoSyslog}, true, m)
		}
	case ActionSuspend:
		if !l.warned {
			l.warned = true
			l.take(conf.Action{Do: conf.DoSuspend}, true, m)
		}
	case ActionRotate, ActionKeepLogs:
		if err := l.Rotate(); err != nil && !l.warned {
			l.warned = true
			l.cfg.Logger.Error("the local log could not be rotated, it goes on growing", "file", l.cfg.Path, "error", err)
			l.diskError(err)
		}
	}
}
