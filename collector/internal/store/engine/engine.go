// Package engine opens a store. It is the one package that decides which engine keeps a
// store's events. Only the server's wiring imports it, beside tests; it imports the engines
// that there are.
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

// Open opens the store in o.Dir with the embedded engine. An engine of another kind (a
// store.Engine), once there is one, is opened here, too, and put behind bolt.NewOutbox.
// Errors: store.ErrInUse, ErrNotOurs, ErrVersion, ErrDamaged.
func Open(o Options) (store.Store, error) {
	s, err := bolt.Open(bolt.Options{Dir: o.Dir, Logger: o.Logger, ReadOnly: o.ReadOnly})
	if err != nil {
		return nil, err // not a Store that is nil within
	}
	return s, nil
}
