package upkeep

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/seal"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/manifest"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/pages"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/raw"
	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/seglog"
)

// A backup's folder:
//
//	auditfleet-backup   marks the folder as a backup's
//	lock                held while a backup is made
//	store/              a whole store's folder, to be copied back
//	store/BACKUP        what was copied, as JSON
//	store.new/          the next backup while it is made, or the last one while it is removed
//
// store/ is replaced as a whole, in one step, once its successor is durable. A partition
// that has not changed since the last backup is linked, not copied: one file in both.
const (
	backupMarker = "auditfleet-backup"
	backupText   = "auditfleet backup 1\n"
	backupLock   = "lock"
	backupStore  = "store"
	backupNew    = "store.new"
	copiedName   = "BACKUP"
)

var (
	// ErrForeign is returned by Backup for a folder that holds other things.
	ErrForeign = errors.New("not a backup's folder")
	// ErrRunning is returned by Backup while another backup goes to that folder.
	ErrRunning = errors.New("another backup is being made there")
)

// BackupOptions say what to copy, and where.
type BackupOptions struct {
	Dir    string // the store
	Target string // made when missing; a folder with anything but an earlier backup is refused
	// Progress, when not nil, is called with the bytes done and about how many there are.
	Progress func(done, total int64)
	// Now is the clock, time.Now when nil.
	Now func() time.Time
}

// BackupReport is what Backup did.
type BackupReport struct {
	Server       string // the collector that has the store, "" when none has
	Copied, Kept int    // partitions copied, and those that the last backup had already
	Bytes        int64  // written
	Entries      uint64 // of the journal
	Batch, LSN   uint64 // of the store's state
	// Damage is what could not be read, a line each. All else was copied.
	Damage []string
}

// copied is the content of the file BACKUP.
type copied struct {
	Format     int                   `json:"format"`
	Store      string                `json:"store"`
	Begun      time.Time             `json:"begun"`
	Batch      uint64                `json:"batch"`
	LSN        uint64                `json:"lsn"`
	Partitions map[string]copiedPart `json:"partitions"`
}

// copiedPart is what the source of a partition was when it was copied: a source that is
// the same in all of it need not be copied again.
type copiedPart struct {
	Size       int64  `json:"size"`
	ModifiedNs int64  `json:"modified_ns"`
	Batch      uint64 `json:"transaction"`
	SHA256     string `json:"sha256,omitempty"` // absent for the day that was being written
}

// Backup copies a store, also while a collector writes it. Every record that was acknowledged
// before it began is in the copy exactly once. It tries up to ten times when the collector
// writes or trims what it reads. Errors: ErrForeign, ErrRunning, those of reading the store
// and writing the copy; after an error the last backup is as it was.
func Backup(ctx context.Context, o BackupOptions) (_ *BackupReport, err error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	b := &backup{o: o, rep: &BackupReport{}, begun: o.Now()}
	if err := b.places(); err != nil {
		return nil, err
	}
	if b.rep.Server, _, err = bolt.InUse(b.o.Dir); err != nil {
		return nil, fmt.Errorf("look for a server: %w", err)
	}
	unlock, err := b.claim()
	if err != nil {
		return nil, fmt.Errorf("backup to %s: %w", o.Target, err)
	}
	defer func() { err = errors.Join(err, unlock()) }()
	for attempt := 1; ; attempt++ {
		err := b.attempt(ctx)
		if err == nil {
			return b.rep, nil
		}
		if attempt == 10 || !errors.Is(err, journal.ErrTrimmed) && !errors.Is(err, pages.ErrBusy) || ctx.Err() != nil {
			return nil, fmt.Errorf("backup to %s: %w", o.Target, errors.Join(err, b.discard()))
		}
	}
}

// backup is one run of Backup.
type backup struct {
	o     BackupOptions
	rep   *BackupReport
	begun time.Time
	old   copied // of the last backup; zero when there is none
	total int64
	// before and after are the store's manifest before and after the partitions were
	// opened, nil where there is none.
	before, after *manifest.Content
	journal       seglog.Known // what is known of the journal's copy
}

// new returns a path in the backup that is being made.
func (b *backup) new(name ...string) string {
	return filepath.Join(append([]string{b.o.Target, backupNew}, name...)...)
}

// places resolves both folders' paths, and makes sure that neither lies in the other.
func (b *backup) places() error {
	if _, err := layout.List(b.o.Dir); err != nil {
		return err
	}
	real := func(path string) (string, error) {
		abs, err := filepath.Abs(path)
		if err != nil {
			return "", err
		}
		// The last parts of the target may not exist yet: resolve what exists.
		for at, rest := abs, ""; ; at, rest = filepath.Dir(at), filepath.Join(filepath.Base(at), rest) {
			if r, err := filepath.EvalSymlinks(at); err == nil {
				return filepath.Join(r, rest), nil
			}
			if at == filepath.Dir(at) {
				return abs, nil
			}
		}
	}
	from, err := real(b.o.Dir)
	if err != nil {
		return err
	}
	to, err := real(b.o.Target)
	if err != nil {
		return err
	}
	b.o.Dir, b.o.Target = from, to
	if from == to || strings.HasPrefix(to, from+"/") || strings.HasPrefix(from, to+"/") {
		return fmt.Errorf("%w: the store %s and the backup %s must not lie within each other", ErrForeign, from, to)
	}
	return nil
}

// claim makes the target, or recognises it as a backup's, and locks it. It reads what the
// last backup has copied.
func (b *backup) claim() (unlock func() error, err error) {
	dir := b.o.Target
	if err := fsys.OS.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	marker := filepath.Join(dir, backupMarker)
	text, err := os.ReadFile(marker)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if e.Name() != "lost+found" {
				return nil, fmt.Errorf("%w: it holds %s and no file %s: give an empty folder or a new one", ErrForeign, e.Name(), backupMarker)
			}
		}
		if err := writeDurably(marker, []byte(backupText)); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, err
	case string(text) != backupText:
		return nil, fmt.Errorf("%w: %s says %.40q", ErrForeign, backupMarker, text)
	}
	lock, err := fsys.OS.Lock(filepath.Join(dir, backupLock))
	if errors.Is(err, fsys.ErrLocked) {
		return nil, ErrRunning
	}
	if err != nil {
		return nil, err
	}
	// When what the last backup has copied cannot be read, everything is copied again.
	if text, err := os.ReadFile(filepath.Join(dir, backupStore, copiedName)); err == nil {
		if json.Unmarshal(text, &b.old) != nil || b.old.Format != 1 || b.old.Store != b.o.Dir {
			b.old = copied{}
		}
	}
	return lock.Close, nil
}

// discard removes what was not finished.
func (b *backup) discard() error { return os.RemoveAll(b.new()) }

// attempt makes a backup. After journal.ErrTrimmed or pages.ErrBusy another attempt may
// succeed.
func (b *backup) attempt(ctx context.Context) (err error) {
	server := b.rep.Server
	*b.rep = BackupReport{Server: server}
	if err := b.discard(); err != nil {
		return err
	}
	for _, name := range []string{"", "partitions"} {
		if err := os.Mkdir(b.new(name), 0o700); err != nil {
			return err
		}
	}
	m, err := b.moment()
	if m != nil {
		defer func() { err = errors.Join(err, m.Close()) }()
	}
	if err != nil {
		return err
	}
	for _, p := range m.Parts {
		b.total += p.Size
	}
	for _, path := range m.Doubtful {
		b.damaged([]error{fmt.Errorf("%s: not copied: its events are in others, since compaction: the next start sets it aside", path)})
	}
	man := copied{Format: 1, Store: b.o.Dir, Begun: b.begun.UTC(), Batch: m.State.ID, LSN: m.State.LSN, Partitions: map[string]copiedPart{}}
	b.rep.Batch, b.rep.LSN = m.State.ID, m.State.LSN
	for _, p := range m.Parts {
		if err := b.partition(ctx, p, &man); err != nil {
			return fmt.Errorf("copy %s: %w", p.Path, err)
		}
	}
	// The senders' state is newer than the partitions then, which it may always be.
	damage, err := raw.CopySenders(b.o.Dir, b.new())
	b.damaged(damage)
	if err != nil {
		return fmt.Errorf("copy the state of resend detection: %w", err)
	}
	if err := b.list(m); err != nil {
		return err
	}
	if err := b.seal(m.State.ID); err != nil {
		return err
	}
	return b.finish(&man)
}

func (b *backup) damaged(list []error) {
	for _, err := range list {
		b.rep.Damage = append(b.rep.Damage, err.Error())
	}
}

// moment copies the journal and opens the partitions, so that each record is in one of
// them. The server goes on meanwhile, which moves records from the journal to the
// partitions:
//   - The journal is copied first. It is trimmed only of records that the partitions have
//     by then, so what the copy lacks at its beginning is in the partitions opened later.
//   - What the journal has got since is copied again after the partitions were opened. So a
//     record that these count as seen, in State.LSN or State.Open, and have not stored is
//     in the copy.
//
// A record that is in both is not stored twice: the copy's State tells what to replay. st
// is an earlier state, so need asks for more rather than less.
func (b *backup) moment() (_ *raw.Moment, err error) {
	b.before, b.after = nil, nil
	if c, err := manifest.Load(fsys.OS, b.o.Dir); err == nil {
		b.before = c
	} else if !errors.Is(err, fs.ErrNotExist) {
		b.damaged([]error{err})
	}
	before, err := raw.OpenMoment(b.o.Dir)
	if err != nil {
		return nil, err
	}
	st := before.State
	if err := before.Close(); err != nil {
		return nil, err
	}
	from, to := journal.Options{Dir: filepath.Join(b.o.Dir, journalDir)}, journal.Options{Dir: b.new(journalDir)}
	if b.before != nil {
		from.ID, from.Known, to.ID = b.before.ID, b.before.Journal, b.before.ID
		to.Changed = func(k seglog.Known, _ []seglog.Damage) error { b.journal = k; return nil }
	}
	c, err := journal.NewCopier(from, to)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	need := func(batch *journal.Batch) bool {
		if batch.Last() > st.LSN {
			return true
		}
		i, _ := slices.BinarySearch(st.Open, batch.First)
		return i < len(st.Open) && st.Open[i] <= batch.Last()
	}
	if err := c.Take(need); err != nil {
		return nil, err
	}
	m, err := raw.OpenMoment(b.o.Dir)
	if err != nil {
		return nil, err
	}
	if err := c.Take(need); err != nil {
		return m, err
	}
	if b.before != nil {
		if b.after, err = manifest.Load(fsys.OS, b.o.Dir); err != nil {
			return m, err
		}
	}
	b.rep.Entries = c.Entries
	b.rep.Bytes += c.Bytes
	b.damaged(c.Damage)
	return m, nil
}

// partition copies a partition, or links it when the last backup has it, unchanged.
func (b *backup) partition(ctx context.Context, p *raw.MomentPart, man *copied) error {
	name := filepath.Base(p.Path)
	to := b.new("partitions", name)
	entry := copiedPart{Size: p.Size, ModifiedNs: p.Modified.UnixNano(), Batch: p.Transaction}
	last, ok := b.old.Partitions[name]
	entry.SHA256 = last.SHA256
	if ok && !p.Current && last.SHA256 != "" && entry == last {
		have := filepath.Join(b.o.Target, backupStore, "partitions", name)
		if info, err := os.Stat(have); err == nil && info.Size() == p.Size && os.Link(have, to) == nil {
			b.rep.Kept++
			man.Partitions[name] = entry
			b.progress(p.Size, false)
			return nil
		}
	}
	sum, damage, err := p.CopyTo(ctx, to, func(n int64) { b.progress(n, true) })
	b.damaged(damage)
	if err != nil {
		return err
	}
	entry.SHA256 = sum
	b.rep.Copied++
	man.Partitions[name] = entry
	return nil
}

// seal copies the log up to the last batch that was copied. After the partitions: so it has the leaves of
// one that was dropped meanwhile.
func (b *backup) seal(batch uint64) error {
	if b.before == nil {
		return nil
	}
	err := seal.Copy(b.o.Dir, b.new(), b.before.ID, batch)
	if errors.Is(err, seal.ErrDamaged) { // not worth a backup that is not made; the next start mends it
		b.damaged([]error{err})
		err = nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (b *backup) progress(n int64, written bool) {
	if written {
		b.rep.Bytes += n
	}
	if b.o.Progress != nil {
		b.o.Progress(b.rep.Bytes, b.total)
	}
}

// finish makes the new copy durable and puts it in the old one's place, in one step where
// the filesystem can exchange two names.
func (b *backup) finish(man *copied) error {
	text, err := json.MarshalIndent(man, "", "  ")
	if err != nil {
		return err
	}
	// The version last: a second partition of a day may have been begun meanwhile.
	files, err := layout.List(b.o.Dir)
	if err != nil {
		return err
	}
	err = errors.Join(
		layout.WriteMarker(b.new(), files.Version),
		writeDurably(b.new(copiedName), append(text, '\n')),
		fsys.OS.SyncDir(b.new("partitions")), fsys.OS.SyncDir(b.new(journalDir)), fsys.OS.SyncDir(b.new()), fsys.OS.SyncDir(b.o.Target))
	if err != nil {
		return err
	}
	final := filepath.Join(b.o.Target, backupStore)
	if _, err := os.Lstat(final); errors.Is(err, fs.ErrNotExist) {
		return errors.Join(os.Rename(b.new(), final), fsys.OS.SyncDir(b.o.Target))
	}
	err = unix.Renameat2(unix.AT_FDCWD, b.new(), unix.AT_FDCWD, final, unix.RENAME_EXCHANGE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		// The filesystem cannot exchange two names: for a moment there is no backup.
		old := filepath.Join(b.o.Target, backupStore+".old")
		err = errors.Join(os.RemoveAll(old), os.Rename(final, old), os.Rename(b.new(), final), fsys.OS.SyncDir(b.o.Target), os.RemoveAll(old))
	}
	if err != nil {
		return fmt.Errorf("put the new copy in place: %w", err)
	}
	return errors.Join(fsys.OS.SyncDir(b.o.Target), b.discard())
}

// writeDurably replaces a small file, and syncs it and its folder.
func writeDurably(path string, text []byte) error {
	return fsys.Replace(path, text, 0o600, true)
}
