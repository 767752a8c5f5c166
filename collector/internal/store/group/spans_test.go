package group

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// manyFiles is a group of events each of which has two files of its own.
func manyFiles(t *testing.T, c *Codec, name func(i int) string) []byte {
	t.Helper()
	w := c.NewBuilder()
	for i := range 6000 {
		ms := fmt.Sprintf("audit(%d.%03d:%d)", 1795334400+i/1000, i%1000, i+1)
		ev := storetest.Parse("a", "node=a type=SYSCALL msg="+ms+": arch=c000003e syscall=2 success=yes exe=\"/bin/cat\"",
			fmt.Sprintf("node=a type=PATH msg=%s: item=0 name=%q", ms, name(2*i)), fmt.Sprintf("node=a type=PATH msg=%s: item=1 name=%q", ms, name(2*i+1)))
		if err := w.Add("a", 1, ev); err != nil {
			t.Fatal(err)
		}
	}
	b, _, err := w.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Whatever names look like, a search for a part of one finds each event that has it, and unpacks few chunks where few have it.
func TestSpans(t *testing.T) {
	t.Parallel()
	c := codec(t)
	rng := rand.New(rand.NewPCG(1, 2))
	for kind, name := range map[string]func(i int) string{
		"alike":  func(i int) string { return fmt.Sprintf("/var/lib/app/%d/%05d.log", i%7, i) },
		"random": func(int) string { return fmt.Sprintf("/tmp/%016x%016x", rng.Uint64(), rng.Uint64()) },
		"short":  func(i int) string { return fmt.Sprint("f", i) },
	} {
		names := map[int]string{}
		for i := range 12000 {
			names[i] = name(i)
		}
		names[777] = "/srv/needle/needle.conf"
		g, err := c.Open(manyFiles(t, c, func(i int) string { return names[i] }))
		if err != nil {
			t.Fatal(err)
		}
		d, err := g.dict(query.FieldFile)
		if err != nil {
			t.Fatal(err)
		}
		known := g.spans(query.FieldFile, len(d.refs))
		if known == nil {
			t.Fatalf("%s: %d chunks, and no texts", kind, len(d.refs))
		}
		if n := len(slices.Collect(known.having("/srv/needle/needle.conf", len(d.refs)))); n == 0 || n > spanChunks && kind != "random" {
			t.Errorf("%s: %d of %d chunks for what one has", kind, n, len(d.refs))
		}
		for range need.Rounds(60, 8) {
			v := names[rng.IntN(len(names))]
			from := rng.IntN(len(v))
			part := v[from : from+1+rng.IntN(len(v)-from)]
			q := query.Query{Terms: []query.Term{term(query.OpContains, part, query.FieldFile)}}
			want := map[int]bool{}
			for i, v := range names {
				if strings.Contains(v, part) {
					want[i/2] = true
				}
			}
			got, err := all(g, &q)
			if err != nil || len(got) != len(want) {
				t.Fatalf("%s: %q: %d events, %d have it: %v", kind, part, len(got), len(want), err)
			}
		}
	}
}

// Verify finds a section that hides a value, and one that nothing can be read from; a search then takes all for there.
func TestSpansDamaged(t *testing.T) {
	t.Parallel()
	c := codec(t)
	b := manyFiles(t, c, func(i int) string { return fmt.Sprintf("/var/lib/app/%d/%05d.log", i%7, i) })
	g, err := c.Open(b)
	if err != nil {
		t.Fatal(err)
	}
	if v := c.Verify(b); len(v.Findings) > 0 {
		t.Fatal(v.Findings[0].Err)
	}
	q := query.Query{Terms: []query.Term{term(query.OpContains, "/00777.", query.FieldFile)}}
	for what, change := range map[string]func(s []byte){
		"hides":   func(s []byte) { clear(s[spanHead:]) },
		"spans":   func(s []byte) { s[4]++ },
		"rows":    func(s []byte) { s[1] = 40 },
		"chunks":  func(s []byte) { s[2], s[3] = 0, 0 },
		"of text": func(s []byte) { s[0] = 0 },
	} {
		bad := patch(t, g, b, secSpans, query.FieldFile, change)
		v := c.Verify(bad)
		if len(v.Findings) != 1 || !errors.Is(v.Findings[0].Err, store.ErrDamaged) {
			t.Errorf("%s: %v", what, v.Findings)
		}
		if what == "hides" {
			continue
		}
		if got, err := read(c, bad, &q); err != nil || len(got) != 1 {
			t.Errorf("%s: a search found %d events: %v", what, len(got), err)
		}
	}
	// A byte of it fell over: its checksum says so, and nothing is hidden.
	bad := bytes.Clone(b)
	for _, s := range g.sections {
		if s.kind == secSpans && s.arg == byte(query.FieldFile) {
			clear(bad[s.off+spanHead : s.off+s.len])
		}
	}
	if bytes.Equal(bad, b) {
		t.Fatal("nothing was damaged")
	}
	if got, err := read(c, bad, &q); err != nil || len(got) != 1 {
		t.Errorf("a search found %d events: %v", len(got), err)
	}
}

// A section of short texts says nothing of a field whose values are in no chunks: those of a group of an older version, or none. Verify says that it is damaged.
func TestSpansOfNoChunks(t *testing.T) {
	t.Parallel()
	c := codec(t)
	b, _, err := c.Encode(fixtureTable(t))
	if err != nil {
		t.Fatal(err)
	}
	g, err := c.Open(b)
	if err != nil {
		t.Fatal(err)
	}
	head := make([]byte, spanHead)
	head[0], head[1], head[2] = spanText, leastRows, spanChunks
	kinds, bodies := []section{}, [][]byte{}
	for _, s := range g.sections {
		kinds, bodies = append(kinds, section{kind: s.kind, arg: s.arg}), append(bodies, b[s.off:s.off+s.len])
	}
	bad := assemble(batchVersion, append(kinds, section{kind: secSpans, arg: byte(query.FieldExe)}), append(bodies, head))
	damage := false
	for _, f := range c.Verify(bad).Findings { // the summary's size is another one, too
		damage = damage || errors.Is(f.Err, store.ErrDamaged) && strings.Contains(f.Err.Error(), "its short texts")
	}
	if !damage {
		t.Error("verify finds nothing wrong with the section")
	}
	want, err := all(g, &query.Query{Terms: []query.Term{term(query.OpContains, "bin", query.FieldExe)}})
	if err != nil || len(want) == 0 {
		t.Fatalf("%d events: %v", len(want), err)
	}
	if got, err := read(c, bad, &query.Query{Terms: []query.Term{term(query.OpContains, "bin", query.FieldExe)}}); err != nil || len(got) != len(want) {
		t.Errorf("a search finds %d events, want %d: %v", len(got), len(want), err)
	}
}
