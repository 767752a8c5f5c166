// Package engine opens a store. It is the one package that decides which engine keeps a
// store's events, and knows where those of a folder are. Only the server's wiring and the command line import it, beside tests; it imports the engines
// that there are.
package engine

import (
	"errors"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt"
	"github.com/auditfleet/auditfleet/collector/internal/store/clickhouse"
)

// Options of Open.
type Options struct {
	Dir    string // of the place; made when missing
	Logger hclog.Logger
	// Cluster is where the events are, as clickhouse.Parse reads it; "": where the folder says, which is in the folder itself when it is new.
	Cluster string
	// ReadOnly opens what is there, beside other readers, and writes nothing.
	ReadOnly bool
}

// Open opens the place in o.Dir, with the engine that keeps its events. A cluster need not answer for that.
// Errors: store.ErrInUse, ErrNotOurs, ErrVersion, ErrDamaged, clickhouse.ErrURL.
func Open(o Options) (_ store.Store, err error) {
	local, err := bolt.Open(bolt.Options{Dir: o.Dir, Logger: o.Logger, ReadOnly: o.ReadOnly})
	if err != nil {
		return nil, err // not a Store that is nil within
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, local.Close())
		}
	}()
	has, marked := local.Has()
	at, err := settle(&o, has, marked)
	if err != nil {
		return nil, err
	}
	if at == nil {
		return local, nil
	}
	if err := local.MarkElsewhere(); err != nil {
		return nil, err
	}
	e, err := clickhouse.Open(clickhouse.Options{Address: at, Store: local.ID().String(), Log: o.Logger, Memory: memory{o.Dir, o.ReadOnly}, ReadOnly: o.ReadOnly})
	if err != nil {
		return nil, err
	}
	return bolt.NewOutbox(local, e), nil
}
