package group

import (
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// MayHaveClass reports whether the group may have events of a class of retention; false is certain.
func (g *Group) MayHaveClass(class store.Class) (may bool, err error) {
	if class.Key != "" {
		found, err := g.Plan(&query.Query{}, store.Conditions{{
			Fields: []query.Field{query.FieldKey}, Match: func(v []byte) bool { return query.NodeIs(class.Key, string(v)) },
		}})
		return len(found) > 0, err
	}
	err = g.EachHost(func(host string) { may = may || host == "" || query.NodeIs(class.Hosts, host) })
	return may, err
}
