package evidence

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/auditfleet/auditfleet/collector/internal/eventtree"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/group"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

//go:embed README.md
var readme string

// Log is the collector's log of what was stored.
type Log interface {
	Inclusion(leaf, size int64) (tlog.RecordProof, error)
	Leaf(batch uint64) (index int64, leaf []byte, err error)
	// MadeBy returns the newest leaf that says how a partition was made of others: seal.ErrNoLeaf.
	MadeBy(part string) (index int64, leaf []byte, err error)
}

// Groups reads a batch's group again.
type Groups interface {
	WithGroup(ctx context.Context, batch uint64, fn func(g *group.Group) error) error
}

// Compacted reads what compaction has made of batches that are not where they were stored any more; Groups that can do it have its methods, too.
type Compacted interface {
	EachMade(ctx context.Context, want func(first, last uint64) bool, minMs, maxMs int64, fn func(part string, number int, g *group.Group) error) error
	MergeMade(ctx context.Context, want map[uint64]bool, fn func(m *group.Merger) error) error
}

// Making is what a bundle is made of.
type Making struct {
	Query *query.Query
	About Query // Format, Collector, Store, Words, Zone, LastBatch are set
	Scan  func(ctx context.Context, q *query.Query, fn func(*event.Event) error) error
	Log   Log    // nil: nothing is proved
	Why   string // why there is no checkpoint
	// Checkpoint is the signed text, and Size how many leaves it has; none where nothing was signed.
	Checkpoint []byte
	Size       int64
	// Groups are those in the collector's own files; nil: nothing is proved. Where it has the methods of store.Rereader, too, batches that are not there
	// are read again by these.
	Groups Groups
	AtRest bool // no collector has the store: what is not stored is counted
	// Lacks, where it is not nil, says what was asked for and is not in the bundle, beside what a damaged store lacks; "": nothing. It is told of which batches there are events
	// in the bundle.
	Lacks func(ctx context.Context, touched func(batch uint64) bool) (string, error)
	// Coverage writes what is known of the completeness of these hosts in the time asked.
	Coverage func(ctx context.Context, hosts []string, fromMs, toMs int64) ([]byte, error)
	Until    int64         // where the query has no end: up to when, the checkpoint's time
	Signer   note.Signer   // nil: the manifest is not signed
	Memory   *query.Memory // what events may take; nil: any
	// Send takes a piece of a file; pieces of one file come in order, those of several by turns.
	Send func(file string, piece []byte) error
}

// eventCost is about what an event takes in memory until its batch is proved.
const eventCost = 96

// maker is one making of a bundle.
type maker struct {
	Making
	sizes   map[string]int64
	sums    map[string]hash.Hash
	buf     map[string][]byte
	hasher  eventtree.Hasher
	batches map[uint64][]found
	hosts   map[string]bool
	names   int // bytes that hosts take in query.json, at least
	span    [2]int64
	trees   map[uint64]*batchTree // of batches that were written again, where the log has the root of their events
	moved   map[uint64]bool       // batches that were written again, and are proved by what was made of them
	made    bool                  // there is such a proof
	changed string                // why a batch proves nothing that was changed; "": none was
	reading int                   // bytes taken of Memory for what is read again
}

// found is an event of the bundle until its batch is proved.
type found struct {
	n    int64
	hash eventtree.Hash
}

// pieceBytes is about how much of a file is sent at once.
const pieceBytes = 128 << 10

// Make makes a bundle and sends its files, the manifest last: a folder without it is half a bundle.
func Make(ctx context.Context, m Making) (Query, error) {
	k := &maker{Making: m, sizes: map[string]int64{}, sums: map[string]hash.Hash{}, buf: map[string][]byte{}, batches: map[uint64][]found{}, hosts: map[string]bool{},
		trees: map[uint64]*batchTree{}, moved: map[uint64]bool{}}
	for _, name := range files(Format) {
		if name != Checkpoint || len(m.Checkpoint) > 0 {
			k.sums[name] = sha256.New()
		}
	}
	if err := k.scan(ctx); err != nil {
		return k.About, err
	}
	if err := k.prove(ctx); err != nil {
		return k.About, err
	}
	return k.About, k.rest(ctx)
}

func (k *maker) write(file string, b []byte) error {
	k.sums[file].Write(b)
	k.sizes[file] += int64(len(b))
	buf := append(k.buf[file], b...)
	k.buf[file] = buf
	if len(buf) < pieceBytes {
		return nil
	}
	return k.flush(file)
}

func (k *maker) flush(file string) error {
	buf := k.buf[file]
	k.buf[file] = nil // Send may keep it
	if len(buf) == 0 {
		return nil
	}
	return k.Send(file, buf)
}

func (k *maker) writeJSON(file string, v any) error {
	b, err := encodeLine(v)
	if err != nil {
		return err
	}
	if len(b) > maxLine {
		return fmt.Errorf("%w: a line of %s would be %d bytes long", ErrTooLarge, file, len(b))
	}
	return k.write(file, append(b, '\n'))
}

// scan writes the records and what is known of each event.
func (k *maker) scan(ctx context.Context) error {
	q := *k.Query
	q.Origin, q.Batches, q.Reverse = true, true, false
	var buf []byte
	err := k.Scan(ctx, &q, func(ev *event.Event) error {
		if ev.Batch == 0 || ev.Batch > k.About.LastBatch || len(ev.Records) == 0 {
			if k.AtRest {
				k.About.LeftOut++
			}
			return nil
		}
		var counted bool
		buf, counted = store.AppendText(buf[:0], ev)
		if len(buf) > maxText {
			return fmt.Errorf("%w: the event %d.%03d:%d has %d bytes", ErrTooLarge, ev.Ms/1000, ev.Ms%1000, ev.Serial, len(buf))
		}
		k.About.Events++
		k.About.Records += int64(len(ev.Records))
		line := Event{
			N: k.About.Events, Batch: ev.Batch, Host: string(ev.Node), Offset: k.sizes[Records], Length: int64(len(buf)), Counted: counted, Records: len(ev.Records),
			Transport: event.TransportUnknown.String(), Received: eventtree.AppendReceipts(nil, ev),
		}
		if !utf8.Valid(ev.Node) {
			line.HostHex = hex.EncodeToString(ev.Node)
		}
		if f := ev.From; f != nil {
			line.Transport, line.Verified = f.Transport.String(), f.Host
			if f.Addr.IsValid() {
				line.Address = f.Addr.String()
			}
		}
		if err := k.addHost(ev.Node); err != nil {
			return err
		}
		hash := k.hasher.Event(&eventtree.Event{Host: string(ev.Node), From: ev.From, Receipts: line.Received, Counted: counted, Text: buf})
		if !k.Memory.Take(eventCost) {
			return query.ErrMemory
		}
		k.batches[ev.Batch] = append(k.batches[ev.Batch], found{line.N, hash})
		if k.About.Events == 1 {
			k.span = [2]int64{ev.Ms, ev.Ms}
		}
		k.span = [2]int64{min(k.span[0], ev.Ms), max(k.span[1], ev.Ms)}
		return errors.Join(k.write(Records, buf), k.writeJSON(Events, &line))
	})
	if errors.Is(err, store.ErrDamaged) {
		k.About.Missing = text(err.Error())
		err = nil
	}
	if k.Lacks != nil && err == nil {
		var lacks string
		if lacks, err = k.Lacks(ctx, func(batch uint64) bool { return len(k.batches[batch]) > 0 }); lacks != "" {
			k.About.Missing = text(strings.TrimPrefix(k.About.Missing+"; "+lacks, "; "))
		}
	}
	if err != nil {
		return err
	}
	for name := range k.hosts {
		k.About.Hosts = append(k.About.Hosts, text(name))
	}
	slices.Sort(k.About.Hosts)
	if k.About.Hosts == nil {
		k.About.Hosts = []string{}
	}
	return nil
}

// addHost notes that a host has an event in the bundle.
func (k *maker) addHost(name []byte) error {
	if k.hosts[string(name)] {
		return nil
	}
	k.hosts[string(name)] = true
	if k.names += len(name) + len(`"",`); k.names > maxQuery {
		return k.tooManyHosts()
	}
	return nil
}

func (k *maker) tooManyHosts() error {
	return fmt.Errorf("%w: the names of %d hosts: ask for fewer, in bundles of their own", ErrTooLarge, len(k.hosts))
}

// rest writes what comes last.
func (k *maker) rest(ctx context.Context) error {
	a := &k.About
	for i, w := range a.Words {
		a.Words[i] = text(w)
	}
	a.Format, a.FromMs, a.ToMs = k.format(), k.Query.StartMs, k.Query.EndMs
	a.From, a.To = rfc3339(a.FromMs), rfc3339(a.ToMs)
	until := a.ToMs
	if until == 0 {
		until = k.Until
	}
	coverage, err := k.Coverage(ctx, a.Hosts, a.FromMs, until)
	if err != nil {
		return fmt.Errorf("ask for the coverage: %w", err)
	}
	about, err := encodeQuery(a)
	if err != nil {
		return err
	}
	if len(about) > maxQuery {
		return k.tooManyHosts()
	}
	err = errors.Join(k.write(Coverage, coverage), k.write(QueryFile, about), k.write(Readme, []byte(readme)))
	if len(k.Checkpoint) > 0 {
		err = errors.Join(err, k.write(Checkpoint, k.Checkpoint))
	}
	if err != nil {
		return err
	}
	var list []entry
	for _, name := range files(Format) {
		sum, ok := k.sums[name]
		if !ok {
			continue
		}
		if err := k.flush(name); err != nil {
			return err
		}
		list = append(list, entry{name, k.sizes[name], eventtree.Hash(sum.Sum(nil))})
	}
	text, err := sign(manifestText(a.Format, a.Store, list), k.Signer)
	if err != nil {
		return fmt.Errorf("sign the manifest: %w", err)
	}
	return k.Send(Manifest, text)
}

// format is the least version that says what is in the bundle.
func (k *maker) format() int {
	if k.made {
		return Format
	}
	return plainFormat
}

func rfc3339(ms int64) string {
	if ms == 0 {
		return ""
	}
	return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z07:00")
}

func hashOf(text string) (h eventtree.Hash, err error) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(h) {
		return h, fmt.Errorf("%.80q is no SHA-256", text)
	}
	return eventtree.Hash(b), nil
}
