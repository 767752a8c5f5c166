package bolt

import (
	"slices"
	"strings"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/ledger"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
	"github.com/auditfleet/auditfleet/collector/internal/store/group"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// A day that compaction has divided into classes is dropped class by class, and the account of all of the day lies in one
// of its partitions, that of the rest. So of a class nobody counts rows: its blocks say how many records of which host
// are dropped with it, and the account stays known with the number of all until that is dropped, too.

// divided reports whether a partition has events of one class of its days only.
func (p *partition) divided() bool { return p.compacted != nil && p.compacted.Class != "" }

// cause is what dropping the partition is for the ledger.
func (p *partition) cause() ledger.Cause {
	if p.divided() && store.IsKeyClass(p.compacted.Class) {
		return ledger.ClassRetention
	}
	return ledger.Retention
}

// hostGone is what a partition has of a host, and is dropped with it. Times are in milliseconds.
type hostGone struct {
	host            string
	from, to        int64
	records, events uint64
}

// gone returns what a partition of a class has of each host, in the order of rows; of another one nothing.
func (p *partition) gone() ([]hostGone, error) {
	if !p.divided() {
		return nil, nil
	}
	begin := p.part.Day.Time().UnixMilli()
	end := begin + (24 * time.Hour).Milliseconds()
	by := map[string]*hostGone{}
	for _, e := range p.entries {
		err := p.withGroup(e.id, func(g *group.Group) error {
			blocks, err := g.Plan(&query.Query{}, nil)
			for i := range blocks {
				b := &blocks[i].Block
				if b.Host == "" { // of mixed nodes, which have no account
					continue
				}
				x := by[b.Host]
				if x == nil {
					x = &hostGone{host: strings.Clone(b.Host), from: end, to: begin}
					by[x.host] = x
				}
				// A time that cannot be is in the day of its receipt.
				x.from, x.to = min(x.from, max(begin, b.MinMs)), max(x.to, min(end, b.MaxMs+1))
				x.records, x.events = x.records+uint64(b.Records), x.events+uint64(b.Events)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	out := make([]hostGone, 0, len(by))
	for _, x := range by {
		if x.from >= x.to {
			x.from, x.to = begin, end
		}
		out = append(out, *x)
	}
	slices.SortFunc(out, func(a, b hostGone) int {
		switch {
		case a.host == b.host:
			return 0
		case layout.Before([]byte(a.host), []byte(b.host)):
			return -1
		}
		return 1
	})
	return out, nil
}
