package locallog

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/pkg/conf"
	"github.com/auditfleet/auditfleet/pkg/fsys"
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

// Config configures Open and Reload.
type Config struct {
	Path     string
	Flush    FlushMode
	Freq     int   // records, for the incremental modes
	MaxSize  int64 // bytes after which Action is taken, 0: never
	NumLogs  int   // files altogether; below 2 there is no rotation
	Action   Action
	Dated    bool // rotated files are named by the time, not numbered
	Compress bool // rotated files are compressed
	GID      int  // group that may read, 0 or less: only root

	// What to do when the filesystem's free space falls below SpaceLeft, and then
	// below AdminSpaceLeft, and when a write fails.
	SpaceLeft, AdminSpaceLeft             conf.Space
	SpaceLeftAction, AdminSpaceLeftAction conf.Action
	DiskFullAction, DiskErrorAction       conf.Action
	// Actor carries out the actions that are not the log's own (mail, a program, an end of
	// the machine); nil: the log only logs them. It must not wait.
	Actor Actor

	FS     fsys.FS // nil: the operating system's
	Logger hclog.Logger
	Now    func() time.Time
}

// Stats has the counters since Open.
type Stats struct {
	Records, Bytes uint64
	Dropped        uint64 // records that the disk did not accept, or that came while suspended
	Rotations      uint64
	Compressed     uint64 // rotated files
	CompressErrors uint64
	Syncs          uint64
	SyncErrors     uint64
	WriteErrors    uint64
	// Nameless are records that went into a file which somebody had removed; they count
	// in Records, too.
	Nameless uint64
	Reopened uint64 // times the log was opened again because it had lost its name
}

// Log is an open audit.log. The caller must Close it.
//
// One goroutine owns it and uses every field; the atomics are for Stats and Suspended,
// which others may call. file is shared with the syncer while a sync of it is asked for:
// closeFile waits for the syncer before it closes the file.
//
// What must hold: size is the file's length up to the last whole line that was written.
// When torn is set, part of a line lies behind it, and nothing is written before that is
// cut off.
type Log struct {
	cfg     Config
	file    fsys.File
	size    int64 // of the file, whole lines only
	unsync  int   // records written since the last sync
	warned  bool
	torn    bool // half a line lies beyond size and could not be cut off yet
	failing bool
	// errored: disk_error_action was taken; until Resume.
	errored bool
	since   uint64    // Dropped when the log began to fail, or was suspended
	retry   time.Time // the log does not try to write again before this time
	syncer  *syncer
	space   space
	packer  *packer
	rotated int // number of older files at the last rotation
	name    name

	suspended atomic.Bool // the file is closed then, until Resume

	records, bytes, dropped, rotations, writeErrors atomic.Uint64
	syncs, syncErrors, nameless, reopened           atomic.Uint64
}

const retryEvery = time.Second

// Open opens the log for appending; it creates the file and its folder where they are
// missing. ErrUnsafe: others could replace the file.
func Open(cfg Config) (*Log, error) {
	cfg.defaults()
	l := &Log{cfg: cfg}
	l.packer = newPacker(&l.cfg)
	if err := l.acquire(); err != nil {
		return nil, err
	}
	if err := l.packer.removeLeftovers(cfg.Path); err != nil {
		cfg.Logger.Warn("what is left of compressing logs could not be removed", "error", err)
	}
	l.packer.configure(l.packing())
	return l, nil
}

func (l *Log) packing() packing {
	return packing{path: l.cfg.Path, mode: l.fileMode(), gid: l.cfg.GID, on: l.cfg.Compress && !l.suspended.Load()}
}

func (c *Config) defaults() {
	if c.FS == nil {
		c.FS = fsys.OS
	}
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Freq <= 0 {
		c.Freq = 50
	}
}

// acquire opens the file and what belongs to it.
func (l *Log) acquire() error {
	if err := l.prepareDir(); err != nil {
		return err
	}
	if err := l.openFile(); err != nil {
		return err
	}
	l.syncNames()
	if err := l.cutTorn(); err != nil {
		err = errors.Join(err, l.file.Close())
		l.file = nil
		return err
	}
	if err := l.removeExcess(); err != nil {
		l.cfg.Logger.Warn("logs beyond num_logs could not be removed", "error", err)
	}
	if err := l.giveOlder(); err != nil {
		l.cfg.Logger.Warn("log_group can't read all older logs", "error", err)
	}
	if l.cfg.Flush == FlushIncrementalAsync {
		l.syncer = newSyncer(l)
	}
	return nil
}

// Reload applies another configuration: another file, mode or action. After an error
// nothing has changed.
func (l *Log) Reload(cfg Config) error {
	cfg.defaults()
	next := &Log{cfg: cfg, packer: l.packer}
	if err := next.acquire(); err != nil {
		return err
	}
	if next.syncer != nil {
		next.syncer.stop()
	}
	if err := l.closeFile(); err != nil {
		l.cfg.Logger.Error("the old log could not be closed well", "file", l.cfg.Path, "error", err)
	}
	l.cfg, l.file, l.size = cfg, next.file, next.size
	l.warned, l.torn, l.space, l.unsync = false, false, space{}, 0
	l.name = name{sound: l.records.Load()}
	l.packer.configure(l.packing())
	if cfg.Flush == FlushIncrementalAsync {
		l.syncer = newSyncer(l)
	}
	if l.suspended.Load() {
		// It stays so, with its file closed, until resumed.
		err := l.file.Close()
		l.file = nil
		return err
	}
	l.retry = time.Time{}
	return nil
}

// syncNames makes the names of the log's files durable: a file that was synced is
// worth nothing without one.
func (l *Log) syncNames() {
	if l.cfg.Flush == FlushNone {
		return
	}
	if err := l.cfg.FS.SyncDir(filepath.Dir(l.cfg.Path)); err != nil {
		l.noteSync(err)
	}
}

func (l *Log) openFile() error {
	f, size, err := l.openAs(l.cfg.Path)
	if err != nil {
		return err
	}
	l.file, l.size = f, size
	return nil
}

func (l *Log) openAs(path string) (fsys.File, int64, error) {
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
	var last [1]byte
	if _, err := l.file.ReadAt(last[:], l.size-1); err != nil {
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

// Flush ends a batch of WriteLines: it syncs the file as the flush mode demands. An error
// is counted and logged.
func (l *Log) Flush() {
	switch l.cfg.Flush {
	case FlushNone:
	case FlushData, FlushSync:
		if l.unsync > 0 && l.file != nil {
			l.sync()
		}
	case FlushIncremental:
		if l.unsync >= l.cfg.Freq && l.file != nil {
			l.sync()
		}
	case FlushIncrementalAsync:
		if l.unsync >= l.cfg.Freq && l.file != nil {
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

// WriteLines writes records, each a line with its newline, with one write call, and then
// takes the action that the file's size demands. data holds as many lines as records says,
// and is not kept. Records that the disk does not accept are counted as dropped.
func (l *Log) WriteLines(data []byte, records int) {
	if l.suspended.Load() || l.failing && l.cfg.Now().Before(l.retry) {
		l.dropped.Add(uint64(records))
		return
	}
	if err := l.looksAtName(); err != nil {
		l.fail(records, err)
		return
	}
	for try := 0; ; try++ {
		written, whole, err := l.writeOnce(data, records)
		if err == nil {
			break
		}
		data, records = data[whole:], records-written
		if !l.makeRoom(err, try) {
			l.fail(records, err)
			return
		}
	}
	if l.failing {
		l.failing = false
		l.cfg.Logger.Warn("the local log is written again", "file", l.cfg.Path, "not_written", l.dropped.Load()-l.since)
	}
	l.checkSize()
	if l.space.written += int64(len(data)); l.space.written >= spaceEvery {
		l.checkSpace()
	}
}

// writeOnce writes lines with one call. With an error it says how many whole
// lines, and bytes of them, were written; half a line is cut off again.
func (l *Log) writeOnce(data []byte, records int) (written, whole int, err error) {
	if l.torn {
		if err := l.file.Truncate(l.size); err != nil {
			return 0, 0, err
		}
		l.torn = false
	}
	n, err := l.file.Write(data)
	if err == nil && n == len(data) {
		l.wrote(records, n)
		return records, n, nil
	}
	whole = bytes.LastIndexByte(data[:n], '\n') + 1
	written = bytes.Count(data[:whole], []byte{'\n'})
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
	return written, whole, err
}

func (l *Log) wrote(records, n int) {
	l.size += int64(n)
	l.unsync += records
	l.records.Add(uint64(records))
	l.bytes.Add(uint64(n))
}

// fail counts records the disk did not take and says so once; it is tried again
// each second, unless an action says otherwise.
func (l *Log) fail(records int, err error) {
	l.writeErrors.Add(1)
	first := !l.failing
	if first {
		l.failing, l.since = true, l.dropped.Load()
		todo := "mend what the error says"
		switch {
		case fsys.NoRoom(err):
			todo = "make room on its filesystem"
		case errors.Is(err, syscall.EIO), errors.Is(err, syscall.EROFS):
			todo = "look at the disk (dmesg)"
		}
		l.cfg.Logger.Error("the local log can't be written: records go to the collector only, where there is one; the local log is tried again every second",
			"file", l.cfg.Path, "error", err, "todo", todo)
	}
	l.dropped.Add(uint64(records))
	l.retry = l.cfg.Now().Add(retryEvery)
	if first {
		l.writeFailed(err)
	}
}

// Stats returns the present counters; any goroutine may call it.
func (l *Log) Stats() Stats {
	return Stats{
		Records: l.records.Load(), Bytes: l.bytes.Load(), Dropped: l.dropped.Load(), Rotations: l.rotations.Load(),
		Compressed: l.packer.packed.Load(), CompressErrors: l.packer.failed.Load(),
		Syncs: l.syncs.Load(), SyncErrors: l.syncErrors.Load(), WriteErrors: l.writeErrors.Load(),
		Nameless: l.nameless.Load(), Reopened: l.reopened.Load(),
	}
}

// Close syncs and closes the file and ends the log's goroutines. A log that is not yet
// compressed is compressed after the next Open.
func (l *Log) Close() error {
	err := l.closeFile()
	l.packer.stop()
	return err
}

func (l *Log) closeFile() error {
	l.lastLook()
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
