package server

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/engine"
)

// ChangeHosts changes what a store that no collector has knows of its hosts, as a
// batch without events. What the journal holds beyond the store stays in it.
func ChangeHosts(ctx context.Context, dir string, c *store.Change, log hclog.Logger) (forgotten []string, err error) {
	st, err := engine.Open(engine.Options{Dir: dir, Logger: log})
	if err != nil {
		return nil, explain(err)
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	state, err := st.State(ctx)
	if err != nil {
		return nil, explain(err)
	}
	b := &store.Batch{ID: state.ID + 1, Day: store.DayOf(time.Now()), LSN: state.LSN, Open: state.Open}
	if b.Forget, b.Hosts, err = c.Resolve(state.Hosts); err != nil {
		return nil, err
	}
	return b.Forget, st.Append(ctx, b)
}
