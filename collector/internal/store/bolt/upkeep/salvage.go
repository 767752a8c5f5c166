package upkeep

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/raw"
	"github.com/auditfleet/auditfleet/collector/internal/store/group"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/seglog"
)

// SalvageOptions say what to bring back, and to where.
type SalvageOptions struct {
	Dir  string // the store; no collector may have it
	File string // a partition that was set aside, of this store or a copy's; a name that is not there is that of a file in this store
	Log  hclog.Logger
	// Progress, when not nil, is called with the bytes done and the file's size.
	Progress func(done, total int64)
}

// SalvageReport is what Salvage did.
type SalvageReport struct {
	Part    store.Part
	Events  uint64 // brought back, whole or in part
	Records uint64 // brought back
	Present uint64 // readable records that the store or the journal has already
	Lost    uint64 // events of the file that cannot be read
	Damage  []string
	Renamed string // the file's new name; "" when it lies outside the store
}

// Salvage stores the records of a partition that was set aside, as far as they can be read
// and the store does not have them. For each group it counts how often the store and the
// journal have a record (by host and bytes), and stores it as often as the group has it
// beyond that. So it may be interrupted and repeated. A limit of that: of records that are
// equal in every byte, of one host and in different batches, one comes back.
//
// No collector may have the store. Errors: store.ErrInUse, ErrNotOurs, ErrVersion, those of
// reading and writing.
func Salvage(ctx context.Context, o SalvageOptions) (_ *SalvageReport, err error) {
	if o.Log == nil {
		o.Log = hclog.NewNullLogger()
	}
	if _, err := os.Stat(o.File); err != nil && filepath.Base(o.File) == o.File {
		o.File = filepath.Join(o.Dir, layout.Partitions, o.File)
	}
	s := &salvage{o: o, rep: &SalvageReport{}, tail: map[key]int{}}
	v, err := raw.NewVerifier(runtime.GOMAXPROCS(0))
	if err != nil {
		return nil, err
	}
	s.v = v
	defer func() { err = errors.Join(err, v.Close()) }()
	if s.wreck, err = raw.OpenWreck(o.File); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.wreck.Close()) }()
	s.rep.Part = s.wreck.Part
	for i := range s.wreck.Findings {
		s.rep.Damage = append(s.rep.Damage, s.wreck.Findings[i].Error())
	}
	// A folder that is no store's is not made one.
	if _, err := layout.List(o.Dir); err != nil {
		return nil, err
	}
	if s.st, err = bolt.Open(bolt.Options{Dir: o.Dir, Logger: o.Log}); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.st.Close()) }()
	if id := s.wreck.ID; id != (seglog.ID{}) && id != s.st.ID() {
		return nil, fmt.Errorf("%w: %s is a partition of the store %s, and %s is %s: its events are not this store's; move it back to where it belongs", store.ErrNotOurs, o.File, id, o.Dir, s.st.ID())
	}
	if err := s.readJournal(ctx); err != nil {
		return nil, err
	}
	for i := range s.wreck.Groups {
		if err := s.group(ctx, &s.wreck.Groups[i]); err != nil {
			return nil, fmt.Errorf("bring back %s: %w", o.File, err)
		}
		s.progress(s.wreck.Groups[i].At.Size)
	}
	if err := s.moveOn(ctx); err != nil {
		return nil, fmt.Errorf("move on to the place of %s: %w", o.File, err)
	}
	if err := s.counters(ctx); err != nil {
		return nil, err
	}
	return s.rep, s.rename()
}

// Forget has a store no longer miss a partition, by its name, or with "all" anything that is
// missing for good; see bolt's Forget. It returns how many things that were. No collector
// may have the store.
func Forget(dir, name string, log hclog.Logger) (n int, err error) {
	if _, err := layout.List(dir); err != nil {
		return 0, err
	}
	st, err := bolt.Open(bolt.Options{Dir: dir, Logger: log})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	return st.Forget(name)
}

// key stands for a record of a host: the first half of the SHA-256 of both.
type key [16]byte

// keyOf returns a record's key. Its parts are separated, so that they cannot be shifted.
func keyOf(host, raw []byte) key {
	h := sha256.New()
	_, _ = h.Write(host) // never fails, as below
	_, _ = h.Write([]byte{0})
	_, _ = h.Write(raw)
	return key(h.Sum(nil)[:16])
}

// salvage is one run of Salvage.
type salvage struct {
	o     SalvageOptions
	rep   *SalvageReport
	st    *bolt.Store
	wreck *raw.Partition // the file that is brought back
	v     *raw.Verifier
	state *store.State // of the store, as its last batch left it
	tail  map[key]int  // how many of a record the next start takes from the journal
	done  int64        // bytes
	next  store.State  // where moveOn goes; LSN and Open only
}

func (s *salvage) progress(n int64) {
	s.done += n
	if s.o.Progress != nil {
		s.o.Progress(s.done, s.wreck.Size)
	}
}

func (s *salvage) journalOptions() journal.Options {
	return journal.Options{Dir: filepath.Join(s.o.Dir, journalDir), Logger: s.o.Log, ID: s.st.ID(), Known: s.st.Journal()}
}

// group brings one group's events back, in one batch: those records that neither the store
// nor the journal has.
func (s *salvage) group(ctx context.Context, g *raw.Group) error {
	b, err := s.wreck.Bytes(g)
	if err != nil {
		return err
	}
	type one struct {
		host string
		ev   *event.Event
	}
	// The group's events are kept until it is known which of their records are there already.
	var events []one
	has := map[key]int{} // of each of the group's records: how many the store has
	span := [2]int64{}   // of event times, without 0
	timeless := false
	found, lost := s.v.Salvage(s.wreck, g, b, func(host string, ev *event.Event) {
		ev = store.CloneEvent(ev)
		events = append(events, one{host, ev})
		for i := range ev.Records {
			has[keyOf(ev.Records[i].Node, ev.Records[i].Raw)] = 0
		}
		switch {
		case ev.Ms == 0:
			timeless = true
		case span[0] == 0 || ev.Ms < span[0]:
			span[0] = ev.Ms
		}
		span[1] = max(span[1], ev.Ms)
	})
	s.rep.Lost += lost
	for i := range found {
		s.rep.Damage = append(s.rep.Damage, found[i].Error())
	}
	if b != nil {
		same, err := s.st.HasGroup(g.ID, b)
		if err != nil && !errors.Is(err, store.ErrDamaged) {
			return err
		}
		if same {
			for _, e := range events {
				s.rep.Present += uint64(len(e.ev.Records))
			}
			return nil
		}
	}
	if err := s.countStored(ctx, has, span, timeless); err != nil {
		return err
	}
	tab := store.NewTable()
	for _, e := range events {
		kept := e.ev.Records[:0]
		for _, r := range e.ev.Records {
			k := keyOf(r.Node, r.Raw)
			switch {
			case has[k] > 0:
				has[k]--
			case s.tail[k] > 0:
				s.tail[k]--
			default:
				kept = append(kept, r)
				continue
			}
			s.rep.Present++
		}
		if e.ev.Records = kept; len(kept) > 0 {
			tab.Add(e.host, e.ev)
			s.rep.Events++
			s.rep.Records += uint64(len(kept))
		}
	}
	return s.append(ctx, tab, nil)
}

// countStored counts in has how often the store has each of its records. It searches by the
// group's times: span, and events without a time where timeless.
func (s *salvage) countStored(ctx context.Context, has map[key]int, span [2]int64, timeless bool) error {
	var queries []*query.Query
	if span[0] > 0 {
		queries = append(queries, &query.Query{StartMs: span[0], EndMs: span[1]})
	}
	if timeless {
		queries = append(queries, &query.Query{EndMs: 1})
	}
	for _, q := range queries {
		err := store.Scan(ctx, s.st, q, func(ev *event.Event) error {
			for i := range ev.Records {
				k := keyOf(ev.Records[i].Node, ev.Records[i].Raw)
				if n, ok := has[k]; ok {
					has[k] = n + 1
				}
			}
			return nil
		})
		// A record in a damaged part of the store is not found here, and so brought back.
		if err != nil && !errors.Is(err, store.ErrDamaged) {
			return err
		}
	}
	return nil
}

// append stores a batch in the wreck's day, unless it has nothing; the place in the journal
// stays as it is.
func (s *salvage) append(ctx context.Context, tab *store.Table, hosts []store.Host) error {
	if tab.Stats().Events == 0 && len(hosts) == 0 {
		return nil
	}
	return s.batch(ctx, tab, hosts)
}

// batch stores a batch in the wreck's day with the present place in the journal.
func (s *salvage) batch(ctx context.Context, tab *store.Table, hosts []store.Host) error {
	b := &store.Batch{ID: s.state.ID + 1, Day: s.wreck.Day, Events: tab, LSN: s.state.LSN, Open: s.state.Open, Hosts: hosts}
	if err := s.st.Append(ctx, b); err != nil {
		return err
	}
	s.state.ID++
	return nil
}

// counters raises the count of each host that is less than what is stored of it and waits in
// the journal.
func (s *salvage) counters(ctx context.Context) error {
	files, err := layout.List(s.o.Dir)
	if err != nil {
		return err
	}
	files.Aside = nil
	v := &verify{o: VerifyOptions{Dir: s.o.Dir}, files: files, rep: &Report{Dir: s.o.Dir}, stored: map[string]group.HostSum{}}
	if err := v.all(ctx); err != nil {
		return fmt.Errorf("count what is stored of each host: %w", err)
	}
	if v.state == nil {
		return nil
	}
	open, _, err := v.open()
	if err != nil {
		return err
	}
	state, err := s.st.State(ctx)
	if err != nil {
		return err
	}
	known := map[string]store.Host{}
	for _, h := range state.Hosts {
		known[h.Name] = h
	}
	var hosts []store.Host
	for name, sum := range v.stored {
		h, ok := known[name]
		have := sum.Records + open[name].Records
		if ok && h.Records >= have {
			continue
		}
		if !ok {
			day := s.wreck.Day.Time()
			h = store.Host{Name: name, First: day, Last: day.Add(24*time.Hour - time.Nanosecond)}
		}
		h.Records, h.Bytes = have, max(h.Bytes, sum.Bytes+open[name].Bytes)
		hosts = append(hosts, h)
	}
	return s.append(ctx, store.NewTable(), hosts)
}

// rename gives a file of the store's folder the name of one that was salvaged. A file that
// lies elsewhere keeps its name.
func (s *salvage) rename() error {
	dir, err := filepath.EvalSymlinks(filepath.Dir(s.o.File))
	if err != nil {
		return err
	}
	own, err := filepath.EvalSymlinks(filepath.Join(s.o.Dir, "partitions"))
	if err != nil || dir != own || !strings.Contains(filepath.Base(s.o.File), layout.AsideMark) {
		return err
	}
	to := filepath.Join(filepath.Dir(s.o.File), strings.Replace(filepath.Base(s.o.File), layout.AsideMark, layout.SalvagedMark, 1))
	if err := os.Rename(s.o.File, to); err != nil {
		return err
	}
	s.rep.Renamed = to
	return fsys.OS.SyncDir(own)
}
