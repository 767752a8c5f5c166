package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/collector/internal/head"
	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/retention"
	"github.com/auditfleet/auditfleet/collector/internal/roster"
	"github.com/auditfleet/auditfleet/collector/internal/space"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/engine"
	"github.com/auditfleet/auditfleet/collector/internal/trusted"
	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/metrics"
	"github.com/auditfleet/auditfleet/pkg/seglog"
)

// DefaultStore is where a store lies when nothing is said.
const DefaultStore = "/var/lib/auditfleet/collector"

// journalDir is the journal's folder in the store's.
const journalDir = "journal"

// openStore takes the store, whose lock keeps a second collector out.
func (s *Server) openStore() error {
	st, err := engine.Open(engine.Options{Dir: s.cfg.Store, Cluster: s.cfg.cluster, Logger: s.cfg.Log.Named("store")})
	if err != nil {
		return explain(err)
	}
	s.store = st
	s.divide(s.cfg.Retention)
	return nil
}

// divide has the batches to come divided by the classes of retention, where another engine keeps the events: it writes none again. The embedded store divides days, when it
// compacts them.
func (s *Server) divide(l retention.Limits) {
	if d, err := store.Able[store.Dividing](s.store, "divide batches"); err == nil {
		d.Divide(l.Rules.Classes())
	}
}

// openJournal opens the journal, which is not written yet.
func (s *Server) openJournal() error {
	syncs := metrics.NewJournal(s.reg).SyncSeconds
	j, rec, err := journal.Open(journal.Options{
		Dir: filepath.Join(s.cfg.Store, journalDir), SegmentBytes: s.space.SegmentBytes(), Flush: s.cfg.Flush, Freq: s.cfg.Freq,
		Logger: s.cfg.Log.Named("journal"), Now: s.cfg.Now,
		ID: s.store.ID(), Known: s.store.Journal(), Changed: s.keepJournal, FS: s.cfg.files,
		OnSync: func(d time.Duration) { syncs.Observe(d.Seconds()) },
	})
	if err != nil {
		return explain(err)
	}
	s.journal = j
	logRecovery(s.cfg.Log.Named("journal"), rec)
	return nil
}

// keepJournal has the store's manifest say what the journal has, and what of it was
// found missing. Nothing is missing because of a file that is doubled or foreign.
func (s *Server) keepJournal(k seglog.Known, found []seglog.Damage) error {
	return keepJournal(s.store, k, found)
}

func keepJournal(to store.Place, k seglog.Known, found []seglog.Damage) error {
	var lost []string
	for _, d := range found {
		if d.Certain && (d.First <= d.Last || errors.Is(d.Err, seglog.ErrMissing)) {
			lost = append(lost, journal.Lost(filepath.Join(journalDir, d.File), d.First, d.Last, d.Err).Error())
		}
	}
	return to.KeepJournal(k, lost)
}

// openHead replays the journal. While it does, nobody else makes room for it.
func (s *Server) openHead(trust *trusted.Senders) error {
	var mu sync.Mutex // guards replaying: s.head is set afterwards, which roomForReplay may look at
	replaying := true
	var onSenders func(uint64, []store.KV)
	if listed, err := store.Able[store.Listed](s.store, "list collectors"); err == nil && listed.Roster() != nil {
		s.senders = &roster.Senders{}
		onSenders = s.senders.Add
	}
	o := headOptions(&s.cfg, trust, s.space)
	o.OnSenders = onSenders
	o.OnStore = func(err error) {
		mu.Lock()
		defer mu.Unlock()
		if replaying && fsys.NoRoom(err) {
			s.roomForReplay()
		}
	}
	o.Journal, o.Place, o.Events, o.Logger = s.journal, s.store, s.store, s.cfg.Log.Named("head")
	o.OnEvent, o.Awaited = s.fanout.Add, s.fanout.Active
	o.OnNotice, o.Stop = s.own.Notice, s.cfg.Stop
	h, err := head.Open(o)
	mu.Lock()
	replaying = false
	mu.Unlock()
	if errors.Is(err, head.ErrClosed) {
		err = errors.Join(ErrStopped, err)
	}
	if err != nil {
		return explain(err)
	}
	s.head = h
	if n := h.Stats().Replayed; n > 0 {
		s.cfg.Log.Info("replayed the journal", "records", n)
	}
	return nil
}

// headOptions are those by which records become events of hosts: with others the same journal is replayed otherwise.
func headOptions(cfg *Config, trust *trusted.Senders, w *space.Watcher) head.Options {
	return head.Options{
		Now: cfg.Now, EventTimeout: cfg.EventTimeout, MaxHosts: cfg.MaxHosts, NewNames: cfg.NewNames,
		MaxOpenBytesHost: int(cfg.OpenPerHost), MaxOpenBytes: int(w.OpenBytes(cfg.OpenTotal)),
		MaxOpenEventsHost: cfg.OpenEvents, MaxOpenEvents: cfg.OpenEventsIn, MaxOpenAge: cfg.OpenAge,
		TableBytes: w.TableBytes(),
		MayName:    mayName(trust), OwnName: cfg.Node, OwnAddr: ownAddr(cfg.Now),
	}
}

// roomForReplay drops the oldest day for a journal that cannot be replayed for want of room, where the disk is to be
// kept from being full by that: the disk's watcher begins after the replay. Not so while anything is on hold: which
// names a host has besides, and so what its holds keep, is known after the replay, too.
func (s *Server) roomForReplay() {
	if len(s.holds.set.List()) > 0 || s.holds.set.Broken() != nil {
		s.cfg.Log.Warn("no room to replay the journal, and nothing is dropped before that while anything is on hold: make room on the disk")
		return
	}
	s.space.MakeRoom(context.Background())
}

// explain says what to do about an error from the store's parts.
func explain(err error) error {
	switch {
	case errors.Is(err, store.ErrInUse), errors.Is(err, fsys.ErrLocked):
		return inUse(err)
	case errors.Is(err, store.ErrVersion), errors.Is(err, seglog.ErrVersion), errors.Is(err, journal.ErrVersion):
		return fmt.Errorf("%w: use the collector that wrote it, or a newer one", err)
	case errors.Is(err, seglog.ErrKind):
		return fmt.Errorf("%w: %w", store.ErrNotOurs, err)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: no store is there: give --store DIR as `collector serve` has it", err)
	case errors.Is(err, unix.EMFILE):
		return fmt.Errorf("%w: raise the limit of open files (LimitNOFILE= in the unit, ulimit -n)", err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: a store is for root and its own user", err)
	}
	return err
}

// inUse gives both locks one sentinel.
func inUse(err error) error {
	if errors.Is(err, store.ErrInUse) {
		return err
	}
	return fmt.Errorf("%w: %w", store.ErrInUse, err)
}

// logRecovery says what was found wrong with the journal, and where.
func logRecovery(log hclog.Logger, rec *seglog.Recovery) {
	if t := rec.Torn; t != nil {
		log.Info("the end of the journal was cut: a write that was not finished, and not acknowledged", "file", t.File, "offset", t.Offset, "bytes", t.Bytes)
	}
	for _, d := range rec.Damaged {
		log.Error("the journal is damaged; the bytes were set aside", "file", d.File, "offset", d.Offset, "bytes", d.Bytes,
			"first", d.First, "last", d.Last, "set_aside", d.SetAside, "error", d.Err)
	}
	for _, u := range rec.Unsynced {
		log.Info("a power loss left a hole in what the journal had not synced, and nobody was told that it is stored: what is behind it is kept", "file", u.File, "offset", u.Offset, "bytes", u.Bytes, "first", u.First, "last", u.Last)
	}
	for _, g := range rec.Gaps {
		if g.Unsynced {
			continue
		}
		log.Warn("the journal has a gap from earlier damage", "file", g.File, "offset", g.Offset)
	}
}

// storeID is a store's ID as it is shown; empty where it has none yet.
func storeID(st store.Place) string {
	if id := st.ID(); id != (seglog.ID{}) {
		return id.String()
	}
	return ""
}
