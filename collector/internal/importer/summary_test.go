package importer

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"github.com/auditfleet/auditfleet/collector/internal/head"
	"github.com/auditfleet/auditfleet/collector/internal/store"
)

// told is a head that says whose notes were read.
type told struct {
	*head.Head
	store.Importer
	read []string
}

func (c *told) Imports() (store.Importer, error) { return &toldStore{c.Importer, c}, nil }

type toldStore struct {
	store.Importer
	c *told
}

func (s *toldStore) ImportNotes(ctx context.Context, name string, fn func(uint64, []byte) error) error {
	s.c.read = append(s.c.read, name)
	return s.Importer.ImportNotes(ctx, name, fn)
}

// TestNotesOfManyHosts: of the imports of other hosts a host's reads nothing that was read before, and each says the same as if all were read.
func TestNotesOfManyHosts(t *testing.T) {
	t.Parallel()
	c, dir := newCollector(t), t.TempDir()
	i, err := c.Head.Imports()
	if err != nil {
		t.Fatal(err)
	}
	target, all := &told{Head: c.Head, Importer: i}, &Summaries{}
	const hosts = 20
	for n := range hosts {
		path := write(t, filepath.Join(dir, fmt.Sprint(n)), events(10*n, 5))
		wantSum(t, "a host", c.imports(fmt.Sprint("of", n), Config{Host: fmt.Sprint("web", n), Target: target, Summaries: all}, path), 1, 15, 15)
	}
	path := write(t, filepath.Join(dir, "all"), events(1000, 5))
	wantSum(t, "an administrator", c.imports("all", Config{Target: target, Summaries: all}, path), 1, 15, 15)
	if n := len(target.read); n > 3*(hosts+1) {
		t.Errorf("notes were read %d times by %d imports", n, hosts+1)
	}
	target.read = nil
	wantSum(t, "a host goes on", c.imports("of7", Config{Host: "web7", Target: target, Summaries: all}, write(t, filepath.Join(dir, "7"), events(70, 6))), 1, 18, 3)
	if want := []string{"all", "of7", "all"}; !slices.Equal(target.read, want) {
		t.Errorf("notes of %q were read, want %q", target.read, want)
	}
	got, err := all.List(t.Context(), i)
	if err != nil {
		t.Fatal(err)
	}
	want, err := (&Summaries{}).List(t.Context(), i)
	if err != nil || !slices.EqualFunc(got, want, func(a, b Summary) bool { return fmt.Sprint(a) == fmt.Sprint(b) }) || len(got) != hosts+1 {
		t.Errorf("%+v\nwant %+v, %v", got, want, err)
	}
}
