package bolt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
	"github.com/auditfleet/auditfleet/collector/internal/store/group"
	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// Options of Open.
type Options struct {
	Dir    string // made with mode 0700 when missing
	Logger hclog.Logger
	// ReadOnly opens what is there, beside other readers, and writes nothing.
	ReadOnly bool
	// LockTimeout is how long to wait for readers to let go; 5 s when 0, none when
	// negative. A server that has the store is not waited for.
	LockTimeout time.Duration
	// Workers bounds the goroutines of one Append and of one Scan; GOMAXPROCS when 0.
	Workers int
	// MaxOpen bounds the sealed partitions whose files are open at once; an eighth of
	// the process's limit of open files, 16 to 512, when 0.
	MaxOpen int
	// CacheBytes bounds the unpacked text kept for the next queries; 64 MiB when 0.
	CacheBytes int64

	now         func() time.Time // time.Now when nil
	fs          fsys.FS          // for the manifest; tests hand in one that fails
	tierParts   int              // tierParts when 0; tests have fewer
	importBytes uint64           // importBytes when 0; likewise
}

// Store is the embedded store. All methods may be called by many goroutines at once.
//
// Writers (Append, Drop, Rotate, and the outbox's deletions) run one after the other under
// appendMu. mu guards what searches and writers share. While the store is open, nothing but a repair waits for
// the disk with mu held, so that whoever asks waits for no write that hangs. A snapshot copies, under
// mu, the list of partitions and each one's list of groups; both lists are replaced when
// they change, never changed in place, and a group never changes once it is stored. So a
// snapshot goes on to see what there was, without a lock.
type Store struct {
	opts  Options
	log   hclog.Logger
	codec *group.Codec
	aside *group.Codec // for the background, which keeps for long what a codec has a few of: compressors, for one
	lock  io.Closer
	cache *cache

	opened opened

	senders    *senders
	version    int    // of the folder
	found      int    // of the folder, as it was found
	handedOver uint64 // the last batch that log and manifest knew of when they were opened; either may be some batches behind
	sealing
	compacting compacting
	list       listing

	appendMu sync.Mutex // held by a writer; taken before mu. Guards writes to senders, folded, keptID and renewed
	renewed  time.Time  // when a file was begun last for the room in the one before: see renew
	folded   int64      // the hour in which the ledger was folded last: see foldOld
	keptID   uint64     // the last batch that a senders' partition says is the last: see keepID
	// passedOn counts pieces of the account that one partition gives to another; it grows with appendMu held, before the piece is read: see passSome.
	passedOn atomic.Uint64

	mu     sync.Mutex           // guards everything below
	parts  []*partition         // by day and number
	cur    *partition           // has the last batch's state; nil when there is none yet
	state  store.State          // of the last batch, without hosts and senders
	lastOf map[store.Day]uint64 // by day of receipt: the last batch with events, of those that were appended since Open
	broken []error              // what answers lack: set aside, missing or, read-only, left out
	closed bool
	// lingering is the bytes of dropped partitions that snapshots keep.
	lingering uint64
	// unreadable is what searches have found damaged since Open.
	unreadable []unreadable

	damaged []damagedPart // used by Open only
}

var _ store.Store = (*Store)(nil)

// Open opens the store in o.Dir, or makes one there. Errors: store.ErrInUse, ErrNotOurs,
// ErrVersion, ErrDamaged. A damaged partition is renamed to NAME.corrupt-TIME, and what is
// readable of it is put into a new one in its place, as far as that is safe (see repair).
// The store opens without the rest, and Missing says what that is. Opened read-only, it
// leaves damaged partitions where they are, and only leaves them out.
func Open(o Options) (_ *Store, err error) {
	if o.Logger == nil {
		o.Logger = hclog.NewNullLogger()
	}
	if o.LockTimeout == 0 {
		o.LockTimeout = 5 * time.Second
	}
	if o.CacheBytes <= 0 {
		o.CacheBytes = 64 << 20
	}
	if o.MaxOpen <= 0 {
		o.MaxOpen = maxOpen()
	}
	if o.now == nil {
		o.now = time.Now
	}
	if o.fs == nil {
		o.fs = fsys.OS
	}
	if o.importBytes == 0 {
		o.importBytes = importBytes
	}
	if o.tierParts == 0 {
		o.tierParts = tierParts
	}
	s := &Store{opts: o, log: o.Logger, cache: newCache(o.CacheBytes), opened: opened{most: o.MaxOpen}}
	defer func() {
		if err != nil {
			err = fmt.Errorf("open the store %s: %w", o.Dir, errors.Join(err, s.release()))
		}
	}()
	// claim locks the folder and reads the manifest; then the files are opened; identify
	// decides whose they are; settleCompacted which of them count; loadState finds the last batch and repairs what is damaged; openLog opens the
	// log of the batches; reconcile compares the files with the manifest.
	if s.codec, err = group.NewCodec(o.Workers); err != nil {
		return nil, err
	}
	if s.aside, err = group.NewCodec(1); err != nil {
		return nil, err
	}
	if err := s.claim(); err != nil {
		return nil, err
	}
	if err := s.openSenders(); err != nil {
		return nil, err
	}
	if err := s.openParts(); err != nil {
		return nil, err
	}
	if err := s.identify(); err != nil {
		return nil, err
	}
	if err := s.settleCompacted(); err != nil {
		return nil, err
	}
	if err := s.loadState(); err != nil {
		return nil, err
	}
	if err := s.openLog(); err != nil { // before reconcile raises the version, which says that there is one
		return nil, err
	}
	if err := s.reconcile(); err != nil || o.ReadOnly {
		return s, err
	}
	if s.version >= layout.ElsewhereVersion {
		s.passHandedOver()
	}
	if err := s.keepID(); err != nil {
		s.log.Warn("the store", "error", err) // the next batch does it
	}
	return s, nil
}

// passHandedOver moves the writer's place, where it was lost, behind all batches that another engine may have: it knows them by their numbers, and
// would take the next ones for them.
func (s *Store) passHandedOver() {
	const unknown = 1 << 20 // more than log and manifest are ever behind
	if s.state.ID < s.handedOver || s.state.ID == 0 && len(s.broken) > 0 {
		s.state.ID = s.handedOver + unknown
	}
}

// claim checks that the folder is a store's or new, takes its lock, and reads the manifest.
func (s *Store) claim() error {
	dir := s.opts.Dir
	if !s.opts.ReadOnly {
		if err := fsys.OS.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	var err error
	if s.version, err = layout.ReadMarker(dir, s.opts.ReadOnly); err != nil {
		return err // nothing was made in a folder that is not ours
	}
	if !s.opts.ReadOnly {
		if err := fsys.OS.MkdirAll(filepath.Join(dir, layout.Partitions), 0o700); err != nil {
			return err
		}
	}
	s.lock, err = lockDir(filepath.Join(dir, layout.LockName), !s.opts.ReadOnly, s.opts.LockTimeout)
	if err != nil {
		return err
	}
	if s.version == 0 { // perhaps another one has made a store of it meanwhile
		if s.version, err = layout.ReadMarker(dir, false); err != nil {
			return err
		}
	}
	s.found = s.version
	return s.openList()
}

// openParts opens each partition's file. Those that are damaged go to s.damaged, for
// loadState to deal with; an error that is not the file's own ends the opening.
func (s *Store) openParts() error {
	dir := filepath.Join(s.opts.Dir, layout.Partitions)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) && s.opts.ReadOnly {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), layout.Suffix+".tmp") && !s.opts.ReadOnly {
			// A day's file is renamed once it is whole: nothing was in this one.
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
			continue
		}
		base, ok := strings.CutSuffix(e.Name(), layout.Suffix)
		if !ok {
			continue
		}
		part, err := store.ParsePart(base)
		if err != nil {
			continue // none of ours
		}
		p := s.newPart(part)
		err = p.open()
		if err != nil && !s.opts.ReadOnly && notTheFile(err) {
			return err
		}
		if err != nil {
			s.damaged = append(s.damaged, damagedPart{p, err})
			continue
		}
		s.parts = append(s.parts, p)
	}
	return nil
}

// newPart returns a partition whose file is not opened yet, and may not exist.
func (s *Store) newPart(part store.Part) *partition {
	return &partition{path: layout.PartitionPath(s.opts.Dir, part), part: part, codec: s.codec, opened: &s.opened}
}

// notTheFile reports whether the reason why a file could not be opened is not in the file:
// no permission, no descriptor left. Then the file is not damaged, and the store must not
// be opened without it.
func notTheFile(err error) bool {
	reasons := []error{store.ErrInUse, fs.ErrPermission, unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.EAGAIN, unix.EINTR}
	return slices.ContainsFunc(reasons, func(r error) bool { return errors.Is(err, r) })
}

// damagedPart is a partition that Open could not use.
type damagedPart struct {
	p     *partition
	cause error
}

// setAside renames a damaged partition's file, which is never deleted, and has Missing say
// so. Read-only, it closes the file and leaves it where it is. s.mu is not held.
func (s *Store) setAside(p *partition, cause error) error {
	err, of := cause, s.extent(p)
	if !errors.Is(err, store.ErrDamaged) {
		err = fmt.Errorf("%w: %w", store.ErrDamaged, err)
	}
	if s.opts.ReadOnly {
		err = errors.Join(err, p.close())
	} else {
		aside, merr := s.moveAway(p)
		s.recordLoss(p, aside, err, of)
		if merr != nil {
			return errors.Join(err, merr)
		}
		if serr := fsys.OS.SyncDir(filepath.Dir(p.path)); serr != nil {
			return errors.Join(err, serr)
		}
		err = fmt.Errorf("%w; set aside as %s", err, filepath.Base(aside))
	}
	s.log.Error("a partition cannot be opened; what it holds is missing from answers", "partition", p.path, "error", err)
	s.mu.Lock()
	defer s.mu.Unlock()
	of.File = filepath.Base(p.path)
	s.broken = append(s.broken, &lostError{error: err, of: of})
	return nil
}

// loadState finds the last batch's state and its partition, cur, and repairs the damaged
// partitions. The sound ones come first: repair must know which batches the others have.
func (s *Store) loadState() error {
	sound := s.parts[:0]
	for _, p := range s.parts {
		st, err := p.loadState()
		if errors.Is(err, store.ErrDamaged) {
			s.damaged = append(s.damaged, damagedPart{p, err})
			continue
		}
		if err != nil {
			return err
		}
		p.place = p.placeBy(st)
		sound = append(sound, p)
		s.adopt(p, st)
	}
	s.parts = sound
	for _, d := range s.damaged {
		if !errors.Is(d.cause, store.ErrDamaged) {
			d.cause = fmt.Errorf("%w: %w", store.ErrDamaged, d.cause)
		}
		back, err := s.repair(d.p, d.cause, nil)
		if err != nil {
			return err
		}
		if !back {
			continue
		}
		st, err := d.p.loadState()
		if err != nil {
			return err
		}
		d.p.place = d.p.placeBy(st)
		s.parts = append(s.parts, d.p)
		s.adopt(d.p, st)
	}
	s.damaged = nil
	s.passStored()
	sortParts(s.parts)
	return nil
}

// adopt makes p the partition of the last batch when its state is the newest so far. A
// partition that Rotate began has the same state as the one before it, and then the later
// of the two counts.
//
// One that compaction has made has the state of what it was made of, and counts where no other has one so new:
// the last partition was lost then. No batch goes to it, but hosts are carried from it.
func (s *Store) adopt(p *partition, st *store.State) {
	newer := st.ID > s.state.ID
	if st.ID == s.state.ID && st.ID > 0 && s.cur != nil {
		if was, is := s.cur.compacted != nil, p.compacted != nil; was != is {
			newer = was
		} else {
			newer = s.cur.part.Compare(p.part) < 0
		}
	}
	if newer {
		s.state, s.cur = *st, p
	}
}

func sortParts(list []*partition) {
	slices.SortFunc(list, func(a, b *partition) int { return a.part.Compare(b.part) })
}

// State returns the state of the last batch, with the hosts and senders as they are
// stored. Damaged entries of either are left out, with a line in the log.
func (s *Store) State(ctx context.Context) (*store.State, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, store.ErrClosed
	}
	st := s.state
	var err error
	if s.cur != nil {
		if st.Hosts, err = s.loadHosts(); err != nil {
			return nil, err
		}
		var bad error
		if st.Ledger, bad, err = s.cur.loadTrackers(); err != nil {
			return nil, err
		}
		if bad != nil {
			s.log.Error("what is followed of some hosts' completeness is damaged: it begins anew, and what was before is unknown", "error", bad)
		}
	}
	var bad int
	if st.Senders, bad, err = s.senders.all(); err != nil {
		return nil, err
	}
	if bad > 0 {
		s.log.Error("part of the state of resend detection is damaged: records sent again after a reconnect may be stored twice", "file", s.senders.path, "values", bad)
	}
	st.Open = slices.Clone(st.Open)
	return &st, nil
}

// loadHosts reads the hosts of the last batch's partition; s.mu is held.
func (s *Store) loadHosts() ([]store.Host, error) {
	hosts, bad, err := s.cur.loadHosts()
	if bad != nil {
		s.log.Error("what is known of some hosts is damaged; they are counted from nought", "error", bad)
	}
	return hosts, err
}

// Stats returns the present sizes of the store and of each partition. It asks the
// filesystem for the size of each file.
func (s *Store) Stats(ctx context.Context) (store.Stats, error) {
	if err := ctx.Err(); err != nil {
		return store.Stats{}, err
	}
	s.mu.Lock()
	out := store.Stats{Lingering: s.lingering}
	cur, parts := s.cur, make([]partView, 0, len(s.parts))
	for _, p := range s.parts {
		parts = append(parts, p.now())
	}
	s.mu.Unlock()
	for i := range parts {
		d := parts[i].stats()
		d.Sealed = parts[i].p != cur && !(parts[i].p.ofImport() && parts[i].p.canWrite())
		out.Parts = append(out.Parts, d)
		out.Events += d.Events
		out.Records += d.Records
		out.RawBytes += d.RawBytes
		out.DiskBytes += d.DiskBytes
		out.IndexBytes += d.IndexBytes
		if d.MinMs != 0 && (out.MinMs == 0 || d.MinMs < out.MinMs) {
			out.MinMs = d.MinMs
		}
		out.MaxMs = max(out.MaxMs, d.MaxMs)
	}
	return out, nil
}

// Close waits for a writer that is at work, then releases files and lock. Snapshots must
// be closed before. It may be called again.
func (s *Store) Close() error {
	s.appendMu.Lock()
	defer s.appendMu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	if err := s.release(); err != nil {
		return fmt.Errorf("close the store: %w", err)
	}
	return nil
}

// release closes whatever is open: also after an Open that failed half-way.
func (s *Store) release() error {
	var errs []error
	for _, p := range s.parts {
		errs = append(errs, p.close())
	}
	errs = append(errs, s.senders.close(), s.closeLog())
	for _, c := range []**group.Codec{&s.codec, &s.aside} {
		if *c != nil {
			errs = append(errs, (*c).Close())
			*c = nil
		}
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
		s.lock = nil
	}
	return errors.Join(errs...)
}
