package roster

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/api"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// growing is a list to which collectors come.
type growing struct {
	list
	looks atomic.Int32
}

func (g *growing) Members(context.Context) ([]store.Member, error) {
	all := []store.Member{{Store: "a", Name: "east", At: now}, {Store: "c", Name: "north", At: now}, {Store: "b", Name: "west", At: now, Address: "west:1"}}
	if g.looks.Add(1) < 3 {
		all = all[:2]
	}
	return all, nil
}

// followed is a collector of which nothing comes.
type followed struct{ own }

func (followed) Follow(ctx context.Context, _ *query.Query, _ func(*event.Event) error, _ func(uint64) error) error {
	<-ctx.Done()
	return ctx.Err()
}

// Whoever follows hears that a collector has begun to run since, once; of one that was there and could not be asked it was said at the beginning.
func TestFollowNewcomer(t *testing.T) {
	g := &growing{}
	r := opened(&g.list)
	r.cfg.Roster, r.cfg.Own, r.look = g, followed{}, time.Millisecond
	ctx, lacking := api.NoteLacks(t.Context())
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	idles := 0
	err := r.Follow(ctx, &query.Query{}, nil, func(uint64) error {
		idles++
		cancel()
		return nil
	})
	list := lacking()
	if !errors.Is(err, context.Canceled) || idles != 1 || len(list) != 2 || list[0].Collector != "north" || list[1].Collector != "west" || !errors.Is(list[1].Err, errBegan) {
		t.Errorf("%v, told %d times, lacking %v", err, idles, list)
	}
	// What cannot be told ends it.
	g.looks.Store(0)
	ctx, _ = api.NoteLacks(t.Context())
	if err := r.Follow(ctx, &query.Query{}, nil, func(uint64) error { return errors.New("gone") }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
