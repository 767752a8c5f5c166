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

// A batch becomes blocks with fixed bounds: its events in their order, of one shard, so many or of so much text. A block is inserted
// whole or not at all, and ClickHouse knows one by its bytes that it had among the last thousand. So a block may be inserted again
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
	part    store.Part
	batch   uint64
	nodes   []*node
	n, size int
	x       query.Extractor

	node, host, text, later, sender, proved []string
	ms, received                            []int64
	serial                                  []uint64
	seq, sizes                              []uint32
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
	*b = block{e: b.e, part: b.part, batch: b.batch, nodes: b.nodes, one: make([][]string, len(indexed)), list: make([][][]string, len(indexed)), buf: b.buf, known: map[string]string{}}
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

// add puts an event into the block; seq is its place in the batch.
func (b *block) add(host string, ev *event.Event, seq uint32) {
	var counted bool
	b.buf, counted = store.AppendText(b.buf[:0], ev)
	o := store.OriginOf(ev)
	b.node, b.host, b.text, b.later = append(b.node, string(ev.Node)), append(b.host, host), append(b.text, string(b.buf)), append(b.later, o.Later)
	b.ms, b.received = append(b.ms, ev.Ms), append(b.received, o.Received)
	b.serial, b.seq = append(b.serial, ev.Serial), append(b.seq, seq)
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
	columns := []any{same(dayNumber(b.part.Day), b.n), same(uint32(b.part.N), b.n), same(b.batch, b.n), same(b.e.opts.Store, b.n),
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

// Append stores a batch's events: each shard's blocks one after the other, then the row that says that the batch is there.
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
		if err := e.isStored(ctx, of[names[0]], b, max(last.batch, had), b.ID <= had); err != nil {
			return err
		}
		return e.took(b.ID, last.part)
	}
	// A batch that was begun goes on in the part in which it was, unless that was dropped meanwhile. The first one of a process may have been begun by another.
	if _, gone := dropped[e.begun.part]; gone || e.begun.batch != b.ID {
		now := *a
		now.dropped = dropped // also by others, since the account was read
		e.begun = row{part: now.partFor(b.Day), batch: b.ID, again: gone || e.begun.batch == 0}
	} else {
		e.begun.again = true
	}
	r := e.begun
	blocks := make([]*block, len(names))
	for i, name := range names {
		blocks[i] = &block{e: e, part: r.part, batch: b.ID, nodes: of[name]}
		blocks[i].reset()
	}
	seq := uint32(0)
	insert := func(bl *block) error {
		again, err := bl.insert(ctx)
		r.again = r.again || again
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
		bl.add(host, ev, seq)
		seq++
		r.count(ev)
		return nil
	})
	for _, bl := range blocks {
		if err == nil {
			err = insert(bl)
		}
	}
	if err == nil {
		err = e.write(ctx, of[names[0]], r)
	}
	if err != nil {
		return fmt.Errorf("store batch %d: %w", b.ID, err)
	}
	// And once more, for they may have been made anew meanwhile: then the batch stays where it is.
	dropped, err = e.present(ctx, names, of, r)
	if err != nil {
		return err
	}
	if _, gone := dropped[r.part]; gone {
		e.opts.Log.Error("a part was dropped by another collector while a batch was stored in it, which is gone with it: it keeps less than this one, or days by another clock", "part", r.part.String(), "batch", b.ID, "events", r.events)
		if err := e.tellLate(ctx, of[names[0]], r); err != nil { // it is taken all the same: it does not come again
			e.opts.Log.Error("the cluster does not say that a batch is gone with its part: verify --checkpoint takes it for deleted", "part", r.part.String(), "batch", b.ID, "error", err)
		}
	}
	return e.took(b.ID, r.part)
}

// isStored returns nil for a batch that comes again: there is a row for it, with what it has, or, of one that is known to have been taken, none, for its part
// was dropped since. Any other batch that has no number of its own would be lost if it were taken for one that is there.
func (e *Engine) isStored(ctx context.Context, first []*node, b *store.Sealed, last uint64, taken bool) error {
	r := row{batch: b.ID}
	err := b.Each(func(_ string, ev *event.Event) error {
		r.count(ev)
		return nil
	})
	if err != nil {
		return err
	}
	var have []row
	sql := fmt.Sprintf("SELECT batch, events, records, bytes, min_ms, max_ms FROM %s.batches WHERE store = %s AND batch = %d AND events > 0", // a row without events only begins a part
		e.cluster.address.Database, quote(e.opts.Store), b.ID)
	err = e.cluster.shard(first).ask(ctx, sql, func() { have = nil }, func(scan func(...any) error) error {
		var x row
		err := scan(&x.batch, &x.events, &x.records, &x.bytes, &x.minMs, &x.maxMs)
		have = append(have, x)
		return err
	})
	switch {
	case err != nil:
		return fmt.Errorf("look whether batch %d is stored: %w", b.ID, err)
	case !slices.Contains(have, r) && (len(have) > 0 || !taken):
		return fmt.Errorf("store batch %d: %w: the last one is %d", b.ID, ErrCopied, last)
	}
	return nil
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

// write stores a row of the account, and takes it in; appending is held.
func (e *Engine) write(ctx context.Context, first []*node, r row) error {
	again := uint8(0)
	if r.again {
		again = 1
	}
	_, err := e.cluster.insert(ctx, first, "INSERT INTO "+e.cluster.address.Database+".batches (day, part, store, batch, events, records, bytes, min_ms, max_ms, again)",
		[]any{[]int32{dayNumber(r.part.Day)}, []uint32{uint32(r.part.N)}, []string{e.opts.Store}, []uint64{r.batch}, []uint64{r.events}, []uint64{r.records}, []uint64{r.bytes}, []int64{r.minMs}, []int64{r.maxMs}, []uint8{again}})
	if err != nil {
		e.unsure.Store(true)
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.account = e.account.with(e.opts.Store, r)
	if e.meanwhile != nil {
		e.meanwhile = append(e.meanwhile, r)
	}
	return nil
}

// Rotate begins another part of the day of the last batch.
func (e *Engine) Rotate(ctx context.Context) error {
	a, err := e.begin(ctx)
	if err != nil {
		return err
	}
	defer e.appending.Unlock()
	last, ok := a.last[e.opts.Store]
	if !ok || a.parts[last.part] == nil || a.parts[last.part].Events == 0 {
		return nil
	}
	names, of, err := e.cluster.shards(ctx)
	if err != nil {
		return err
	}
	part := a.partFor(last.part.Day)
	part.N++
	return e.write(ctx, of[names[0]], row{part: part, batch: last.batch})
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
