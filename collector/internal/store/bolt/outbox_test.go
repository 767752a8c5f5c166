package bolt

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/pkg/query"
)

var errBusyEngine = errors.New("the engine is busy")

// patient is a place whose writer tries again as long as the engine is busy, as the head does.
type patient struct{ *Outbox }

func (p patient) Append(ctx context.Context, b *store.Batch) error {
	for {
		if err := p.Outbox.Append(ctx, b); !errors.Is(err, errBusyEngine) {
			return err
		}
	}
}

// A place with an engine that fails now and then, before or after it has taken a batch,
// is as any other.
func TestContractOutbox(t *testing.T) {
	t.Parallel()
	env := storetest.Env{
		Open: func(t *testing.T) store.Store {
			m, rng := storetest.NewMemory(), rand.New(rand.NewPCG(1, 2))
			m.Fault = func(bool) error {
				if rng.IntN(3) == 0 {
					return errBusyEngine
				}
				return nil
			}
			return patient{NewOutbox(context.Background(), open(t, Options{Dir: t.TempDir()}), m)}
		},
		Reopen: func(t *testing.T, s store.Store) store.Store {
			must(t, s.Close())
			p := s.(patient)
			return patient{NewOutbox(context.Background(), open(t, Options{Dir: p.local.opts.Dir}), p.engine)}
		},
	}
	storetest.Place(t, env)
	storetest.Events(t, env)
}

func TestOutboxKills(t *testing.T) {
	t.Parallel()
	storetest.Kills(t, func(t *testing.T, dir string, e store.Engine) store.Store {
		s, err := Open(Options{Dir: dir, LockTimeout: -1})
		must(t, err)
		return NewOutbox(context.Background(), s, e)
	})
}

// While the engine does not take what an earlier process left, searches fail, and
// nothing new is begun. Once it does, the outbox is empty, and so are the files of
// days gone by.
func TestOutboxOwes(t *testing.T) {
	t.Parallel()
	dir, m := t.TempDir(), storetest.NewMemory()
	ctx := context.Background()
	down := true
	m.Fault = func(done bool) error {
		if down && done { // taken, and not said so
			return errBusyEngine
		}
		return nil
	}
	batch := func(id uint64, day int) *store.Batch {
		tab := store.NewTable()
		storetest.Fill(tab, storetest.NewGenerator(id, storetest.Templates(t), 3, storetest.Start), 20)
		return &store.Batch{ID: id, Day: store.DayOf(storetest.Start) + store.Day(day), Events: tab, LSN: id}
	}
	o := NewOutbox(ctx, open(t, Options{Dir: dir}), m)
	if err := o.Append(ctx, batch(1, 0)); !errors.Is(err, errBusyEngine) {
		t.Fatalf("the engine is down: %v", err)
	}
	if snap, err := o.Snapshot(ctx); err != nil || snap.LastID() != 1 { // whoever appends has batch 1 in memory
		t.Errorf("a search by who appends: %v", err)
	}
	must(t, o.Close())

	ro := NewOutbox(ctx, open(t, Options{Dir: dir, ReadOnly: true}), m)
	if _, err := ro.Snapshot(ctx); !errors.Is(err, store.ErrReadOnly) {
		t.Errorf("a search of a store that is read only: %v", err)
	}
	must(t, ro.Close())

	o = NewOutbox(ctx, open(t, Options{Dir: dir}), m)
	if _, err := o.Snapshot(ctx); !errors.Is(err, errBusyEngine) {
		t.Errorf("a search while a batch is owed: %v", err)
	}
	if err := o.Append(ctx, batch(2, 1)); !errors.Is(err, errBusyEngine) {
		t.Errorf("a batch while another one is owed: %v", err)
	}
	if st, err := o.State(ctx); err != nil || st.ID != 1 {
		t.Errorf("the state has batch %+v, %v", st, err)
	}
	down = false
	if got := storetest.Collect(t, o, &query.Query{}); len(got) != 20 {
		t.Errorf("%d events, want the 20 of batch 1", len(got))
	}
	must(t, o.Append(ctx, batch(2, 1)))
	if st, err := o.Stats(ctx); err != nil || st.Events != 40 || len(st.Parts) != 2 {
		t.Errorf("%+v, %v", st, err)
	}
	if n := len(o.local.sealed()); n != 0 {
		t.Errorf("%d groups are in the outbox", n)
	}
	files, err := filepath.Glob(filepath.Join(dir, layout.Partitions, "*"))
	if must(t, err); len(files) != 1 || filepath.Base(files[0]) != dayName(1)+layout.Suffix {
		t.Errorf("files: %v, want that of the second day", files)
	}
	must(t, o.Close())
}

// A group that is damaged while it is in the outbox is not handed over, and not lost
// without a word.
func TestOutboxDamaged(t *testing.T) {
	t.Parallel()
	dir, m := t.TempDir(), storetest.NewMemory()
	ctx := context.Background()
	s := open(t, Options{Dir: dir})
	fill(t, s, 1, 1)
	must(t, s.Close())
	path := partPath(dir, 0)
	b, err := os.ReadFile(path)
	must(t, err)
	i := strings.Index(string(b), "AFGROUP\x00")
	b = slices.Clone(b)
	b[i+20] ^= 1
	must(t, os.WriteFile(path, b, 0o600))
	o := NewOutbox(ctx, open(t, Options{Dir: dir}), m)
	if _, err := o.Snapshot(ctx); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("a search: %v", err)
	}
	if st, err := m.Stats(ctx); err != nil || st.Events != 0 {
		t.Errorf("the engine has %d events, %v", st.Events, err)
	}
	if n := len(o.local.sealed()); n != 1 {
		t.Errorf("%d groups are in the outbox", n)
	}
}
