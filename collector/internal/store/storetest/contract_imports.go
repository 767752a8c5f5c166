package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// importer returns s as a store.Importer, and ends the test where it is none.
func importer(t *testing.T, s store.Store) store.Importer {
	t.Helper()
	i, ok := s.(store.Importer)
	if !ok {
		t.Skip("it takes no imports")
	}
	return i
}

// notes returns what an import has remembered.
func notes(t *testing.T, s store.Store, name string) (out []string) {
	t.Helper()
	err := importer(t, s).ImportNotes(context.Background(), name, func(batch uint64, note []byte) error {
		out = append(out, fmt.Sprintf("%d:%s", batch, note))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// testImports stores imports between what senders send, and takes one of them back.
func testImports(t *testing.T, env Env) {
	s := env.Open(t)
	importer(t, s)
	ctx := context.Background()
	day, id := store.DayOf(Start), uint64(0)
	add := func(d store.Day, name, note string, events ...uint64) {
		t.Helper()
		id++
		b := &store.Batch{ID: id, Day: d, LSN: 100, Open: []uint64{7}}
		if name != "" {
			b.Import = &store.Import{Name: name, Note: []byte(note)}
		}
		if len(events) > 0 {
			b.Events = store.NewTable()
		}
		for _, serial := range events {
			ev := oneEvent("a", Start.UnixMilli()-int64(serial), serial)
			b.Events.Add("a", ev)
		}
		b.Hosts = []store.Host{{Name: "a", Records: id}}
		for range 2 { // the second does nothing
			mustAppend(t, s, b)
		}
	}
	reopen := func() {
		t.Helper()
		s = env.Reopen(t, s)
		st, err := s.State(ctx)
		if err != nil || st.ID != id || st.LSN != 100 || !slices.Equal(st.Open, []uint64{7}) || len(st.Hosts) != 1 || st.Hosts[0].Records != id {
			t.Fatalf("after batch %d and a reopen: %+v, %v", id, st, err)
		}
	}
	find := func(want int, why string) {
		t.Helper()
		if got := Collect(t, s, &query.Query{}); len(got) != want {
			t.Errorf("%s: %d events, want %d: %q", why, len(got), want, got)
		}
	}
	for _, bad := range []string{"", ".hidden", "a b", "a/b", string(make([]byte, 65))} {
		err := s.Append(ctx, &store.Batch{ID: 1, Day: day, Import: &store.Import{Name: bad}})
		if !errors.Is(err, store.ErrImportName) {
			t.Errorf("an import called %q: %v, want ErrImportName", bad, err)
		}
	}
	add(day, "old", "one", 1, 2) // before anything else is in the store
	find(2, "an import alone")
	reopen()
	add(day, "", "", 3)
	add(day, "old", "two")
	add(day, "new", "x", 4)
	add(day+1, "", "", 5)
	add(day+1, "old", "three", 6, 7)
	find(7, "imports and what came")
	if got, want := notes(t, s, "old"), []string{"1:one", "3:two", "6:three"}; !slices.Equal(got, want) {
		t.Errorf("notes %q, want %q", got, want)
	}
	if _, err := importer(t, s).UndoImport(ctx, "old", "x"); !errors.Is(err, store.ErrInUse) {
		t.Errorf("taken back while batches come: %v, want ErrInUse", err)
	}
	if err := importer(t, s).EndImport(ctx, "old"); err != nil {
		t.Fatal(err)
	}
	reopen()
	find(7, "after a reopen")
	list, err := importer(t, s).Imports(ctx)
	if err != nil || len(list) != 2 || list[0].Name != "old" || list[0].Events != 4 || list[0].Records != 4 || list[0].First != 1 || list[0].Last != 6 ||
		len(list[0].Parts) != 1 || list[1].Name != "new" || list[1].Events != 1 || list[1].Writing {
		t.Errorf("imports: %+v, %v", list, err)
	}
	add(day+1, "old", "four", 8)
	if got, want := notes(t, s, "old"), []string{"1:one", "3:two", "6:three", "7:four"}; !slices.Equal(got, want) {
		t.Errorf("notes %q, want %q", got, want)
	}
	if err := importer(t, s).EndImport(ctx, "old"); err != nil {
		t.Fatal(err)
	}
	snap, err := s.Snapshot(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if done, err := importer(t, s).UndoImport(ctx, "old", "a test"); err != nil || done != (store.Undone{Records: 5}) {
		t.Fatal(done, err)
	}
	if err := snap.Close(); err != nil {
		t.Error(err)
	}
	find(3, "one import was taken back")
	if _, err := importer(t, s).UndoImport(ctx, "old", "a test"); !errors.Is(err, store.ErrNoImport) {
		t.Errorf("taken back twice: %v, want ErrNoImport", err)
	}
	reopen()
	find(3, "one import was taken back, after a reopen")
	add(day+1, "old", "again", 9)
	add(day+1, "", "", 10)
	reopen()
	find(5, "imported again")
	if got, want := notes(t, s, "old"), []string{"8:again"}; !slices.Equal(got, want) {
		t.Errorf("notes %q, want %q", got, want)
	}
}
