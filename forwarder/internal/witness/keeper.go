package witness

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/auditfleet/auditfleet/pkg/checkpoint"
	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/wake"
	"github.com/hashicorp/go-hclog"
)

const (
	// saveEvery is the least time between two saves: what a collector says more often is in
	// memory only.
	saveEvery = time.Second
	// sayEvery is the least time between two records, or lines of the log, of one kind, and
	// sayAgain that between two of the same finding.
	sayEvery = time.Minute
	sayAgain = 24 * time.Hour
	// idleStore is after how long without anything new a store may make room for another one.
	idleStore = 400 * 24 * time.Hour

	maxKeysFile = 64 << 10
)

// Config of New.
type Config struct {
	Spool string // the spool's folder
	Keys  string // file with the public keys of collectors; "": the first key that one shows is gone by
	Log   hclog.Logger
	Now   func() time.Time
}

// Counts are what a Keeper has counted since its start.
type Counts struct {
	Checkpoints uint64            // that were looked at
	Verified    uint64            // that are signed as they should be and go on from what was kept
	Passed      uint64            // not looked at: they came too often
	Alarms      map[string]uint64 // by Op
	Errors      uint64            // what could not be saved
	Stores      int               // of which a checkpoint is kept
	Open        int               // findings that no administrator has accepted
}

// Keeper keeps and compares checkpoints. Any goroutine may call its methods.
type Keeper struct {
	cfg Config
	dir string

	save wake.Signal // something is to be saved

	saving sync.Mutex // held while files are written; taken before mu

	mu      sync.Mutex // guards everything below
	keys    []string   // a line each; nil: none were given
	loaded  bool
	held    map[string]*Held // by store; a Held is replaced, never changed
	dirty   map[string]bool  // stores to be saved
	days    []dayOf          // to be saved
	unsaved []*Incident
	known   map[string]*Incident // by ID
	unsaid  []*Incident          // for the stream
	said    map[string]*said     // by Op
	awaited map[string]*awaited  // by server
	counts  Counts
	failing bool // the last save failed
}

type dayOf struct {
	store string
	Day
}

// said is when something of a kind was said last, and how much since was not.
type said struct {
	logged, recorded time.Time
	quiet, times     int
}

// New reads the file of keys. Nothing else is read before Load.
func New(cfg Config) (*Keeper, error) {
	if cfg.Log == nil {
		cfg.Log = hclog.NewNullLogger()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	k := &Keeper{
		cfg: cfg, dir: filepath.Join(cfg.Spool, Dir), save: wake.New(),
		held: map[string]*Held{}, dirty: map[string]bool{}, known: map[string]*Incident{}, said: map[string]*said{}, awaited: map[string]*awaited{},
		counts: Counts{Alarms: map[string]uint64{}},
	}
	return k, k.Reload()
}

// Reload reads the file of keys again; with an error those that were read before count on.
func (k *Keeper) Reload() error {
	if k.cfg.Keys == "" {
		return nil
	}
	b, err := fsys.ReadTrusted(k.cfg.Keys, maxKeysFile)
	if err == nil {
		_, err = checkpoint.ReadVerifiers(string(b))
	}
	if err != nil {
		return fmt.Errorf("the public keys of collectors, %s: %w", k.cfg.Keys, err)
	}
	var keys []string
	for line := range strings.Lines(string(b)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			keys = append(keys, line)
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keys = keys
	return nil
}

// Load reads what the folder has: the spool must be this process's by then. What is damaged is
// said, and moved aside so that it is not written over.
func (k *Keeper) Load() {
	held, badHeld, err := readHeld(k.dir)
	incidents, bad, ierr := readIncidents(k.dir)
	if err = errors.Join(err, ierr); err != nil {
		k.cfg.Log.Warn("what was kept of collectors' checkpoints cannot be read", "dir", k.dir, "error", err)
	}
	for path, err := range badHeld {
		aside := path + ".damaged"
		k.cfg.Log.Error("what was kept of a collector's checkpoint is damaged and set aside: an older store that is put back now is not noticed by this host", "file", path, "aside", aside, "error", errors.Join(err, os.Rename(path, aside)))
	}
	for path, err := range bad {
		k.cfg.Log.Warn("what was kept of a finding about a collector is damaged", "file", path, "error", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.loaded = true
	for _, h := range held {
		k.held[h.Store] = h
	}
	for _, i := range incidents {
		k.known[i.ID] = i
		if !i.Said && !i.Accepted {
			i.brief()
			k.unsaid = append(k.unsaid, i)
		}
	}
}

// Counts returns what was counted.
func (k *Keeper) Counts() Counts {
	k.mu.Lock()
	defer k.mu.Unlock()
	c := k.counts
	c.Stores, c.Alarms = len(k.held), map[string]uint64{}
	for _, op := range Ops() {
		c.Alarms[op] = k.counts.Alarms[op]
	}
	for _, i := range k.known {
		if !i.Accepted && i.Alarm() {
			c.Open++
		}
	}
	return c
}

// given returns the keys that the administrator gave; nil: none.
func (k *Keeper) given() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.keys
}

// Run saves what comes until ctx ends. Close saves what is left.
func (k *Keeper) Run(ctx context.Context) {
	for {
		select {
		case <-k.save:
		case <-ctx.Done():
			return
		}
		pause := saveEvery
		if !k.flush() {
			pause *= 10
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}

// Close saves what is left.
func (k *Keeper) Close() error {
	if !k.flush() {
		return fmt.Errorf("what collectors signed last could not be kept in %s", k.dir)
	}
	return nil
}

// flush saves what is to be saved, and reports whether all of it was. Evidence goes first: what
// it is about is no longer what is compared with once the rest is saved.
func (k *Keeper) flush() bool {
	k.saving.Lock()
	defer k.saving.Unlock()
	k.mu.Lock()
	if !k.loaded || len(k.unsaved) == 0 && len(k.days) == 0 && len(k.dirty) == 0 {
		k.mu.Unlock()
		return true
	}
	incidents, days, held := k.unsaved, k.days, []*Held{}
	var gone []string
	for store := range k.dirty {
		if h := k.held[store]; h != nil {
			held = append(held, h)
		} else {
			gone = append(gone, store)
		}
	}
	k.unsaved, k.days, k.dirty = nil, nil, map[string]bool{}
	var texts [][]byte
	for _, i := range incidents {
		texts = append(texts, i.encode())
	}
	k.mu.Unlock()

	err := k.write(incidents, texts, days, held, gone)
	k.mu.Lock()
	defer k.mu.Unlock()
	if err == nil {
		k.failing = false
		return true
	}
	k.counts.Errors++
	k.unsaved, k.days = append(incidents, k.unsaved...), append(days, k.days...)
	k.unsaved = k.unsaved[:min(len(k.unsaved), maxIncidents)]
	k.days = k.days[:min(len(k.days), maxStores)]
	for _, h := range held {
		k.dirty[h.Store] = true
	}
	for _, store := range gone {
		k.dirty[store] = true
	}
	k.save.Set()
	if !k.failing {
		k.failing = true
		k.cfg.Log.Warn("what collectors signed last cannot be kept and is tried again; records are not concerned", "dir", k.dir, "error", err)
	}
	return false
}

func (k *Keeper) write(incidents []*Incident, texts [][]byte, days []dayOf, held []*Held, gone []string) error {
	if _, err := os.Stat(k.cfg.Spool); err != nil {
		return err // the spool makes its folder itself
	}
	if err := os.Mkdir(k.dir, 0o700); err != nil && !os.IsExist(err) {
		return err
	}
	if err := fsys.CheckDir(k.dir, false); err != nil {
		return err
	}
	for n, i := range incidents {
		if err := k.writeIncident(i, texts[n]); err != nil {
			return err
		}
	}
	if len(incidents) > 0 {
		k.makeRoom()
	}
	for _, d := range days {
		aside, err := addDay(k.dir, d.store, d.Day)
		if aside != "" {
			k.cfg.Log.Error("what was kept of a store's days is damaged and set aside", "store", d.store, "aside", aside)
		}
		if err != nil {
			return err
		}
	}
	for _, h := range held {
		if err := fsys.Replace(filepath.Join(k.dir, h.Store+heldSuffix), h.encode(), 0o600, true); err != nil {
			return err
		}
	}
	for _, store := range gone {
		for _, suffix := range []string{heldSuffix, daysSuffix} {
			if err := os.Remove(filepath.Join(k.dir, store+suffix)); err != nil && !os.IsNotExist(err) {
				return err
			}
		}
	}
	return nil
}

// writeIncident writes what was found under the name that it has now: it may be accepted by command at any time, also
// while it is written.
func (k *Keeper) writeIncident(i *Incident, text []byte) error {
	open := filepath.Join(k.dir, incidentPrefix+i.ID)
	if k.accepted(i) {
		return fsys.Replace(filepath.Join(k.dir, acceptedPrefix+i.ID), text, 0o600, true)
	}
	if err := fsys.Replace(open, text, 0o600, true); err != nil {
		return err
	}
	if k.accepted(i) {
		if err := os.Remove(open); err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	return nil
}

// accepted looks whether a finding was accepted by command. mu is not held.
func (k *Keeper) accepted(i *Incident) bool {
	_, err := os.Lstat(filepath.Join(k.dir, acceptedPrefix+i.ID))
	if err == nil {
		k.mu.Lock()
		i.Accepted = true
		k.mu.Unlock()
	}
	return err == nil
}

// makeRoom removes findings where there are too many: of those behind the first, the oldest,
// those that were accepted before the others.
func (k *Keeper) makeRoom() {
	list, _, err := readIncidents(k.dir)
	if err != nil || len(list) <= maxIncidents {
		return
	}
	rest := list[keepFirst:]
	slices.SortStableFunc(rest, func(a, b *Incident) int {
		if a.Accepted != b.Accepted {
			if a.Accepted {
				return -1
			}
			return 1
		}
		return a.When.Compare(b.When)
	})
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, i := range rest[:len(list)-maxIncidents] {
		if os.Remove(filepath.Join(k.dir, i.file())) == nil {
			delete(k.known, i.ID)
		}
	}
}
