package importer

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/collector/internal/head"
	"github.com/auditfleet/auditfleet/pkg/importing"
	"github.com/auditfleet/auditfleet/pkg/oldlogs"
)

// session begins one of the host web1.
func (c *collector) session(cfg Config) *Session {
	c.t.Helper()
	cfg.Name, cfg.Host, cfg.Target = "one", "web1", c.Head
	s, err := Begin(c.t.Context(), cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	return s
}

// TestEmptyChunks: chunks without text take memory, too.
func TestEmptyChunks(t *testing.T) {
	t.Parallel()
	s := newCollector(t).session(Config{})
	if err := s.File(t.Context(), importing.FileBegin{}); err != nil {
		t.Fatal(err)
	}
	const chunks = 3 * compareBytes / chunkBytes
	for i := range int64(chunks) {
		if err := s.Chunk(t.Context(), nil, i, oldlogs.Content{Size: i}); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(s.chunks); n > chunks/2 {
		t.Errorf("%d chunks are kept in memory", n)
	}
	if _, err := s.Interrupt(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestStaysOpen: a record that stays open has not all records behind it kept in memory.
func TestStaysOpen(t *testing.T) {
	t.Parallel()
	s := newCollector(t).session(Config{TableBytes: 64 << 10, compareBytes: 8 << 10})
	ctx := t.Context()
	const late = "type=SYSCALL msg=audit(4000000000.000:1): pid=1\n" // nothing is later, and ends it
	at := oldlogs.Content{Size: int64(len(late)), Head: oldlogs.Sum{1}}
	if err := errors.Join(s.File(ctx, importing.FileBegin{}), s.Chunk(ctx, []byte(late), at.Size, at), s.EndFile(ctx, at, true), s.File(ctx, importing.FileBegin{})); err != nil {
		t.Fatal(err)
	}
	const records = 20_000
	at = oldlogs.Content{Head: oldlogs.Sum{2}}
	var text strings.Builder
	for i := range records {
		fmt.Fprintf(&text, "type=USER_END msg=audit(1764000000.000:%d): pid=1\n", i)
		if i%100 == 99 {
			at.Size += int64(text.Len())
			if err := s.Chunk(ctx, []byte(text.String()), at.Size, at); err != nil {
				t.Fatal(err)
			}
			text.Reset()
		}
	}
	n := 0
	for _, g := range s.gens {
		n += len(g.keys)
	}
	if n > records/2 {
		t.Errorf("of %d records %d are kept in memory", records, n)
	}
	if _, err := s.Interrupt(t.Context()); err != nil {
		t.Error(err)
	}
}

// full is a head that tells no more hosts apart.
type full struct{ *head.Head }

func (full) ImportName(string) (string, []string) { return "", nil }

// TestProvedNameStays: what a host imports is kept under the name that it has proved where no more hosts are told apart, too.
func TestProvedNameStays(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	path := write(t, filepath.Join(t.TempDir(), "log"), "node=db1 type=USER_END msg=audit(1764000000.000:7): pid=1\n")
	for range 2 {
		if _, err := c.try(t.Context(), "one", Config{Host: "web1", Target: full{c.Head}}, path); err != nil {
			t.Fatal(err)
		}
		if mine, others := len(c.stored("web1")), len(c.stored("db1")); mine != 1 || others != 0 {
			t.Errorf("%d records of web1, %d of db1", mine, others)
		}
	}
}

// TestNothingToNote: a session that has done nothing stores nothing, and takes no progress back.
func TestNothingToNote(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	for range 2 {
		if _, err := c.session(Config{}).Interrupt(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	i, err := c.Imports()
	if err != nil {
		t.Fatal(err)
	}
	if list, err := (&Summaries{}).List(t.Context(), i); err != nil || len(list) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
}

// TestManyFiles: the files of all imports of a host together are bounded, for each new one has them in memory.
func TestManyFiles(t *testing.T) {
	t.Parallel()
	c, ctx := newCollector(t), t.Context()
	at := oldlogs.Content{Size: 1}
	for n, files := range []int{mostFiles, 1} {
		s := c.session(Config{})
		for range files {
			if err := errors.Join(s.File(ctx, importing.FileBegin{}), s.EndFile(ctx, at, true)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := s.End(ctx); err != nil {
			t.Fatalf("%d: %v", n, err)
		}
	}
	if _, err := Begin(ctx, Config{Name: "two", Host: "web1", Target: c.Head}); !errors.Is(err, ErrFiles) {
		t.Error(err)
	}
	if s, err := Begin(ctx, Config{Name: "two", Host: "web2", Target: c.Head}); err != nil || len(s.memory.done) > 0 {
		t.Error("another host", err)
	}
}
