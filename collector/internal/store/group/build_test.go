package group

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// kept is an event as a test keeps it.
type kept struct {
	host  string
	batch uint64
	ev    *event.Event
}

func (k *kept) String() string { return fmt.Sprintf("%s %d %s", k.host, k.batch, whole(k.ev)) }

// manyBatches makes so many batches of one fleet's events, interleaved in time: a group each, and all their events in
// order at rest.
func manyBatches(t testing.TB, c *Codec, seed uint64, n, events int) (blobs [][]byte, all []kept) {
	tabs := make([]*store.Table, n)
	for i := range tabs {
		tabs[i] = store.NewTable()
	}
	g := storetest.NewGenerator(seed, storetest.Templates(t), 5, storetest.Start)
	for i := range events {
		storetest.Fill(tabs[(i/7+i%3)%n], g, 1)
	}
	for i, tab := range tabs { // equal in time and serial, in one batch and in several; odd ones, of known and of mixed nodes
		for _, raw := range []string{"", "a\nb", "type=X", "type=USER_TTY msg=audit(1795334400.000:1): a", "type=USER_TTY msg=audit(1795334400.000:1): b"} {
			for _, host := range []string{"", "web2.example.net"} {
				ev := storetest.Parse(host, raw)
				ev.From = &event.Sender{Transport: event.TransportTCP, Addr: event.SenderAddr(storetest.Addr(i % 3))}
				if host == "" {
					ev.Node = store.NodeOf(ev.From)
				}
				tab.Add(host, ev)
			}
		}
	}
	for i, tab := range tabs {
		blob, _, err := c.Encode(tab)
		if err != nil {
			t.Fatal(err)
		}
		blobs = append(blobs, blob)
		for _, h := range tab.Hosts() {
			for _, k := range h.Order() {
				e := &h.Events[k]
				all = append(all, kept{h.Name, uint64(i + 1), store.ParseText(e.Text, e.Counted, []byte(h.Name), e.Origin)})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b kept) int {
		if c := strings.Compare(a.host, b.host); c != 0 {
			return c
		}
		if c := query.KeyOf(a.ev).Compare(query.KeyOf(b.ev)); c != 0 {
			return c
		}
		return int(a.batch) - int(b.batch)
	})
	return blobs, all
}

// build makes groups of events, of most events each.
func build(t testing.TB, c *Codec, all []kept, most int) (blobs [][]byte, sums []Summary) {
	for len(all) > 0 {
		b := c.NewBuilder()
		for b.Events() < most && len(all) > 0 {
			if err := b.Add(all[0].host, all[0].batch, all[0].ev); err != nil {
				t.Fatal(err)
			}
			all = all[1:]
		}
		blob, sum, err := b.Finish()
		if err != nil {
			t.Fatal(err)
		}
		blobs, sums = append(blobs, blob), append(sums, sum)
	}
	return blobs, sums
}

// cursor reads what a group has of a time.
func cursor(c *Codec, blob []byte, batch uint64, from, to int64) (out []string, err error) {
	g, err := c.Open(blob)
	if err != nil {
		return nil, err
	}
	cur, err := g.Cursor(batch, from, to)
	if err != nil {
		return nil, err
	}
	for {
		host, batch, ev, err := cur.Next()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return out, err
		}
		if ev.Batch != batch {
			return out, fmt.Errorf("batch %d, and the event says %d", batch, ev.Batch)
		}
		out = append(out, (&kept{host, batch, ev}).String())
	}
}

// Events of many batches, built into groups, come back as they were put in, each with its batch; those of a span of time are
// those within it.
func TestBuild(t *testing.T) {
	t.Parallel()
	c := codec(t)
	singles, all := manyBatches(t, c, 3, 6, need.Size(6000, 1500))
	var want []string
	for i := range all {
		want = append(want, all[i].String())
	}
	for _, most := range []int{len(all), len(all)/3 + 1, 1} {
		part := all
		if most == 1 {
			part = all[:40]
		}
		blobs, sums := build(t, c, part, most)
		var got []string
		for i, blob := range blobs {
			list, err := cursor(c, blob, 999, math.MinInt64, math.MaxInt64)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, list...)
			if found := c.Verify(blob).Findings; len(found) > 0 {
				t.Errorf("verify: %v", found)
			}
			back, err := DecodeSummary(sums[i].Encode())
			if err != nil || back != sums[i] {
				t.Errorf("a summary: %+v, %+v, %v", sums[i], back, err)
			}
			g, err := c.Open(blob)
			if err != nil || g.Summary != sums[i] || sums[i].Bytes != uint64(len(blob)) {
				t.Fatalf("%+v, the group has %d bytes and says %+v, %v", sums[i], len(blob), g.Summary, err)
			}
			if tree, err := g.PieceTree(); err != nil || tree.Len() == 0 {
				t.Errorf("pieces: %v", err)
			}
		}
		if d := cmp.Diff(want[:len(part)], got); d != "" {
			t.Errorf("%d events a group (-put in +came back):\n%.2000s", most, d)
		}
	}
	blobs, sums := build(t, c, all, len(all))
	if sums[0].FirstBatch != 1 || sums[0].LastBatch != 6 {
		t.Errorf("batches %d to %d", sums[0].FirstBatch, sums[0].LastBatch)
	}
	mid := sums[0].FirstMs + (sums[0].MaxMs-sums[0].FirstMs)/3
	for _, span := range [][2]int64{{mid, mid + 500}, {math.MinInt64, mid}, {mid, math.MaxInt64}, {0, 1}, {mid, mid}, {1795334400000, 1795334400001}} {
		var want []string
		for i := range all {
			if ms := all[i].ev.Ms; ms >= span[0] && ms < span[1] {
				want = append(want, all[i].String())
			}
		}
		got, err := cursor(c, blobs[0], 999, span[0], span[1])
		if d := cmp.Diff(want, got); d != "" || err != nil {
			t.Errorf("%v: %v (-put in +came back):\n%.2000s", span, err, d)
		}
	}
	for i, blob := range singles {
		var want []string
		for k := range all {
			if all[k].batch == uint64(i+1) {
				want = append(want, all[k].String())
			}
		}
		got, err := cursor(c, blob, uint64(i+1), math.MinInt64, math.MaxInt64)
		if d := cmp.Diff(want, got); d != "" || err != nil {
			t.Errorf("batch %d: %v (-put in +came back):\n%.2000s", i+1, err, d)
		}
		g, err := c.Open(blob)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := g.Batches(); b != nil || err != nil || len(g.Summary.Encode()) != summarySize {
			t.Errorf("one batch: %v, %v, a summary of %d bytes", b, err, len(g.Summary.Encode()))
		}
	}
}

// Every question is answered from a built group as from its events.
func TestBuiltAnswers(t *testing.T) {
	t.Parallel()
	c := codec(t)
	_, events := manyBatches(t, c, 4, 5, need.Size(4000, 1000))
	blobs, _ := build(t, c, events, len(events))
	g, err := c.Open(blobs[0])
	if err != nil {
		t.Fatal(err)
	}
	for name, q := range storetest.Queries() {
		m := query.NewMatcher(q)
		var want []string
		for i := range events {
			if m.Match(events[i].ev) {
				want = append(want, whole(events[i].ev))
			}
		}
		got, err := all(g, q)
		if d := cmp.Diff(want, got); d != "" || err != nil {
			t.Errorf("%s: %v (-events +group):\n%.2000s", name, err, d)
		}
	}
}

// What is out of order, has no records or no batch is refused, and the builder goes on as if it had not come.
func TestBuildRefuses(t *testing.T) {
	t.Parallel()
	c := codec(t)
	ev := func(host, stamp string) *event.Event {
		return storetest.Parse(host, "type=USER_TTY msg=audit("+stamp+"): x")
	}
	b := c.NewBuilder()
	if _, _, err := b.Finish(); err == nil {
		t.Error("a group without events")
	}
	b = c.NewBuilder()
	for _, tt := range []struct {
		what, host string
		batch      uint64
		ev         *event.Event
		ok         bool
	}{
		{"the first", "b", 5, ev("b", "100.000:7"), true},
		{"an equal one", "b", 5, ev("b", "100.000:7"), true},
		{"a later batch", "b", 9, ev("b", "100.000:7"), true},
		{"an earlier batch", "b", 8, ev("b", "100.000:7"), false},
		{"an earlier serial", "b", 9, ev("b", "100.000:6"), false},
		{"a later serial of an earlier batch", "b", 2, ev("b", "100.000:8"), true},
		{"an earlier time", "b", 9, ev("b", "99.999:9"), false},
		{"an earlier host", "a", 9, ev("a", "101.000:9"), false},
		{"batch 0", "c", 0, ev("c", "101.000:9"), false},
		{"no records", "c", 1, &event.Event{}, false},
		{"a later host", "c", 1, ev("c", "50.000:1"), true},
	} {
		if err := b.Add(tt.host, tt.batch, tt.ev); (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.what, err)
		}
	}
	blob, sum, err := b.Finish()
	if err != nil || sum.Events != 5 || sum.FirstBatch != 1 || sum.LastBatch != 9 {
		t.Fatalf("%+v, %v", sum, err)
	}
	if found := c.Verify(blob).Findings; len(found) > 0 {
		t.Error(found)
	}
}

// A bit that flips anywhere in a built group is said, or changes no answer; with checksums made right again, nothing panics.
func TestBuiltFlips(t *testing.T) {
	t.Parallel()
	c := codec(t)
	_, all := manyBatches(t, c, 5, 4, 300)
	blobs, _ := build(t, c, all, len(all))
	blob := blobs[0]
	want, err := cursor(c, blob, 0, math.MinInt64, math.MaxInt64)
	if err != nil {
		t.Fatal(err)
	}
	step := need.Size(23, 211)
	for i := 0; i < len(blob); i += step {
		bad := bytes.Clone(blob)
		bad[i] ^= 1 << (i % 8)
		got, err := cursor(c, bad, 0, math.MinInt64, math.MaxInt64)
		if err == nil && !slices.Equal(got, want) {
			t.Fatalf("byte %d: other events and no error", i)
		}
		if err != nil && !errors.Is(err, store.ErrDamaged) && !errors.Is(err, store.ErrVersion) && !errors.Is(err, store.ErrNotOurs) {
			t.Fatalf("byte %d: %v", i, err)
		}
		bad = reseal(bad)
		_, _ = cursor(c, bad, 0, math.MinInt64, math.MaxInt64)
		_, _ = read(c, bad, storetest.Queries()["file and exe"])
		c.Verify(bad)
	}
}
