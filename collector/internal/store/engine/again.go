package engine

import (
	"errors"
	"fmt"
	"io"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/manifest"
	"github.com/auditfleet/auditfleet/collector/internal/store/clickhouse"
	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/seglog"
)

// Again gives again what the engine elsewhere has of a place's batches.
type Again interface {
	store.Rereader
	store.Dropping
	io.Closer
}

// OpenAgain returns it for the place in a folder, also while a collector has that; nil where the events are in the folder. Nothing is written.
func OpenAgain(dir string, log hclog.Logger) (Again, error) {
	at, err := Elsewhere(dir)
	if err != nil || at == "" {
		return nil, err
	}
	list, err := manifest.Load(fsys.OS, dir)
	if err != nil {
		return nil, fmt.Errorf("find out whose batches to look for: %w", err)
	}
	if list.ID == (seglog.ID{}) {
		return nil, errors.New("find out whose batches to look for: the store has no ID")
	}
	a, err := clickhouse.Parse(at)
	if err != nil {
		return nil, err
	}
	e, err := clickhouse.Open(clickhouse.Options{Address: a, Store: list.ID.String(), Log: log, Memory: memory{dir, true}, ReadOnly: true})
	if err != nil {
		return nil, err // not an Engine that is nil within
	}
	return e, nil
}
