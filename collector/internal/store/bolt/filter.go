package bolt

import (
	"sync"

	bbolt "go.etcd.io/bbolt"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
	"github.com/auditfleet/auditfleet/collector/internal/store/group"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// A partition that compaction has made has a filter, which says of most values, texts in values and serials that its groups do not have that
// they do not. A search looks there once, before it opens the first of them.

// asked is what a partition's filter says to a search; nil: there is nothing to ask.
type asked struct {
	once sync.Once
	no   bool // no event meets the search's conditions, or none has its serial
}

// filter returns what is to be asked of the partition.
func (v *partView) filter(q *query.Query, conds store.Conditions) *asked {
	if v.compacted == nil || len(conds) == 0 && !q.HasSerial {
		return nil
	}
	return &asked{}
}

// may reports whether an event of p may be what the query asks for, whose conditions conds are. What cannot be read says nothing.
func (a *asked) may(p *partition, q *query.Query, conds store.Conditions) bool {
	if a == nil {
		return true
	}
	a.once.Do(func() {
		err := p.view(func(tx *bbolt.Tx) error {
			bkt := tx.Bucket(layout.BucketFilter)
			if bkt == nil {
				return nil
			}
			f, err := group.OpenFilter(bkt.Get(layout.KeyFilter))
			a.no = err == nil && !f.May(q, conds)
			return err
		})
		if err != nil {
			a.no = false
		}
	})
	return !a.no
}
