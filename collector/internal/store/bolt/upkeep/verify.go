package upkeep

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/manifest"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/raw"
	"github.com/auditfleet/auditfleet/collector/internal/store/group"
	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/record"
)

// journalDir is the journal's folder in the store's.
const journalDir = "journal"

// VerifyOptions say what to verify.
type VerifyOptions struct {
	Dir     string
	Workers int // goroutines; GOMAXPROCS when 0
	// Progress, when not nil, is called with the bytes read and those of all files, by
	// several goroutines at once.
	Progress func(done, total int64)
}

// Report is the outcome of Verify.
type Report struct {
	Dir string
	// Server is the collector that has the store, "" when none has.
	Server   string
	Journal  *journal.Report
	Parts    []*raw.PartReport
	Readable uint64 // events
	Lost     uint64 // events that the catalogues list and that cannot be read
	// Damage is what is wrong, a line each, with file and place.
	Damage []string
	// Notes are worth knowing, and no damage.
	Notes []string
}

// Verify reads everything that a store and its journal hold, also while a server has them.
// An error means that it could not read them; damage is in the report.
func Verify(ctx context.Context, o VerifyOptions) (*Report, error) {
	// First the list of what should be there: see missing.
	list, lerr := manifest.Load(fsys.OS, o.Dir)
	files, err := layout.List(o.Dir)
	if files == nil {
		return nil, err
	}
	v := &verify{o: o, files: files, rep: &Report{Dir: o.Dir}, stored: map[string]group.HostSum{}}
	if err := v.judgeManifest(list, lerr); err != nil {
		return nil, err
	}
	if err != nil {
		v.damage("%v", err)
	}
	if err := v.all(ctx); err != nil {
		return nil, err
	}
	return v.rep, nil
}

// all verifies the journal, the partitions and the senders, in this order, and then compares
// them with each other and with the manifest.
func (v *verify) all(ctx context.Context) (err error) {
	o := &v.o
	var used bool
	if v.rep.Server, used, err = bolt.InUse(o.Dir); err != nil {
		return fmt.Errorf("look for a server: %w", err)
	}
	if used && v.rep.Server == "" {
		v.rep.Server = "unknown"
	}
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if v.bolt, err = raw.NewVerifier(o.Workers); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, v.bolt.Close()) }()
	v.bolt.Progress = v.progress
	// The journal before the partitions: a server trims it only of records that the
	// partitions have by then, so no record can be missed between the two.
	if err := v.journal(); err != nil {
		return err
	}
	if err := v.partitions(ctx); err != nil {
		return err
	}
	v.missing()
	if err := v.senders(); err != nil {
		return err
	}
	v.place()
	if err := v.log(); err != nil {
		return err
	}
	if err := v.counters(); err != nil {
		return err
	}
	if err := v.aside(ctx); err != nil {
		return err
	}
	return nil
}

// verify is one run of Verify. One goroutine works on it; only done is counted up by the
// Verifier's, too.
type verify struct {
	o      VerifyOptions
	files  *layout.Files
	bolt   *raw.Verifier
	rep    *Report
	state  *store.State             // of the last batch
	stored map[string]group.HostSum // by host, in all partitions
	list   *manifest.Content        // nil: there is none
	moving bool                     // a server has begun, rewritten or dropped partitions meanwhile
	done   atomic.Int64             // bytes
}

// progress is called by several goroutines at once.
func (v *verify) progress(n int64) {
	if v.o.Progress != nil {
		v.o.Progress(v.done.Add(n), v.files.Bytes())
	}
}

func (v *verify) damage(format string, args ...any) {
	v.rep.Damage = append(v.rep.Damage, fmt.Sprintf(format, args...))
}

func (v *verify) notef(format string, args ...any) {
	v.rep.Notes = append(v.rep.Notes, fmt.Sprintf(format, args...))
}

func (v *verify) journalOptions() journal.Options {
	o := journal.Options{Dir: filepath.Join(v.o.Dir, journalDir)}
	if v.list != nil {
		o.ID, o.Known = v.list.ID, v.list.Journal
	}
	return o
}

// journal verifies the journal's files and entries, and reports what is wrong with them.
func (v *verify) journal() error {
	rep, err := v.journalReport()
	if err != nil {
		return err
	}
	v.rep.Journal = rep
	at := func(name string) string { return filepath.Join(v.o.Dir, journalDir, name) }
	for _, d := range rep.Disk.Damaged {
		lost := "no entry is lost"
		switch {
		case d.First == d.Last:
			lost = fmt.Sprintf("entry %d is lost", d.First)
		case d.First < d.Last:
			lost = fmt.Sprintf("entries %d to %d are lost", d.First, d.Last)
		}
		if !d.Certain && d.First <= d.Last {
			lost += ", if there were so many"
		}
		v.damage("%s: offset %d: %d bytes: %v; %s, the rest is readable", at(d.File), d.Offset, d.Bytes, d.Err, lost)
	}
	for _, u := range rep.Disk.Unsynced {
		v.notef("%s: offset %d: a hole of %d bytes in the last appends, of which nothing shows that they were synced: a power loss leaves such, and costs nothing that was acknowledged", at(u.File), u.Offset, u.Bytes)
	}
	for _, g := range rep.Disk.Gaps {
		if g.Unsynced {
			continue
		}
		v.damage("%s: offset %d: entries %d to %d were lost to damage found at an earlier start", at(g.File), g.Offset, g.First, g.Last)
	}
	for _, err := range rep.Bad {
		v.damage("%s: %v", at(""), err)
	}
	for _, name := range rep.Aside {
		v.damage("%s: bytes that an earlier start has set aside as damaged; move the file away when it is dealt with", at(name))
	}
	if t := rep.Disk.Torn; t != nil && v.rep.Server == "" {
		v.notef("%s: offset %d: the journal ends in %d bytes of an unfinished write, from entry %d on: the next start cuts them", at(t.File), t.Offset, t.Bytes, t.Index)
	}
	return nil
}

// senders verifies the state of resend detection, where there is any.
func (v *verify) senders() error {
	if !v.files.Senders {
		return nil
	}
	id, found, err := v.bolt.Senders(v.o.Dir, func(kvs []store.KV) error {
		list := make([]journal.KV, len(kvs))
		for i, kv := range kvs {
			list[i] = journal.KV{Key: kv.Key, Value: kv.Value}
		}
		return journal.CheckSenders(list)
	})
	if err != nil {
		return err
	}
	v.sameStore(filepath.Join(v.o.Dir, "senders.db"), id)
	for i := range found {
		v.damage("%v; only the recognition of resends depends on it", &found[i])
	}
	return nil
}

// place checks that every record that the store does not have is in the journal: all beyond
// the state's LSN, and those in its Open.
func (v *verify) place() {
	j := v.rep.Journal
	st := v.state
	if st == nil {
		st = &store.State{}
		if len(v.rep.Parts) > 0 {
			return // reported with the partition
		}
	}
	dir := filepath.Join(v.o.Dir, journalDir)
	lost := func(r journal.Range, why string) {
		v.damage("%s: %d records, LSN %d to %d, are neither in the journal nor stored: %s", dir, r.Last-r.First+1, r.First, r.Last, why)
	}
	if j.First > st.LSN+1 && !j.Front {
		lost(journal.Range{First: st.LSN + 1, Last: j.First - 1}, "the journal begins behind them")
	}
	for _, h := range j.Holes {
		if h.Last > st.LSN {
			lost(journal.Range{First: max(h.First, st.LSN+1), Last: h.Last}, "the journal has a hole")
		}
	}
	absent := slices.Concat(j.Holes, j.Unsynced)
	has := func(lsn uint64) bool {
		return j.Carried[lsn] || j.First != 0 && lsn >= j.First && lsn <= j.Last &&
			!slices.ContainsFunc(absent, func(h journal.Range) bool { return h.First <= lsn && lsn <= h.Last })
	}
	var gone []uint64
	for _, lsn := range st.Open {
		if !has(lsn) && (v.rep.Server == "" || lsn <= j.Last) {
			gone = append(gone, lsn)
		}
	}
	if len(gone) > 0 {
		v.damage("%s: %d records of events that were not complete yet, LSN %d to %d, are neither in the journal nor stored", dir, len(gone), gone[0], gone[len(gone)-1])
	}
}

// counters compares how many records are counted of each host with how many are stored or
// wait in the journal for their event to be complete. Fewer counted than there are is
// always wrong, unless the host was forgotten; more is, only while nothing was dropped.
func (v *verify) counters() error {
	if v.state == nil || v.rep.Lost > 0 {
		return nil
	}
	if v.moving { // files that were read at several moments do not add up to what was counted at one
		v.notef("how many records are counted of hosts is not compared with what is stored: the server has begun, rewritten or dropped days meanwhile; verify again for that")
		return nil
	}
	open, found, err := v.open()
	if err != nil {
		return err
	}
	if !found {
		return nil // place has reported it, or a server has moved on
	}
	whole := v.nothingDropped()
	for _, h := range v.state.Hosts {
		forgotten := v.mayBeForgotten(&h)
		have := v.stored[h.Name].Records + open[h.Name].Records
		name := fmt.Sprintf("%.80q", h.Name)
		switch {
		case h.Records < have && !forgotten:
			v.damage("%s: host %s: %d records are counted, %d are stored", v.o.Dir, name, h.Records, have)
		case h.Records > have && whole && h.Name != "": // "" is hosts that are not told apart
			v.damage("%s: host %s: %d records are counted, %d are stored: the others were lost", v.o.Dir, name, h.Records, have)
		}
	}
	for name, sum := range v.stored {
		if whole && (v.list == nil || v.list.Forgot.IsZero()) && sum.Records > 0 && !slices.ContainsFunc(v.state.Hosts, func(h store.Host) bool { return h.Name == name }) {
			v.damage("%s: host %.80q: %d records are stored and the host is not known", v.o.Dir, name, sum.Records)
		}
	}
	return nil
}

// forgetSpan is how far before the time at which it was forgotten a host's first record
// may be that came after: records may have waited, and the clock may have been set back.
const forgetSpan = 24 * time.Hour

// mayBeForgotten reports whether a host may have been on the list before and taken off it:
// then only records that came since are counted.
func (v *verify) mayBeForgotten(h *store.Host) bool {
	return v.list != nil && !v.list.Forgot.IsZero() && h.First.After(v.list.Forgot.Add(-forgetSpan))
}

// nothingDropped reports whether the store's first batch is still there and nothing is
// damaged: then counts have to agree, not only to be enough.
func (v *verify) nothingDropped() bool {
	if len(v.files.Aside) > 0 || len(v.rep.Damage) > 0 || v.list != nil && v.list.Dropped.Count > 0 { // imports that were taken back have later ones
		return false
	}
	first, compacted := false, false
	for _, p := range v.rep.Parts {
		first, compacted = first || p.FirstID == 1, compacted || p.Compacted != nil
	}
	// The first batch may be in several partitions then, and some of them gone.
	return first && !(compacted && (v.list == nil || v.list.Dropped.Count > 0))
}

// open counts by host the records that wait in the journal for their event to be complete;
// found is false when one of them is not there.
func (v *verify) open() (count map[string]group.HostSum, found bool, err error) {
	count = map[string]group.HostSum{}
	// A carried record may be there twice, in no order.
	left := map[uint64]bool{}
	begin := func() {
		clear(count)
		for _, lsn := range v.state.Open {
			left[lsn] = true
		}
	}
	if begin(); len(left) == 0 {
		return count, true, nil
	}
	_, err = journal.Verify(v.journalOptions(), nil, func(b *journal.Batch) {
		if b == nil {
			begin()
			return
		}
		for i := range b.Records {
			if lsn := b.First + uint64(i); left[lsn] {
				name := hostOf(b, b.Records[i].Raw)
				sum := count[name]
				sum.Records, sum.Bytes = sum.Records+1, sum.Bytes+uint64(len(b.Records[i].Raw))
				count[name] = sum
				delete(left, lsn)
			}
		}
	})
	return count, len(left) == 0, err
}

// hostOf returns the name under which the head stores a record, as long as there are not
// too many hosts.
func hostOf(b *journal.Batch, raw []byte) string {
	var r record.Record
	store.ParseRecord(&r, raw, nil)
	switch {
	case len(r.Node) > 0:
		return string(r.Node)
	case b.Sender.Name() != "":
		return b.Sender.Name()
	case b.Sender.Addr.IsValid():
		return b.Sender.IP().String()
	}
	return ""
}

// aside reports files that earlier starts have set aside, with how much of each can be read,
// and files that are none of the store's.
func (v *verify) aside(ctx context.Context) error {
	for _, rel := range v.files.Aside {
		path := filepath.Join(v.o.Dir, rel)
		base, _, _ := strings.Cut(filepath.Base(rel), ".db.corrupt-")
		part, err := store.ParsePart(base)
		if err != nil {
			v.damage("%s: set aside as damaged by an earlier start; move it away when it is dealt with", path)
			continue
		}
		rep, err := v.bolt.Partition(ctx, path, part)
		if err != nil {
			v.damage("%s: set aside as damaged by an earlier start: %v", path, err)
			continue
		}
		v.damage("%s: set aside as damaged by an earlier start: answers may lack some of it; %d of %d events in it are readable: `collector salvage` brings them back", path, rep.Events, rep.Catalogued)
		for i := range rep.Findings {
			v.damage("%v", &rep.Findings[i])
		}
	}
	for _, rel := range v.files.Salvaged {
		v.notef("%s: set aside as damaged; what is readable of it has been brought back: move it away when it is not needed", filepath.Join(v.o.Dir, rel))
	}
	for _, rel := range v.files.Unfinished {
		if v.rep.Server == "" {
			v.notef("%s: left by a collector that was stopped hard; the next start removes it", filepath.Join(v.o.Dir, rel))
		}
	}
	for _, rel := range v.files.Foreign {
		v.notef("%s: no file of the store", filepath.Join(v.o.Dir, rel))
	}
	return nil
}
