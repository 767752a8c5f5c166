package locallog

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
)

// FlushMode is auditd.conf's flush.
type FlushMode uint8

const (
	FlushIncrementalAsync FlushMode = iota // sync every Freq records, by a goroutine of its own
	FlushIncremental                       // sync every Freq records
	FlushNone                              // leave it to the system
	FlushData                              // fdatasync after each batch
	FlushSync                              // fsync after each batch
)

// Action is auditd.conf's max_log_file_action.
type Action uint8

const (
	ActionRotate   Action = iota // shift the numbered files, keep NumLogs files
	ActionKeepLogs               // shift the numbered files, keep all
	ActionIgnore
	ActionSyslog  // say it once a size
	ActionSuspend // write no more until Resume
)

// ErrUnsafe is returned for a log file where others could replace it.
var ErrUnsafe = errors.New("not a safe place for an audit log")

// Config is for Open.
type Config struct {
	Path       string
	Flush      FlushMode
	Freq       int   // records, for the incremental modes
	MaxSize    int64 // bytes after which Action is taken, 0: never
	NumLogs    int   // files altogether; below 2 there is no rotation
	Action     Action
	GID        int // group that may read, 0 or less: only root
	BufferSize int // default 64 KiB

	FS     FS
	Logger hclog.Logger
	Now    func() time.Time
}

// Stats are counters since Open.
type Stats struct {
	Records, Bytes uint64
	Dropped        uint64 // records the disk did not take, or not written while suspended
	Rotations      uint64
	Syncs          uint64
	SyncErrors     uint64
	WriteErrors    uint64
}

// Log is an open audit.log.
type Log struct {
	cfg     Config
	file    File
	size    int64 // of the file, whole lines only
	buf     []byte
	inBuf   int // records in buf
	unsync  int // records written since the last sync
	warned  bool
	full    bool // ActionSuspend was taken
	torn    bool // half a line lies beyond size and could not be cut off yet
	failing bool
	since   uint64    // Dropped when it began to fail
	retry   time.Time // not tried again before
	syncer  *syncer

	records, bytes, dropped, rotations, writeErrors atomic.Uint64
	syncs, syncErrors                               atomic.Uint64
}

const retryEvery = time.Second

// Open opens the log for appending, making it and its folder where missing.
func Open(cfg Config) (*Log, error) {
	if cfg.FS == nil {
		cfg.FS = OS{}
	}
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.BufferSize <= 0 {
		cfg.BufferSize = 64 << 10
	}
	if cfg.Freq <= 0 {
		cfg.Freq = 50
	}
	l := &Log{cfg: cfg, buf: make([]byte, 0, cfg.BufferSize)}
	if err := l.prepareDir(); err != nil {
		return nil, err
	}
	if err := l.openFile(); err != nil {
		return nil, err
	}
	if err := l.cutTorn(); err != nil {
		return nil, errors.Join(err, l.file.Close())
	}
	if cfg.Flush == FlushIncrementalAsync {
		l.syncer = newSyncer(l)
	}
	return l, nil
}

func (l *Log) dirMode() fs.FileMode {
	if l.cfg.GID > 0 {
		return 0o750
	}
	return 0o700
}

func (l *Log) fileMode() fs.FileMode {
	if l.cfg.GID > 0 {
		return 0o640
	}
	return 0o600
}

// prepareDir makes the folder where it is missing. One that is there is left as
// it is (it may be /var/log), but must not be one where anybody can put files.
func (l *Log) prepareDir() error {
	dir := filepath.Dir(l.cfg.Path)
	info, err := l.cfg.FS.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if err := l.cfg.FS.MkdirAll(dir, l.dirMode()); err != nil {
			return fmt.Errorf("make the log folder: %w", err)
		}
		if l.cfg.GID > 0 {
			if err := l.cfg.FS.Chown(dir, -1, l.cfg.GID); err != nil {
				return fmt.Errorf("give the log folder to its group: %w", err)
			}
			// The umask may have taken the group's bits.
			if err := l.cfg.FS.Chmod(dir, l.dirMode()); err != nil {
				return fmt.Errorf("set the log folder's mode: %w", err)
			}
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("the log folder: %w", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("the log folder: %s is no folder", dir)
	}
	if info.Mode().Perm()&0o002 != 0 {
		return fmt.Errorf("%w: %s is writable by everybody; give log_file a folder of its own", ErrUnsafe, dir)
	}
	return nil
}

func (l *Log) openFile() error {
	f, size, err := l.openAs(l.cfg.Path)
	if err != nil {
		return err
	}
	l.file, l.size = f, size
	return nil
}

func (l *Log) openAs(path string) (File, int64, error) {
	f, err := l.cfg.FS.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND, l.fileMode())
	if err != nil {
		return nil, 0, fmt.Errorf("open the log: %w", err)
	}
	if err := f.Chmod(l.fileMode()); err != nil {
		return nil, 0, errors.Join(fmt.Errorf("set the mode of %s: %w", path, err), f.Close())
	}
	if l.cfg.GID > 0 {
		if err := f.Chown(-1, l.cfg.GID); err != nil {
			return nil, 0, errors.Join(fmt.Errorf("give %s to its group: %w", path, err), f.Close())
		}
	}
	size, err := f.Size()
	if err != nil {
		return nil, 0, errors.Join(fmt.Errorf("size of %s: %w", path, err), f.Close())
	}
	return f, size, nil
}

// cutTorn ends an unfinished last line of an earlier run that was killed, so
// that the next record starts a line. Audit data is never cut away here.
func (l *Log) cutTorn() error {
	if l.size == 0 {
		return nil
	}
	r, ok := l.file.(interface {
		ReadAt(b []byte, off int64) (int, error)
	})
	if !ok {
		return nil
	}
	var last [1]byte
	if _, err := r.ReadAt(last[:], l.size-1); err != nil {
		return fmt.Errorf("read the end of %s: %w", l.cfg.Path, err)
	}
	if last[0] == '\n' {
		return nil
	}
	if _, err := l.file.Write([]byte("\n")); err != nil {
		return fmt.Errorf("end the last line of %s: %w", l.cfg.Path, err)
	}
	l.size++
	return nil
}

// Write puts one line, without its newline, into the buffer. It reaches the file
// when the buffer is full or at Flush.
func (l *Log) Write(line []byte) {
	if len(l.buf)+len(line)+1 > cap(l.buf) && len(l.buf) > 0 {
		l.writeOut()
	}
	l.buf = append(append(l.buf, line...), '\n')
	l.inBuf++
}

// Flush ends a batch: everything is written, and synced as the flush mode says.
func (l *Log) Flush() {
	l.writeOut()
	switch l.cfg.Flush {
	case FlushNone:
	case FlushData, FlushSync:
		if l.unsync > 0 {
			l.sync()
		}
	case FlushIncremental:
		if l.unsync >= l.cfg.Freq {
			l.sync()
		}
	case FlushIncrementalAsync:
		if l.unsync >= l.cfg.Freq {
			l.unsync = 0
			l.syncer.request()
		}
	}
}

func (l *Log) sync() {
	l.unsync = 0
	do := l.file.Datasync
	if l.cfg.Flush == FlushSync {
		do = l.file.Sync
	}
	l.noteSync(do())
}

func (l *Log) noteSync(err error) {
	l.syncs.Add(1)
	if err != nil {
		if l.syncErrors.Add(1) == 1 {
			l.cfg.Logger.Error("the local log could not be synced: what was written since the last sync may not survive a power loss",
				"file", l.cfg.Path, "error", err)
		}
	}
}

// WriteLines writes many lines, each with its newline, past the buffer.
func (l *Log) WriteLines(data []byte, records int) {
	l.writeOut()
	if records > 0 {
		l.writeNow(data, records)
	}
}

// writeOut writes the buffer.
func (l *Log) writeOut() {
	if l.inBuf == 0 {
		return
	}
	records, data := l.inBuf, l.buf
	l.inBuf, l.buf = 0, l.buf[:0]
	l.writeNow(data, records)
}

// writeNow writes lines with one call and then looks at the size.
func (l *Log) writeNow(data []byte, records int) {
	if l.full || l.failing && l.cfg.Now().Before(l.retry) {
		l.dropped.Add(uint64(records))
		return
	}
	if l.torn {
		if err := l.file.Truncate(l.size); err != nil {
			l.fail(records, err)
			return
		}
		l.torn = false
	}
	n, err := l.file.Write(data)
	if err != nil || n < len(data) {
		whole := bytes.LastIndexByte(data[:n], '\n') + 1
		written := bytes.Count(data[:whole], []byte{'\n'})
		l.wrote(written, whole)
		if err == nil {
			err = fmt.Errorf("short write: %d of %d bytes", n, len(data))
		}
		if whole < n {
			// Half a line is there: without cutting it off, the next record would
			// become part of it.
			if terr := l.file.Truncate(l.size); terr != nil {
				l.torn = true
				err = errors.Join(err, terr)
			}
		}
		l.fail(records-written, err)
		return
	}
	l.wrote(records, len(data))
	if l.failing {
		l.failing = false
		l.cfg.Logger.Warn("the local log is written again", "file", l.cfg.Path, "not_written", l.dropped.Load()-l.since)
	}
	l.checkSize()
}

func (l *Log) wrote(records, n int) {
	l.size += int64(n)
	l.unsync += records
	l.records.Add(uint64(records))
	l.bytes.Add(uint64(n))
}

// fail counts records the disk did not take and says so once; it is tried again
// each second.
func (l *Log) fail(records int, err error) {
	l.writeErrors.Add(1)
	if !l.failing {
		l.failing, l.since = true, l.dropped.Load()
		l.cfg.Logger.Error("the local log can't be written; records go on to the collector, the local log is tried again every second",
			"file", l.cfg.Path, "error", err)
	}
	l.dropped.Add(uint64(records))
	l.retry = l.cfg.Now().Add(retryEvery)
}

func (l *Log) checkSize() {
	if l.cfg.MaxSize <= 0 || l.size < l.cfg.MaxSize {
		return
	}
	switch l.cfg.Action {
	case ActionIgnore:
	case ActionSyslog:
		if !l.warned {
			l.warned = true
			l.cfg.Logger.Warn("the local log exceeds max_log_file", "file", l.cfg.Path, "bytes", l.size)
		}
	case ActionSuspend:
		l.full = true
		l.cfg.Logger.Error("the local log exceeds max_log_file: writing it is suspended", "file", l.cfg.Path, "bytes", l.size)
	case ActionRotate, ActionKeepLogs:
		if err := l.Rotate(); err != nil && !l.warned {
			l.warned = true
			l.cfg.Logger.Error("the local log could not be rotated, it goes on growing", "file", l.cfg.Path, "error", err)
		}
	}
}

// Suspended reports whether writing is suspended by its size.
func (l *Log) Suspended() bool { return l.full }

// Resume ends a suspension, after the administrator made room.
func (l *Log) Resume() {
	l.full = false
	l.failing = false
}

// Rotate starts a new file: audit.log becomes audit.log.1 (read-only) and so on.
// With fewer than two files allowed it does nothing.
func (l *Log) Rotate() error {
	if l.inBuf > 0 {
		// Called between batches or from writeOut, which has emptied the buffer:
		// only an administrator's rotation finds something here.
		l.writeOut()
	}
	if l.cfg.NumLogs < 2 && l.cfg.Action != ActionKeepLogs {
		return nil
	}
	// The new file is made first: when that fails nothing has been renamed, and
	// no old log is pushed out by trying again.
	fresh, size, err := l.openAs(l.cfg.Path + newSuffix)
	if err != nil {
		return fmt.Errorf("rotate: %w", err)
	}
	if l.syncer != nil {
		l.syncer.wait()
	}
	if l.cfg.Flush != FlushNone {
		l.noteSync(l.file.Datasync())
	}
	l.unsync = 0
	if err := l.shift(); err != nil {
		return errors.Join(err, fresh.Close())
	}
	if err := l.cfg.FS.Rename(l.cfg.Path+newSuffix, l.cfg.Path); err != nil {
		return errors.Join(fmt.Errorf("rotate: %w", err), fresh.Close())
	}
	rotated := l.file
	l.file, l.size, l.warned = fresh, size, false
	if err := rotated.Chmod(l.fileMode() &^ 0o200); err != nil {
		l.cfg.Logger.Warn("the rotated log could not be made read-only", "error", err)
	}
	l.rotations.Add(1)
	return rotated.Close()
}

// newSuffix names the next file until the old ones have been shifted.
const newSuffix = ".new"

// shift renames the numbered files upwards, highest first. What goes beyond
// NumLogs is overwritten by the rename.
func (l *Log) shift() error {
	name := func(i int) string {
		if i == 0 {
			return l.cfg.Path
		}
		return l.cfg.Path + "." + strconv.Itoa(i)
	}
	last := l.cfg.NumLogs - 1
	if l.cfg.Action == ActionKeepLogs {
		for last = 1; ; last++ {
			if _, err := l.cfg.FS.Stat(name(last)); err != nil {
				break
			}
		}
	}
	for i := last; i >= 1; i-- {
		if err := l.cfg.FS.Rename(name(i-1), name(i)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("rotate: %w", err)
		}
	}
	return nil
}

// Stats returns the counters; any goroutine may ask.
func (l *Log) Stats() Stats {
	return Stats{
		Records: l.records.Load(), Bytes: l.bytes.Load(), Dropped: l.dropped.Load(), Rotations: l.rotations.Load(),
		Syncs: l.syncs.Load(), SyncErrors: l.syncErrors.Load(), WriteErrors: l.writeErrors.Load(),
	}
}

// Close writes what is buffered, syncs and closes.
func (l *Log) Close() error {
	if l.file != nil {
		l.writeOut()
	}
	if l.syncer != nil {
		l.syncer.stop()
		l.syncer = nil
	}
	if l.file == nil {
		return nil // closed before
	}
	var errs []error
	if l.cfg.Flush != FlushNone {
		errs = append(errs, l.file.Sync())
	}
	errs = append(errs, l.file.Close())
	l.file = nil
	return errors.Join(errs...)
}

// ParseFlush reads auditd.conf's words for flush.
func ParseFlush(s string) (FlushMode, error) {
	switch strings.ToLower(s) {
	case "incremental_async":
		return FlushIncrementalAsync, nil
	case "incremental":
		return FlushIncremental, nil
	case "none":
		return FlushNone, nil
	case "data":
		return FlushData, nil
	case "sync":
		return FlushSync, nil
	}
	return 0, fmt.Errorf("flush: %q is none of none, incremental, incremental_async, data, sync", s)
}

// ParseAction reads auditd.conf's words for max_log_file_action.
func ParseAction(s string) (Action, error) {
	switch strings.ToLower(s) {
	case "rotate":
		return ActionRotate, nil
	case "keep_logs":
		return ActionKeepLogs, nil
	case "ignore":
		return ActionIgnore, nil
	case "syslog":
		return ActionSyslog, nil
	case "suspend":
		return ActionSuspend, nil
	}
	return 0, fmt.Errorf("max_log_file_action: %q is none of ignore, syslog, suspend, rotate, keep_logs", s)
}
