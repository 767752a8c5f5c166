package group

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// Counts by value are those of the events, of all time and of a part of it.
func TestBuiltTally(t *testing.T) {
	t.Parallel()
	c := codec(t)
	_, all := manyBatches(t, c, 8, 4, need.Size(4000, 1000))
	blobs, sums := build(t, c, all, len(all))
	g, err := c.Open(blobs[0])
	if err != nil {
		t.Fatal(err)
	}
	fields := []query.Field{query.FieldType, query.FieldExe, query.FieldPID, query.FieldFile, query.FieldShape, query.FieldKey}
	half := sums[0].FirstMs + (sums[0].MaxMs-sums[0].FirstMs)/2
	for _, q := range []*query.Query{{StartMs: 1}, {StartMs: half}, {StartMs: 1, EndMs: half}, {StartMs: 1, Nodes: []string{"web2.example.net"}}} {
		m := query.NewMatcher(q)
		want, got := map[string]int64{}, map[string]int64{}
		var x query.Extractor
		count := func(into map[string]int64, ev *event.Event, n int64) {
			seen := map[string]bool{}
			into["events"] += n
			x.Index(ev, func(f query.Field, v []byte) {
				if k := fmt.Sprintf("%s %q", f, v); slices.Contains(fields, f) && !seen[k] {
					seen[k] = true
					into[k] += n
				}
			})
		}
		for i := range all {
			if m.Match(all[i].ev) {
				count(want, all[i].ev, 1)
			}
		}
		sum := query.NewTally(fields, nil)
		out, err := g.Tally(q, fields, sum)
		if err != nil {
			t.Fatal(err)
		}
		got["events"] = sum.Events
		for _, f := range fields {
			sum.Of(f).Each(func(v string, n int64) { got[fmt.Sprintf("%s %q", f, v)] += n })
		}
		for _, cand := range append(out.Odd, out.Rest...) {
			for k := range cand.Block.Events {
				if cand.Want != nil && !slices.Contains(cand.Want, k) {
					continue
				}
				ev := all[cand.Block.First+k].ev // the group has them in this order
				if cand.Want != nil {
					count(got, ev, -1)
				}
				if m.Match(ev) {
					count(got, ev, 1)
				}
			}
		}
		for k, n := range got {
			if n == 0 {
				delete(got, k)
			}
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%+v (-events +index):\n%.2000s", q, d)
		}
	}
}

// Of a built group that is damaged what can be read is read: its hosts are known, and a frame costs its own events.
func TestBuiltSalvage(t *testing.T) {
	t.Parallel()
	c := codec(t)
	_, all := manyBatches(t, c, 9, 3, need.Size(12000, 6000))
	blobs, sums := build(t, c, all, len(all))
	blob := blobs[0]
	g, err := c.Open(blob)
	if err != nil {
		t.Fatal(err)
	}
	if len(g.frames)/frameSize < 3 {
		t.Fatalf("%d frames are too few", len(g.frames)/frameSize)
	}
	for _, s := range need.Some(g.sections, 6) {
		bad := bytes.Clone(blob)
		at := s.off + s.len/2
		if s.kind == secData {
			at = s.off + uint64(rawFrame(g.frames[frameSize:]).off) + 5
		}
		bad[at] ^= 1
		n := uint64(0)
		v := c.Salvage(bad, func(_ string, ev *event.Event) {
			n++
			if ev.Batch == 0 && s.kind != secBatches && s.kind != secParts {
				t.Errorf("%s: an event of no batch", sectionName(s))
			}
		})
		if len(v.Findings) == 0 {
			t.Errorf("%s: nothing is found", sectionName(s))
		}
		lost := sums[0].Events - n
		switch s.kind {
		case secSummary, secHosts, secBlocks, secFrames, secRows:
			if n != 0 {
				t.Errorf("%s: %d events", sectionName(s), n)
			}
		case secData:
			if lost == 0 || lost > sums[0].Events/2 {
				t.Errorf("a frame: %d of %d events are lost", lost, sums[0].Events)
			}
		default:
			if lost != 0 {
				t.Errorf("%s: %d events are lost", sectionName(s), lost)
			}
		}
		if s.kind == secHosts || s.kind == secBlocks {
			continue
		}
		events, hosts := uint64(0), map[string]bool{}
		for _, blk := range c.Listed(bad) {
			events += uint64(blk.Events)
			hosts[blk.Host] = true
		}
		if events != sums[0].Events || uint64(len(hosts)) != sums[0].Hosts {
			t.Errorf("%s: %d events of %d hosts are listed", sectionName(s), events, len(hosts))
		}
	}
}

// Origins and batches that are read for some blocks are those of all.
func TestPartsOfSomeBlocks(t *testing.T) {
	t.Parallel()
	c := codec(t)
	_, all := manyBatches(t, c, 10, 5, 600)
	b := c.NewBuilder()
	for i := range all { // a block an event
		b.open = false
		if err := b.Add(all[i].host, all[i].batch, all[i].ev); err != nil {
			t.Fatal(err)
		}
	}
	blob, _, err := b.Finish()
	if err != nil {
		t.Fatal(err)
	}
	g, err := c.Open(blob)
	if err != nil {
		t.Fatal(err)
	}
	if found := c.Verify(blob).Findings; len(found) > 0 {
		t.Error(found)
	}
	cands, err := g.Plan(&query.Query{}, nil)
	if err != nil || len(cands) != len(all) || len(cands) < 5*partBlocks {
		t.Fatalf("%d blocks, %v", len(cands), err)
	}
	for _, some := range [][]Candidate{cands, cands[3:4], {cands[1], cands[partBlocks], cands[len(cands)-1]}, nil} {
		origins, err := g.OriginsFor(some)
		if err != nil {
			t.Fatal(err)
		}
		batches, err := g.BatchesFor(some)
		if err != nil {
			t.Fatal(err)
		}
		loaded := 0
		for _, chunk := range batches.parts.chunks {
			if chunk.ends != nil {
				loaded++
			}
		}
		if len(some) < 4 && loaded != len(some) {
			t.Errorf("%d chunks for %d blocks", loaded, len(some))
		}
		for _, cand := range some {
			of, in := origins.Block(cand.Index, &cand.Block), batches.Block(cand.Index, &cand.Block, 0)
			want := &all[cand.Block.First]
			o := of.Next()
			at := o.Received
			if o.ByTime {
				at += want.ev.Ms
			}
			if n := in.Next(); n != want.batch || at != want.ev.Records[0].Received || (o.From == nil) != (want.ev.From == nil) {
				t.Errorf("block %d: batch %d, received %d from %v; want %d, %d, %v", cand.Index, n, at, o.From, want.batch, want.ev.Records[0].Received, want.ev.From)
			}
		}
	}
	// Damage in one chunk is no matter to who does not ask for it.
	for _, s := range g.sections {
		if s.kind != secParts {
			continue
		}
		bad := bytes.Clone(blob)
		bad[s.off+1] ^= 1
		g, err := c.Open(bad)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := g.OriginsFor(cands[:1]); err == nil {
			t.Error("a damaged chunk is read")
		}
		if _, err := g.OriginsFor(cands[partBlocks : partBlocks+1]); err != nil {
			t.Errorf("another chunk: %v", err)
		}
		if _, err := cursor(c, bad, 0, math.MinInt64, math.MaxInt64); err == nil {
			t.Error("a cursor reads it")
		}
	}
}
