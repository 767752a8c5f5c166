package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// lackingSource gives events, and says what its answer lacks.
type lackingSource struct {
	*fakeSource
	lacks []Lack
}

func (l *lackingSource) say(ctx context.Context) {
	for _, one := range l.lacks {
		Lacks(ctx, one)
		Lacks(ctx, one) // of one collector it is said once
	}
}

func (l *lackingSource) Scan(ctx context.Context, q *query.Query, fn func(*event.Event) error) error {
	l.say(ctx)
	return l.fakeSource.Scan(ctx, q, fn)
}

func (l *lackingSource) Follow(ctx context.Context, q *query.Query, fn func(*event.Event) error, idle func(uint64) error) error {
	l.say(ctx)
	return l.fakeSource.Follow(ctx, q, fn, idle)
}

// What an answer lacks of other collectors comes behind it, while somebody follows at once, and in an answer in text with the exit code.
func TestLacks(t *testing.T) {
	src := &lackingSource{&fakeSource{events: []*event.Event{store.ParseText([]byte("type=EOE msg=audit(1.000:1): \n\n"), false, []byte("h"), store.Origin{})}}, []Lack{
		{Collector: "east\x1b", Tail: true, Err: errors.New("it is\naway")}, {Collector: "south", Part: true, LastMs: 5, Err: errors.New("it stopped")},
	}}
	path := serveAs(t, &Service{Source: src, SearchText: func(ctx context.Context, s Source, _ *query.Memory, _ []string, out, _ io.Writer) (int, error) {
		err := s.Scan(ctx, &query.Query{}, func(*event.Event) error { _, err := fmt.Fprintln(out, "found"); return err })
		return 0, err
	}}, Allowed{GID: -1})
	c := dial(t, path)
	n := 0
	if err := c.Scan(t.Context(), &query.Query{}, func(*event.Event) error { n++; return nil }); err != nil || n != 1 {
		t.Fatalf("%d events, %v", n, err)
	}
	want := []string{"search: the answer is not complete: it lacks what it has not stored yet of the collector east", "it is; away", "some of what it has", "of the collector south: it stopped"}
	said := ""
	for _, l := range c.Missing() {
		said += l.Line("search") + "\n"
	}
	for _, w := range want[:2] {
		if !strings.Contains(said, w) {
			t.Errorf("%q is not said: %s", w, said)
		}
	}
	if strings.Contains(said, "\x1b") || len(c.Missing()) != 2 {
		t.Errorf("said: %q", said)
	}
	text, exit, err := textOf(t, c, "words")
	if err != nil || text != "found\n" || exit.GetCode() != ExitLacking || !strings.Contains(string(exit.GetMessages()), "of the collector south: it stopped") {
		t.Errorf("in text: %q, %v, %v", text, exit, err)
	}

	f := dial(t, path)
	var told []string
	f.SayAtOnce(func(l Lack) { told = append(told, l.Collector) })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err = f.Follow(ctx, &query.Query{}, func(*event.Event) error { return nil }, func(uint64) error {
		if len(told) == 2 {
			return query.ErrStop
		}
		return nil
	})
	if d := cmp.Diff([]string{"east\x1b", "south"}, told); err != nil || d != "" {
		t.Errorf("following: %v (-want +told):\n%s", err, d)
	}
}

type fakeCluster struct{}

func (fakeCluster) Collectors(context.Context) ([]*fleet.Collector, error) {
	return []*fleet.Collector{{Name: "c2"}}, nil
}

func (fakeCluster) Forget(_ context.Context, name string) (*fleet.Collector, []*fleet.HostLoss, error) {
	if name != "c2" {
		return nil, nil, fmt.Errorf("%w: %s", ErrNoCollector, name)
	}
	return &fleet.Collector{Name: name}, []*fleet.HostLoss{{Host: []byte("web1"), Records: 3}}, nil
}

// A collector that is none of the cluster's, and a cluster that there is none of, are errors that say so.
func TestForgetCollector(t *testing.T) {
	for want, service := range map[string]*Service{
		"nobody":            {Source: &fakeSource{}, Cluster: fakeCluster{}},
		"in its own folder": {Source: &fakeSource{}},
	} {
		c := dial(t, serveAs(t, service, Allowed{GID: -1}))
		if _, _, err := c.ForgetCollector(t.Context(), "nobody"); !errors.Is(err, ErrNoCollector) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, of %q", err, want)
		}
	}
	c := dial(t, serveAs(t, &Service{Source: &fakeSource{}, Cluster: fakeCluster{}}, Allowed{GID: -1}))
	if _, list, err := c.HostsOfCluster(t.Context()); err != nil || len(list) != 1 {
		t.Errorf("%v, %v", list, err)
	}
}
