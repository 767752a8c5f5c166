package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"strings"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// A batch becomes blocks with fixed bounds: its events in their order, of one shard, so many or of so much text. What a block has for one partition (it has several where
// the batch is divided by classes) is inserted whole or not at all, and ClickHouse knows it by its bytes that it had among the last thousand. So a block may be inserted again
// after any failure. One that comes again later still has rows with the same key, of which one stays when parts are merged, and
// of which answers give one.
const (
	blockEvents = 20_000
	blockBytes  = 16 << 20
)

// quorumTime is how long an insert waits for its quorum.
const quorumTime = 30 * time.Second

// block is rows of one shard.
type block struct {
	e       *Engine
	day     store.Day
	batch   uint64
	nodes   []*node
	n, size int
	x       query.Extractor

	node, host, text, later, sender, proved []string
	ms, received                            []int64
	serial                                  []uint64
	part, seq, sizes                        []uint32
	counted, transport, apart               []uint8
	one                                     [][]string   // by place in indexed, those of one value
	list                                    [][][]string // those of several
	others                                  [][]string
	buf, name                               []byte
	known                                   map[string]string // values, as most come again
}

// insertion is the statement of a block; the columns that are the same for all rows come first.
func insertion(db string) string {
	names := []string{"day", "part", "batch", "store", "node", "ts_ms", "serial", "seq", "host", "counted", "text", "size", "received", "later", "transport", "sender", "proved", "apart"}
	for _, f := range indexed {
		names = append(names, column(f))
	}
	names = append(names, others)
	return "INSERT INTO " + db + ".events (" + strings.Join(names, ", ") + ")"
}

func (b *block) reset() {
	*b = block{e: b.e, day: b.day, batch: b.batch, nodes: b.nodes, one: make([][]string, len(indexed)), list: make([][][]string, len(indexed)), buf: b.buf, known: map[string]string{}}
}

// text returns bytes as a text that is kept once.
func (b *block) textOf(v []byte) string {
	if s, ok := b.known[string(v)]; ok {
		return s
	}
	s := string(v)
	b.known[s] = s
	return s
}

// add puts an event into the block; part is the number of its part, seq its place in the batch.
func (b *block) add(host string, ev *event.Event, part, seq uint32) {
	var counted bool
	b.buf, counted = store.AppendText(b.buf[:0], ev)
	o := store.OriginOf(ev)
	b.node, b.host, b.text, b.later = append(b.node, string(ev.Node)), append(b.host, host), append(b.text, string(b.buf)), append(b.later, o.Later)
	b.ms, b.received = append(b.ms, ev.Ms), append(b.received, o.Received)
	b.serial, b.part, b.seq = append(b.serial, ev.Serial), append(b.part, part), append(b.seq, seq)
	b.sizes = append(b.sizes, uint32(len(b.buf)))
	is := uint8(0)
	if counted {
		is = 1
	}
	b.counted = append(b.counted, is)
	// 1 more than the transport, 0: nothing is known of the sender.
	transport, addr, proved := uint8(0), "", ""
	if from := o.From; from != nil {
		transport, proved = uint8(from.Transport)+1, from.Host
		if from.Addr.IsValid() {
			addr = from.Addr.String()
		}
	}
	b.transport, b.sender, b.proved = append(b.transport, transport), append(b.sender, addr), append(b.proved, proved)
	for i, f := range indexed {
		if several(f) {
			b.list[i] = append(b.list[i], none)
		} else {
			b.one[i] = append(b.one[i], "")
		}
	}
	b.apart, b.others = append(b.apart, 0), append(b.others, none)
	b.x.Index(ev, b.field)
	b.n++
	b.size += len(b.buf)
}

// none is the list of an event that has no value.
var none = []string{}

// field puts a value of the event that is added last into its column.
func (b *block) field(f query.Field, v []byte) {
	b.apart[b.n] |= apartOf(f)
	var list *[]string
	switch {
	case f.IsOther():
		list = &b.others[b.n]
		b.name = append(append(b.name[:0], otherName(f)...), v...)
		v = b.name
	case !hasColumn(f):
		return
	case several(f):
		list = &b.list[columnOf[f]][b.n]
	default:
		b.one[columnOf[f]][b.n] = stored(b.textOf(v))
		return
	}
	if !slices.Contains(*list, string(v)) {
		*list = append(*list, b.textOf(v))
	}
}

// same makes a column of one value.
func same[T any](v T, n int) []T { return slices.Repeat([]T{v}, n) }

// insert stores the block's rows on a quorum of the shard; see servers.insert.
func (b *block) insert(ctx context.Context) (again bool, err error) {
	if b.n == 0 {
		return false, nil
	}
	columns := []any{same(dayNumber(b.day), b.n), b.part, same(b.batch, b.n), same(b.e.opts.Store, b.n),
		b.node, b.ms, b.serial, b.seq, b.host, b.counted, b.text, b.sizes, b.received, b.later, b.transport, b.sender, b.proved, b.apart}
	for i, f := range indexed {
		if several(f) {
			columns = append(columns, b.list[i])
		} else {
			columns = append(columns, b.one[i])
		}
	}
	columns = append(columns, b.others)
	return b.e.cluster.insert(ctx, b.nodes, insertion(b.e.cluster.address.Database), columns)
}

// insert inserts columns as one block, on a quorum of a shard's servers. again says that it was inserted more than once, of which ClickHouse may not have known.
func (c *servers) insert(ctx context.Context, nodes []*node, sql string, columns []any) (again bool, err error) {
	if c.fault != nil {
		if err := c.fault(); err != nil {
			return false, err
		}
		defer func() {
			if err == nil {
				err = c.fault()
			}
		}()
	}
	settings := ch.Settings{"insert_deduplicate": 1}
	if q := c.quorum(len(nodes)); q > 1 {
		settings["insert_quorum"] = q
		settings["insert_quorum_timeout"] = int(quorumTime.Milliseconds())
	}
	tries := 0
	err = c.on(ctx, nodes, func(ctx context.Context, n *node) (err error) {
		tries++
		// The connection's deadline is the context's.
		ctx, cancel := context.WithTimeout(ctx, 2*quorumTime)
		defer cancel()
		batch, err := n.conn.PrepareBatch(ch.Context(ctx, ch.WithSettings(settings)), sql)
		if err != nil {
			return err
		}
		defer func() {
			if err != nil {
				_ = batch.Abort() // the first error says it
			}
		}()
		for i, values := range columns {
			if err := batch.Column(i).Append(values); err != nil {
				return fmt.Errorf("column %d: %w", i, err)
			}
		}
		return batch.Send()
	})
	return tries > 1, err
}

// shardOf is which of so many shards an event belongs to. It never changes: what is stored again comes to the same shard.
func shardOf(node string, ms int64, serial uint64, shards int) int {
	if shards == 1 {
		return 0
	}
	h := fnv.New64a()
	fmt.Fprintf(h, "%d %d %s", ms, serial, node)
	return int(h.Sum64() % uint64(shards))
}

// mostTries is how often a batch is stored anew at once where parts of it are dropped meanwhile.
const mostTries = 3

// Append stores a batch's events, then the rows that say in which parts they are, then that it is stored. It says so only once no part of these was dropped before: who drops
// one reads behind its mark which rows are there, and tells of each, so whatever is gone of a batch that is stored is told.
func (e *Engine) Append(ctx context.Context, b *store.Sealed) error {
	a, err := e.begin(ctx)
	if err != nil {
		return err
	}
	defer e.appending.Unlock()
	names, of, err := e.cluster.shards(ctx)
	if err != nil {
		return err
	}
	// What it has now is looked at, and not what it had: tables may have been made anew since.
	dropped, err := e.present(ctx, names, of, e.delivered())
	if err != nil {
		return err
	}
	if last, had := a.last[e.opts.Store], e.delivered().batch; b.ID <= max(last.batch, had) { // a process died before it knew
		parts, err := e.isStored(ctx, of[names[0]], b, max(last.batch, had), b.ID <= had)
		if err != nil {
			return err
		}
		return e.took(b.ID, parts)
	}
	now := *a
	for tries := 1; ; tries++ {
		now.dropped = dropped // also by others, since the account was read
		rows, err := e.storeBatch(ctx, names, of, b, &now)
		if err != nil {
			return fmt.Errorf("store batch %d: %w", b.ID, err)
		}
		// And once more, for they may have been made anew meanwhile: then the batch stays where it is.
		if dropped, err = e.present(ctx, names, of, latest{b.ID, partsOf(rows)}); err != nil {
			return err
		}
		i := slices.IndexFunc(rows, func(r row) bool { _, gone := dropped[r.part]; return gone })
		if i < 0 {
			return e.end(ctx, of[names[0]], b.ID, rows)
		}
		e.opts.Log.Warn("a part was dropped by another collector while a batch was stored in it, which goes to another one: it keeps less than this one, or days by another clock", "part", rows[i].part.String(), "class", rows[i].class, "batch", b.ID, "events", rows[i].events)
		if tries == mostTries {
			return fmt.Errorf("store batch %d: %w: %s was dropped by another collector meanwhile", b.ID, ErrCluster, rows[i].part)
		}
	}
}

// storeBatch stores a batch's events and its rows; appending is held.
func (e *Engine) storeBatch(ctx context.Context, names []string, of map[string][]*node, b *store.Sealed, now *account) ([]row, error) {
	rows, err := e.beginBatch(ctx, of[names[0]], b, now)
	if err != nil {
		return nil, err
	}
	again, err := e.insertEvents(ctx, names, of, b, rows)
	e.begun.again = e.begun.again || again
	if err != nil {
		return nil, err
	}
	for i := range rows {
		rows[i].again = e.begun.again
	}
	return rows, e.writeRows(ctx, of[names[0]], rows)
}

// end says that a batch is stored, and takes its rows into the account; appending is held.
func (e *Engine) end(ctx context.Context, first []*node, batch uint64, rows []row) error {
	if _, err := e.cluster.insert(ctx, first, "INSERT INTO "+e.cluster.address.Database+".stored (store, batch)", []any{[]string{e.opts.Store}, []uint64{batch}}); err != nil {
		e.unsure.Store(true)
		return fmt.Errorf("say that batch %d is stored: %w", batch, err)
	}
	e.takeIn(rows)
	return e.took(batch, partsOf(rows))
}

// begun is a batch that was begun.
type begun struct {
	batch uint64
	rows  []row // as they are written in the end; those of classes in their order
	again bool  // some of it may have been inserted more than once
}

// partsOf returns the parts of rows, each once.
func partsOf(rows []row) (parts []store.Part) {
	for _, r := range rows {
		if !slices.Contains(parts, r.part) {
			parts = append(parts, r.part)
		}
	}
	return parts
}

// beginBatch says to which parts a batch goes: a row for each, with no more than that and the places of its events. One that was begun goes on in the parts in which it was,
// unless those were dropped meanwhile. The first one of a process may have been begun by another one, which has written some of its rows.
func (e *Engine) beginBatch(ctx context.Context, first []*node, b *store.Sealed, now *account) ([]row, error) {
	known := e.begun.batch == b.ID
	if known {
		e.begun.again = true
	} else {
		// Nothing is kept of it before it is known what is there.
		there := map[uint64]row{}
		if e.begun.batch == 0 {
			list, err := e.rowsOf(ctx, first, b.ID)
			if err != nil {
				return nil, err
			}
			for _, r := range list {
				there[r.first] = r
			}
		}
		x := begun{batch: b.ID, again: e.begun.batch == 0, rows: []row{{batch: b.ID}}}
		if d := b.Division; d != nil {
			x.rows = make([]row, len(d.Classes))
			for i := range d.Classes {
				c := &d.Classes[i]
				x.rows[i] = row{batch: b.ID, class: c.Name, first: c.First, proof: joined(c.Proof)}
			}
		}
		for i := range x.rows {
			r := &x.rows[i]
			if was, is := there[r.first]; is && was.part.Day == b.Day {
				r.part, r.class = was.part, was.class
			} else {
				r.part, r.class = now.partFor(b.Day, r.class)
			}
		}
		e.begun = x
	}
	for i := range e.begun.rows {
		r := &e.begun.rows[i]
		if _, gone := now.dropped[r.part]; !gone {
			continue
		}
		class := r.class
		if class == store.Undivided && b.Division != nil {
			class = b.Division.Classes[i].Name
		}
		r.part, r.class = now.partFor(b.Day, class)
		e.begun.again = true
	}
	rows := slices.Clone(e.begun.rows)
	for i := range rows {
		rows[i].events, rows[i].records, rows[i].bytes, rows[i].minMs, rows[i].maxMs = 0, 0, 0, 0, 0
	}
	return rows, nil
}

// joined puts hashes one behind the other.
func joined(list [][32]byte) string {
	b := make([]byte, 0, len(list)*32)
	for _, h := range list {
		b = append(b, h[:]...)
	}
	return string(b)
}

// insertEvents stores a batch's events: each shard's blocks one after the other. It counts them in the rows of their classes.
func (e *Engine) insertEvents(ctx context.Context, names []string, of map[string][]*node, b *store.Sealed, rows []row) (again bool, err error) {
	blocks := make([]*block, len(names))
	for i, name := range names {
		blocks[i] = &block{e: e, day: b.Day, batch: b.ID, nodes: of[name]}
		blocks[i].reset()
	}
	next := places(b)
	insert := func(bl *block) error {
		twice, err := bl.insert(ctx)
		again = again || twice
		return err
	}
	err = b.Each(func(host string, ev *event.Event) error {
		bl := blocks[shardOf(string(ev.Node), ev.Ms, ev.Serial, len(blocks))]
		if bl.n > 0 && (bl.n == blockEvents || bl.size+ev.Size() > blockBytes) {
			if err := insert(bl); err != nil {
				return err
			}
			bl.reset()
		}
		class, place := next()
		bl.add(host, ev, uint32(rows[class].part.N), uint32(place))
		rows[class].count(ev)
		return nil
	})
	for _, bl := range blocks {
		if err == nil {
			err = insert(bl)
		}
	}
	return again, err
}

// places returns what gives each event's class and place.
func places(b *store.Sealed) func() (class int, place uint64) {
	if b.Division != nil {
		return b.Division.Places()
	}
	n := uint64(0)
	return func() (int, uint64) { n++; return 0, n - 1 }
}

// rowsOf returns what rows there are of a batch of ours, but for those that begin a part.
func (e *Engine) rowsOf(ctx context.Context, first []*node, batch uint64) (list []row, err error) {
	sql := fmt.Sprintf("SELECT day, part, class, first, events, records, bytes, min_ms, max_ms FROM %s.batches WHERE store = %s AND batch = %d AND events > 0 ORDER BY first", e.cluster.address.Database, quote(e.opts.Store), batch)
	err = e.cluster.ask(ctx, first, sql, func() { list = nil }, func(scan func(...any) error) error {
		var day int32
		var n uint32
		r := row{batch: batch}
		err := scan(&day, &n, &r.class, &r.first, &r.events, &r.records, &r.bytes, &r.minMs, &r.maxMs)
		r.part = store.Part{Day: dayOf(day), N: int(n)}
		list = append(list, r)
		return err
	})
	return list, err
}

// isStored returns the parts of a batch that comes again: there are rows of it, with what it has, or these are gone with parts that were dropped since, as is told, or as may be
// of one that is known to have been taken. Any other batch that has no number of its own would be lost if it were taken for one that is there: that is an error.
func (e *Engine) isStored(ctx context.Context, first []*node, b *store.Sealed, last uint64, taken bool) (parts []store.Part, err error) {
	rows := make([]row, 1)
	if b.Division != nil {
		rows = make([]row, len(b.Division.Classes))
	}
	next := places(b)
	err = b.Each(func(_ string, ev *event.Event) error {
		class, _ := next()
		rows[class].count(ev)
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i, at := 0, uint64(0); i < len(rows); i++ {
		rows[i].batch, rows[i].first = b.ID, at
		at += rows[i].events
	}
	have, err := e.rowsOf(ctx, first, b.ID)
	if err != nil {
		return nil, fmt.Errorf("look whether batch %d is stored: %w", b.ID, err)
	}
	other := slices.ContainsFunc(have, func(r row) bool {
		r.part, r.class = store.Part{}, ""
		return !slices.Contains(rows, r)
	})
	parts = partsOf(have)
	drops, err := e.dropsOf(ctx, first, e.opts.Store)
	if err != nil {
		return nil, err
	}
	for _, d := range drops {
		if d.Part.Day == b.Day && d.First <= b.ID && b.ID <= d.Last {
			parts = append(parts, d.Part)
		}
	}
	if other || len(parts) == 0 && !taken {
		return nil, fmt.Errorf("store batch %d: %w: the last one is %d", b.ID, ErrCopied, last)
	}
	return parts, nil
}

// count adds an event to a batch's row.
func (r *row) count(ev *event.Event) {
	r.events++
	r.records += uint64(len(ev.Records))
	r.bytes += uint64(ev.Size())
	if ev.Ms != 0 && (r.minMs == 0 || ev.Ms < r.minMs) {
		r.minMs = ev.Ms
	}
	r.maxMs = max(r.maxMs, ev.Ms)
}

// takeIn takes what was written into the account.
func (e *Engine) takeIn(rows []row) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.account = e.account.with(e.opts.Store, rows)
	if e.meanwhile != nil {
		e.meanwhile = append(e.meanwhile, rows)
	}
}

// writeRows inserts rows of batches; each partition's are there or not.
func (e *Engine) writeRows(ctx context.Context, first []*node, rows []row) error {
	n := len(rows)
	days, parts, batches, counts, records, bytes := make([]int32, n), make([]uint32, n), make([]uint64, n), make([]uint64, n), make([]uint64, n), make([]uint64, n)
	mins, maxs, again, classes, firsts, proofs := make([]int64, n), make([]int64, n), make([]uint8, n), make([]string, n), make([]uint64, n), make([]string, n)
	for i, r := range rows {
		days[i], parts[i], batches[i], counts[i], records[i], bytes[i] = dayNumber(r.part.Day), uint32(r.part.N), r.batch, r.events, r.records, r.bytes
		mins[i], maxs[i], classes[i], firsts[i], proofs[i] = r.minMs, r.maxMs, r.class, r.first, r.proof
		if r.again {
			again[i] = 1
		}
	}
	_, err := e.cluster.insert(ctx, first, "INSERT INTO "+e.cluster.address.Database+".batches (day, part, store, batch, events, records, bytes, min_ms, max_ms, again, class, first, proof)",
		[]any{days, parts, same(e.opts.Store, n), batches, counts, records, bytes, mins, maxs, again, classes, firsts, proofs})
	if err != nil {
		e.unsure.Store(true)
	}
	return err
}

// Rotate begins other parts of the day of the last batch, one of each class that has events in one that is written.
func (e *Engine) Rotate(ctx context.Context) error {
	a, err := e.begin(ctx)
	if err != nil {
		return err
	}
	defer e.appending.Unlock()
	last := a.last[e.opts.Store]
	day, ok := last.day()
	if !ok {
		return nil
	}
	names, of, err := e.cluster.shards(ctx)
	if err != nil {
		return err
	}
	var rows []row
	for part, p := range a.parts {
		if part.Day != day || p.Sealed || p.Events == 0 || p.Class == "" && !slices.Contains(last.parts, part) {
			continue
		}
		part, class := a.partFor(day, p.Class)
		part.N++
		rows = append(rows, row{part: part, batch: last.batch, class: class})
	}
	if len(rows) == 0 {
		return nil
	}
	slices.SortFunc(rows, func(x, y row) int { return x.part.Compare(y.part) })
	if err := e.writeRows(ctx, of[names[0]], rows); err != nil {
		return err
	}
	e.takeIn(rows)
	return nil
}

// from makes a sender of the columns.
func from(transport uint8, addr, proved string) (*event.Sender, error) {
	if transport == 0 {
		return nil, nil //nolint:nilnil // nothing is known of it
	}
	s := &event.Sender{Host: proved, Transport: event.Transport(transport - 1)}
	if addr != "" {
		ip, err := netip.ParseAddr(addr)
		if err != nil {
			return nil, errors.Join(store.ErrDamaged, err)
		}
		s.Addr = ip
	}
	return s, nil
}
