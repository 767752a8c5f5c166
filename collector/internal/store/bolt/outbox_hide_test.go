package bolt

import (
	"context"
	"errors"
	"os"
	"testing"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// An answer that ends early says, too, that one of its halves could not be read.
func TestInterleaveFails(t *testing.T) {
	t.Parallel()
	bad := errors.New("too many open files")
	list := func(err error, all ...int64) func(func(int64) error) error {
		return func(fn func(int64) error) error {
			for _, x := range all {
				if err := fn(x); err != nil {
					return err
				}
			}
			return err
		}
	}
	key := func(x int64) (query.Key, uint64) { return query.Key{Ms: x}, 0 }
	for name, second := range map[string]func(func(int64) error) error{"at once": list(bad), "behind one": list(bad, 1)} {
		n := 0
		err := interleave(false, key, func(int64) error {
			if n++; n == 3 {
				return query.ErrStop
			}
			return nil
		}, list(nil, 2, 3, 4, 5), second)
		if !errors.Is(err, bad) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A file of the outbox that was lost stays said while younger ones are handed over.
func TestOutboxLostFile(t *testing.T) {
	t.Parallel()
	dir, m := t.TempDir(), storetest.NewMemory()
	m.Fault = func(bool) error { return errBusyEngine }
	start := func() *Outbox {
		return quickOf(open(t, Options{Dir: dir}), m, 1)
	}
	o := start()
	for id := range uint64(3) {
		tab := store.NewTable()
		storetest.Fill(tab, storetest.NewGenerator(id, storetest.Templates(t), 3, storetest.Start), 20)
		must(t, o.Append(context.Background(), &store.Batch{ID: id + 1, Day: store.DayOf(storetest.Start), Events: tab, LSN: id + 1}))
	}
	first := o.local.parts[0].path
	must(t, o.Close())
	must(t, os.Remove(first))
	m.Fault = nil
	o = start()
	defer func() { must(t, o.Close()) }()
	before := len(o.Missing())
	o.wake()
	empty(t, o)
	must(t, o.drop())
	if after := len(o.Missing()); before == 0 || after != before {
		t.Errorf("%d losses are said, %d before the rest was handed over", after, before)
	}
}
