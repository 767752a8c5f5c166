package roster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

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

// Whoever follows hears of a collector that has begun to run since and cannot be asked, once; of one that was there and could not be asked it was said at the beginning.
func TestFollowNewcomer(t *testing.T) {
	g := &growing{}
	r := opened(&g.list)
	r.cfg.Roster, r.cfg.Own, r.look = g, followed{}, time.Millisecond
	r.cfg.Dial = func(context.Context, string) (Client, error) { return nil, errors.New("no way") }
	ctx, lacking := api.NoteLacks(t.Context())
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	idles := 0
	err := r.Follow(ctx, &query.Query{}, func(*event.Event) error { return nil }, func(uint64) error {
		idles++
		cancel()
		return nil
	})
	list := lacking()
	if !errors.Is(err, context.Canceled) || idles != 1 || len(list) != 2 || list[0].Collector != "north" || list[1].Collector != "west" || !strings.Contains(list[1].Err.Error(), "no way") {
		t.Errorf("%v, told %d times, lacking %v", err, idles, list)
	}
	// What cannot be told ends it.
	g.looks.Store(0)
	ctx, _ = api.NoteLacks(t.Context())
	if err := r.Follow(ctx, &query.Query{}, func(*event.Event) error { return nil }, func(uint64) error { return errors.New("gone") }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// talking is a collector from which an event comes.
type talking struct {
	neighbour
	asked atomic.Pointer[query.Query]
}

func (n *talking) Follow(ctx context.Context, q *query.Query, fn func(*event.Event) error, _ func(uint64) error) error {
	n.asked.Store(q)
	if err := fn(&event.Event{Ms: time.Now().UnixMilli(), Serial: 1}); err != nil {
		return err
	}
	<-ctx.Done()
	return ctx.Err()
}

// A collector that moves is followed once.
func TestFollowMoves(t *testing.T) {
	l := &list{members: []store.Member{{Store: "a", Name: "east", At: now}, {Store: "b", Name: "west", At: now, Address: "west:1"}}}
	r := opened(l)
	r.cfg.Dial = func(context.Context, string) (Client, error) { return &neighbour{id: "b"}, nil }
	a := &asked{at: map[string]string{}, followed: map[string]bool{}}
	followed := 0
	for _, address := range []string{"west:1", "", "west:2", "west:2"} {
		l.members[1].Address = address
		list, _ := r.newcomer(t.Context(), a)
		followed += len(list)
	}
	if followed != 1 || a.at["b"] != "west:2" {
		t.Errorf("followed %d times, at %q", followed, a.at["b"])
	}
}

// What comes of a collector that has begun to run since is in what is followed, from what it had not stored at the beginning on, and counts against the limit.
func TestFollowNewcomerToo(t *testing.T) {
	g := &growing{}
	r := opened(&g.list)
	there := &talking{neighbour: neighbour{id: "b"}}
	r.cfg.Roster, r.cfg.Own, r.look = g, followed{}, time.Millisecond
	r.cfg.Dial = func(context.Context, string) (Client, error) { return there, nil }
	began := time.Now().UnixMilli()
	var got []*event.Event
	err := r.Follow(t.Context(), &query.Query{Limit: 1}, func(ev *event.Event) error {
		got = append(got, ev)
		return nil
	}, func(uint64) error { return nil })
	if q := there.asked.Load(); err != nil || len(got) != 1 || q == nil || !q.Own || q.AfterBatch != 3 || q.StartMs < began {
		t.Errorf("%v, %d events, asked %+v", err, len(got), q)
	}
}

// sending is a collector from which some events come, each once somebody has taken what the channel has.
type sending struct {
	neighbour
	serials []uint64
	after   <-chan struct{}
}

func (n *sending) Follow(ctx context.Context, _ *query.Query, fn func(*event.Event) error, _ func(uint64) error) error {
	select {
	case <-n.after:
	case <-ctx.Done():
		return ctx.Err()
	}
	for _, serial := range n.serials {
		text := fmt.Sprintf("node=web1 type=USER_ACCT msg=audit(1764531312.000:%d): x\n\n", serial)
		if err := fn(store.ParseText([]byte(text), false, []byte("web1"), store.Origin{})); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return ctx.Err()
}

// What a host has sent again to a collector that has begun to run since comes once, and what one collector has twice, twice.
func TestFollowNewcomerHasTheSame(t *testing.T) {
	g := &growing{}
	r := opened(&g.list)
	at, given := make(chan struct{}), make(chan struct{})
	close(at)
	there := &sending{neighbour: neighbour{id: "b"}, serials: []uint64{2, 1, 3, 3, 4}, after: given}
	r.cfg.Roster, r.cfg.Own, r.look = g, &sending{serials: []uint64{1, 2, 2}, after: at}, time.Millisecond
	r.cfg.Dial = func(context.Context, string) (Client, error) { return there, nil }
	var got []uint64
	err := r.Follow(t.Context(), &query.Query{Limit: 6}, func(ev *event.Event) error {
		if got = append(got, ev.Serial); len(got) == 3 {
			close(given)
		}
		return nil
	}, func(uint64) error { return nil })
	if diff := cmp.Diff([]uint64{1, 2, 2, 3, 3, 4}, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}
