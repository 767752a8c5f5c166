package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"strings"

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

// insert stores the block's rows on a quorum of the shard; see servers.insertBlock.
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
	parts := slices.Clone(b.part)
	slices.Sort(parts)
	return b.e.cluster.insertBlock(ctx, b.nodes, insertion(b.e.cluster.address.Database), columns, len(slices.Compact(parts)))
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
