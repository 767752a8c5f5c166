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

	fs fsys.FS // of the manifest: tests'
}

// Store is the embedded store.
type Store struct {
	opts  Options
	log   hclog.Logger
	codec *group.Codec
	lock  io.Closer
	cache *cache

	opened opened

	senders *senders
	version int // of the folder
	list    listing

	appendMu sync.Mutex // one Append, Drop or Rotate at a time

	mu     sync.Mutex // guards everything below
	parts  []*partition
	cur    *partition // has the last batch's state; nil when there is none yet
	state  store.State
	broken []error // what answers lack: set aside, missing or, read-only, left out
	closed bool

	damaged []damagedPart // Open's alone
}

var _ store.Store = (*Store)(nil)

// Open opens the store in o.Dir. Errors: store.ErrInUse, ErrNotOurs, ErrVersion,
// ErrDamaged. A partition that cannot be opened is renamed to NAME.corrupt-TIME
// and the rest goes on without it; Missing says which.
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
	if o.fs == nil {
		o.fs = fsys.OS
	}
	s := &Store{opts: o, log: o.Logger, cache: newCache(o.CacheBytes), opened: opened{most: o.MaxOpen}}
	defer func() {
		if err != nil {
			err = fmt.Errorf("open the store %s: %w", o.Dir, errors.Join(err, s.release()))
		}
	}()
	if s.codec, err = group.NewCodec(o.Workers); err != nil {
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
	if err := s.loadState(); err != nil {
		return nil, err
	}
	return s, s.reconcile()
}

// claim makes sure that the folder is a store's, and nobody else's now.
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
	return s.openList()
}

// openParts opens every day's file.
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
		if err != nil && !s.opts.ReadOnly && elsewhere(err) {
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

func (s *Store) newPart(part store.Part) *partition {
	return &partition{path: layout.PartitionPath(s.opts.Dir, part), part: part, codec: s.codec, opened: &s.opened}
}

// elsewhere says whether a file could not be opened for a reason that is not in the
// file: then it is no damaged one, and the store is not opened without it.
func elsewhere(err error) bool {
	reasons := []error{store.ErrInUse, fs.ErrPermission, unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.EAGAIN, unix.EINTR}
	return slices.ContainsFunc(reasons, func(r error) bool { return errors.Is(err, r) })
}

// damagedPart is a partition that Open could not use.
type damagedPart struct {
	p     *partition
	cause error
}

// setAside takes a damaged partition out of the way; it is never deleted. s.mu is
// not held.
func (s *Store) setAside(p *partition, cause error) error {
	err := cause
	if !errors.Is(err, store.ErrDamaged) {
		err = fmt.Errorf("%w: %w", store.ErrDamaged, err)
	}
	if s.opts.ReadOnly {
		err = errors.Join(err, p.close())
	} else {
		aside, merr := s.moveAway(p)
		s.recordLoss(p, aside, err)
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
	s.broken = append(s.broken, err)
	return nil
}

// loadState finds the last batch's state, and deals with the partitions that
// cannot be used as they are.
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
		p.place = st.ID
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
		d.p.place = st.ID
		s.parts = append(s.parts, d.p)
		s.adopt(d.p, st)
	}
	s.damaged = nil
	sortParts(s.parts)
	return nil
}

// adopt makes p the partition being written when it has the last batch's state. One
// that was begun by Rotate has that of its predecessor.
func (s *Store) adopt(p *partition, st *store.State) {
	if st.ID > s.state.ID || st.ID == s.state.ID && st.ID > 0 && (s.cur == nil || s.cur.part.Compare(p.part) < 0) {
		s.state, s.cur = *st, p
	}
}

func sortParts(list []*partition) {
	slices.SortFunc(list, func(a, b *partition) int { return a.part.Compare(b.part) })
}

// State is that of the last batch stored.
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

// loadHosts reads the latest partition's hosts; s.mu is held.
func (s *Store) loadHosts() ([]store.Host, error) {
	hosts, bad, err := s.cur.loadHosts()
	if bad != nil {
		s.log.Error("what is known of some hosts is damaged; they are counted from nought", "error", bad)
	}
	return hosts, err
}

// Stats returns the present sizes.
func (s *Store) Stats(ctx context.Context) (store.Stats, error) {
	if err := ctx.Err(); err != nil {
		return store.Stats{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var out store.Stats
	for _, p := range s.parts {
		d := p.stats()
		d.Sealed = p != s.cur
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

// Close releases files and lock. Snapshots must be closed before.
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

func (s *Store) release() error {
	var errs []error
	for _, p := range s.parts {
		errs = append(errs, p.close())
	}
	errs = append(errs, s.senders.close())
	if s.codec != nil {
		errs = append(errs, s.codec.Close())
		s.codec = nil
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
		s.lock = nil
	}
	return errors.Join(errs...)
}
