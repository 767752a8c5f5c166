// Package engine opens a store, and is the one place where it is decided which engine
// keeps its events. The server's wiring is the only one to import it, beside tests; it
// imports the engines there are.
package engine

import (
	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt"
)

// Options of Open.
type Options struct {
	Dir    string // of the place; made when missing
	Logger hclog.Logger
	// ReadOnly opens what is there, beside other readers, and writes nothing.
	ReadOnly bool
}

// Open opens the store in o.Dir with the embedded engine: one of another kind (a
// store.Engine) is to be opened here, too, and put behind bolt.NewOutbox. Errors:
// store.ErrInUse, ErrNotOurs, ErrVersion, ErrDamaged.
func Open(o Options) (store.Store, error) {
	s, err := bolt.Open(bolt.Options{Dir: o.Dir, Logger: o.Logger, ReadOnly: o.ReadOnly})
	if err != nil {
		return nil, err // not a Store that is nil within
	}
	return s, nil
}
