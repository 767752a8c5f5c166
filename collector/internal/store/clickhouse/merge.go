package clickhouse

import (
	"context"
	"sync"
)

// merge makes one ordered run of rows of those of several shards. Each shard reads one window ahead.
type merge struct {
	wg    sync.WaitGroup
	runs  []*run
	order int // 1, or -1 for the newest first
}

// run is one shard's rows.
type run struct {
	rows    []found
	windows chan []found // closed at the end, when err is set
	err     error
	done    bool
}

// newMerge begins to read, until ctx ends.
func newMerge(ctx context.Context, list []*reader) *merge {
	m := &merge{order: 1}
	for _, r := range list {
		if r.reverse {
			m.order = -1
		}
		x := &run{windows: make(chan []found)}
		m.runs = append(m.runs, x)
		m.wg.Go(func() {
			defer close(x.windows)
			x.err = r.read(ctx, func(rows []found) error {
				select {
				case x.windows <- rows:
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			})
		})
	}
	return m
}

// next returns the next row, which is valid until the next call; nil at the end.
func (m *merge) next() (*found, error) {
	var first *run
	for _, x := range m.runs {
		for len(x.rows) == 0 && !x.done {
			rows, more := <-x.windows
			if x.rows, x.done = rows, !more; x.done && x.err != nil {
				return nil, x.err
			}
		}
		if len(x.rows) > 0 && (first == nil || m.order*x.rows[0].compare(&first.rows[0]) < 0) {
			first = x
		}
	}
	if first == nil {
		return nil, nil
	}
	f := &first.rows[0]
	first.rows = first.rows[1:]
	return f, nil
}
