package search

import (
	"context"
	"io"
	"slices"
	"sort"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/output"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// Around a hit is what its host did from some time before to as long after. Hits
// come first: of them only the windows are kept, those that touch as one. Then the
// windows are read, each event once, and those that the query finds are marked.

// window is a span of time, both ends inclusive, in milliseconds since the epoch.
type window struct{ from, to int64 }

// windows maps each host to its windows. After sorting they do not overlap and ascend.
type windows map[string][]window

// tooMany is query.ErrMemory of a tree or of surroundings.
type tooMany struct{}

func (tooMany) Error() string {
	return "there are too many events to draw their trees or to look around them here: ask for less time or fewer hosts"
}

// Unwrap returns query.ErrMemory.
func (tooMany) Unwrap() error { return query.ErrMemory }

// windowBytes is about what a window takes, in its list and in that of all.
const windowBytes = 64

// add adds a window, and takes memory for one more; false where there is none left.
func (ws windows) add(node string, w window, memory *query.Memory) bool {
	list := ws[node]
	if n := len(list); n > 0 && w.from <= list[n-1].to+1 && w.to >= list[n-1].from-1 {
		last := &list[n-1]
		last.from, last.to = min(last.from, w.from), max(last.to, w.to)
		return true
	}
	ws[node] = append(list, w)
	return memory.Take(windowBytes)
}

// joined sorts windows and joins those less than gap apart.
func joined(list []window, gap int64) []window {
	slices.SortFunc(list, func(a, b window) int {
		switch {
		case a.from < b.from:
			return -1
		case a.from > b.from:
			return 1
		}
		return 0
	})
	out := list[:0]
	for _, w := range list {
		if n := len(out); n > 0 && w.from <= out[n-1].to+gap {
			out[n-1].to = max(out[n-1].to, w.to)
			continue
		}
		out = append(out, w)
	}
	return out
}

func (ws windows) has(node string, ms int64) bool {
	list := ws[node]
	i := sort.Search(len(list), func(i int) bool { return list[i].to >= ms })
	return i < len(list) && list[i].from <= ms
}

func around(ctx context.Context, o *Options, src query.Source, w output.Writer, out io.Writer) (hits uint64, err error) {
	ms := o.Around.Milliseconds()
	seen := windows{}
	err = src.Scan(ctx, &o.Query, func(ev *event.Event) error {
		hits++
		if !seen.add(string(ev.Node), window{ev.Ms - ms, ev.Ms + ms}, o.Query.Memory) {
			return tooMany{}
		}
		return nil
	})
	if err != nil || hits == 0 {
		return hits, err
	}
	about, err := src.About(ctx)
	if err != nil {
		return hits, err
	}
	m := query.NewMatcher(&o.Query)
	mark, marks := w.(output.Marker)
	total := uint64(0)
	for _, q := range seen.queries(&query.Query{Reverse: o.Reverse, Origin: o.Query.Origin || len(o.Query.From) > 0}, ms, about.Indexed) {
		err := src.Scan(ctx, q, func(ev *event.Event) error {
			if !seen.has(string(ev.Node), ev.Ms) {
				return nil
			}
			total++
			if o.Count {
				return nil
			}
			if marks {
				mark.Mark(m.Match(ev))
			}
			return written(w.Event(ev))
		})
		if err != nil {
			return hits, err
		}
	}
	if o.Count {
		return hits, printCount(out, total)
	}
	return hits, nil
}

// maxNodes is the largest number of hosts that a query names; a search for more hosts
// reads the events of all hosts.
const maxNodes = 64

// queries are what has to be read for the windows, in the order of the answer: a
// query for each time that is apart from the others, or one for all of it, reversed and with
// origins as like is.
func (ws windows) queries(like *query.Query, gap int64, apart bool) []*query.Query {
	var all []window
	for node, list := range ws {
		ws[node] = joined(list, 1)
		all = append(all, ws[node]...)
	}
	if all = joined(all, gap); !apart {
		all = []window{{all[0].from, all[len(all)-1].to}}
	}
	out := make([]*query.Query, len(all))
	for i, w := range all {
		q := &query.Query{StartMs: max(w.from, 1), EndMs: max(w.to, 1), Reverse: like.Reverse, Origin: like.Origin}
		if w.from <= 0 {
			q.StartMs = 0 // events without a time too
		}
		if len(ws[""]) == 0 && len(ws) <= maxNodes { // records without node= cannot be asked for by name
			for node, list := range ws {
				if slices.ContainsFunc(list, func(l window) bool { return l.from <= w.to && l.to >= w.from }) {
					q.Nodes = append(q.Nodes, node)
				}
			}
			slices.Sort(q.Nodes)
		}
		out[i] = q
	}
	if like.Reverse {
		slices.Reverse(out)
	}
	return out
}
