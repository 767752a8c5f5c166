package clickhouse

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// A shard's rows are read by windows of time that have so many of them, or so much text, at most. How many rows a time has is
// counted first, by minutes, and where a minute has too many by shorter times; of one millisecond rows are read by their place in the order.
const (
	windowRows  = 8192
	windowBytes = 8 << 20
	// firstRows is how many rows the first window has about: who asks for the newest few reads no more.
	firstRows = 256
	// mostWindows is of how many times it is counted at once: a host may have an event in each minute of centuries.
	mostWindows = 1 << 16
)

// widths are the times by which rows are counted, in ms; each divides the one before.
var widths = []int64{60_000, 1000, 20, 1}

// window is a time, from and to both within.
type window struct {
	from, to    int64
	rows, bytes uint64
}

// found is a row that was read, as a part of an answer.
type found struct {
	store.Found
	seq   uint32
	store string
}

// compare orders rows as an answer has them.
func (f *found) compare(o *found) int {
	return cmp.Or(f.Key.Compare(o.Key), cmp.Compare(f.Batch, o.Batch), cmp.Compare(f.store, o.store), cmp.Compare(f.seq, o.seq))
}

// reader reads the rows of one shard.
type reader struct {
	shard   *shard
	table   string
	narrow  []string // what rows meet
	seen    []string // likewise
	reverse bool
}

// from is where rows are read that meet the condition, too, unless that is empty.
func (r *reader) from(and string) string {
	if and == "" {
		return rowsOf(r.table, r.narrow, r.seen)
	}
	return rowsOf(r.table, append(slices.Clip(r.narrow), and), r.seen)
}

// rowsOf is where rows are read. By PREWHERE a server reads the other columns of those only that meet what narrows: texts are most of all, and which
// collector's a row is would be half of what remains.
func rowsOf(table string, narrow, seen []string) string {
	s := " FROM " + table
	if len(narrow) > 0 {
		s += " PREWHERE " + strings.Join(narrow, " AND ")
	}
	return s + " WHERE " + strings.Join(seen, " AND ")
}

// read calls give with the rows of each window, in order.
func (r *reader) read(ctx context.Context, give func([]found) error) error {
	begun, and := false, ""
	for {
		list, err := r.count(ctx, and, widths[0])
		if err != nil {
			return err
		}
		if err := r.windows(ctx, list, 0, &begun, give); err != nil || len(list) < mostWindows {
			return err
		}
		if last := list[len(list)-1]; r.reverse {
			and = fmt.Sprintf("ts_ms < %d", last.from)
		} else {
			and = fmt.Sprintf("ts_ms > %d", last.to)
		}
	}
}

// count counts rows by times of a width, of the first mostWindows that there are.
func (r *reader) count(ctx context.Context, and string, width int64) (list []window, err error) {
	by := "w"
	if r.reverse {
		by = "w DESC"
	}
	sql := fmt.Sprintf("SELECT intDiv(ts_ms, %d) AS w, count(), sum(size)%s GROUP BY w ORDER BY %s LIMIT %d", width, r.from(and), by, mostWindows)
	err = r.shard.ask(ctx, sql, func() { list = nil }, func(scan func(...any) error) error {
		var w int64
		var x window
		err := scan(&w, &x.rows, &x.bytes)
		x.from, x.to = w*width, w*width+width-1
		list = append(list, x)
		return err
	})
	return list, err
}

// windows reads times of the width of that level, as many at once as make a window. begun is true once one was read.
func (r *reader) windows(ctx context.Context, list []window, level int, begun *bool, give func([]found) error) error {
	for len(list) > 0 {
		most := uint64(windowRows)
		if !*begun {
			most = firstRows
		}
		w, n := list[0], 1
		for n < len(list) && w.rows+list[n].rows <= most && w.bytes+list[n].bytes <= windowBytes {
			w.rows, w.bytes = w.rows+list[n].rows, w.bytes+list[n].bytes
			w.from, w.to = min(w.from, list[n].from), max(w.to, list[n].to)
			n++
		}
		list = list[n:]
		if err := r.window(ctx, w, level, begun, give); err != nil {
			return err
		}
	}
	return nil
}

// window reads one: at once, or divided.
func (r *reader) window(ctx context.Context, w window, level int, begun *bool, give func([]found) error) error {
	within := fmt.Sprintf("ts_ms >= %d AND ts_ms <= %d", w.from, w.to)
	switch small := w.rows <= windowRows && w.bytes <= windowBytes; {
	case !small && level+1 < len(widths):
		list, err := r.count(ctx, within, widths[level+1])
		if err != nil {
			return err
		}
		return r.windows(ctx, list, level+1, begun, give)
	case !small:
		return r.pages(ctx, within, w, give)
	}
	*begun = true
	rows, err := r.rows(ctx, within, 0)
	if err != nil || len(rows) == 0 {
		return err
	}
	return give(rows)
}

// pages reads the rows of one millisecond that has many.
func (r *reader) pages(ctx context.Context, within string, w window, give func([]found) error) error {
	most := max(16, min(windowRows, int(windowBytes/max(1, w.bytes/max(1, w.rows)))))
	after := ""
	for {
		rows, err := r.rows(ctx, within+after, most)
		if err != nil || len(rows) == 0 {
			return err
		}
		last := &rows[len(rows)-1]
		sign := ">"
		if r.reverse {
			sign = "<"
		}
		after = fmt.Sprintf(" AND (node, serial, batch, store, seq) %s (%s, %d, %d, %s, %d)", sign, quote(last.Node), last.Serial, last.Batch, quote(last.store), last.seq)
		if err := give(rows); err != nil || len(rows) < most {
			return err
		}
	}
}

// rows reads rows in order; at most so many where most is not 0.
func (r *reader) rows(ctx context.Context, and string, most int) (list []found, err error) {
	by := order
	if r.reverse {
		by = strings.ReplaceAll(order, ",", " DESC,") + " DESC"
	}
	sql := "SELECT " + read + r.from(and) + " ORDER BY " + by
	if most > 0 {
		sql += fmt.Sprintf(" LIMIT %d", most)
	}
	err = r.shard.ask(ctx, sql, func() { list = list[:0] }, func(scan func(...any) error) error {
		var f found
		var counted, transport uint8
		var addr, proved string
		if err := scan(&f.Ms, &f.Node, &f.Serial, &f.Batch, &f.store, &f.seq, &f.Host, &counted, &f.Text, &f.Received, &f.Later, &transport, &addr, &proved); err != nil {
			return err
		}
		f.Counted = counted != 0
		f.Origin.From, err = from(transport, addr, proved)
		list = append(list, f)
		return err
	})
	return list, err
}

// question is what is asked of each shard.
type question struct {
	shards  []*shard
	db      string
	narrow  []string // what rows meet that may match
	seen    []string // what rows meet that the snapshot has
	account *account
}

// table is the events'.
func (x *question) table() string { return x.db + ".events" }

// question returns what a query asks.
func (s *snapshot) question(ctx context.Context, q *query.Query) (x question, err error) {
	c := s.e.cluster
	x.db = c.address.Database
	if x.account, err = s.e.known(ctx, fresh); err != nil {
		return x, err
	}
	names, of, err := c.shards(ctx)
	if err != nil {
		return x, err
	}
	for _, name := range names {
		x.shards = append(x.shards, c.shard(of[name]))
	}
	x.narrow, x.seen = where(q), s.seen(q, x.account)
	if days := x.account.days(q); days != "" {
		x.narrow = append(x.narrow, days)
	}
	if q.AfterBatch > 0 {
		if x.account.several && !q.Own {
			return x, fmt.Errorf("%w: batches are one collector's, and several collectors store in this cluster: search by time", query.ErrQuery)
		}
		x.seen = append(x.seen, fmt.Sprintf("batch > %d", q.AfterBatch))
	}
	return x, nil
}

// readers returns a reader of each shard's rows that meet the condition, too, unless that is empty.
func (x *question) readers(reverse bool, and string) (list []*reader) {
	narrow := x.narrow
	if and != "" {
		narrow = append(slices.Clip(narrow), and)
	}
	for _, shard := range x.shards {
		list = append(list, &reader{shard: shard, table: x.table(), narrow: narrow, seen: x.seen, reverse: reverse})
	}
	return list
}
